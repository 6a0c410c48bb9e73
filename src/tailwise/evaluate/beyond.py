"""
What accuracy does not see: how much of the catalogue is shown, how evenly, how new and how varied.

Every function takes ``ranked`` (B, K), catalogue rows best first with -1 pads, and looks at the first k places.
Coverage, Gini and the Lorenz curve are properties of all lists together; the rest are (B,) float64, one number per
request, NaN where a list has nothing to measure. M is the size of the catalogue.

Source: Castells, Hurley & Vargas, Recommender Systems Handbook, 2022, chapter 16 (novelty, diversity, coverage);
Fleder & Hosanagar, Management Science 2009, doi:10.1287/mnsc.1080.0974 (Gini of exposure).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import ConfigError, DataError, ShapeError
from tailwise.types import Floats, Rows

PerRequest = NDArray[np.float64]

BLOCK = 1 << 22
"""Numbers held at once while vectors are gathered: 32 MB."""


def coverage(ranked: Rows, eligible: NDArray[np.bool_], *, k: int) -> float:
    """
    Share of the eligible items that at least one list shows.

    Args:
        ranked: (B, K) rows, best first; -1 pads.
        eligible: (M,) bool, the items that could have been shown.
        k: Places that count, at least 1.

    Returns:
        In [0, 1]; NaN when nothing is eligible.

    Raises:
        ShapeError: A row lies outside the catalogue.
        ConfigError: k is below 1.

    >>> coverage(np.array([[0, 1], [0, -1]]), np.array([True, True, True, False]), k=2)
    0.6666666666666666
    """
    shown = _exposure(ranked, eligible, k)
    return float(np.mean(shown > 0)) if shown.size else float("nan")


def gini(ranked: Rows, eligible: NDArray[np.bool_], *, k: int) -> float:
    """
    Inequality of exposure among the eligible items: 0 when each is shown equally often, 1 - 1/n when one has it all.

    Arguments and errors as in ``coverage``; NaN when no eligible item is shown.

    >>> gini(np.array([[0, 1], [1, 0]]), np.array([True, True]), k=2), gini(np.array([[0]]), np.ones(4, bool), k=1)
    (0.0, 0.75)
    """
    shown = np.sort(_exposure(ranked, eligible, k))
    n, total = len(shown), int(shown.sum())
    if not total:
        return float("nan")
    return float((2 * np.arange(1, n + 1) - n - 1) @ shown / (n * total))


def lorenz(ranked: Rows, eligible: NDArray[np.bool_], *, k: int, points: int = 101) -> PerRequest:
    """
    Share of all exposure that the least shown items get together, at evenly spaced shares of the items.

    Arguments and errors as in ``coverage``.

    Returns:
        (points,) float64 from 0 to 1, never above the diagonal; empty when no eligible item is shown.

    >>> lorenz(np.array([[0, 1], [0, -1]]), np.ones(2, bool), k=2, points=3).round(3).tolist()
    [0.0, 0.333, 1.0]
    """
    shown = np.sort(_exposure(ranked, eligible, k))
    if not shown.sum():
        return np.empty(0)
    heights = np.concatenate([[0.0], np.cumsum(shown) / shown.sum()])  # (n + 1,)
    curve: PerRequest = np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(heights)), heights)
    return curve


def tail_share(ranked: Rows, tail: NDArray[np.bool_], *, k: int) -> PerRequest:
    """Share of each list's items that the (M,) mask ``tail`` calls long tail; (B,), NaN for an empty list."""
    return _mean_of(ranked, tail.astype(np.float64), k)


def mean_popularity(ranked: Rows, popularity: NDArray[Any], *, k: int) -> PerRequest:
    """Mean training events, (M,), of each list's items; (B,), NaN for an empty list."""
    return _mean_of(ranked, np.asarray(popularity, np.float64), k)


def novelty(ranked: Rows, popularity: NDArray[Any], *, k: int) -> PerRequest:
    """
    Mean surprise of each list's items, in bits: ``-log2 p(item)`` with p from training.

    Args:
        ranked: (B, K) rows, best first; -1 pads.
        popularity: (M,) training events of each item. One is added to all, so that an unseen item is finite.
        k: Places that count, at least 1.

    Returns:
        (B,) float64; NaN for an empty list.

    Raises:
        DataError: A count is negative or NaN.
        ShapeError: A row lies outside the catalogue.

    >>> novelty(np.array([[0, 1], [2, -1]]), np.array([3, 1, 0]), k=2).round(3).tolist()  # p = 4/7, 2/7, 1/7
    [1.307, 2.807]
    """
    counts = np.asarray(popularity, np.float64)
    if not (counts >= 0).all():
        raise DataError("popularity holds a negative count or NaN; give the number of training events per item")
    return _mean_of(ranked, -np.log2((counts + 1) / (counts.sum() + len(counts))), k)


def diversity(ranked: Rows, vectors: Floats, *, k: int) -> PerRequest:
    """
    How unlike each other a list's items are: 1 - mean cosine over its pairs.

    Args:
        ranked: (B, K) rows, best first; -1 pads.
        vectors: (M, D) rows of unit length; a zero row says "no vector", and its pairs are left out.
        k: Places that count, at least 1.

    Returns:
        (B,) float64 in [0, 2], 0 for copies of one item; NaN for fewer than two items with a vector.

    Raises:
        DataError: A row is neither of unit length nor zero.
        ShapeError: A row lies outside the catalogue.

    Cost: O(B k D + M D) time. The sum over pairs comes from the squared length of the sum, so k is never squared.

    >>> plane = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]], np.float32)
    >>> diversity(np.array([[0, 1, 3], [0, 2, -1], [0, 3, -1]]), plane, k=3).tolist()
    [1.0, 0.0, nan]
    """
    top = _top(ranked, len(vectors), k)
    squares = np.einsum("md,md->m", vectors, vectors, dtype=np.float64)  # (M,)
    if (odd := (np.abs(squares - 1) > 1e-2) & (squares != 0)).any():
        row = int(odd.argmax())
        raise DataError(f"vectors has length {squares[row] ** 0.5:.3f} in row {row}, but rows must be unit or zero")
    out = np.full(len(top), np.nan)
    step = max(1, BLOCK // max(1, top.shape[1] * vectors.shape[1]))
    for start in range(0, len(top), step):
        rows = top[start : start + step]
        there = (rows >= 0) & (squares[rows] > 0)  # (b, k)
        gathered = np.where(there[:, :, None], vectors[rows], 0.0).astype(np.float64)  # (b, k, D)
        whole = (gathered.sum(axis=1) ** 2).sum(axis=1)  # (b,)
        alone = (gathered**2).sum(axis=(1, 2))
        pairs = there.sum(axis=1) * (there.sum(axis=1) - 1)
        cosine = (whole - alone) / np.maximum(pairs, 1)
        out[start : start + step] = np.where(pairs > 0, np.clip(1.0 - cosine, 0.0, 2.0), np.nan)
    return out


def _top(ranked: Rows, n_items: int, k: int) -> Rows:
    """The first k places, after a look at k and at the rows."""
    if k < 1:
        raise ConfigError(f"k is {k}, but it must be at least 1")
    top = ranked[:, :k]
    if top.size and top.max() >= n_items:
        raise ShapeError(f"ranked holds row {top.max()}, but the catalogue has {n_items} items")
    return top


def _exposure(ranked: Rows, eligible: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    """How often each eligible item is shown, (number eligible,); other items do not count."""
    top = _top(ranked, len(eligible), k)
    shown: NDArray[np.int64] = np.bincount(top[top >= 0], minlength=len(eligible))[np.asarray(eligible, bool)]
    return shown


def _mean_of(ranked: Rows, values: PerRequest, k: int) -> PerRequest:
    """Mean of an item's value, (M,), over each list; (B,), NaN for an empty list."""
    top = _top(ranked, len(values), k)
    there = top >= 0
    sums = np.where(there, values[top], 0.0).sum(axis=1)
    n = there.sum(axis=1)
    return np.where(n > 0, sums / np.maximum(n, 1), np.nan)
