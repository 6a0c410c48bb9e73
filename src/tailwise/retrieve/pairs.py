"""Item-to-item weights, dense or sparse, applied to a history: what EASE, item-kNN and the next item have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.data.interactions import Training
from tailwise.types import AGAINST, NO_ROWS, Floats, History, Rows

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


def moments_ago(past: History) -> NDArray[np.int64]:
    """
    How many moments each event of a history lies before the newest, (H,): events at one time are one moment.

    So a basket of twenty is one step back, and a log without times is one moment.
    """
    later = np.cumsum(np.diff(past.times, prepend=past.times[:1]) != 0)
    return np.asarray(later.max(initial=0) - later)


def history_weights(past: History, decay: float) -> Floats:
    """
    How much each event of a history counts, (H,).

    What is newest counts 1, each moment before it ``exp(-decay)`` of the next; dislikes count ``AGAINST_WEIGHT`` of
    that; events of unknown items count 0.
    """
    against = np.logical_or.reduce([past.events == kind for kind in AGAINST])
    weights = np.where(against, AGAINST_WEIGHT, 1.0) * np.exp(-decay * moments_ago(past))
    return np.where(past.rows >= 0, weights, 0.0).astype(np.float32)


class PairWeights:
    """
    Weights from item to item, among the C of M items that take part.

    Args:
        values: (C, C) dense, or (C, Z) the Z strongest of each row.
        columns: (C, Z) int32 columns of the sparse values, -1 where a row has fewer; None when dense.
        chosen: (C,) catalogue rows of the items that take part, in order; None when all do.
        n_items: M; needed with ``chosen`` alone.
    """

    def __init__(
        self,
        values: Floats,
        columns: NDArray[np.int32] | None = None,
        *,
        chosen: Rows | None = None,
        n_items: int | None = None,
    ) -> None:
        self.values = values
        self.columns = columns
        self.n_items = len(values) if n_items is None else n_items
        self.chosen = np.arange(len(values)) if chosen is None else chosen
        self._place = np.full(self.n_items + 1, -1, np.int64)  # the last is of row -1, which is unknown
        self._place[self.chosen] = np.arange(len(values))

    def strongest(self, keep: int) -> Self:
        """The ``keep`` weights of largest magnitude in each row; dense when that is nearly all of them."""
        if self.columns is not None or 2 * keep >= len(self.values):
            return self
        columns = np.empty((len(self.values), keep), np.int32)
        for start in range(0, len(columns), 1024):  # by blocks: the places of all would take twice the matrix
            block = np.abs(self.values[start : start + 1024])
            columns[start : start + 1024] = np.argpartition(-block, keep, axis=1)[:, :keep]
        values = np.take_along_axis(self.values, columns.astype(np.int64), axis=1)
        return type(self)(values, columns, chosen=self.chosen, n_items=self.n_items)

    def scores(self, past: History, decay: float) -> Floats:
        """
        Every item's weighted sum over the history, (M,); NaN throughout when nothing in the history is known.

        Items that take no part get 0.

        Cost: O(H C + M) dense, O(H Z + M) sparse.
        """
        if not (past.rows >= 0).any():
            return np.full(self.n_items, np.nan, np.float32)
        scores: Floats = self._spread(self._sums(past, history_weights(past, decay)[None]))[0]
        return scores

    def best_decay(self, training: Training) -> float:
        """
        The least decay of ``DECAYS`` that earns held-out people as much as any, to within a standard error.

        The gain hardly differs near its top; the least of them looks furthest back. The middle one when nobody is held
        out.

        Cost: a scoring of the catalogue with all decays at once, for each of ``MOST_JUDGED`` cases.
        """
        held = training.cases()
        drawn = np.random.default_rng(training.seed).permutation(len(held))[:MOST_JUDGED]
        if not len(drawn):
            return DECAYS[len(DECAYS) // 2]
        earned = np.empty((len(drawn), len(DECAYS)))
        for place, case in enumerate(drawn):
            past = held.past(int(case), training.catalogue)
            lately = past.take(slice(-MOST_PAST, None))
            scores = self._spread(self._sums(lately, np.stack([history_weights(lately, decay) for decay in DECAYS])))
            earned[place] = _earned(scores, held.targets[case], past.rows if training.exclude_seen else NO_ROWS)
        behind = earned[:, [int(np.argmax(earned.mean(axis=0)))]] - earned  # (J, decays)
        error = behind.std(axis=0) / np.sqrt(len(behind))
        return DECAYS[int(np.argmax(behind.mean(axis=0) <= error))]

    def save(self, folder: Path, name: str) -> None:
        """Write the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        sparse = {} if self.columns is None else {"columns": self.columns}
        size = np.array([self.n_items])
        save_arrays(folder / f"{name}.safetensors", values=self.values, chosen=self.chosen, n_items=size, **sparse)

    @classmethod
    def open(cls, folder: Path, name: str) -> Self:
        """Read what ``save`` wrote."""
        arrays = load_arrays(folder / f"{name}.safetensors")
        return cls(arrays["values"], arrays.get("columns"), chosen=arrays["chosen"], n_items=int(arrays["n_items"][0]))

    def _sums(self, past: History, weights: Floats) -> Floats:
        """Weighted sums over a history, (S, C), under each of S weightings (S, H) of its events."""
        places = self._place[past.rows]
        part = places >= 0
        places, weights = places[part], weights[:, part]
        if self.columns is None:
            return np.asarray(weights @ self.values[places], np.float32)
        columns, values = self.columns[places].ravel() + 1, self.values[places]
        # Column -1 marks "no further neighbour": it is counted in a place of its own and dropped.
        size = len(self.values) + 1
        sums = [np.bincount(columns, weights=(own[:, None] * values).ravel(), minlength=size)[1:] for own in weights]
        return np.array(sums, np.float32)

    def _spread(self, sums: Floats) -> Floats:
        """(S, C) sums to (S, M) scores."""
        if len(self.chosen) == self.n_items:
            return sums
        scores: NDArray[Any] = np.zeros((len(sums), self.n_items), np.float32)
        scores[:, self.chosen] = sums
        return scores


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
