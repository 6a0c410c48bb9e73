"""Scores to slates and columns: what every source does with its (M,) scores, and every re-ranker with its (N,)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tailwise.types import QUERY, Floats, Ids, Request, Rows, Slate

FARTHEST = 10.0
"""Of what was not re-ranked, below the first of it: later stages weigh scores by their spread."""


def top_rows(scores: Floats, k: int, excluded: Rows) -> Rows:
    """
    Rows of the ``k`` highest scores that are not excluded, best first.

    Args:
        scores: (M,) one an item; NaN and -inf are never taken.
        k: Rows wanted; fewer come when fewer may be taken.
        excluded: Rows that must not be taken.

    Returns:
        (≤ k,) int64. Ties go to the earlier row.

    Cost: O(M + k log k).

    >>> top_rows(np.array([0.1, 0.9, 0.5, 0.9], np.float32), 2, np.array([1])).tolist()
    [3, 2]
    """
    allowed = np.where(np.isnan(scores), -np.inf, scores)
    allowed[excluded] = -np.inf
    k = min(k, len(allowed))
    if k == 0:
        return np.empty(0, np.int64)
    # Everything that ties with the k-th is a candidate, so that ties go to the earlier row and not to chance.
    worst = np.partition(allowed, len(allowed) - k)[len(allowed) - k]
    rows = np.flatnonzero((allowed >= worst) & (allowed > -np.inf))
    return rows[np.argsort(-allowed[rows], kind="stable")[:k]]


def best_slate(scores: Floats, k: int, request: Request, item_ids: Ids) -> Slate:
    """A source's answer from its (M,) scores of the whole catalogue: the best that the request may be shown."""
    rows = top_rows(scores, k, request.excluded)
    return Slate(item_ids[rows], scores[rows], {"row": rows})


@lru_cache(64)
def falling(n: int) -> Floats:
    """From 1 to 0 in equal steps, (N,): scores of what is in an order already. Not to be changed."""
    scores = np.linspace(1.0, 0.0, n, dtype=np.float32)
    scores.setflags(write=False)
    return scores


def at_rows(scores: Floats, rows: Rows) -> Floats:
    """(M,) scores of the catalogue at (N,) rows; NaN at row -1."""
    return np.where(rows >= 0, scores[rows], np.float32("nan")).astype(np.float32, copy=False)


def unit_rows(table: Floats) -> Floats:
    """The same rows at length 1; zeros stay zeros, (M, D)."""
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    unit: Floats = np.divide(table, lengths, out=np.zeros_like(table, np.float32), where=lengths > 0)
    return unit


def gains(scores: Floats, targets: Rows, seen: Sequence[Rows], *, k: int = 10) -> NDArray[np.float64]:
    """
    What each person's target earns: NDCG@k with one relevant item, by which components choose their settings.

    Args:
        scores: (J, M) one row a person. Changed in place: what was seen becomes -inf.
        targets: (J,) rows.
        seen: Rows that must not be shown, a person each; the target itself competes even when it was seen.
        k: Positions that count.

    Returns:
        (J,) ``1 / log2(rank + 1)`` within the first k, else 0; items that tie with the target count half. A target
        whose score is NaN earns 0: a model that has broken down is not the best one.
    """
    people = np.arange(len(targets))
    wanted = scores[people, targets][:, None]
    for person, rows in enumerate(seen):
        scores[person, rows] = -np.inf
    scores[people, targets] = -np.inf
    ahead = (scores > wanted).sum(1) + (scores == wanted).sum(1) / 2  # from 0
    return np.where((ahead < k) & ~np.isnan(wanted[:, 0]), 1 / np.log2(ahead + 2), 0.0)


def inputs_of(slate: Slate) -> tuple[Floats, Floats]:
    """
    What a learned re-ranker reads of a slate.

    Returns:
        (N, F) signals, and (N,) the incoming scores, best 0. An item that no stage could score is as good as the worst.
    """
    scores = slate.scores
    known = np.isfinite(scores)
    lowest = scores[known].min() if known.any() else 0.0
    base = np.where(known, scores, lowest)
    return slate.columns["signals"], (base - base.max(initial=-np.inf)).astype(np.float32)


def past_speaks(request: Request) -> bool:
    """
    Whether a stage that learned from what people did next may have its say.

    Not of a stranger: everybody it learned from had a past, and without one all that is left is what is popular. Not
    where there is a query: logs of what people did next say nothing of what it asks for.
    """
    return QUERY not in request.cache and bool(len(request.past.liked()))


def with_best_moved(slate: Slate, moved: Floats) -> Slate:
    """
    The slate when the first of it have new scores, (≤ N,): the others stay behind them, in their order.

    So does among the first what the catalogue does not know (``row`` -1), as it came: nothing can be judged of it.

    >>> slate = Slate(np.array(["a", "b", "c", "d"], object), np.array([9.0, 8.0, 2.0, 1.0], np.float32))
    >>> with_best_moved(slate, np.array([0.5, 3.0], np.float32)).scores.tolist()
    [3.0, 0.5, -0.5, -1.5]
    """
    unknown = slate.columns["row"][: len(moved)] < 0 if "row" in slate.columns else np.zeros(len(moved), bool)
    if unknown.any() and not unknown.all():
        below = moved[~unknown].min() - np.arange(1, unknown.sum() + 1)
        moved = moved.copy()
        moved[unknown] = below
    rest = slate.scores[len(moved) :]
    if len(rest):  # they keep their distances, below the last that was re-ranked
        with np.errstate(invalid="ignore"):  # of what has no score there is none
            behind = np.nan_to_num(rest - rest[0], nan=-FARTHEST)
        rest = moved.min() - 1 + np.minimum.accumulate(np.clip(behind, -FARTHEST, 0.0))
        moved = np.concatenate([moved, rest])
    return slate.score(moved)
