"""Judges of slates, each judged by people that it did not learn from, and kept only when those say that it helps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.data.scores import inputs_of
from tailwise.learn.listwise_losses import listnet_loss
from tailwise.learn.slates import Example, folds_of

M = TypeVar("M")

LEAST_CASES = 200
"""With fewer, a judge would learn them by heart."""
Learned = tuple[M, NDArray[np.float64]]
"""A member as it was after its best epoch, and NDCG@10 of each case that stopped it after every epoch, (epochs, J)."""
Each = Callable[[Callable[[int], M], Iterable[int]], Iterator[M]]
"""What ``map`` does, and an executor's."""


@dataclass(frozen=True)
class Lists:
    """J slates as tensors, padded to N."""

    signals: Tensor  # (J, N, F)
    base: Tensor  # (J, N)
    labels: Tensor  # (J, N)
    mask: Tensor  # (J, N)
    targets: NDArray[np.int64]  # (J,) how many there are, in the slate or not


def cross_fitted(
    examples: list[Example],
    *,
    depth: int,
    committee: int,
    seed: int,
    learn: Callable[[Lists, NDArray[np.bool_], int], Learned[M]],
    each: Each[Learned[M]] = map,
    least: float = 1.0,
) -> tuple[list[M], dict[str, float | str]]:
    """
    A committee of judges of slates, or none when the order that comes in is as good.

    People are dealt into as many folds as the committee has members. Each member learns from the others' slates and
    is judged by its own fold; together they judge every case by a member that neither learned from that person nor was
    stopped by them (``honest``). When the mean gain is not above ``least`` of its standard errors, the order that comes
    in stands.

    Args:
        examples: Slates in the order that comes in.
        depth: The best of each that are ordered anew.
        committee: Members, at least 2.
        seed: Of the deal.
        learn: All lists, which of them, (J,), it may learn from (the others stop it), and the member's number from 0,
            to the member and what the others earn after each epoch.
        each: Runs ``learn`` for every member; an executor's ``map`` does so side by side.
        least: Standard errors that the gain must be above.

    Returns:
        The members, none when they are not used; and notes for the model card: NDCG@10 before and after, and what was
        decided.
    """
    telling = sum(bool(example.relevant.any()) for example in examples)
    if telling < max(LEAST_CASES, committee):
        return [], {"decision": f"not used: {telling} cases could teach it, fewer than {LEAST_CASES}"}
    lists, fold = padded(examples, depth), folds_of(examples, seed, committee)
    learned = list(each(lambda part: learn(lists, fold != part, part), range(committee)))
    before, after = gains_of(lists.base, lists), np.zeros(len(fold))
    for part, (_, epochs) in enumerate(learned):
        own = fold == part
        halves = folds_of([example for example, mine in zip(examples, own, strict=True) if mine], part, 2)
        after[own] = honest(epochs, halves)
    gain = after - before
    error = float(gain.std() / np.sqrt(len(gain)))
    notes: dict[str, float | str] = {
        "ndcg@10 before": round(float(before.mean()), 4),
        "ndcg@10 after (cross-fitted)": round(float(after.mean()), 4),
        "standard error of the gain": round(error, 4),
    }
    if gain.mean() <= least * error:
        why = (
            f"it loses {-least:g} standard errors"
            if least < 0
            else f"the gain is not above {least:g} of its standard errors"
        )
        return [], {**notes, "decision": f"not used: {why}"}
    decision = (
        "used" if gain.mean() >= 0 else f"used: it loses less than {-least:g} standard errors, which may be chance"
    )
    return [member for member, _ in learned], {**notes, "decision": decision}


def honest(epochs: NDArray[np.float64], halves: NDArray[np.int64]) -> NDArray[np.float64]:
    """
    What a member earns on people that did not choose its epoch: each half is judged at the epoch the other chose.

    The best of a dozen epochs on some people is better there than elsewhere, by more than one standard error even
    where nothing can be learned.

    Args:
        epochs: (epochs, J) NDCG@10 of each case after each epoch.
        halves: (J,) 0 or 1, all of a person's in one.

    Returns:
        (J,) NDCG@10.
    """
    out = np.zeros(len(halves))
    for half in (0, 1):
        chooses = halves != half if (halves != half).any() else halves == half
        best = int(epochs[:, chooses].mean(1).argmax())
        out[halves == half] = epochs[best, halves == half]
    return out


def padded(examples: list[Example], depth: int) -> Lists:
    """The first ``depth`` candidates of each slate."""
    longest = max(min(depth, len(example.slate)) for example in examples)
    width = examples[0].slate.columns["signals"].shape[1]
    signals = np.zeros((len(examples), longest, width), np.float32)
    base, labels = np.zeros((2, len(examples), longest), np.float32)
    mask = np.zeros((len(examples), longest), bool)
    for place, example in enumerate(examples):
        n = min(longest, len(example.slate))
        signals[place, :n], base[place, :n] = inputs_of(example.slate.take(np.arange(n)))
        labels[place, :n], mask[place, :n] = example.relevant[:n], True
    targets = np.array([example.targets for example in examples])
    tensors = [torch.from_numpy(array) for array in (signals, base, labels, mask)]
    return Lists(tensors[0], tensors[1], tensors[2], tensors[3], targets)


def gains_of(scores: Tensor, lists: Lists, chosen: NDArray[np.bool_] | slice = slice(None)) -> NDArray[np.float64]:
    """
    NDCG@10 of each chosen list as its scores, padded to N, order it; a target not found, or scored NaN, earns 0.

    What ``slates.earned`` says of one list, of all at once, since it is asked for after every epoch.
    """
    mask = lists.mask.numpy()[chosen]
    known = np.where(mask, scores.numpy(), -np.inf)
    owner, place = np.nonzero(mask & (lists.labels.numpy()[chosen] > 0))
    own = known[owner, place][:, None]
    ahead = (known[owner] > own).sum(1) + ((known[owner] == own).sum(1) - 1) / 2
    shown = (ahead < 10) & ~np.isnan(own[:, 0])  # what has broken down earns nothing
    found = np.bincount(owner, np.where(shown, 1 / np.log2(ahead + 2), 0.0), minlength=len(mask))
    ideal = np.cumsum(1 / np.log2(np.arange(10) + 2))
    return np.asarray(found / ideal[np.minimum(lists.targets[chosen], 10) - 1])


def temperature_of(lists: Lists, learning: NDArray[np.int64]) -> float:
    """What a unit of the incoming score is worth as a logit: the likeliest of some for the targets that were taken."""
    base, labels, mask = (tensor[learning] for tensor in (lists.base, lists.labels, lists.mask))
    spread = float(base[mask].std()) or 1.0
    worth = torch.logspace(-1.5, 1.5, 31) / spread
    losses = [float(listnet_loss(base * each, labels, mask)) for each in worth]
    return float(worth[int(np.argmin(losses))])
