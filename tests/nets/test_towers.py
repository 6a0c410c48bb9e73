"""The networks alone: what each may see, that padding and batches change nothing, and what each is by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.nets.towers import Comparison, Fading, TowerNet  # noqa: E402  after the package that may be absent

ITEMS, PEOPLE, WIDTH, DIM = 30, 6, 5, 16
KINDS = ["mf", "pooled", "dnn", "attention", "gru", "lstm"]
READERS = KINDS[1:]


def network(person: str, *, text: bool = True, dropout: float = 0.0) -> TowerNet:
    torch.manual_seed(4)
    vectors = torch.nn.functional.normalize(torch.randn(ITEMS, WIDTH), dim=1)
    net = TowerNet(
        person,
        dim=DIM,
        n_items=ITEMS,
        n_people=PEOPLE,
        text=vectors if text else None,
        dropout=dropout,
        temperature=0.1,
    ).eval()
    with torch.no_grad():
        net.ids.weight.mul_(20)  # the small values of a fresh network would hide a leak in the rounding
    return net


@pytest.mark.parametrize("person", READERS)
def test_a_later_item_never_changes_who_somebody_was_before(person: str) -> None:
    net = network(person)
    rows = torch.tensor([[3, 1, 4, 1, 5, 9], [3, 1, 4, 1, 6, 2]])

    with torch.no_grad():
        one, other = net(net.vectors(rows))

    torch.testing.assert_close(one[:4], other[:4])
    assert not torch.allclose(one[4:], other[4:])  # else the test would see nothing


@pytest.mark.parametrize("person", READERS)
def test_padding_on_the_right_leaks_into_nothing_so_that_a_batch_equals_its_histories_alone(person: str) -> None:
    net = network(person)
    histories = [[3, 1, 4], [1, 5, 9, 2, 6, 5], [8]]
    padded = torch.tensor([own + [7] * (6 - len(own)) for own in histories])

    with torch.no_grad():
        together = net(net.vectors(padded))
        alone = [net(net.vectors(torch.tensor([own])))[0] for own in histories]

    for own, out in zip(together, alone, strict=True):
        torch.testing.assert_close(own[: len(out)], out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("person", READERS)
def test_what_came_last_counts_for_more(person: str) -> None:
    net = network(person)

    with torch.no_grad():
        forward, backward = (net(net.vectors(torch.tensor([rows])))[0, -1] for rows in ([2, 8], [8, 2]))

    assert not torch.allclose(forward, backward, atol=1e-3)


def test_a_fading_mean_by_hand() -> None:
    fading = Fading()
    with torch.no_grad():
        fading.fade.fill_(0.0)  # softplus of it is ln 2: each step back is worth half
        x = torch.tensor([[[4.0], [1.0], [3.0]]])

        out = fading(x)[0, :, 0]

    assert out.tolist() == pytest.approx([4.0, (2 * 1 + 4) / 3, (4 * 3 + 2 * 1 + 4) / 7])


def test_what_fades_can_be_learned() -> None:
    fading = Fading()

    (gradient,) = torch.autograd.grad(fading(torch.randn(2, 5, 3)).square().sum(), fading.fade)

    assert torch.isfinite(gradient)  # the distance to a later place is no number to multiply with
    assert gradient != 0


def test_the_plain_network_is_one_map_of_person_item_and_product_side_by_side() -> None:
    torch.manual_seed(1)
    net = Comparison(DIM)
    person, item = torch.randn(3, DIM), torch.randn(3, DIM)
    side_by_side = torch.cat([net.of_person.weight, net.of_item.weight, net.of_both.weight], dim=1)

    with torch.no_grad():
        out = net(person, item)
        p, i = (torch.nn.functional.layer_norm(x, [DIM]) for x in (person, item))  # as the norms begin
        inner = torch.relu(torch.cat([p, i, p * i], dim=1) @ side_by_side.T + net.of_person.bias)
        by_hand = inner @ net.out.weight[0] + net.out.bias

    torch.testing.assert_close(out, by_hand)


@pytest.mark.parametrize("person", KINDS)
def test_one_each_is_the_diagonal_of_each_with_each(person: str) -> None:
    net = network(person)
    people, items = torch.randn(4, DIM), torch.randn(4, DIM)

    with torch.no_grad():
        torch.testing.assert_close(net.match(people, items), net.compare(people, items).diagonal())


def test_two_towers_give_unit_vectors_whose_logits_are_cosines_over_the_temperature() -> None:
    net = network("pooled")

    with torch.no_grad():
        people = net(net.vectors(torch.tensor([[1, 2, 3]])))[0]
        items = net.offered(net.table())
        logits = net.compare(people, items)

    torch.testing.assert_close(people.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(items.norm(dim=1), torch.ones(ITEMS))
    torch.testing.assert_close(logits, 10 * torch.nn.functional.cosine_similarity(people[:, None], items, dim=2))


@pytest.mark.parametrize("person", KINDS)
@pytest.mark.parametrize("text", [True, False])
def test_vectors_of_rows_are_the_rows_of_the_table(person: str, text: bool) -> None:
    net = network(person, text=text)
    rows = torch.tensor([[0, 7, 7], [29, 3, 1]])

    assert torch.allclose(net.vectors(rows), net.table()[rows], atol=1e-6)
    assert (net.adapter is not None) == text


@pytest.mark.parametrize("person", KINDS)
def test_only_mf_keeps_a_vector_for_each_person(person: str) -> None:
    net = network(person)

    assert (net.people is not None) == (person == "mf")
    assert any(name.startswith("people") for name in net.state_dict()) == (person == "mf")
    assert not any("text" in name for name in net.state_dict())  # frozen, and not stored with the weights


@pytest.mark.parametrize("person", READERS)
def test_only_training_drops_activations_and_by_its_own_stream_of_chance(person: str) -> None:
    net = network(person, dropout=0.5)
    vectors = net.vectors(torch.tensor([[1, 2, 3]]))

    with torch.no_grad():
        calm, calm_again = net.train()(vectors), net.eval()(vectors)
        one, again, other = (net(vectors, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))

    assert torch.equal(calm, calm_again)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, calm)
