"""The losses against torch's own cross-entropy, in value and in gradients, and against a loop over positions."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from hypothesis import given, settings  # noqa: E402  after the package that may be absent
from hypothesis import strategies as st  # noqa: E402

from tailwise.learn.losses import BLOCK, sampled_softmax_loss, softmax_loss  # noqa: E402


def tensors(positions: int, items: int, width: int, *, scale: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    hidden = (scale * torch.randn(positions, width, generator=draw)).requires_grad_()
    table = torch.randn(items, width, generator=draw).requires_grad_()
    return hidden, table, torch.randint(items, (positions,), generator=draw)


def gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize("positions", [1, 2, 100, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 77])
def test_full_softmax_equals_cross_entropy_in_value_and_both_gradients(positions: int) -> None:
    hidden, table, targets = tensors(positions, 37, 8)

    ours = softmax_loss(hidden, table, targets)
    theirs = torch.nn.functional.cross_entropy(hidden @ table.T, targets)

    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for own, other in zip(gradients(3.0 * ours, hidden, table), gradients(3.0 * theirs, hidden, table), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    positions=st.integers(1, 60),
    items=st.integers(1, 40),
    width=st.integers(1, 9),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 1e3]),
    seed=st.integers(0, 2**16),
)
def test_full_softmax_holds_for_any_shape_and_for_logits_that_would_overflow(
    positions: int, items: int, width: int, scale: float, seed: int
) -> None:
    hidden, table, targets = tensors(positions, items, width, scale=scale, seed=seed)

    ours = softmax_loss(hidden, table, targets)
    theirs = torch.nn.functional.cross_entropy((hidden @ table.T).double(), targets)

    assert math.isfinite(float(ours.detach()))
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)
    for own, other in zip(gradients(ours, hidden, table), gradients(theirs, hidden, table), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4 * max(scale, 1.0))


def test_full_softmax_moves_both_inputs_as_finite_differences_say() -> None:
    hidden, table, targets = (t.double() if t.is_floating_point() else t for t in tensors(5, 7, 3))
    hidden, table = hidden.detach().requires_grad_(), table.detach().requires_grad_()

    assert torch.autograd.gradcheck(lambda h, t: softmax_loss(h, t, targets).double(), (hidden, table))


def test_full_softmax_of_parts_adds_up_to_that_of_the_batch() -> None:
    hidden, table, targets = tensors(30, 11, 4)

    whole = softmax_loss(hidden, table, targets)
    parts = [softmax_loss(hidden[a:b], table, targets[a:b], of=30) for a, b in ((0, 17), (17, 18), (18, 30))]

    torch.testing.assert_close(sum(parts), whole, rtol=1e-5, atol=1e-6)
    for own, other in zip(gradients(sum(parts), hidden, table), gradients(whole, hidden, table), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def test_a_catalogue_of_one_item_costs_nothing() -> None:
    hidden, table, targets = tensors(4, 1, 3)

    loss = softmax_loss(hidden, table, targets)

    assert float(loss.detach()) == 0.0
    assert all(not gradient.any() for gradient in gradients(loss, hidden, table))


def plain_sampled(hidden, positive, negative, targets, drawn, corrections) -> float:  # noqa: ANN001  an oracle
    hidden, positive, negative = hidden.detach(), positive.detach(), negative.detach()
    total = 0.0
    for place in range(len(hidden)):
        own = float(hidden[place] @ positive[place]) - float(corrections[0][place])
        others = [
            float(hidden[place] @ negative[n]) - float(corrections[1][n])
            for n in range(len(drawn))
            if drawn[n] != targets[place]
        ]
        total += math.log(sum(math.exp(score) for score in [own, *others])) - own
    return total / len(hidden)


@settings(max_examples=25, deadline=None)
@given(positions=st.integers(1, 12), negatives=st.integers(1, 20), items=st.integers(1, 15), seed=st.integers(0, 999))
def test_sampled_softmax_equals_a_loop_over_positions(positions: int, negatives: int, items: int, seed: int) -> None:
    hidden, table, targets = tensors(positions, items, 4, seed=seed)
    draw = torch.Generator().manual_seed(seed + 1)
    drawn = torch.randint(items, (negatives,), generator=draw)
    log_chance = torch.log_softmax(torch.randn(items, generator=draw), 0)
    parts = (hidden, table[targets], table[drawn])
    corrections = (log_chance[targets], log_chance[drawn])

    loss = sampled_softmax_loss(*parts, targets=targets, drawn=drawn, corrections=corrections)

    assert float(loss.detach()) == pytest.approx(plain_sampled(*parts, targets, drawn, corrections), rel=1e-4, abs=1e-5)


def test_a_negative_that_is_the_target_does_not_count_against_it() -> None:
    hidden, table, _ = tensors(2, 5, 3)
    targets, drawn = torch.tensor([1, 4]), torch.tensor([1, 1, 4])
    none = (torch.zeros(2), torch.zeros(3))

    loss = sampled_softmax_loss(hidden, table[targets], table[drawn], targets=targets, drawn=drawn, corrections=none)

    scores = (hidden @ table.T).detach()
    first = math.log(1 + math.exp(float(scores[0, 4] - scores[0, 1])))  # of three negatives one is another item
    second = math.log(1 + 2 * math.exp(float(scores[1, 1] - scores[1, 4])))
    assert float(loss.detach()) == pytest.approx((first + second) / 2, rel=1e-5)


def test_a_position_all_of_whose_negatives_are_its_target_costs_and_teaches_nothing() -> None:
    hidden, table, _ = tensors(1, 3, 3)
    targets = torch.tensor([2])
    drawn = torch.tensor([2, 2])
    none = (torch.zeros(1), torch.zeros(2))

    loss = sampled_softmax_loss(hidden, table[targets], table[drawn], targets=targets, drawn=drawn, corrections=none)

    assert float(loss.detach()) == 0.0
    assert all(not gradient.any() for gradient in gradients(loss, hidden, table))  # and none of it is NaN


def test_sampled_softmax_approaches_the_full_one_as_the_draw_grows() -> None:
    hidden, table, targets = (t.detach() for t in tensors(40, 50, 6, seed=3))
    log_chance = torch.log_softmax(torch.randn(50, generator=torch.Generator().manual_seed(8)), 0)
    drawn = torch.multinomial(log_chance.exp(), 40_000, replacement=True, generator=torch.Generator().manual_seed(9))
    # Each draw stands for 1 / (n p) items; the target is always there and stands for itself.
    of_drawn = log_chance[drawn] + math.log(len(drawn))

    sampled = sampled_softmax_loss(
        hidden, table[targets], table[drawn], targets=targets, drawn=drawn, corrections=(torch.zeros(40), of_drawn)
    )

    assert float(sampled) == pytest.approx(float(softmax_loss(hidden, table, targets)), rel=0.02)
