"""Who liked this also liked that: recency-weighted EASE, item-kNN and ALS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.interactions import Interactions, Training
from tailwise.data.scores import at_rows, best_slate
from tailwise.retrieve.pairs import PairWeights, history_weights
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate


class EaseConfig(Closed):
    """Settings of recency-weighted EASE."""

    regularisation: Annotated[float, Field(gt=0)] = 200.0
    """Ridge on the item-item weights; larger trusts frequent pairs more."""
    decay: Annotated[float, Field(ge=0)] | None = None
    """How fast older events count less: each counts ``exp(-decay)`` of the next one. 0 is plain EASE; None lets
    held-out people choose."""
    most_items: Annotated[int, Field(ge=1)] = 12_000
    """The most popular items that take part; the matrix to invert has this many rows."""
    neighbours: Annotated[int, Field(ge=1)] = 1_500
    """Strongest weights kept of each item; all of them when the catalogue is small."""


class Ease:
    """A closed-form linear item-item model, with newer events counting more."""

    Config = EaseConfig

    def __init__(self, config: EaseConfig, weights: PairWeights, item_ids: Ids) -> None:
        self.config = config
        self.weights = weights
        self._item_ids = item_ids

    @classmethod
    def fit(cls, config: EaseConfig, training: Training) -> Self:
        """
        Solve for the weights.

        Cost: O(E H + M³) time and O(M²) memory, M at most ``most_items``.
        Source: Steck, WWW 2019, doi:10.1145/3308558.3313710; the decay at scoring time is ours.
        """
        training.report("ease", 0, 1)
        counts = training.interactions.counts()
        chosen = np.sort(np.argsort(-counts, kind="stable")[: config.most_items])
        dense = ease_weights(_matrix(training.interactions)[:, chosen], config.regularisation)
        weights = _spread(PairWeights.strongest(dense, config.neighbours), chosen, len(counts))
        if config.decay is None:
            every = PairWeights(dense) if len(chosen) == len(counts) else weights  # whole rows add up faster
            config = config.model_copy(update={"decay": every.best_decay(training)})
        training.report("ease", 1, 1)
        return cls(config, weights, training.catalogue.item_ids)

    @classmethod
    def open(cls, config: EaseConfig, facts: Facts, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        return cls(config, PairWeights.open(folder, "ease"), facts.item_ids)

    def save(self, folder: Path) -> None:
        """Write the weights."""
        self.weights.save(folder, "ease")

    def __call__(self, request: Request, k: int) -> Slate:
        return best_slate(self._all(request), k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        return at_rows(self._all(request), rows)

    def _all(self, request: Request) -> Floats:
        if self not in request.cache:
            request.cache[self] = self.weights.scores(request.past, self.config.decay or 0.0)
        return request.cache[self]


class ItemKnnConfig(Closed):
    """Settings of item-kNN."""

    neighbours: Annotated[int, Field(ge=1)] = 100
    """Most similar items kept of each."""
    decay: Annotated[float, Field(ge=0)] | None = None
    """How fast older events count less, as in EASE."""


class ItemKnn:
    """Neighbours of the items in the history by the people that they share, BM25-weighted (``implicit``)."""

    Config = ItemKnnConfig

    def __init__(self, config: ItemKnnConfig, weights: PairWeights, item_ids: Ids) -> None:
        self.config = config
        self.weights = weights
        self._item_ids = item_ids

    @classmethod
    def fit(cls, config: ItemKnnConfig, training: Training) -> Self:
        """Count who liked both."""
        from implicit.nearest_neighbours import ItemItemRecommender, bm25_weight

        training.report("item_knn", 0, 1)
        model = ItemItemRecommender(K=config.neighbours + 1, num_threads=0)
        model.fit(bm25_weight(_matrix(training.interactions).T, K1=1.2, B=0.75).T.tocsr(), show_progress=False)
        similar = model.similarity
        similar.setdiag(0)  # an item is no reason for itself
        similar.eliminate_zeros()
        weights = _padded(similar, config.neighbours)
        if config.decay is None:
            config = config.model_copy(update={"decay": weights.best_decay(training)})
        training.report("item_knn", 1, 1)
        return cls(config, weights, training.catalogue.item_ids)

    @classmethod
    def open(cls, config: ItemKnnConfig, facts: Facts, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        return cls(config, PairWeights.open(folder, "item_knn"), facts.item_ids)

    def save(self, folder: Path) -> None:
        """Write the neighbours."""
        self.weights.save(folder, "item_knn")

    def __call__(self, request: Request, k: int) -> Slate:
        scores = self._all(request)  # 0: a neighbour of nothing; below: of what the person disliked
        return best_slate(np.where(scores > 0, scores, np.float32("nan")), k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        return at_rows(self._all(request), rows)

    def _all(self, request: Request) -> Floats:
        if self not in request.cache:
            request.cache[self] = self.weights.scores(request.past, self.config.decay or 0.0)
        return request.cache[self]


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
            model.fit(_matrix(training.interactions), show_progress=False)
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


def ease_weights(matrix: Any, regularisation: float) -> Floats:
    """
    The weights that best rebuild each column of ``matrix`` from the others.

    Args:
        matrix: (U, M) sparse, 1 where a person liked an item.
        regularisation: Ridge, > 0.

    Returns:
        (M, M) float32 with a zero diagonal; a person's scores are ``row @ weights``.

    Cost: O(M³) time; O(M²) memory, in float32 above 5,000 items.
    """
    from scipy.linalg import lapack

    dtype = np.float64 if matrix.shape[1] <= 5_000 else np.float32
    gram: NDArray[Any] = np.asarray((matrix.T @ matrix).toarray(), dtype)
    np.fill_diagonal(gram, np.diagonal(gram) + regularisation)
    potrf, potri = (lapack.dpotrf, lapack.dpotri) if dtype is np.float64 else (lapack.spotrf, lapack.spotri)
    factor, failed = potrf(gram, lower=False, overwrite_a=True)
    assert failed == 0, "a Gram matrix plus a ridge is positive definite"
    inverse, _ = potri(factor, lower=False, overwrite_c=True)
    inverse = np.triu(inverse) + np.triu(inverse, 1).T
    weights: Floats = (inverse / -np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights


def _matrix(interactions: Interactions) -> Any:
    """(U, M) sparse, 1 where a person liked an item."""
    from scipy.sparse import csr_matrix

    likes = interactions.likes
    places = (interactions.users[likes], interactions.rows[likes])
    shape = (len(interactions.user_ids), interactions.n_items)
    matrix = csr_matrix((np.ones(likes.sum(), np.float32), places), shape=shape)
    matrix.data[:] = 1.0  # an item liked twice counts once
    return matrix


def _spread(weights: PairWeights, chosen: Rows, n_items: int) -> PairWeights:
    """Weights among the chosen items as weights among all; the others have none."""
    if len(chosen) == n_items:
        return weights
    if weights.columns is None:
        dense = np.zeros((n_items, n_items), np.float32)
        dense[np.ix_(chosen, chosen)] = weights.values
        return PairWeights(dense)
    values = np.zeros((n_items, weights.values.shape[1]), np.float32)
    columns = np.full(values.shape, -1, np.int32)
    values[chosen], columns[chosen] = weights.values, chosen[weights.columns]
    return PairWeights(values, columns)


def _padded(matrix: Any, width: int) -> PairWeights:
    """The ``width`` largest values of each row of a sparse matrix, padded with column -1."""
    counts = np.diff(matrix.indptr)
    row = np.repeat(np.arange(matrix.shape[0]), counts)
    best = np.lexsort((-matrix.data, row))  # by row, then best first
    place = np.arange(len(matrix.indices)) - np.repeat(matrix.indptr[:-1], counts)
    kept, best = place < width, best[place < width]
    values = np.zeros((matrix.shape[0], width), np.float32)
    columns = np.full(values.shape, -1, np.int32)
    values[row[kept], place[kept]] = matrix.data[best]
    columns[row[kept], place[kept]] = matrix.indices[best]
    return PairWeights(values, columns)
