"""Where the weights of pairs stand before anybody is known to have had both: at how alike their texts are."""

from __future__ import annotations

from typing import Any

import numpy as np

from tailwise.data.interactions import Interactions
from tailwise.types import Floats, Rows

ABOVE, NEAREST, PULL = 0.2, 50, 8.0
"""Cosine from which two texts are taken to be alike; others at most that an item is drawn to; and how much they add up
to before they count less, so that a hundred items with one text do not outweigh what people took."""
MOST = 12_000
"""Items at most that have weights: those that people tell of, then others in the order of their events."""
BLOCK = 1024


def alike(vectors: Floats, interactions: Interactions, known: Rows, weight: float = 1.0) -> tuple[Rows, Any]:
    """
    How alike the texts of items are: by how much their cosine is above ``ABOVE``, times a weight.

    Args:
        vectors: (M, D) unit rows of the catalogue; zeros where there is no text.
        interactions: Whose counts say who comes first.
        known: (C,) rows of the items that people tell of.
        weight: 0 looks at no text.

    Returns:
        The rows of N items, ``known`` before those that texts alone tell of, and (N, N) sparse, at most ``NEAREST``
        of a row and never an item itself, less for items that are like many. N is C, and nothing is stored, where no
        texts are alike.

    Cost: O(N² D) in blocks of 1,024 rows.
    """
    from scipy.sparse import csr_matrix, diags

    nothing = known, csr_matrix((len(known), len(known)), dtype=np.float32)
    if not weight:
        return nothing
    counts = interactions.counts()
    beside = np.ones(len(vectors), bool)
    beside[known] = False
    others = np.flatnonzero(beside & vectors.any(axis=1))
    others = others[np.argsort(-counts[others], kind="stable")][: max(MOST - len(known), 0)]
    rows = np.concatenate([known, others])
    found = _nearest(np.asarray(vectors[rows], np.float32))
    if not found.nnz:
        return nothing
    less = diags(np.sqrt(PULL / np.maximum(np.asarray(found.sum(axis=1)).ravel(), PULL)))
    return rows, (weight * (less @ found @ less)).tocsr().astype(np.float32)


def _nearest(vectors: Floats) -> Any:
    """(N, N) sparse, of (N, D) unit rows."""
    from scipy.sparse import csr_matrix, vstack

    blocks = [csr_matrix((0, len(vectors)), dtype=np.float32)]
    keep = min(NEAREST, len(vectors))
    for start in range(0, len(vectors), BLOCK):
        near = vectors[start : start + BLOCK] @ vectors.T - np.float32(ABOVE)  # (B, N)
        own = np.arange(len(near))
        near[own, start + own] = 0.0
        columns = np.argpartition(-near, keep - 1, axis=1)[:, :keep]
        values = np.take_along_axis(near, columns, axis=1)
        place, slot = np.nonzero(values > 0)
        at = (place, columns[place, slot])
        blocks.append(csr_matrix((values[place, slot], at), shape=near.shape, dtype=np.float32))
    return vstack(blocks, format="csr")
