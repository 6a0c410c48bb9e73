"""
The orders that rules make: some items lifted, groups capped, places pinned. All of them permutations of what came in.

    scores, lift        ─▶ boost_order ─▶ (N,) rows
    groups, most        ─▶ cap_order   ─▶ (N,) rows, and which of them stand lower for it
    order, places       ─▶ pin_order   ─▶ (N,) rows
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailwise.rerank.conditions import Mask
from tailwise.types import Floats, Rows


def boost_order(scores: Floats, lift: NDArray[np.float64]) -> Rows:
    """(N,) rows after each was lifted by ``lift`` standard deviations; see ``Boost``. Ties keep their order."""
    known = scores[np.isfinite(scores)].astype(np.float64)
    merit = np.full(len(scores), known.min(initial=np.inf) if len(known) else 0.0)
    merit[: len(known)] = np.sort(known)[::-1]  # (N,) of each position; what is not a number counts as the worst
    spread = merit.std()
    return np.argsort(-(merit + lift * (spread if spread > 0 else 1.0)), kind="stable")


def cap_order(groups: Sequence[Rows], most: Sequence[int], within: Sequence[int]) -> tuple[Rows, list[Mask]]:
    """
    Each position goes to the best item whose groups all have room, while there is one.

    Args:
        groups: Of each cap, (N,) the group of each row, best first; -1 is in none.
        most: Of each cap, items of one group.
        within: Of each cap, positions for which it holds.

    Returns:
        (N,) rows in their new order, and for each cap (N,) which rows it sent below another.

    Cost: O(N) for each cap and position, positions as far as the caps reach.
    """
    n = len(groups[0])
    left, full = np.ones(n, bool), [np.zeros(n, bool) for _ in groups]
    taken: list[int] = []
    for position in range(min(max(within), n)):
        room = left.copy()
        for blocked, reach in zip(full, within, strict=True):
            room &= ~blocked | (position >= reach)
        row = int((room if room.any() else left).argmax())
        left[row] = False
        taken.append(row)
        for cap, (group, limit) in enumerate(zip(groups, most, strict=True)):
            if group[row] >= 0 and np.count_nonzero(group[taken] == group[row]) >= limit:
                full[cap] |= group == group[row]
    passed = left & (np.arange(n) < max(taken, default=0))
    return np.concatenate([np.array(taken, np.int64), np.flatnonzero(left)]), [passed & blocked for blocked in full]


def pin_order(order: Rows, pins: Sequence[tuple[int, Rows]]) -> Rows:
    """``order`` with some rows at fixed places: (position from 1, rows) in turn; no row is in two pins."""
    places = np.full(len(order), -1, np.int64)
    for position, rows in pins:
        for row in rows:
            free = np.flatnonzero(places < 0)
            places[free[min(int(np.searchsorted(free, position - 1)), len(free) - 1)]] = row
    places[places < 0] = order[~np.isin(order, places)]
    return places
