"""What follows what: every item's weight for what comes next, solved for in closed form from the order of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from tailwise.config import Closed
from tailwise.data.interactions import Interactions, Training
from tailwise.retrieve.collaborative import most_liked
from tailwise.retrieve.decay import best_decay
from tailwise.retrieve.likeness import alike
from tailwise.retrieve.paired import PairSource
from tailwise.retrieve.pairs import PairWeights
from tailwise.types import Floats, Rows

BLOCK = 100_000
"""Moments worked on at once, so that memory does not grow with the log."""
STEPS = "steps"
"""Key of ``Training.memo`` for the sums over all steps, where they were counted already."""
Sums = tuple[Floats, Floats]
"""(C, C) pasts with pasts, and pasts with what followed them."""


class NextItemConfig(Closed):
    """Settings of the next-item source."""

    regularisation: Annotated[float, Field(gt=0)] = 30.0
    """Ridge on the weights; larger trusts frequent pairs more."""
    memory: Annotated[float, Field(ge=0)] = 0.2
    """How fast what came before fades while it learns: each moment counts ``exp(-memory)`` of the next one."""
    window: Annotated[int, Field(ge=1)] = 20
    """Moments before a step that it learns from."""
    decay: Annotated[float, Field(ge=0)] | None = None
    """The same when it scores; None lets held-out people choose."""
    most_items: Annotated[int, Field(ge=1)] = 5_000
    """The most popular items that take part; the matrix to solve with has this many rows."""
    neighbours: Annotated[int, Field(ge=1)] = 1_500
    """Strongest weights kept of each item; all of them when the catalogue is small."""
    text_prior: Annotated[float, Field(ge=0, le=1)] = 0.07
    """What the ridge draws a pair's weight to, as in EASE."""


class NextItem(PairSource[NextItemConfig]):
    """
    A linear model of the next moment given those before: sequels, and what is bought again.

    EASE asks who liked both; this asks what came after, so the weights of a pair differ by direction and an item may
    lead back to itself.
    """

    Config = NextItemConfig
    name = "next_item"

    @classmethod
    def fit(cls, config: NextItemConfig, training: Training) -> Self:
        """
        Solve for the weights.

        Cost: O(E (window · basket)) sparse products and O(C³) time, C at most ``most_items``; O(N²) memory, as EASE.
        Source: after SLIT, Choi et al., WWW 2021, arXiv 2103.16104; steps by moments and their weights are ours.
        """
        training.report("next_item", 0, 1)
        chosen = most_liked(training.interactions, config.most_items)
        counted: Counted | None = training.memo.get(STEPS)
        sums = step_sums(training.interactions, chosen, config) if counted is None else counted(chosen, config)
        every, near = alike(training.catalogue.vectors, training.interactions, chosen, config.text_prior)
        dense = weights_of_sums(sums, config.regularisation, near)
        weights = PairWeights(dense, chosen=every, n_items=training.interactions.n_items)
        if config.decay is None:
            config = config.model_copy(update={"decay": best_decay(training, weights.by_decay)})
        training.report("next_item", 1, 1)
        return cls(config, weights.strongest(config.neighbours), training.catalogue.item_ids)


Counted = Callable[[Rows, NextItemConfig], Sums]
"""What ``step_sums`` gives of interactions that whoever counted knows."""


def step_sums(interactions: Interactions, chosen: Rows, config: NextItemConfig) -> Sums:
    """
    What was before with itself, and with what followed, summed over all steps.

    A step from a past ``z`` (its items, each moment counting ``exp(-memory)`` of the next) to a moment ``x`` counts
    ``1 / sqrt(|z| |x|)``, so that neither long histories nor large baskets have all the say. Sums of different people
    add up.

    Args:
        interactions: Whose liked events are the steps.
        chosen: (C,) rows of the items that take part.
        config: Settings.
    """
    count = len(chosen)
    gram, ahead = np.zeros((count, count), np.float32), np.zeros((count, count), np.float32)
    for before, after in _steps(interactions, chosen, config):
        gram += (before.T @ before).toarray()
        ahead += (before.T @ after).toarray()
    return gram, ahead


def next_weights(interactions: Interactions, chosen: Rows, config: NextItemConfig) -> Floats:
    """
    The weights that best rebuild each moment from the fading moments before it, by ridge regression.

    Args:
        interactions: Whose liked events are the steps.
        chosen: (C,) rows of the items that take part.
        config: Settings.

    Returns:
        (C, C) float32, from an item to what follows it; zeros when nobody has two moments.
    """
    return weights_of_sums(step_sums(interactions, chosen, config), config.regularisation)


def weights_of_sums(sums: Sums, regularisation: float, prior: Any = None) -> Floats:
    """
    The same from the sums, which are changed.

    Args:
        sums: Of the C items that take part.
        regularisation: Ridge, > 0.
        prior: (N, N) sparse, what the ridge draws the weights to; items from the C-th on have nothing else. None draws
            all to zero.

    Returns:
        (C, C) or (N, N) float32.
    """
    gram, ahead = sums
    if prior is not None and prior.nnz:
        size = len(ahead)
        drawn: Floats = prior.toarray()
        drawn[:size] *= regularisation
        drawn[:size, :size] += ahead
        drawn[:size] = _solved(gram, drawn[:size], regularisation)
        return drawn
    if not ahead.any():
        return ahead  # nobody has two moments, or no item of the chosen follows another
    return np.ascontiguousarray(_solved(gram, ahead, regularisation), np.float32)


def _solved(gram: Floats, wanted: Floats, regularisation: float) -> Floats:
    """(C, N) what (C, C) and a ridge make of (C, N)."""
    from scipy.linalg import lapack

    gram[np.diag_indices(len(gram))] += regularisation
    factor, failed = lapack.spotrf(gram.T, lower=False, overwrite_a=True)  # symmetric; .T is what LAPACK stores
    assert failed == 0, "a Gram matrix plus a ridge is positive definite"
    solved: Floats = lapack.spotrs(factor, wanted, lower=False)[0]
    return solved


def _steps(interactions: Interactions, chosen: Rows, config: NextItemConfig) -> Iterator[tuple[Any, Any]]:
    """Blocks of steps: (S, C) sparse pasts and the moments that followed them, both by the root of a step's weight."""
    from scipy.sparse import csr_matrix, diags

    starts = interactions.moment_starts
    owners = interactions.users[starts]
    moments = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(interactions))))  # (E,)
    place = np.full(interactions.n_items, -1)
    place[chosen] = np.arange(len(chosen))
    kept = interactions.likes & (place[interactions.rows] >= 0)
    items, moments = place[interactions.rows[kept]], moments[kept]
    for low, high in _blocks(owners):
        own = slice(*np.searchsorted(moments, (low, high)))
        at = (moments[own] - low, items[own])
        acts = csr_matrix((np.ones(len(at[0]), np.float32), at), shape=(high - low, len(chosen)))
        acts.data[:] = 1.0  # viewed and bought at one moment is one
        past = _fading(owners[low:high], config) @ acts
        weight = np.asarray(past.sum(axis=1)).ravel() * np.asarray(acts.sum(axis=1)).ravel()  # |z| |x|
        root = np.where(weight > 0, np.maximum(weight, 1e-30) ** -0.25, 0.0).astype(np.float32)
        yield diags(root) @ past, diags(root) @ acts


def _blocks(owners: Rows) -> Iterator[tuple[int, int]]:
    """Stretches of about ``BLOCK`` moments that part no person."""
    low = 0
    while low < len(owners):
        high = int(np.searchsorted(owners, owners[min(low + BLOCK, len(owners)) - 1], side="right"))
        yield low, high
        low = high


def _fading(owners: Rows, config: NextItemConfig) -> Any:
    """(S, S) sparse: how much each moment counts in the past of each, strictly before it and of the same person."""
    from scipy.sparse import coo_matrix, csr_matrix

    later, earlier, worth = [], [], []
    for gap in range(1, min(config.window, len(owners) - 1) + 1):
        places = np.flatnonzero(owners[gap:] == owners[:-gap])
        if not len(places):
            break
        later.append(places + gap)
        earlier.append(places)
        worth.append(np.full(len(places), np.exp(-config.memory * (gap - 1)), np.float32))
    if not later:
        return csr_matrix((len(owners), len(owners)), dtype=np.float32)
    at = (np.concatenate(later), np.concatenate(earlier))
    return coo_matrix((np.concatenate(worth), at), shape=(len(owners),) * 2).tocsr()
