"""What a person had before and may want again, newer and more often first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from tailwise.config import Closed
from tailwise.data.interactions import Training
from tailwise.data.scores import at_rows, best_slate
from tailwise.retrieve.decay import best_decay, history_weights
from tailwise.retrieve.pairs import PairWeights
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate


class AgainConfig(Closed):
    """Settings of the source of repeats."""

    decay: Annotated[float, Field(ge=0)] | None = None
    """How fast older moments count less: each counts ``exp(-decay)`` of the next one. None lets held-out people
    choose."""


class Again:
    """
    The person's own items, by how often and how lately they were had; 0 for all others.

    It finds nothing where what was seen is not shown again.

    Source: personal frequency with decay, as in TIFU-kNN, Hu et al., SIGIR 2020, arXiv 2006.00556.
    """

    Config = AgainConfig

    def __init__(self, config: AgainConfig, item_ids: Ids) -> None:
        self.config = config
        self._item_ids = item_ids
        rows = np.arange(len(item_ids), dtype=np.int32)[:, None]
        self._weights = PairWeights(np.ones(rows.shape, np.float32), rows)  # every item leads to itself alone

    @classmethod
    def fit(cls, config: AgainConfig, training: Training) -> Self:
        """Choose the decay, where repeats are shown at all; nothing else is learned."""
        made = cls(config, training.catalogue.item_ids)
        if config.decay is not None or training.exclude_seen:
            return made
        return cls(AgainConfig(decay=best_decay(training, made._weights.by_decay)), training.catalogue.item_ids)

    @classmethod
    def open(cls, config: AgainConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  nothing stored
        """Nothing to read."""
        return cls(config, facts.item_ids)

    def __call__(self, request: Request, k: int) -> Slate:
        scores = self._all(request)
        return best_slate(np.where(scores > 0, scores, np.float32("nan")), k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        past = request.past
        if self in request.cache or not len(past.newest):
            return at_rows(self._all(request), rows)
        had = rows[:, None] == past.rows  # (N, H)
        if not had.any():  # as always where nothing is shown twice
            return np.where(rows >= 0, np.float32(0.0), np.float32("nan"))
        return np.where(rows >= 0, had @ history_weights(past, self.config.decay or 0.0), np.float32("nan"))

    def contributions(self, request: Request, rows: Rows) -> Floats:
        """What each event adds to each row's score, (N, H)."""
        return self._weights.contributions(request.past, self.config.decay or 0.0, rows)

    def _all(self, request: Request) -> Floats:
        """(M,) 0 for what was never had, below 0 what was disliked, NaN throughout for a stranger."""
        if self not in request.cache:
            request.cache[self] = self._weights.scores(request.past, self.config.decay or 0.0)
        return request.cache[self]
