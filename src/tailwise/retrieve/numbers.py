"""Items whose numbers are near those of what the person liked: as old, as dear. Speaks before there are events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from tailwise.config import Closed
from tailwise.data.interactions import Training
from tailwise.data.scores import at_rows, best_slate
from tailwise.errors import ConfigError
from tailwise.retrieve.decay import history_weights
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate

USUAL = ("year", "price", "time")
"""Columns that are compared by default, where the items have them: any other number may be a code."""


class NumbersConfig(Closed):
    """Settings of the source that compares numbers."""

    columns: tuple[str, ...] = ()
    """Number columns of the items; empty takes year, price and time, where there are any."""
    decay: Annotated[float, Field(ge=0)] = 0.2
    """How fast older events count less: each counts ``exp(-decay)`` of the next one."""


class Numbers:
    """
    Scores an item by how far its numbers are from those of what the person liked, in shares of the catalogue between.

    Args:
        config: Settings.
        facts: With the columns.

    Raises:
        ConfigError: A column that the settings name is not there, or holds no numbers.
    """

    Config = NumbersConfig

    def __init__(self, config: NumbersConfig, facts: Facts) -> None:
        self.config = config
        self._item_ids: Ids = facts.item_ids
        self._places = np.stack(
            [quantiles(column) for column in _columns(config, facts)] or [np.full(len(self._item_ids), np.nan)], axis=1
        )  # (M, C)

    @classmethod
    def fit(cls, config: NumbersConfig, training: Training) -> Self:
        """Nothing to learn: the catalogue holds the numbers."""
        return cls(config, training.catalogue)

    @classmethod
    def open(cls, config: NumbersConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  nothing stored
        """Take the numbers from the catalogue."""
        return cls(config, facts)

    def __call__(self, request: Request, k: int) -> Slate:
        return best_slate(self._scores(request), k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        return at_rows(self._scores(request), rows)

    def _scores(self, request: Request) -> Floats:
        """(M,) minus the mean distance to what was liked; NaN where an item, or all that was liked, has no number."""
        if self not in request.cache:
            weights = history_weights(request.past, self.config.decay)
            liked, weights = request.past.rows[weights > 0], weights[weights > 0]
            total, parts = np.zeros(len(self._item_ids), np.float32), np.zeros(len(self._item_ids), np.float32)
            for places in self._places.T:
                own = places[liked]
                known = np.isfinite(own)
                if known.any():
                    apart = mean_distance(places, own[known], weights[known])  # (M,)
                    there = np.isfinite(apart)
                    total[there] += apart[there]
                    parts += there
            away = np.divide(total, parts, out=np.full_like(total, np.nan), where=parts > 0)
            request.cache[self] = -away
        return request.cache[self]


def quantiles(values: Floats) -> Floats:
    """
    Each number's place among all, in [0, 1]: the share that is smaller, and half of what ties; NaN stays NaN.

    >>> quantiles(np.array([1990.0, np.nan, 2020.0, 1990.0, 2024.0], np.float32)).tolist()
    [0.25, nan, 0.625, 0.25, 0.875]
    """
    known = np.sort(values[np.isfinite(values)])
    below, upto = (np.searchsorted(known, values, side) for side in ("left", "right"))
    places = (below + upto) / (2 * max(len(known), 1))
    return np.where(np.isfinite(values), places, np.nan).astype(np.float32)


def mean_distance(places: Floats, own: Floats, weights: Floats) -> Floats:
    """
    Weighted mean distance of M places in [0, 1] to some others, (M,); it is linear between them, so few are worked out.

    >>> mean_distance(np.array([0.0, 0.5, np.nan]), np.array([0.5, 1.0]), np.array([3.0, 1.0])).tolist()
    [0.625, 0.125, nan]
    """
    knots = np.unique(np.concatenate([[0.0, 1.0], own]))
    return np.asarray(np.interp(places, knots, np.abs(knots[:, None] - own) @ weights / weights.sum()), np.float32)


def _columns(config: NumbersConfig, facts: Facts) -> Sequence[Floats]:
    """(M,) each, those that are numbers."""
    names = config.columns or tuple(name for name in USUAL if name in facts.names)
    for name in names:
        if name not in facts.names:
            raise ConfigError(f"numbers: columns names {name}, but the items have no such column")
    found = facts.columns(facts.item_ids, frozenset(names))
    wrong = [name for name in config.columns if found[name].ndim != 1 or found[name].dtype.kind != "f"]
    if wrong:
        raise ConfigError(f"numbers: columns names {wrong[0]}, but it holds no numbers")
    return [found[name] for name in names if found[name].ndim == 1 and found[name].dtype.kind == "f"]
