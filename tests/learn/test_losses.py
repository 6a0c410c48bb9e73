"""The losses against torch's own cross-entropy, in value and in gradients, and against a loop over positions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from hypothesis import given, settings  # noqa: E402  after the package that may be absent
from hypothesis import strategies as st  # noqa: E402

from tailwise.learn.losses import (  # noqa: E402
    BLOCK,
    LOSSES,
    Contest,
    gbce_beta,
    softmax_loss,
)


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


def sampled_softmax_loss(
    hidden: torch.Tensor,
    positive: torch.Tensor,
    negative: torch.Tensor,
    *,
    targets: torch.Tensor,
    drawn: torch.Tensor,
    corrections: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """The mean loss of products of vectors, against negatives that a batch shares, as the models ask for it."""
    contest = Contest((hidden * positive).sum(1), hidden @ negative.T, targets[:, None] != drawn, corrections)
    return LOSSES["sampled_softmax"](contest).mean()


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


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(*values: float) -> float:
    return sum(values) / len(values) if values else 0.0


PLAIN: dict[str, Callable[..., float]] = {
    # Of one position: its logit, the others' with the log of their chances, and what else a loss asks for.
    "sampled_softmax": lambda own, others, chance, label, beta: math.log(
        1 + sum(math.exp(s - log - own + chance) for s, log in others)
    ),
    "listwise": lambda own, others, chance, label, beta: math.log(1 + sum(math.exp(s - own) for s, _ in others)),
    "bce": lambda own, others, chance, label, beta: mean(
        -math.log(sigmoid(own)), *(-math.log(1 - sigmoid(s)) for s, _ in others)
    ),
    "gbce": lambda own, others, chance, label, beta: mean(
        -math.log(sigmoid(own) ** beta), *(-math.log(1 - sigmoid(s)) for s, _ in others)
    ),
    "bpr": lambda own, others, chance, label, beta: mean(*(-math.log(sigmoid(own - s)) for s, _ in others)),
    "hinge": lambda own, others, chance, label, beta: mean(*(max(0.0, 1 - own + s) for s, _ in others)),
    "mse": lambda own, others, chance, label, beta: mean((own - label) ** 2, *(s**2 for s, _ in others)),
}


def contest(positions: int, negatives: int, seed: int) -> Contest:
    draw = torch.Generator().manual_seed(seed)
    return Contest(
        positive=torch.randn(positions, generator=draw, dtype=torch.float64).requires_grad_(),
        negative=torch.randn(positions, negatives, generator=draw, dtype=torch.float64).requires_grad_(),
        rival=torch.rand(positions, negatives, generator=draw) < 0.8,
        corrections=(
            torch.randn(positions, generator=draw, dtype=torch.float64),
            torch.randn(negatives, generator=draw, dtype=torch.float64),
        ),
        labels=torch.rand(positions, generator=draw, dtype=torch.float64),
        beta=0.4,
    )


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=15)
@given(positions=st.integers(1, 6), negatives=st.integers(1, 8), seed=st.integers(0, 999))
def test_each_loss_equals_a_plain_sum(name: str, positions: int, negatives: int, seed: int) -> None:
    asked = contest(positions, negatives, seed)
    assert asked.corrections is not None
    assert asked.labels is not None

    losses = LOSSES[name](asked)

    for p in range(positions):
        others = [
            (float(asked.negative[p, n].detach()), float(asked.corrections[1][n]))
            for n in range(negatives)
            if asked.rival[p, n]
        ]
        chance, label = float(asked.corrections[0][p]), float(asked.labels[p])
        plain = PLAIN[name](float(asked.positive[p].detach()), others, chance, label, asked.beta)
        assert float(losses[p].detach()) == pytest.approx(plain, rel=1e-9, abs=1e-12)


BY_HAND = {
    # A choice with logit ln 3 (a chance of 3/4) against others with 0 (1/2) and ln 3.
    "sampled_softmax": math.log(1 + 1 / 3 + 1),
    "listwise": math.log(1 + 1 / 3 + 1),
    "bce": (math.log(4 / 3) + math.log(2) + math.log(4)) / 3,
    "gbce": (math.log(4 / 3) / 2 + math.log(2) + math.log(4)) / 3,
    "bpr": (math.log(4 / 3) + math.log(2)) / 2,
    "hinge": (0.0 + 1.0) / 2,
    "mse": ((math.log(3) - 1) ** 2 + 0 + math.log(3) ** 2) / 3,
}


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_by_hand(name: str) -> None:
    own, others = torch.tensor([math.log(3)]), torch.tensor([[0.0, math.log(3)]])

    loss = LOSSES[name](Contest(own, others, torch.ones(1, 2, dtype=torch.bool), beta=0.5))

    assert loss.tolist() == pytest.approx([BY_HAND[name]])


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_lifts_the_choice_and_lowers_the_others_but_not_the_choice_drawn_again(name: str) -> None:
    own = torch.zeros(1).requires_grad_()
    others = torch.full((1, 3), 0.5).requires_grad_()
    rival = torch.tensor([[True, False, True]])

    loss = LOSSES[name](Contest(own, others, rival)).sum()

    of_own, of_others = gradients(loss, own, others)
    assert of_own < 0
    assert of_others[0, 1] == 0
    assert (of_others[0, [0, 2]] > 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_stays_finite_however_sure_it_is_and_without_any_rival(name: str) -> None:
    own = torch.tensor([90.0, -90.0, 90.0, 1.0]).requires_grad_()
    others = torch.tensor([[90.0], [90.0], [-90.0], [7.0]]).requires_grad_()
    rival = torch.tensor([[True], [True], [True], [False]])

    losses = LOSSES[name](Contest(own, others, rival, beta=0.2))

    assert torch.isfinite(losses).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients(losses.sum(), own, others))


@pytest.mark.parametrize("logit", [-20.0, -3.0, 0.0, 2.0, 15.0])
@pytest.mark.parametrize("beta", [1.0, 0.36, 0.02])
def test_gbce_equals_binary_cross_entropy_of_the_transformed_logit(logit: float, beta: float) -> None:
    # What the authors' code does: the logit of sigma(s) ** beta, in 64 bits, given to binary cross-entropy.
    power = torch.sigmoid(torch.tensor([logit], dtype=torch.float64)) ** beta
    transformed = torch.log(power / (1 - power))
    none = torch.zeros(1, 0, dtype=torch.float64)

    ours = LOSSES["gbce"](Contest(torch.tensor([logit]), none.float(), none.bool(), beta=beta))

    theirs = torch.nn.functional.binary_cross_entropy_with_logits(transformed, torch.ones(1, dtype=torch.float64))
    assert float(ours[0]) == pytest.approx(float(theirs), rel=1e-5)


@given(negatives=st.integers(1, 5_000), items=st.integers(2, 5_000), calibration=st.floats(0, 1))
def test_the_power_of_gbce_goes_from_one_to_the_share_that_is_drawn(
    negatives: int, items: int, calibration: float
) -> None:
    share = min(1.0, negatives / (items - 1))

    beta = gbce_beta(negatives, items, calibration)

    assert share - 1e-9 <= beta <= 1 + 1e-9
    assert gbce_beta(negatives, items, 0.0) == pytest.approx(1.0)
    assert gbce_beta(negatives, items, 1.0) == pytest.approx(share)


def test_with_calibration_one_gbce_finds_the_true_chances_that_bce_overrates() -> None:
    # Three items chosen with 0.5, 0.3 and 0.2; each choice is up against one of the other two, drawn alike.
    chances = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)

    def settled(calibration: float) -> torch.Tensor:
        logits = torch.zeros(3, dtype=torch.float64).requires_grad_()
        beta = gbce_beta(1, 3, calibration)
        for _ in range(400):
            others = torch.stack([logits[[1, 2]], logits[[0, 2]], logits[[0, 1]]])
            rival = torch.ones(3, 1, dtype=torch.bool)
            drawn = (LOSSES["gbce"](Contest(logits, others[:, [n]], rival, beta=beta)) for n in (0, 1))
            (gradient,) = torch.autograd.grad((chances * sum(drawn)).sum(), logits)
            logits = (logits - 2.0 * gradient).detach().requires_grad_()
        return torch.sigmoid(logits).detach()

    assert settled(1.0).tolist() == pytest.approx(chances.tolist(), abs=1e-3)
    assert (settled(0.0) > chances + 0.05).all()
