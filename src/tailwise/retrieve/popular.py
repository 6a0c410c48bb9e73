"""Popularity with decay: what many people did lately. The first answer to a stranger, and the baseline to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.interactions import Training
from tailwise.data.scores import best_slate
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate


class PopularConfig(Closed):
    """Settings of the popularity source."""

    half_life_days: Annotated[float, Field(gt=0)] = 90.0
    """An event counts half after this many days, in days."""


class Popular:
    """Scores an item by the logarithm of its decayed events."""

    Config = PopularConfig

    def __init__(self, config: PopularConfig, popularity: Floats, item_ids: Ids) -> None:
        self.config = config
        self._item_ids = item_ids
        self._scores = np.log1p(popularity).astype(np.float32)  # (M,)
        self._popularity = popularity

    @classmethod
    def fit(cls, config: PopularConfig, training: Training) -> Self:
        """Count."""
        return cls(config, training.interactions.decayed(config.half_life_days), training.catalogue.item_ids)

    @classmethod
    def open(cls, config: PopularConfig, facts: Facts, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        return cls(config, load_arrays(folder / "popular.safetensors")["popularity"], facts.item_ids)

    def save(self, folder: Path) -> None:
        """Write the counts."""
        folder.mkdir(parents=True, exist_ok=True)
        save_arrays(folder / "popular.safetensors", popularity=self._popularity)

    def __call__(self, request: Request, k: int) -> Slate:
        return best_slate(self._scores, k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:  # noqa: ARG002  the same for everyone
        return np.where(rows >= 0, self._scores[rows], np.float32("nan"))
