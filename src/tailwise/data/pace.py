"""
How fast what people want changes: the half-life under which what was taken lately tells best what is taken next.

Films stay wanted for years, and a long half-life counts with less chance. News is of the day: there a count of 90 days
says what nobody reads any more, and who was here last month teaches what was wanted last month.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tailwise.data.baskets import Acts
from tailwise.types import Floats, Rows

USUAL = 90.0
"""Days after which an event counts half, unless another half-life is far better."""
RECENT = 30.0
"""Days of the same for "popular now", at most."""
SHORTER = (30.0, 14.0, 7.0, 3.0, 1.0, 0.5, 0.25, 0.1)
"""Days, longest first."""
BETTER = 2.5
"""A shorter one must find so many times as much of what is taken next."""
NEAR = 0.85
"""Of what the best finds; the longest that finds so much is taken."""
LEAST = 2_000
"""Events below which nothing is chosen: too few of them are taken next."""
MOMENTS, SHARE, AHEAD = 5, 0.2, 0.01
"""Moments in the newest share of the events, and the share of all events after each that is to be found."""
SHOWN = 10
FAR = 20.0
"""Half-lives after which an event counts nothing."""
DAY = 86_400.0
PEOPLE, SPAN = 1_000, 8.0
"""Where what is wanted changes fast, people are held out who were here in the newest so many half-lives, and no fewer
than so many people."""


def pace_of(times: NDArray[np.float64], rows: Rows, n_items: int) -> float:
    """
    The half-life of popularity in days: ``USUAL``, or a shorter one that tells far better what is taken next.

    At some moments of the newest fifth, items are ordered by what was taken before, under each half-life, and judged by
    what is taken right after (NDCG@10 of each event).

    Args:
        times: (E,) seconds since epoch of the events that speak for an item.
        rows: (E,) catalogue rows.
        n_items: M.

    Cost: some 20 counts of all events.
    """
    n = len(times)
    if n < LEAST:
        return USUAL
    order = np.argsort(times, kind="stable")
    times, rows = times[order], rows[order]
    cuts = np.linspace((1 - SHARE) * n, (1 - AHEAD) * n, MOMENTS).astype(np.int64)
    found = np.array([_found(times, rows, n_items, cut, int(AHEAD * n)) for cut in cuts])  # (MOMENTS, half-lives)
    usual, shorter = found[:, 0], found[:, 1:]
    best = shorter.mean(0).max()
    surer = shorter[:, int(shorter.mean(0).argmax())] - usual
    if best < BETTER * usual.mean() or surer.mean() <= 2 * surer.std() / np.sqrt(MOMENTS):
        return USUAL
    return SHORTER[int(np.argmax(shorter.mean(0) >= NEAR * best))]


def newest_cases(times: NDArray[np.float64], offsets: NDArray[np.int64], pace: float, acts: Acts) -> float:
    """
    From when on people's acts may be held out, in seconds since epoch; -inf where the past is as good as the present.

    Args:
        times: (E,) of all events, by person and time.
        offsets: (U + 1,) where each person's begin.
        pace: Half-life of popularity in days.
        acts: What times tell of the order of events.
    """
    if pace >= USUAL or acts is Acts.SETS:
        return -np.inf
    last = np.sort(times[offsets[1:][np.diff(offsets) > 0] - 1])
    return float(min(last[-1] - SPAN * pace * DAY, last[-min(PEOPLE, len(last))]))


def _found(times: NDArray[np.float64], rows: Rows, n_items: int, cut: int, ahead: int) -> Floats:
    """(half-lives,) mean NDCG@10 of the events from one place on, under each half-life of those before its moment."""
    now, worth = times[cut], 1 / np.log2(np.arange(SHOWN) + 2)
    stop, taken = int(np.searchsorted(times, now)), rows[cut : cut + ahead]
    out = np.zeros(1 + len(SHORTER), np.float32)
    for place, half_life in enumerate((USUAL, *SHORTER)):
        start = int(np.searchsorted(times, now - FAR * half_life * DAY))
        weights = np.exp2((times[start:stop] - now) / DAY / half_life)
        counts = np.bincount(rows[start:stop], weights, n_items)
        top = np.argsort(-counts, kind="stable")[:SHOWN]
        gains = np.zeros(n_items)
        gains[top] = worth[: len(top)] * (counts[top] > 0)
        out[place] = gains[taken].mean()
    return out
