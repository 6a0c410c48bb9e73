"""The network alone: what it may see, and that padding and batches change nothing."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from hypothesis import given, settings  # noqa: E402  after the package that may be absent
from hypothesis import strategies as st  # noqa: E402

from tailwise.nets.sequence import Block, SequenceNet, between_events, dropped, fading, since_before  # noqa: E402
from tailwise.nets.settings import SequenceShape  # noqa: E402

SHAPE = SequenceShape(dim=16, layers=2, heads=4, max_length=12, feedforward=2, dropout=0.5)
ITEMS, WIDTH = 30, 5


def network(shape: SequenceShape = SHAPE) -> SequenceNet:
    torch.manual_seed(4)
    net = SequenceNet(shape, ITEMS).eval()
    with torch.no_grad():
        for weight in (net.ids.weight, net.places.weight):
            weight.mul_(20)  # the small values of a fresh network would hide a leak in the rounding
    return net


def read(net: SequenceNet, rows: list[list[int]], noise: torch.Generator | None = None) -> torch.Tensor:
    out: torch.Tensor = net(net.table()[torch.tensor(rows)], noise)
    return out


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, ITEMS - 1), min_size=2, max_size=12), data=st.data())
def test_a_later_item_never_changes_an_earlier_output(rows: list[int], data: st.DataObject) -> None:
    net = network()
    place = data.draw(st.integers(1, len(rows) - 1))
    changed = [*rows[:place], (rows[place] + 1) % ITEMS, *rows[place + 1 :]]

    with torch.no_grad():
        before, after = (read(net, [own])[0] for own in (rows, changed))

    assert torch.equal(before[:place], after[:place])
    assert not torch.allclose(before[place:], after[place:])  # else the test would see nothing


def test_padding_on_the_right_leaks_into_nothing_so_that_a_batch_equals_its_sequences_alone() -> None:
    net = network()
    sequences = [[3, 1, 4], [1, 5, 9, 2, 6, 5], [8]]
    padded = [own + [7] * (6 - len(own)) for own in sequences]

    with torch.no_grad():
        together = read(net, padded)
        alone = [read(net, [own])[0] for own in sequences]

    for own, out in zip(together, alone, strict=True):
        torch.testing.assert_close(own[: len(out)], out, rtol=1e-5, atol=1e-6)


def seconds(*times: float) -> torch.Tensor:
    return torch.tensor([times], dtype=torch.float64)


def test_the_place_of_an_item_matters() -> None:
    net = network()

    with torch.no_grad():
        outputs = read(net, [[4, 4, 4]])[0]  # nothing else tells the three apart

    assert not torch.allclose(outputs[0], outputs[1], atol=1e-3)
    assert not torch.allclose(outputs[1], outputs[2], atol=1e-3)


def test_items_start_where_they_are_told_and_the_rest_at_random() -> None:
    start = torch.zeros(ITEMS, WIDTH)
    start[3] = 5.0

    torch.manual_seed(4)
    told = SequenceNet(SHAPE, ITEMS, start)
    torch.manual_seed(4)
    plain = SequenceNet(SHAPE, ITEMS)

    moved = (told.table() - plain.table()).detach()
    assert torch.allclose(moved[3, :WIDTH], torch.full((WIDTH,), 5.0))
    assert int((moved != 0).sum()) == WIDTH


@settings(max_examples=10, deadline=None)
@given(rows=st.lists(st.integers(0, ITEMS - 1), min_size=2, max_size=12))
def test_gated_blocks_see_no_later_item_either(rows: list[int]) -> None:
    net = network(SHAPE.model_copy(update={"blocks": "gated"}))
    changed = [*rows[:-1], (rows[-1] + 1) % ITEMS]

    with torch.no_grad():
        before, after = (read(net, [own])[0] for own in (rows, changed))

    assert torch.equal(before[:-1], after[:-1])
    assert not torch.allclose(before[-1], after[-1])


def test_time_between_events_moves_what_comes_after_it_only() -> None:
    net = network(SHAPE.model_copy(update={"time_gaps": True}))
    vectors = net.table()[torch.tensor([[1, 2, 3]])]

    with torch.no_grad():
        quick, slow = (net(vectors, times=seconds(0, 0, last)) for last in (0, 900))

    assert torch.equal(quick[:, :2], slow[:, :2])
    assert not torch.equal(quick[:, 2], slow[:, 2])


def test_how_long_ago_an_event_was_is_what_attention_may_tell_it_by() -> None:
    net = network()
    vectors = net.table()[torch.tensor([[1, 2, 3]])]

    with torch.no_grad():
        fresh = [net(vectors, times=seconds(*own)) for own in ((0, 0, 0), (0, 900, 86_400))]
        for block in net.blocks:
            block.elapsed[:, 9] = 3.0  # 512 to 1,024 s
        learned = [net(vectors, times=seconds(*own)) for own in ((0, 0, 0), (0, 900, 86_400))]

    assert torch.allclose(fresh[0], fresh[1])  # nothing is known of time where learning starts
    assert torch.allclose(fresh[0], net(vectors))
    assert torch.equal(learned[0], fresh[0])
    assert torch.equal(learned[1][:, 0], fresh[1][:, 0])
    assert not torch.allclose(learned[1][:, 1], fresh[1][:, 1], atol=1e-3)


def test_attention_and_its_gradients_are_those_of_torchs_own() -> None:
    torch.manual_seed(6)
    block = Block(SHAPE).eval()
    x = torch.randn(2, 7, 16, requires_grad=True)
    between = between_events(torch.rand(2, 7, dtype=torch.float64).cumsum(1) * 1e6)
    with torch.no_grad():
        block.elapsed.normal_()

    def plainly() -> torch.Tensor:
        calm = block.before_attention(x)
        q, k, v = block.query_key_value(calm).view(2, 7, 3, 4, 4).permute(2, 0, 3, 1, 4)
        mask = block.past(7, -float("inf")) + block.elapsed[:, between].transpose(0, 1)
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = x + block.out(attended.transpose(1, 2).reshape(2, 7, 16))
        added: torch.Tensor = y + block.narrow(block.inner(block.widen(block.before_feedforward(y))))
        return added

    learn = (x, block.elapsed, block.recency, block.query_key_value.weight)
    found, expected = (
        (out, *torch.autograd.grad(out.square().sum(), learn)) for out in (block(x, None, between), plainly())
    )

    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("gap", "bucket"), [(0, 0), (1, 0), (2, 1), (4, 2), (64, 6), (86_400, 16), (2**30, 30), (9e18, 31)]
)
def test_times_are_told_apart_by_doublings(gap: float, bucket: int) -> None:
    times = seconds(1.7e9, 1.7e9 + gap)

    assert between_events(times).tolist() == [[[0, 0], [bucket, 0]]]
    assert since_before(times).tolist() == [[0, bucket]]


def test_only_training_drops_activations_and_by_its_own_stream_of_chance() -> None:
    net = network()
    vectors = net.table()[torch.tensor([[1, 2, 3]])]

    with torch.no_grad():
        calm, calm_again = net.train()(vectors), net.eval()(vectors)
        one, again, other = (net(vectors, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))

    assert torch.equal(calm, calm_again)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, calm)


def test_what_is_dropped_keeps_its_mean() -> None:
    kept = dropped(torch.ones(100_000), 0.3, torch.Generator().manual_seed(1))

    assert sorted(set(kept.tolist())) == pytest.approx([0.0, 1 / (1 - round(0.3 * 2**16) / 2**16)])
    assert float((kept == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.01)


def test_what_is_added_to_attention_tells_how_many_events_ago_and_hides_what_is_ahead() -> None:
    shape = SequenceShape(dim=8, layers=1, heads=2, max_length=5)
    (block,) = SequenceNet(shape, ITEMS).blocks
    with torch.no_grad():
        block.recency.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]]))

    past = block.past(3, -1e9)

    assert past.tolist() == [
        [[1.0, -1e9, -1e9], [2.0, 1.0, -1e9], [3.0, 2.0, 1.0]],
        [[6.0, -1e9, -1e9], [7.0, 6.0, -1e9], [8.0, 7.0, 6.0]],
    ]


def test_attention_starts_with_heads_that_fade_each_at_its_pace() -> None:
    own = fading(4, 6)

    assert own[:, 0].tolist() == [0.0] * 4  # the newest counts in full
    assert (own.diff(dim=1) < 0).all()
    assert (own[:, 1].diff() > 0).all()


def test_how_many_events_ago_an_item_was_matters() -> None:
    net = network()

    with torch.no_grad():
        net.places.weight.zero_()
        one, other = read(net, [[4, 9, 2, 6]])[0, -1], read(net, [[9, 4, 2, 6]])[0, -1]

    assert not torch.allclose(one, other, atol=1e-3)


def test_the_pace_is_learned() -> None:
    net = network()

    read(net, [[4, 9, 2, 6], [1, 5, 9, 2]]).square().sum().backward()

    for block in net.blocks:
        assert (block.recency.grad[:, :4].abs() > 0).any(dim=1).all()
        assert (block.recency.grad[:, 4:] == 0).all()  # nothing was as long ago
