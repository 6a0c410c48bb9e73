"""
How right a ranking is: hits first, then one number per request from them.

``hits`` marks which shown places hold a relevant item; every ranking metric is a function of those marks, of how
many items were relevant and of the cut-off k, and gives (B,) float64. A request with nothing relevant cannot be
judged: it gets NaN, and means leave it out. Relevance is yes or no; positions count from the top.

Source: Järvelin & Kekäläinen, TOIS 2002, doi:10.1145/582415.582418 (nDCG); Manning, Raghavan & Schütze,
Introduction to Information Retrieval, 2008, chapter 8 (the rest). The figures equal trec_eval's, except that
average precision is divided by what the cut-off lets anyone reach, min(T, k), where trec_eval divides by T.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import ConfigError, DataError, ShapeError
from tailwise.types import Rows

Marks = NDArray[np.bool_]
PerRequest = NDArray[np.float64]

SURE = 1e-15
"""Probabilities are kept this far from 0 and 1, so that one confident error costs 34.5 nats, not infinity."""


def hits(ranked: Rows, targets: Rows) -> Marks:
    """
    Which shown places hold a relevant item.

    Args:
        ranked: (B, K) catalogue rows, best first; -1 pads.
        targets: (B, T) relevant rows in any order; -1 pads.

    Returns:
        (B, K) bool; pads are never hits.

    Raises:
        ShapeError: An array is not two-dimensional, or they differ in B.
        DataError: A request shows an item twice, which would count it twice.

    Cost: O(n log n) time and O(n) memory for n = B (K + T).

    >>> hits(np.array([[7, 3, 5], [2, 9, -1]]), np.array([[5, 7], [4, -1]])).tolist()
    [[True, False, True], [False, False, False]]
    """
    if ranked.ndim != 2 or targets.ndim != 2 or len(ranked) != len(targets):
        raise ShapeError(f"ranked is {ranked.shape} and targets is {targets.shape}, but both must be (B, …) rows")
    ordered = np.sort(ranked, axis=1)
    twice = np.argwhere((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
    if len(twice):
        request, place = twice[0]
        raise DataError(f"request {request} shows item {ordered[request, place]} twice; show each item once")
    # One key per (request, row), so that a single set lookup serves every request.
    width = 1 + max(ranked.max(initial=0), targets.max(initial=0))
    base = np.arange(len(ranked), dtype=np.int64)[:, None] * width  # (B, 1)
    return np.isin(ranked + base, (targets + base)[targets >= 0]) & (ranked >= 0)


def count_relevant(targets: Rows) -> NDArray[np.int64]:
    """
    Distinct relevant items of each request: (B, T) rows with -1 pads to (B,).

    >>> count_relevant(np.array([[5, 7, 5], [4, -1, -1], [-1, -1, -1]])).tolist()
    [2, 1, 0]
    """
    ordered = np.sort(targets, axis=1)
    fresh = np.ones(ordered.shape, bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    n_relevant: NDArray[np.int64] = np.sum(fresh & (ordered >= 0), axis=1)
    return n_relevant


def hit_rate(marks: Marks, n_relevant: NDArray[np.int64], k: int) -> PerRequest:
    """1 where at least one of the first k is relevant, else 0; (B,)."""
    return _judged(_top(marks, n_relevant, k).max(axis=1, initial=False), n_relevant)


def precision(marks: Marks, n_relevant: NDArray[np.int64], k: int) -> PerRequest:
    """Relevant share of k places, (B,); places that a short list leaves empty count against it."""
    return _judged(_top(marks, n_relevant, k).sum(axis=1) / k, n_relevant)


def recall(marks: Marks, n_relevant: NDArray[np.int64], k: int) -> PerRequest:
    """Share of what is relevant that the first k hold, (B,)."""
    return _judged(_top(marks, n_relevant, k).sum(axis=1) / np.maximum(n_relevant, 1), n_relevant)


def reciprocal_rank(marks: Marks, n_relevant: NDArray[np.int64], k: int) -> PerRequest:
    """1 over the place, from 1, of the first relevant item; 0 when the first k hold none; (B,). Its mean is MRR."""
    top = _top(marks, n_relevant, k)
    places = np.arange(1, top.shape[1] + 1)
    return _judged((top / places).max(axis=1, initial=0.0), n_relevant)


def average_precision(marks: Marks, n_relevant: NDArray[np.int64], k: int) -> PerRequest:
    """Mean, over the min(T, k) relevant items that fit, of the precision at each one's place; (B,). Its mean is MAP."""
    top = _top(marks, n_relevant, k)
    so_far = np.cumsum(top, axis=1) / np.arange(1, top.shape[1] + 1)  # (B, k) precision at each place
    return _judged((so_far * top).sum(axis=1) / np.clip(n_relevant, 1, k), n_relevant)


def ndcg(marks: Marks, n_relevant: NDArray[np.int64], k: int) -> PerRequest:
    """
    Discounted gain, ``sum(hit / log2(place + 1))``, over that of the best list there is, with min(T, k) hits on top.

    Args:
        marks: (B, K) bool from ``hits``; K may be less than k.
        n_relevant: (B,) relevant items of each request, shown or not.
        k: Places that count, at least 1.

    Returns:
        (B,) float64 in [0, 1]; NaN where nothing was relevant.

    Raises:
        ShapeError: ``marks`` and ``n_relevant`` differ in B.
        ConfigError: k is below 1.

    >>> ndcg(np.array([[False, True, False]]), np.array([1]), k=3).round(4).tolist()
    [0.6309]
    """
    top = _top(marks, n_relevant, k)
    discounts = 1.0 / np.log2(np.arange(2, k + 2))  # (k,)
    ideal = np.cumsum(discounts)[np.clip(n_relevant, 1, k) - 1]  # (B,)
    return _judged((top @ discounts[: top.shape[1]]) / ideal, n_relevant)


def auc(rank_of_target: Rows, n_ranked: int | NDArray[np.int64]) -> PerRequest:
    """
    Chance that a target stands above a random item that is not one.

    Args:
        rank_of_target: (B, T) 0-based ranks of the targets, distinct within a request; -1 pads.
        n_ranked: Items ranked, targets included; one number, or (B,).

    Returns:
        (B,) float64 in [0, 1]; NaN where there is no target or nothing else.

    Raises:
        DataError: A rank lies outside the ranked items.

    >>> auc(np.array([[0, 3], [1, -1]]), n_ranked=5).round(4).tolist()  # 2 of 6 pairs are wrong; 1 of 4
    [0.6667, 0.75]
    """
    ranks = np.asarray(rank_of_target)
    there = ranks >= 0
    total = np.broadcast_to(np.asarray(n_ranked), len(ranks))
    if (outside := np.argwhere(ranks >= total[:, None])).size:
        request, place = outside[0]
        raise DataError(f"request {request} has rank {ranks[request, place]} among {total[request]} items")
    mine = there.sum(axis=1)
    others = total - mine
    # Below the i-th best target lie i targets fewer than its rank says.
    wrong = np.sum(ranks, axis=1, where=there) - mine * (mine - 1) / 2
    pairs = mine * others
    return np.where(pairs > 0, 1.0 - wrong / np.maximum(pairs, 1), np.nan)


def auc_of_scores(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """
    Chance that a positive scores above a negative; a tie counts half. Exact, O(N log N).

    Args:
        scores: (N,) finite or infinite, not NaN.
        labels: (N,) truthy for a positive.

    Returns:
        In [0, 1]; NaN when all labels are the same.

    >>> auc_of_scores(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0]))
    0.875
    """
    numbers = _numbers("scores", scores, "labels", labels)[0]
    positive = np.asarray(labels, bool)
    _, group, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - (sizes - 1) / 2  # 1-based rank that tied scores share
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    above = middle[group][positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def mae(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """Mean absolute error of (N,) predictions; a NaN is a DataError."""
    ours, theirs = _numbers("predicted", predicted, "actual", actual)
    return float(np.mean(np.abs(ours - theirs)))


def rmse(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """Root of the mean squared error of (N,) predictions; a NaN is a DataError."""
    ours, theirs = _numbers("predicted", predicted, "actual", actual)
    return float(np.sqrt(np.mean((ours - theirs) ** 2)))


def log_loss(probability: NDArray[Any], label: NDArray[Any]) -> float:
    """
    Mean cross-entropy, in nats, of (N,) probabilities against labels in [0, 1]; clipped at ``SURE``.

    >>> round(log_loss(np.array([0.9, 0.2]), np.array([1, 0])), 4)
    0.1643
    """
    chance, truth = _numbers("probability", probability, "label", label)
    for name, values in (("probability", chance), ("label", truth)):
        if (wrong := (values < 0) | (values > 1)).any():
            raise DataError(f"{name} holds {values[wrong][0]}, but it must lie between 0 and 1")
    chance = np.clip(chance, SURE, 1 - SURE)
    return float(-np.mean(truth * np.log(chance) + (1 - truth) * np.log1p(-chance)))


def next_item_log_loss(log_probabilities: NDArray[Any]) -> PerRequest:
    """Nats that each target's log probability costs, (B,) to (B,), clipped at ``SURE``; above 0 is a DataError."""
    logs = _numbers("log_probabilities", log_probabilities, "targets", np.zeros(len(log_probabilities)))[0]
    if (logs > 1e-6).any():  # float32 log-softmax of a certain item may land a hair above 0
        raise DataError(f"log_probabilities holds {logs.max()}, but the logarithm of a probability is at most 0")
    return -np.clip(logs, np.log(SURE), 0.0)


def _top(marks: Marks, n_relevant: NDArray[np.int64], k: int) -> Marks:
    """The first k places, after the checks that every ranking metric shares."""
    if k < 1:
        raise ConfigError(f"k is {k}, but it must be at least 1")
    if marks.ndim != 2 or marks.shape[:1] != n_relevant.shape:
        raise ShapeError(f"marks is {marks.shape}, but n_relevant is {n_relevant.shape}; they must agree in B")
    return marks[:, :k]


def _judged(values: NDArray[Any], n_relevant: NDArray[np.int64]) -> PerRequest:
    """Values as float64, NaN where nothing was relevant."""
    return np.where(n_relevant > 0, values.astype(np.float64), np.nan)


def _numbers(name: str, first: NDArray[Any], other: str, second: NDArray[Any]) -> tuple[PerRequest, PerRequest]:
    """Two (N,) columns as float64, after a look at their shapes and for NaN."""
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.ndim != 1 or one.shape != two.shape or not one.size:
        raise ShapeError(f"{name} is {one.shape} and {other} is {two.shape}, but both must be (N,) with N above 0")
    for title, values in ((name, one), (other, two)):
        if (missing := np.isnan(values)).any():
            raise DataError(f"{title} is NaN in row {int(missing.argmax())}; leave out what was not measured")
    return one, two
