"""Item-to-item weights, dense or sparse, applied to a history: what EASE and item-kNN have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.data.interactions import Training
from tailwise.data.scores import gains
from tailwise.types import AGAINST, Floats, History

DECAYS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""What a fit chooses from; 0 counts all events alike, 0.8 hardly looks past the last three."""
MOST_JUDGED = 1_000
MOST_PAST = 200
"""Newest events of a judged person that are looked at; what is older hardly counts under any decay but 0."""
AGAINST_WEIGHT = -0.5
"""Of an event that speaks against its item: it pulls similar items down, with less force than a liking pulls up."""


def history_weights(past: History, decay: float) -> Floats:
    """
    How much each event of a history counts, (H,).

    The newest counts 1, each one before it ``exp(-decay)`` of the next; dislikes count ``AGAINST_WEIGHT`` of that;
    events of unknown items count 0.
    """
    age = np.arange(len(past))[::-1]
    sign = np.fromiter((AGAINST_WEIGHT if event in AGAINST else 1.0 for event in past.events), np.float32, len(past))
    return np.where(past.rows >= 0, sign * np.exp(-decay * age), 0.0).astype(np.float32)


class PairWeights:
    """
    An (M, M) matrix of weights from item to item.

    Args:
        values: (M, M) dense, or (M, Z) the Z strongest of each row.
        columns: (M, Z) int32 columns of the sparse values, -1 where a row has fewer; None when dense.
    """

    def __init__(self, values: Floats, columns: np.ndarray[tuple[int, ...], np.dtype[np.int32]] | None = None) -> None:
        self.values = values
        self.columns = columns

    @classmethod
    def strongest(cls, dense: Floats, keep: int) -> Self:
        """The ``keep`` weights of largest magnitude in each row; dense when that is nearly all of them."""
        if 2 * keep >= dense.shape[1]:
            return cls(dense)
        columns = np.argpartition(-np.abs(dense), keep, axis=1)[:, :keep].astype(np.int32)
        return cls(np.take_along_axis(dense, columns, axis=1), columns)

    def scores(self, past: History, decay: float) -> Floats:
        """
        Every item's weighted sum over the history, (M,); NaN throughout when nothing in the history is known.

        Cost: O(H M) dense, O(H Z + M) sparse.
        """
        known = past.rows >= 0
        if not known.any():
            return np.full(len(self.values), np.nan, np.float32)
        rows, weights = past.rows[known], history_weights(past, decay)[known]
        if self.columns is None:
            return np.asarray(weights @ self.values[rows], np.float32)
        columns = self.columns[rows].ravel()
        gains = (weights[:, None] * self.values[rows]).ravel()
        # Column -1 marks "no further neighbour": it is counted in a place of its own and dropped.
        return np.bincount(columns + 1, weights=gains, minlength=len(self.values) + 1)[1:].astype(np.float32)

    def best_decay(self, training: Training) -> float:
        """
        The decay of ``DECAYS`` that earns held-out people most; the middle one when nobody is held out.

        Cost: a scoring of the catalogue per person and decay.
        """
        people, targets = training.judged()
        people, targets = people[:MOST_JUDGED], targets[:MOST_JUDGED]
        if not len(people):
            return DECAYS[len(DECAYS) // 2]
        pasts = [training.past(person).take(slice(-MOST_PAST, None)) for person in people]
        seen = training.seen(people)
        earned = [0.0] * len(DECAYS)
        for place, decay in enumerate(DECAYS):
            for start in range(0, len(people), 256):
                block = slice(start, start + 256)
                scores = np.stack([self.scores(past, decay) for past in pasts[block]])
                earned[place] += float(gains(scores, targets[block], seen[block]).sum())
        return DECAYS[int(np.argmax(earned))]

    def save(self, folder: Path, name: str) -> None:
        """Write the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        sparse = {} if self.columns is None else {"columns": self.columns}
        save_arrays(folder / f"{name}.safetensors", values=self.values, **sparse)

    @classmethod
    def open(cls, folder: Path, name: str) -> Self:
        """Read what ``save`` wrote."""
        arrays = load_arrays(folder / f"{name}.safetensors")
        return cls(arrays["values"], arrays.get("columns"))
