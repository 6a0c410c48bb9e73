"""Many ranked lists into one, by reciprocal rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailwise.types import Floats, Rows

RRF_CONSTANT = 60.0
"""Cormack et al. found ranks far down the lists to matter little with it."""


def reciprocal_rank_fusion(lists: Sequence[Rows]) -> tuple[Rows, Floats]:
    """
    Merge ranked lists: an item's score is the sum of ``1 / (60 + rank)`` over the lists that hold it, rank from 1.

    Args:
        lists: Rows, best first, no row twice in a list.

    Returns:
        (N,) the distinct rows, best first, and their (N,) scores. Ties go to the row first met.

    Source: Cormack, Clarke & Büttcher, SIGIR 2009, doi:10.1145/1571941.1572114.

    >>> rows, scores = reciprocal_rank_fusion([np.array([7, 3]), np.array([3, 5])])
    >>> rows.tolist()
    [3, 7, 5]
    """
    if not lists:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    every = np.concatenate(lists)
    gains: NDArray[np.float64] = np.concatenate([1.0 / (RRF_CONSTANT + 1 + np.arange(len(rows))) for rows in lists])
    distinct, first, place = np.unique(every, return_index=True, return_inverse=True)
    # Rounded, because sums of the same numbers in another order differ in the last digit, and a tie is a tie.
    scores = np.bincount(place, weights=gains, minlength=len(distinct)).round(12)
    order = np.lexsort((first, -scores))
    return distinct[order], scores[order].astype(np.float32)
