"""People and items as vectors whose product says what was liked: ALS."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.interactions import Training
from tailwise.data.scores import at_rows, best_slate, unit_rows
from tailwise.retrieve.collaborative import liked_matrix
from tailwise.retrieve.pairs import history_weights
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate


class AlsConfig(Closed):
    """Settings of implicit-feedback matrix factorisation."""

    factors: Annotated[int, Field(ge=1)] = 64
    """Width of the vectors; never more than there are items."""
    regularisation: Annotated[float, Field(ge=0)] = 0.05
    """Ridge on the vectors."""
    confidence: Annotated[float, Field(gt=0)] = 5.0
    """Weight of an event against a non-event."""
    iterations: Annotated[int, Field(ge=1)] = 15
    """Alternations."""


class Als:
    """
    Item vectors by alternating least squares (``implicit``); people are folded in from their history.

    Source: Hu, Koren & Volinsky, ICDM 2008, doi:10.1109/ICDM.2008.22.
    """

    Config = AlsConfig

    def __init__(self, config: AlsConfig, items: Floats, item_ids: Ids) -> None:
        self.config = config
        self.items = items  # (M, D)
        self._item_ids = item_ids
        self._gram = items.T @ items + config.regularisation * np.eye(items.shape[1], dtype=np.float32)

    @classmethod
    def fit(cls, config: AlsConfig, training: Training) -> Self:
        """Alternate."""
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        training.report("als", 0, 1)
        factors = min(config.factors, training.interactions.n_items)
        with threadpool_limits(1, "blas"):  # it has threads of its own; both together are slower
            model = AlternatingLeastSquares(
                factors=factors,
                regularization=config.regularisation,
                alpha=config.confidence,
                iterations=config.iterations,
                random_state=training.seed,
            )
            model.fit(liked_matrix(training.interactions), show_progress=False)
        training.report("als", 1, 1)
        return cls(config, np.asarray(model.item_factors, np.float32), training.catalogue.item_ids)

    @classmethod
    def open(cls, config: AlsConfig, facts: Facts, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        return cls(config, load_arrays(folder / "als.safetensors")["items"], facts.item_ids)

    def save(self, folder: Path) -> None:
        """Write the item vectors."""
        folder.mkdir(parents=True, exist_ok=True)
        save_arrays(folder / "als.safetensors", items=self.items)

    @cached_property
    def vectors(self) -> Floats:
        """(M, D) the items' vectors at unit length."""
        return unit_rows(self.items)

    def person(self, request: Request) -> Floats:
        """
        Fold a history in: the person's least-squares vector given the items', (D,).

        As in the fit an item counts once; the last event about it says whether for or against.

        Cost: O(H D² + D³).
        """
        past = request.past
        last = len(past) - 1 - np.unique(past.rows[::-1], return_index=True)[1]
        past = past.take(np.sort(last))
        weights = history_weights(past, 0.0)
        items = self.items[past.rows[weights != 0]]  # (H, D)
        sure = self.config.confidence * np.abs(weights[weights != 0])  # (H,)
        for_it = weights[weights != 0] > 0
        left = self._gram + (items * (sure - 1.0)[:, None]).T @ items
        return np.asarray(np.linalg.solve(left, (sure * for_it) @ items), np.float32)

    def __call__(self, request: Request, k: int) -> Slate:
        return best_slate(self._all(request), k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        return at_rows(self._all(request), rows)

    def _all(self, request: Request) -> Floats:
        if self not in request.cache:
            person = self.person(request)
            nothing = np.full(len(self.items), np.nan, np.float32)
            request.cache[self] = self.items @ person if person.any() else nothing
        return request.cache[self]
