"""
What came of each meeting of a person with an item: episodes, each with a label for every task that it can answer.

    view ── click ── purchase      one episode: seen, clicked, bought
    view                           one episode: seen, neither clicked nor bought
    rating 4.0                     one episode: rated; of a click it says nothing

A log with clicks or purchases *and* with views or skips shows what people passed over. Other logs hold only what they
took; there, items that they might have met are drawn as counter-examples by whoever learns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Interactions
from tailwise.types import EVENT_KINDS, Floats, Rows

TASKS = ("click", "purchase", "rating", "dwell", "favourite", "dislike")
"""What can be told of a person and an item, in the order of every (…, K) array."""
CHANCES = frozenset({"click", "purchase", "favourite", "dislike"})
"""Tasks whose label is 0 or 1; the others are quantities: a rating in its own scale, dwell in seconds."""
PASSED_OVER = np.array([0.0, 0.0, np.nan, np.nan, 0.0, np.nan], np.float32)
"""(K,) labels of an item that was drawn as a counter-example: not taken; whether it would be disliked is not known."""
DAY = 86_400.0
"""Seconds."""

_BIT = {kind: 1 << place for place, kind in enumerate(EVENT_KINDS)}
_TAKEN = _BIT["click"] | _BIT["cart"] | _BIT["purchase"]
_MET = _BIT["view"] | _BIT["skip"] | _BIT["dislike"]


@dataclass(frozen=True)
class Episodes:
    """R meetings, in the order of the interactions: by person, then by time."""

    people: Rows  # (R,) places in ``user_ids``
    rows: Rows  # (R,) catalogue rows
    times: NDArray[np.float64]  # (R,) seconds since epoch, of the first event
    ends: Rows  # (R,) the person's past is what lies before this place of the interactions
    labels: Floats  # (R, K) NaN where a task has no answer
    shows: bool
    """Whether the log shows what people passed over, so that nothing has to be drawn."""
    timeless: bool
    """Everything happened at one moment: there is no before, and all else that a person did is the past."""

    def __len__(self) -> int:
        return len(self.rows)


def episodes_of(interactions: Interactions, *, window_days: float) -> Episodes:
    """
    Gather a log's events into episodes.

    Events of one person with one item belong together while each comes within the window after the one before; a
    view or a skip at a later moment begins a new episode. What happened at the moment at which an episode begins is
    never part of its past.

    Args:
        interactions: The log.
        window_days: Within how many days something counts as coming of what was before.

    Cost: O(E log E).
    """
    log = interactions
    order = np.lexsort((log.kinds, log.times, log.rows, log.users))
    users, rows, times, kinds = log.users[order], log.rows[order], log.times[order], log.kinds[order]
    new = np.ones(len(order), bool)
    shown = (kinds == EVENT_KINDS.index("view")) | (kinds == EVENT_KINDS.index("skip"))
    gaps = np.diff(times)
    other = (np.diff(users) != 0) | (np.diff(rows) != 0)
    new[1:] = other | (gaps > window_days * DAY) | (shown[1:] & (gaps > 0))
    starts = np.flatnonzero(new)
    first = order[starts]  # (R,) where each episode begins in the log
    timeless = len(order) > 1 and float(np.ptp(log.times)) == 0.0
    ends = log.offsets[log.users[first] + 1] if timeless else _moments(log)[first]
    bits = np.bitwise_or.reduceat(1 << kinds.astype(np.int64), starts) if len(starts) else np.empty(0, np.int64)
    labels = _labels(bits)
    for name in ("rating", "dwell"):
        _last_values(labels[:, TASKS.index(name)], new, kinds == EVENT_KINDS.index(name), log.values[order])
    labels[labels[:, TASKS.index("dwell")] < 0, TASKS.index("dwell")] = np.nan
    back = np.argsort(first, kind="stable")
    kind_counts = np.bincount(kinds, minlength=len(EVENT_KINDS))
    acts = kind_counts[[EVENT_KINDS.index(kind) for kind in ("click", "cart", "purchase")]].sum()
    return Episodes(
        users[starts][back],
        rows[starts][back],
        times[starts][back],
        ends[back],
        labels[back],
        bool(shown.any() and acts),
        timeless,
    )


def counter_examples(counts: Floats, shape: tuple[int, ...], rng: np.random.Generator) -> Rows:
    """
    Rows of items that somebody might have met, drawn by popularity to the power of three quarters.

    Args:
        counts: (M,) events of each item.
        shape: How many, and how arranged.
        rng: Where chance comes from.
    """
    cumulative = np.cumsum((counts.astype(np.float64) + 1e-3) ** 0.75)
    rows = np.searchsorted(cumulative, rng.random(shape) * cumulative[-1], side="right")
    return np.asarray(np.minimum(rows, len(counts) - 1), np.int64)


def against(labels: Floats, drawn: Rows, rows: Rows) -> Floats:
    """
    Labels of counter-examples: not taken, wherever the episode that they belong to was.

    Args:
        labels: (B, K) of the episodes, in the order of ``TASKS``.
        drawn: (B, N) rows that were drawn.
        rows: (B,) the episodes' own; drawn again it says nothing.

    Returns:
        (B, N, K); NaN where there is no label.
    """
    took = ((labels == 1) & (PASSED_OVER == 0)).any(1)
    counts = took[:, None] & (drawn != rows[:, None])
    return np.where(counts[..., None], PASSED_OVER, np.float32("nan"))


def newest(people: Rows, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """
    The newest ``share`` of each person's rows, (R,), to be held out; a fraction of a row is a chance of it.

    Args:
        people: (R,) the person of each row, sorted, each one's rows oldest first.
        share: In [0, 1].
        rng: Decides on the fractions.

    >>> newest(np.array([0, 0, 0, 0, 1, 1]), 0.5, np.random.default_rng(0)).tolist()
    [False, False, True, True, False, True]
    """
    counts = np.bincount(people)
    left = np.cumsum(counts)[people] - np.arange(len(people)) - 1  # (R,) rows of the person after this one
    return np.asarray(left < np.floor(counts * share + rng.random(len(counts)))[people])


def _labels(bits: NDArray[np.int64]) -> Floats:
    """(R,) kinds that occurred, as bits, to (R, K) labels; a task whose kind never occurs has none."""
    labels = np.full((len(bits), len(TASKS)), np.nan, np.float32)
    every = int(np.bitwise_or.reduce(bits, initial=0))
    taken, met = (bits & _TAKEN) > 0, (bits & _MET) > 0
    if every & _BIT["click"]:
        labels[taken | met, TASKS.index("click")] = taken[taken | met]
    if every & _BIT["purchase"]:
        bought = (bits & _BIT["purchase"]) > 0
        labels[taken | met, TASKS.index("purchase")] = bought[taken | met]
    for kind in ("favourite", "dislike"):
        if every & _BIT[kind]:
            labels[:, TASKS.index(kind)] = (bits & _BIT[kind]) > 0
    return labels


def _last_values(labels: Floats, new: NDArray[np.bool_], wanted: NDArray[np.bool_], values: Floats) -> None:
    """Write the last finite value of the wanted events into the labels of their episodes, (R,), in place."""
    places = np.flatnonzero(wanted & np.isfinite(values))
    labels[np.cumsum(new)[places] - 1] = values[places]  # of several for one episode, the last stays


def _moments(log: Interactions) -> Rows:
    """(E,) where the person's moment that each event belongs to begins."""
    new = np.ones(len(log), bool)
    new[1:] = (np.diff(log.times) != 0) | (np.diff(log.users) != 0)
    return np.maximum.accumulate(np.where(new, np.arange(len(log)), 0))
