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
from tailwise.retrieve.decay import best_decay, history_weights, weights_by_decay
from tailwise.types import Facts, Floats, History, Ids, Request, Rows, Slate


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
    decay: Annotated[float, Field(ge=0)] | None = None
    """How fast older moments count less when a person is folded in: the confidence of each is ``exp(-decay)`` of the
    next one's. None lets held-out people choose."""


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
        """Alternate, and choose the decay."""
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
        made = cls(config, np.asarray(model.item_factors, np.float32), training.catalogue.item_ids)
        if config.decay is None:
            made.config = config.model_copy(update={"decay": best_decay(training, made.by_decay)})
        training.report("als", 1, 1)
        return made

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
        """The least-squares vector of who asks given the items', (D,)."""
        past = request.past
        items, left, counted = self._system(past, history_weights(past, self.config.decay or 0.0)[None])
        return np.asarray(np.linalg.solve(left[0], counted[0] @ items), np.float32)

    def by_decay(self, past: History) -> Floats:
        """Scores of all items under each of ``DECAYS``, (S, M)."""
        return self._folded(past, weights_by_decay(past)) @ self.items.T

    def _folded(self, past: History, weights: Floats) -> Floats:
        """
        A history folded in under each of S weightings (S, H) of its events, (S, D).

        As in the fit an item counts once; the last event about it says whether for or against. What hardly counts is
        taken for unknown, not for a sign of no interest.

        Cost: O(S (H D² + D³)).
        """
        items, left, counted = self._system(past, weights)
        right = counted @ items  # (S, D)
        return np.asarray(np.linalg.solve(left, right[:, :, None])[:, :, 0], np.float32)

    def _system(self, past: History, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """
        What folding in solves under each of S weightings.

        Returns:
            (L, D) the known items' vectors, each once, as in ``past.newest``; the left sides (S, D, D); and how much of
            each vector its item's last event adds to the right ones, (S, L).
        """
        last = past.newest
        items, weights = self.items.take(past.rows[last], axis=0), weights[:, last]
        sure = self.config.confidence * np.abs(weights)  # (S, L)
        left = np.array([self._gram + (items * (own - 1.0)[:, None]).T @ items for own in sure])
        return items, left, np.asarray(sure * (weights > 0), np.float32)

    def __call__(self, request: Request, k: int) -> Slate:
        return best_slate(self._all(request), k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        if self in request.cache:
            return at_rows(request.cache[self], rows)
        person = self.person(request)
        return np.where((rows >= 0) & bool(person.any()), self.items[rows] @ person, np.float32("nan"))

    def contributions(self, request: Request, rows: Rows) -> Floats:
        """
        What each event adds to each row's score, (N, H), given how sure all of them make the model of the person.

        Source: Hu, Koren & Volinsky, section 5: a score is a sum over what was liked, weighed by the inverse of the
        system that folds the person in.
        """
        past = request.past
        weights = history_weights(past, self.config.decay or 0.0)
        items, left, counted = self._system(past, weights[None])
        parts = np.zeros((len(rows), len(past)), np.float32)
        if counted.any():
            liked = items * counted[0][:, None]  # (L, D)
            own = self.items[rows] @ np.linalg.solve(left[0], liked.T)  # (N, L)
            parts[:, past.newest] = np.where((rows >= 0)[:, None], own, 0.0)
        return parts

    def _all(self, request: Request) -> Floats:
        if self not in request.cache:
            person = self.person(request)
            nothing = np.full(len(self.items), np.nan, np.float32)
            request.cache[self] = self.items @ person if person.any() else nothing
        return request.cache[self]
