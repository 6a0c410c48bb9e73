"""
What people take who are new: popularity for those of whom nothing is known, chosen by those who were new lately.

    log ─▶ its first four fifths ─▶ popularity under each half-life and count of first events
        └▶ its last fifth ─▶ people who are new there ─▶ what each popularity earns by what they took
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Interactions
from tailwise.types import Floats, Rows

HALF_LIVES = (1e6, 720.0, 360.0, 180.0, 90.0, 30.0, 14.0, 7.0)
"""In days; the first counts all events alike."""
FIRST = (0, 50, 20, 10)
"""Of each person's events, how many first ones count; 0: all. Newcomers take what newcomers took, not what people take
who have had the best already."""
SHARE = 0.8
"""Of the events, by time, that come before the newcomers who choose."""
LEAST = 30
"""Newcomers below which nothing is chosen."""
SHOWN = 10


def popularity_for(interactions: Interactions, half_life_days: float, first: int, until: float = np.inf) -> Floats:
    """
    Decayed counts of events that speak for each item, (M,).

    Args:
        interactions: All that is known.
        half_life_days: Before the newest event that counts, in days.
        first: So many first events of each person count; 0: all.
        until: Events from this time on do not count, in seconds since epoch.
    """
    counted = interactions.likes & (interactions.times < until)
    if first:
        place = np.arange(len(interactions)) - np.repeat(interactions.offsets[:-1], np.diff(interactions.offsets))
        counted &= place < first
    if not counted.any():
        return np.zeros(interactions.n_items, np.float32)
    times = interactions.times[counted]
    weights = np.exp2((times - times.max()) / 86400 / half_life_days)
    return np.bincount(interactions.rows[counted], weights, interactions.n_items).astype(np.float32)


def chosen_for_strangers(interactions: Interactions, usual: float) -> tuple[float, int]:
    """
    The half-life in days, and the count of first events, whose best ten earn newcomers most.

    Args:
        interactions: All that is known.
        usual: The half-life where too few people are new in the last part of the log; then all events count.

    Cost: 32 counts of the events.
    """
    if not len(interactions):
        return usual, 0
    cut = float(np.quantile(interactions.times, SHARE))
    begins = interactions.offsets[:-1][np.diff(interactions.offsets) > 0]
    new = np.flatnonzero(np.diff(interactions.offsets) > 0)[interactions.times[begins] >= cut]
    taken = np.isin(interactions.users, new) & interactions.likes
    if len(new) < LEAST or not (interactions.times < cut).any() or not taken.any():
        return usual, 0
    size = np.int64(interactions.n_items)
    pairs = np.unique(interactions.users[taken] * size + interactions.rows[taken])  # each person's items, once
    people, counts = np.unique(pairs // size, return_counts=True)
    best, earned = (usual, 0), -1.0
    for first in FIRST:
        for half_life in HALF_LIVES:
            scores = popularity_for(interactions, half_life, first, cut)
            top = np.argsort(-scores, kind="stable")[:SHOWN]
            gain = _ndcg(pairs, people, counts, top[scores[top] > 0], size)
            if gain > earned:  # of equals the one that counts more events, over a longer time
                best, earned = (half_life, first), gain
    return best


def _ndcg(pairs: Rows, people: Rows, counts: NDArray[np.int64], top: Rows, size: np.int64) -> float:
    """Mean NDCG of one list shown to all: ``pairs`` are sorted person-and-item keys."""
    wanted = people[:, None] * size + top  # (P, ≤ 10)
    places = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    worth = 1 / np.log2(np.arange(SHOWN) + 2)
    ideal = np.cumsum(worth)[np.minimum(counts, SHOWN) - 1]
    return float(((pairs[places] == wanted) @ worth[: len(top)] / ideal).mean())
