"""What all sources have in common that score an item by its pairs with the person's items."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailwise.data.scores import at_rows, best_slate
from tailwise.retrieve.pairs import PairWeights
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate


class Decaying(Protocol):
    """Settings that say how fast older moments count less."""

    @property
    def decay(self) -> float | None:
        """Each moment counts ``exp(-decay)`` of the next one; None until a fit has chosen."""
        ...


C = TypeVar("C", bound=Decaying)


class PairSource(Generic[C]):
    """
    A source whose score is a sum over the person's events: each adds the weight of its pair with the item.

    Who derives from it fits the weights.

    Args:
        config: With the decay that was chosen.
        weights: Of pairs, (M, M) sparse.
        item_ids: (M,).
    """

    name: ClassVar[str]
    """Under which it is stored."""

    def __init__(self, config: C, weights: PairWeights, item_ids: Ids) -> None:
        self.config = config
        self.weights = weights
        self._item_ids = item_ids

    @classmethod
    def open(cls, config: C, facts: Facts, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        return cls(config, PairWeights.open(folder, cls.name), facts.item_ids)

    def save(self, folder: Path) -> None:
        """Write the weights."""
        self.weights.save(folder, self.name)

    def __call__(self, request: Request, k: int) -> Slate:
        scores = self._all(request)
        return best_slate(np.where(self.found(scores), scores, np.float32("nan")), k, request, self._item_ids)

    def found(self, scores: Floats) -> NDArray[np.bool_]:
        """(M,) which items are candidates: those that something speaks of, for or against."""
        return np.asarray(scores != 0)

    def scores(self, request: Request, rows: Rows) -> Floats:
        """(N,) scores of some rows; NaN of what is not known."""
        return at_rows(self._all(request), rows)

    def contributions(self, request: Request, rows: Rows) -> Floats:
        """What each event adds to each row's score, (N, H)."""
        return self.weights.contributions(request.past, self._decay, rows)

    def _all(self, request: Request) -> Floats:
        if self not in request.cache:
            request.cache[self] = self.weights.scores(request.past, self._decay)
        return request.cache[self]

    @property
    def _decay(self) -> float:
        return self.config.decay or 0.0
