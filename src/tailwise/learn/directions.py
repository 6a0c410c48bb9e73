"""Where items stand before anything is learned: one part by their texts, the other by who takes them together."""

from __future__ import annotations

import numpy as np

from tailwise.data.interactions import Interactions
from tailwise.learn.semantics import SPREAD, start_of
from tailwise.types import Floats

LEAST = 2
"""People and items below which nothing is taken together."""
LITTLE = 20_000
"""Events below which texts know more of items than people do."""


def first_table(vectors: Floats, interactions: Interactions, dim: int) -> Floats | None:
    """
    Where items start in the item table; a network that starts here needs half the epochs.

    Args:
        vectors: (M, W) unit rows, zeros where an item has no text.
        interactions: What the network will learn from.
        dim: Width of the table.

    Returns:
        (M, dim): on the left by texts, on the right by who takes what: a half, and a quarter where there are texts and
        few events. Zeros where nothing is known; None when nothing is known of any item.
    """
    few = vectors.any() and int(interactions.likes.sum()) < LITTLE
    left = dim - dim // (4 if few else 2)
    table = np.zeros((len(vectors), dim), np.float32)
    texts, together = start_of(vectors, left), taken_together(interactions, dim - left)
    if texts is not None:
        table[:, : texts.shape[1]] = texts
    if together is not None:
        table[:, left : left + together.shape[1]] = together
    return table if table.any() else None


def taken_together(interactions: Interactions, dim: int) -> Floats | None:
    """
    Items by the main directions of who takes them: those that the same people take stand together.

    Args:
        interactions: Events that speak for an item count, once a person.
        dim: Directions at most.

    Returns:
        (M, ≤ dim) in the size of a trained table; zeros for items that nobody had. None with too little to tell.

    Cost: O(dim · E) a step, some 100 steps.
    Source: truncated SVD of the log with rows and columns normalised, as in spectral co-clustering (Dhillon, KDD 2001,
    doi:10.1145/502512.502550).
    """
    from scipy.sparse import csr_array, diags_array
    from scipy.sparse.linalg import svds

    liked = interactions.likes
    people, rows = interactions.users[liked], interactions.rows[liked]
    shape = (len(interactions.user_ids), interactions.n_items)
    log = csr_array((np.ones(len(rows), np.float32), (people, rows)), shape=shape)
    log.data[:] = 1.0  # however often
    of_people, of_items = (np.maximum(np.asarray(log.sum(axis)), 1.0) for axis in (1, 0))
    dim = min(dim, int((log.sum(1) > 0).sum()) - 1, int((log.sum(0) > 0).sum()) - 1)
    if dim < LEAST:
        return None
    log = diags_array(of_people**-0.5) @ log @ diags_array(of_items**-0.5)
    start = np.random.default_rng(0).standard_normal(min(shape)).astype(np.float32)
    _, strengths, directions = svds(log, k=dim, v0=start, return_singular_vectors="vh")
    found = directions.T[:, ::-1] * np.sqrt(strengths[::-1])
    size = np.linalg.norm(found, axis=1, keepdims=True)
    known = np.asarray(log.sum(0) > 0) & (size[:, 0] > 0)
    found[known] /= size[known]
    found[~known] = 0.0
    return np.asarray(found * (SPREAD / found[known].std()), np.float32)
