"""Who liked this also liked that: recency-weighted EASE and item-kNN."""

from __future__ import annotations

from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.config import Closed
from tailwise.data.interactions import Interactions, Training
from tailwise.retrieve.decay import best_decay
from tailwise.retrieve.likeness import alike
from tailwise.retrieve.paired import PairSource
from tailwise.retrieve.pairs import PairWeights
from tailwise.types import Floats, Rows

SURE, LEAST = 2_000, 3
"""Items that take part whatever is known of them, and the events that any further one needs."""
GRAM = "gram"
"""Key of ``Training.memo`` for how many people liked both of two items, (M, M) sparse, where it was counted already."""


class EaseConfig(Closed):
    """Settings of recency-weighted EASE."""

    regularisation: Annotated[float, Field(gt=0)] = 200.0
    """Ridge on the item-item weights; larger trusts frequent pairs more."""
    decay: Annotated[float, Field(ge=0)] | None = None
    """How fast older moments count less: each counts ``exp(-decay)`` of the next one. 0 is plain EASE; None lets
    held-out people choose."""
    most_items: Annotated[int, Field(ge=1)] = 12_000
    """The most popular items that take part; the matrix to invert has this many rows."""
    neighbours: Annotated[int, Field(ge=1)] = 1_500
    """Strongest weights kept of each item; all of them when the catalogue is small."""
    text_prior: Annotated[float, Field(ge=0, le=1)] = 0.07
    """What the ridge draws a pair's weight to, for each unit by which the cosine of the texts is above 0.2; 0 draws all
    to nothing, as EASE does."""


class Ease(PairSource[EaseConfig]):
    """A closed-form linear item-item model, with newer events counting more."""

    Config = EaseConfig
    name = "ease"

    @classmethod
    def fit(cls, config: EaseConfig, training: Training) -> Self:
        """
        Solve for the weights.

        Cost: O(E H + M³) time, M at most ``most_items``; O(N²) memory, N at most 12,000 with texts.
        Source: Steck, WWW 2019, doi:10.1145/3308558.3313710; the decay at scoring time and the texts are ours.
        """
        training.report("ease", 0, 1)
        chosen = most_liked(training.interactions, config.most_items)
        counted = training.memo.get(GRAM)
        if counted is None:
            liked = liked_matrix(training.interactions)[:, chosen]
            counted = liked.T @ liked
        else:
            counted = counted[chosen][:, chosen]
        every, near = alike(training.catalogue.vectors, training.interactions, chosen, config.text_prior)
        dense = weights_of_gram(counted, config.regularisation, near)
        weights = PairWeights(dense, chosen=every, n_items=training.interactions.n_items)
        if config.decay is None:  # on whole rows, which add up faster
            config = config.model_copy(update={"decay": best_decay(training, weights.by_decay)})
        training.report("ease", 1, 1)
        return cls(config, weights.strongest(config.neighbours), training.catalogue.item_ids)


class ItemKnnConfig(Closed):
    """Settings of item-kNN."""

    neighbours: Annotated[int, Field(ge=1)] = 100
    """Most similar items kept of each."""
    damping: Annotated[float, Field(ge=0)] = 10.0
    """Likes by strangers to all others that each item is taken to have beside its own; more of it trusts pairs of rare
    items less, 0 is the plain cosine."""
    decay: Annotated[float, Field(ge=0)] | None = None
    """How fast older moments count less, as in EASE."""


class ItemKnn(PairSource[ItemKnnConfig]):
    """Neighbours of the items in the history by the people that they share: damped cosines (``implicit``)."""

    Config = ItemKnnConfig
    name = "item_knn"

    @classmethod
    def fit(cls, config: ItemKnnConfig, training: Training) -> Self:
        """Count who liked both."""
        from implicit.nearest_neighbours import ItemItemRecommender

        training.report("item_knn", 0, 1)
        model = ItemItemRecommender(K=config.neighbours + 1, num_threads=0)
        model.fit(damped(liked_matrix(training.interactions), config.damping), show_progress=False)
        similar = model.similarity
        similar.setdiag(0)  # an item is no reason for itself
        similar.eliminate_zeros()
        weights = _padded(similar, config.neighbours)
        if config.decay is None:
            config = config.model_copy(update={"decay": best_decay(training, weights.by_decay)})
        training.report("item_knn", 1, 1)
        return cls(config, weights, training.catalogue.item_ids)

    def found(self, scores: Floats) -> NDArray[np.bool_]:
        """(M,) which items are candidates: below zero is a neighbour of what the person disliked."""
        return np.asarray(scores > 0)


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
    return weights_of_gram(matrix.T @ matrix, regularisation)


def weights_of_gram(counts: Any, regularisation: float, prior: Any = None) -> Floats:
    """
    The same from how many people liked both of two items.

    Args:
        counts: (C, C) sparse.
        regularisation: Ridge, > 0.
        prior: (N, N) sparse with an empty diagonal, what the ridge draws the weights to; items from the C-th on have
            nothing else. None draws all to zero.

    Returns:
        (C, C) or (N, N) float32 with a zero diagonal.
    """
    inverse = _inverse(counts, regularisation)
    size = len(inverse)
    if prior is None or not prior.nnz:
        inverse /= -np.diagonal(inverse).copy()
        np.fill_diagonal(inverse, 0.0)
        return np.asarray(inverse, np.float32)
    # I - r P + r P W, less the multiple of each column of P that empties the diagonal
    out = np.empty(prior.shape, np.float32)
    out[size:] = prior[size:].toarray()
    columns = prior[:size].T.tocsr()  # (N, C)
    for start in range(0, len(out), 1024):
        stop = min(start + 1024, len(out))
        block = regularisation * (columns[start:stop] @ inverse)  # P is symmetric
        inner = np.arange(start, min(stop, size))
        block[: len(inner)] -= regularisation * inverse[inner]
        kept = (1.0 + block[inner - start, inner]) / np.diagonal(inverse)[inner]
        block[: len(inner)] -= kept[:, None] * inverse[inner]
        block[inner - start, inner] = 0.0
        out[:size, start:stop] = block.T
    return out


def _inverse(counts: Any, regularisation: float) -> NDArray[Any]:
    """(C, C) of the Gram matrix plus the ridge; float32 above 5,000 items."""
    from scipy.linalg import lapack

    dtype = np.float64 if counts.shape[1] <= 5_000 else np.float32
    gram: NDArray[Any] = np.asarray(counts.toarray(), dtype)
    np.fill_diagonal(gram, np.diagonal(gram) + regularisation)
    potrf, potri = (lapack.dpotrf, lapack.dpotri) if dtype is np.float64 else (lapack.spotrf, lapack.spotri)
    factor, failed = potrf(gram.T, lower=False, overwrite_a=True)  # symmetric, and .T is how LAPACK stores it
    assert failed == 0, "a Gram matrix plus a ridge is positive definite"
    inverse: NDArray[Any] = potri(factor, lower=False, overwrite_c=True)[0].T  # its lower triangle
    for start in range(0, len(inverse), 1024):  # mirrored by blocks, in place: a copy of it is half a gigabyte
        stop = start + 1024
        block = inverse[start:stop, start:stop]
        block[:] = np.tril(block) + np.tril(block, -1).T
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
    return inverse


def most_liked(interactions: Interactions, most: int) -> Rows:
    """
    Rows of at most so many items, those with the most events that speak for them, in the catalogue's order.

    Behind the first ``SURE`` an item must have ``LEAST`` such events: of fewer no pair is learned that a ridge leaves
    standing, and what solves for them takes time with the cube of their number.
    """
    counts = interactions.counts()
    order = np.argsort(-counts, kind="stable")[:most]
    return np.sort(order[(np.arange(len(order)) < SURE) | (counts[order] >= LEAST)])


def liked_matrix(interactions: Interactions) -> Any:
    """(U, M) sparse, 1 where a person liked an item."""
    from scipy.sparse import csr_matrix

    likes = interactions.likes
    places = (interactions.users[likes], interactions.rows[likes])
    shape = (len(interactions.user_ids), interactions.n_items)
    matrix = csr_matrix((np.ones(likes.sum(), np.float32), places), shape=shape)
    matrix.data[:] = 1.0  # an item liked twice counts once
    return matrix


def damped(matrix: Any, damping: float) -> Any:
    """
    A matrix whose columns' products are cosines of the columns of another, smaller for pairs of rare items.

    A like counts less the more its person liked: the root of one in so many.

    Args:
        matrix: (U, M) sparse, 1 where a person liked an item.
        damping: Average likes beside an item's own.

    >>> from scipy.sparse import csr_matrix
    >>> pairs = damped(csr_matrix([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]), 1.0)
    >>> (pairs.T @ pairs).toarray().round(2).tolist()
    [[0.76, 0.54], [0.54, 0.65]]
    """
    from scipy.sparse import diags

    likes = np.asarray(matrix.sum(1), np.float64).ravel()
    weights = 1.0 / np.sqrt(np.maximum(likes, 1.0))  # (U,)
    mass = matrix.T @ weights  # (M,)
    average = mass.sum() / max(likes.sum(), 1.0)
    norms = np.sqrt(np.maximum(mass + damping * average, 1e-12))
    return (diags(np.sqrt(weights)) @ matrix @ diags(1.0 / norms)).tocsr()


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
