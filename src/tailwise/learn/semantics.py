"""What texts give the item table: where items start, and where an item stands that nobody has touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tailwise.rank.sequence import ITEMS, SequenceScorer
from tailwise.types import Floats, Rows

SPREAD = 0.1
"""Standard deviation of the values that texts start from: about what a trained table has."""
NEIGHBOURS = 20
"""Items whose place an untouched one takes the mean of."""
SHARPNESS = 0.05
"""A neighbour whose cosine is less by this counts ``1 / e`` as much."""
RARE = 10
"""Items with fewer events are drawn to the neighbours."""
PULL = 0.5
"""Events that the neighbours count for."""
BLOCK = 256
"""Rows that are compared with all others at a time."""


def start_of(vectors: Floats, dim: int) -> Floats | None:
    """
    Where items start: the first ``dim`` directions of their whitened texts, in the size of a trained table.

    Args:
        vectors: (M, W) unit rows, zeros where an item has no text.
        dim: Width of the table.

    Returns:
        (M, min(W, dim)), or None when no item has a text, or all have the same.

    Source: initialising from PCA of language-model vectors, after Harte et al. (LLM2SASRec), RecSys 2023.
    """
    head = vectors[:, :dim]
    present = head[head.any(axis=1)]
    spread = float(present.std()) if len(present) > 1 else 0.0
    return None if spread == 0 else (head * (SPREAD / spread)).astype(np.float32)


@dataclass(frozen=True)
class Origin:
    """Another domain's model that a fit starts from; stands in ``Training.memo`` under its own class."""

    scorer: SequenceScorer
    vectors: Floats  # (N, W) texts of its items, in the space that both domains share

    def weights(self) -> Mapping[str, NDArray[Any]]:
        """Of its first network, without those of its items."""
        assert self.scorer.trained, "a fitted or an opened scorer has weights"
        return {name: array for name, array in self.scorer.trained[0].weights.items() if name != ITEMS}

    @property
    def table(self) -> Floats:
        """(N, D) of its items, as its first network knows them."""
        return self.scorer.table[:, : self.scorer.config.shape.dim]


@dataclass(frozen=True)
class StandIns:
    """For some items the neighbours whose mean they take."""

    rows: Rows  # (S,)
    neighbours: Rows  # (S, K) rows of the table that they look in
    weights: Floats  # (S, K) add up to 1 in each row

    @classmethod
    def of(cls, vectors: Floats, rows: Rows, among: Floats, *, same: bool) -> Self:
        """
        Neighbours by text.

        Args:
            vectors: (M, W) unit rows; rows of zeros, items without a text, get none.
            rows: (S,) the items that look.
            among: (N, W) unit rows to look in; rows of zeros are nobody's neighbour.
            same: Whether both are of one catalogue, in which nothing is a neighbour of its own.

        Cost: O(S N W) time, O(256 N) memory.
        """
        rows, there = rows[vectors[rows].any(axis=1)], np.flatnonzero(among.any(axis=1))
        k = min(NEIGHBOURS, len(there))
        if k < 1:
            return cls(rows[:0], np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32))
        places, weights = np.zeros((len(rows), k), np.int64), np.zeros((len(rows), k), np.float32)
        for begin in range(0, len(rows), BLOCK):
            own = rows[begin : begin + BLOCK]
            cosine = vectors[own] @ among[there].T  # (block, N)
            if same:
                cosine[own[:, None] == there] = -2.0  # behind everything, unless nothing else is there
            nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
            near = np.take_along_axis(cosine, nearest, axis=1)
            strength = np.exp((near - near.max(axis=1, keepdims=True)) / SHARPNESS)
            places[begin : begin + BLOCK] = there[nearest]
            weights[begin : begin + BLOCK] = strength / strength.sum(axis=1, keepdims=True)
        return cls(rows, places, weights)

    def take(self, table: Floats) -> Floats:
        """(S, D) the weighted means of their neighbours' rows of an (N, D) table."""
        out: Floats = np.einsum("sk,skd->sd", self.weights, table[self.neighbours])
        return out


@dataclass(frozen=True)
class Placement:
    """
    From the learned item table to the one that serves: rare items are drawn to those with the most alike texts.

    An item with n events moves by ``PULL / (n + PULL)`` of the way to the mean of its neighbours: one that nobody
    touched goes all the way, one with 10 events stays. Then an item without events competes with others as its likes
    do, and not as the training left it, which never saw it chosen.
    """

    stand_ins: StandIns
    share: Floats  # (S, 1) of the way
    blank: NDArray[np.bool_]  # (M,) items of which nothing is known

    @classmethod
    def of(cls, vectors: Floats, counts: Floats, power: float = 0.0) -> Self:
        """
        From texts and events.

        Args:
            vectors: (M, W), zeros where an item has no text.
            counts: (M,) events that speak for each item.
            power: Of the events of a neighbour, by which it counts beside its likeness: 0 makes a new item as wanted as
                the usual item like it, 1 as wanted as the usual *event* with one.
        """
        touched = counts > 0
        among = np.where(touched[:, None], vectors, np.float32(0))
        found = StandIns.of(vectors, np.flatnonzero(counts < RARE), among, same=True)
        strength = found.weights * np.maximum(counts, 1)[found.neighbours] ** np.float32(power)
        found = replace(found, weights=strength / strength.sum(axis=1, keepdims=True))
        share = PULL / (counts[found.rows] + PULL)
        return cls(found, share[:, None].astype(np.float32), ~touched & ~vectors.any(axis=1))

    def table(self, learned: Floats) -> Floats:
        """(M, D) to (M, D); rows of which nothing is known are zero."""
        out, rows = learned.copy(), self.stand_ins.rows
        out[rows] += self.share * (self.stand_ins.take(learned) - learned[rows])
        out[self.blank] = 0
        return out
