"""Item-to-item weights, dense or sparse, applied to a history: what EASE, item-kNN and the next item have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.retrieve.decay import history_weights, weights_by_decay
from tailwise.types import Floats, History, Request, Rows


@runtime_checkable
class Additive(Protocol):
    """A source whose score is a sum over the events of a history."""

    def contributions(self, request: Request, rows: Rows) -> Floats:
        """
        What each event adds to each row's score, (N, H): rows add up to ``scores``.

        Zeros where ``scores`` has NaN, and for events of items that the source knows nothing of.
        """
        ...


class PairWeights:
    """
    Weights from item to item, among the C of M items that take part.

    Args:
        values: (C, C) dense, or (C, Z) the Z strongest of each row.
        columns: (C, Z) int32 columns of the sparse values, -1 where a row has fewer; None when dense.
        chosen: (C,) catalogue rows of the items that take part, as ``values`` has them; None when all do.
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
        self._whole = bool(np.array_equal(self.chosen, np.arange(self.n_items)))

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
        if not len(past.newest):
            return np.full(self.n_items, np.nan, np.float32)
        scores: Floats = self._spread(self._sums(past, history_weights(past, decay)[None]))[0]
        return scores

    def contributions(self, past: History, decay: float, rows: Rows) -> Floats:
        """What each event of a history adds to the score of each of N rows, (N, H); they add up to ``scores``."""
        return self.between(past, rows) * history_weights(past, decay)

    def between(self, past: History, rows: Rows) -> Floats:
        """
        The weight from each event's item to each of N rows, (N, H); 0 where there is none, and for row -1.

        Cost: O(N H) dense, O(H Z) sparse.
        """
        events, wanted = self._place[past.rows], self._place[rows]
        if self.columns is None:
            there = (events >= 0) & (wanted >= 0)[:, None]
            flat = self.values.take(events * len(self.values) + wanted[:, None], mode="clip")  # half of two indices
            return np.where(there, flat, np.float32(0.0))
        slot = np.full(len(self.values) + 1, -1, np.int32)
        slot[wanted] = np.arange(len(wanted))
        own = slot[wanted]  # of an item that is wanted twice, one row serves both
        slot[-1] = -1  # of column and place -1: no item
        known = np.flatnonzero(events >= 0)
        slots = slot[self.columns.take(events[known], axis=0)]  # (≤ H, Z)
        event, neighbour = np.nonzero(slots >= 0)
        found = np.zeros((len(wanted), len(past)), np.float32)
        found[slots[event, neighbour], known[event]] = self.values[events[known[event]], neighbour]
        return found[own]

    def by_decay(self, past: History) -> Floats:
        """The same under each of ``DECAYS``, (S, M); zeros when nothing in the history is known."""
        return self._spread(self._sums(past, weights_by_decay(past)))

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
        places = self._place.take(past.rows)
        part = places >= 0
        if not part.all():
            places, weights = places[part], weights[:, part]
        if self.columns is None:
            return np.asarray(weights @ self.values.take(places, axis=0), np.float32)
        columns, values = self.columns.take(places, axis=0).ravel() + 1, self.values.take(places, axis=0)
        # Column -1 marks "no further neighbour": it is counted in a place of its own and dropped.
        size = len(self.values) + 1
        sums = [np.bincount(columns, weights=(own[:, None] * values).ravel(), minlength=size)[1:] for own in weights]
        return np.array(sums, np.float32)

    def _spread(self, sums: Floats) -> Floats:
        """(S, C) sums to (S, M) scores."""
        if self._whole:
            return sums
        scores: NDArray[Any] = np.zeros((len(sums), self.n_items), np.float32)
        scores[:, self.chosen] = sums
        return scores
