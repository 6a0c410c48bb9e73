"""The list-wise losses against sums by hand and plain loops, and what padding and empty lists may never do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from hypothesis import given, settings  # noqa: E402  after the package that may be absent
from hypothesis import strategies as st  # noqa: E402

from tailwise.learn.listwise_losses import lambdarank_loss, listnet_loss  # noqa: E402

LOSSES = [listnet_loss, lambdarank_loss]


def slates(lists: int, longest: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lists of different lengths, real places anywhere, some labels graded, some lists without any."""
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.standard_normal((lists, longest)), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(rng.choice([0.0, 0.0, 1.0, 3.0], (lists, longest)))
    mask = torch.tensor(rng.random((lists, longest)) < 0.7)
    return scores, labels, mask


def kept(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> list[list[tuple[float, float]]]:
    """Each list's (score, label), without the padding."""
    values = scores.detach().tolist(), labels.tolist(), mask.tolist()
    return [[(s, y) for s, y, real in zip(*row, strict=True) if real] for row in zip(*values, strict=True)]


def plain_listnet(rows: list[list[tuple[float, float]]]) -> float:
    telling = [row for row in rows if sum(y for _, y in row) > 0]
    total = 0.0
    for row in telling:
        mass = sum(math.exp(s) for s, _ in row)
        total -= sum(y / sum(z for _, z in row) * math.log(math.exp(s) / mass) for s, y in row)
    return total / max(1, len(telling))


def plain_lambdarank(rows: list[list[tuple[float, float]]], k: int | None) -> float:
    telling = [row for row in rows if sum(y for _, y in row) > 0]
    total = 0.0
    for row in telling:

        def discount(place: int) -> float:
            return 1 / math.log2(place + 2) if k is None or place < k else 0.0

        ideal = sum(y * discount(n) for n, y in enumerate(sorted((y for _, y in row), reverse=True)))
        place = {n: p for p, n in enumerate(sorted(range(len(row)), key=lambda n: -row[n][0]))}
        for i, (own, better) in enumerate(row):
            for j, (other, worse) in enumerate(row):
                if better > worse:
                    weight = (better - worse) * abs(discount(place[i]) - discount(place[j])) / ideal
                    total += weight * math.log2(1 + math.exp(-(own - other)))
    return total / max(1, len(telling))


def test_listnet_by_hand() -> None:
    scores = torch.tensor([[math.log(2.0), 0.0, 0.0, 7.0]])
    labels = torch.tensor([[3.0, 1.0, 0.0, 5.0]])
    mask = torch.tensor([[True, True, True, False]])

    loss = float(listnet_loss(scores, labels, mask).detach())

    assert loss == pytest.approx(-(0.75 * math.log(0.5) + 0.25 * math.log(0.25)))


def test_lambdarank_by_hand() -> None:
    # The hit is second of two: swapping lifts DCG from 1 / log2(3) to 1, and the ideal is 1.
    scores, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])

    loss = float(lambdarank_loss(scores, labels, torch.ones(1, 2, dtype=torch.bool)))

    assert loss == pytest.approx((1 - 1 / math.log2(3)) * math.log2(1 + math.e))


@settings(max_examples=40)
@given(lists=st.integers(1, 5), longest=st.integers(1, 9), seed=st.integers(0, 999), k=st.sampled_from([None, 1, 3]))
def test_both_equal_a_plain_loop(lists: int, longest: int, seed: int, k: int | None) -> None:
    scores, labels, mask = slates(lists, longest, seed)
    rows = kept(scores, labels, mask)

    assert float(listnet_loss(scores, labels, mask).detach()) == pytest.approx(plain_listnet(rows), rel=1e-9, abs=1e-12)
    assert float(lambdarank_loss(scores, labels, mask, k=k).detach()) == pytest.approx(
        plain_lambdarank(rows, k), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_what_stands_in_the_padding_changes_neither_value_nor_gradient(loss: Any) -> None:
    scores, labels, mask = slates(4, 7, 1)
    plain = loss(scores, labels, mask)
    dirty = scores.detach().masked_fill(~mask, float("nan")).requires_grad_()

    spoiled = loss(dirty, labels.masked_fill(~mask, 9.0), mask)

    assert float(spoiled.detach()) == float(plain.detach()) > 0
    (gradient,) = torch.autograd.grad(spoiled, dirty)
    assert torch.equal(gradient, torch.autograd.grad(plain, scores)[0])
    assert not gradient[~mask].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_lists_that_say_nothing_cost_nothing_and_weigh_nothing(loss: Any) -> None:
    scores, labels, mask = slates(3, 6, 2)
    silent = torch.zeros(2, 6)
    empty = torch.stack([torch.zeros(6, dtype=torch.bool), torch.ones(6, dtype=torch.bool)])

    alone = loss(scores, labels, mask)
    more = loss(torch.cat([scores, silent]), torch.cat([labels, silent]), torch.cat([mask, empty]))
    nothing = loss(silent.requires_grad_(), torch.zeros(2, 6), empty)

    assert float(more.detach()) == pytest.approx(float(alone.detach()))
    assert float(nothing.detach()) == 0.0
    assert not torch.autograd.grad(nothing, silent)[0].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_a_batch_add_up_to_the_batch(loss: Any) -> None:
    scores, labels, mask = slates(6, 8, 5)
    telling = int(((labels * mask).sum(1) > 0).sum())

    parts = [loss(scores[a:b], labels[a:b], mask[a:b], of=telling) for a, b in ((0, 2), (2, 6))]

    assert float(sum(parts).detach()) == pytest.approx(float(loss(scores, labels, mask).detach()))


@pytest.mark.parametrize("loss", LOSSES)
def test_descent_puts_the_labels_in_order(loss: Any) -> None:
    labels = torch.tensor([[0.0, 1.0, 3.0, 0.0], [7.0, 0.0, 0.0, 1.0]])
    mask = torch.tensor([[True, True, True, True], [False, True, True, True]])
    scores = torch.tensor([[0.9, 0.2, 0.1, 0.5], [0.0, 0.3, 0.2, 0.1]], requires_grad=True)
    for _ in range(60):
        (gradient,) = torch.autograd.grad(loss(scores, labels, mask), scores)
        scores = (scores - 2.0 * gradient).detach().requires_grad_()

    assert scores[0].argsort(descending=True)[:2].tolist() == [2, 1]
    assert scores[1, 1:].argmax() == 2


@pytest.mark.parametrize("loss", LOSSES)
def test_scores_of_any_size_stay_finite(loss: Any) -> None:
    scores = torch.tensor([[1e4, -1e4, 3e4]], requires_grad=True)

    value = loss(scores, torch.tensor([[0.0, 1.0, 0.0]]), torch.ones(1, 3, dtype=torch.bool))

    assert math.isfinite(float(value.detach()))
    assert torch.isfinite(torch.autograd.grad(value, scores)[0]).all()


def test_a_swap_beyond_the_places_that_count_weighs_nothing() -> None:
    scores = torch.tensor([[5.0, 4.0, 1.0, 2.0]], requires_grad=True)
    labels = torch.tensor([[0.0, 0.0, 1.0, 0.0]])

    loss = lambdarank_loss(scores, labels, torch.ones(1, 4, dtype=torch.bool), k=1)

    (gradient,) = torch.autograd.grad(loss, scores)
    assert gradient[0, 1] == gradient[0, 3] == 0  # only the first place counts: a swap with these leaves it as it is
    assert gradient[0, 2] < 0 < gradient[0, 0]


def test_listnet_moves_the_scores_as_finite_differences_say() -> None:
    scores, labels, mask = slates(3, 5, 8)

    assert torch.autograd.gradcheck(lambda s: listnet_loss(s, labels, mask), (scores,))
