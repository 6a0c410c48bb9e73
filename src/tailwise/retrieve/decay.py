"""How much what a person did counts by how long ago it was, and how fast that should fade."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Training
from tailwise.types import NO_ROWS, Floats, History, Rows

DECAYS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""What a fit chooses from; 0 counts all moments alike, 1.6 hardly looks past the last one."""
MOST_JUDGED = 1_000
"""Held-out cases that choose."""
MOST_PAST = 200
"""Newest events of a case that are looked at; what is older hardly counts under any decay but 0."""
COUNTED = 10
"""Places of a list in which a held-out item earns something."""
AGAINST_WEIGHT = -0.5
"""Of an event that speaks against its item: it pulls similar items down, with less force than a liking pulls up."""


def history_weights(past: History, decay: float) -> Floats:
    """
    How much each event of a history counts, (H,).

    What is newest counts 1, each moment before it ``exp(-decay)`` of the next; dislikes count ``AGAINST_WEIGHT`` of
    that; events of unknown items count 0. Worked out once for a history, since sources share decays: not to be changed.
    """
    found = past.fading.get(decay)
    if found is None:
        found = past.fading[decay] = np.asarray(undecayed(past) * np.exp(-decay * past.moments_ago), np.float32)
        found.setflags(write=False)
    return found


def undecayed(past: History) -> NDArray[np.float64]:
    """What each event would count were it the newest, (H,): 1, ``AGAINST_WEIGHT``, or 0 for an unknown item."""
    return np.where(past.speaks_for, 1.0, AGAINST_WEIGHT) * (past.rows >= 0)


def weights_without(past: History, decay: float, rows: Rows) -> tuple[Floats, Floats]:
    """
    ``history_weights`` had the person never met an item, for each of S items.

    Where a moment goes with the item, all before it lie one moment less far back. The history is not empty.

    Returns:
        (S, H) weights, 0 for the item's own events; and (S,) how many times as much all that is older would count.

    >>> from tailwise.types import Event
    >>> past = History.of([Event("", name, float(time)) for name, time in (("a", 0), ("b", 1), ("c", 1), ("d", 2))])
    >>> weights, older = weights_without(past.place(np.arange(4)), np.log(2.0), np.array([3, 2]))
    >>> weights.tolist(), older.tolist()
    ([[0.5, 1.0, 1.0, 0.0], [0.25, 0.5, 0.0, 1.0]], [2.0, 1.0])
    """
    if len(past.newest) == len(past) == past.moments_ago[0] + 1:  # each item once, and one at a time: the usual case
        gone = past.rows == rows[:, None]  # (S, H)
        more = np.where(gone.any(axis=1), np.exp(decay), 1.0).astype(np.float32)
        before = np.arange(len(past)) < gone.argmax(axis=1)[:, None]  # the first place where it is nowhere: none
        counts = history_weights(past, decay) * np.where(before, more[:, None], np.float32(1.0))
        return np.asarray(counts * ~gone, np.float32), more
    kept = past.rows != rows[:, None]  # (S, H)
    begins = np.ones(len(past), bool)
    np.not_equal(past.times[1:], past.times[:-1], out=begins[1:])
    there = np.logical_or.reduceat(kept, np.flatnonzero(begins), axis=1)  # (S, moments)
    ago = there[:, ::-1].cumsum(axis=1)[:, ::-1] - there
    fading = np.exp(-decay * ago)[:, np.cumsum(begins) - 1]
    older = np.exp(decay * (there.shape[1] - there.sum(axis=1)))
    return np.asarray(fading * (kept * undecayed(past)), np.float32), np.asarray(older, np.float32)


def weights_by_decay(past: History) -> Floats:
    """``history_weights`` under each of ``DECAYS``, (S, H)."""
    return np.stack([history_weights(past, decay) for decay in DECAYS])


def best_decay(training: Training, scores: Callable[[History], Floats]) -> float:
    """
    The least decay of ``DECAYS`` that earns held-out people as much as any, to within a standard error.

    The gain hardly differs near its top; the least of them looks furthest back. The middle one when nobody is held out.

    Args:
        training: With cases.
        scores: A history to the scores (S, M) of the catalogue under each of ``DECAYS``, finite and its own to change.

    Cost: one call of ``scores`` for each of at most ``MOST_JUDGED`` cases.
    """
    held = training.cases()
    drawn = np.random.default_rng(training.seed).permutation(len(held))[:MOST_JUDGED]
    if not len(drawn):
        return DECAYS[len(DECAYS) // 2]
    earned = np.empty((len(drawn), len(DECAYS)))
    for place, case in enumerate(drawn):
        past = held.past(int(case), training.catalogue)
        seen = past.rows if training.exclude_seen else NO_ROWS
        earned[place] = _earned(scores(past.take(slice(-MOST_PAST, None))), held.targets[case], seen)
    behind = earned[:, [int(np.argmax(earned.mean(axis=0)))]] - earned  # (J, decays)
    error = behind.std(axis=0) / np.sqrt(len(behind))
    return DECAYS[int(np.argmax(behind.mean(axis=0) <= error))]


def _earned(scores: Floats, targets: Rows, seen: Rows) -> NDArray[np.float64]:
    """
    What a case earns under each of S scorings (S, M), changed in place: (S,).

    It is the mean gain of its targets, each among what is neither seen nor a target; a tie counts half.
    """
    wanted = scores[:, targets]  # (S, T)
    scores[:, seen] = scores[:, targets] = -np.inf
    both = zip(scores, wanted[:, :, None], strict=True)
    ahead = np.array([(own > at).sum(axis=1) + (own == at).sum(axis=1) / 2 for own, at in both])  # (S, T)
    return np.asarray(np.where(ahead < COUNTED, 1 / np.log2(ahead + 2), 0.0).mean(axis=1))
