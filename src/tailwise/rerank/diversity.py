"""
Diversity: a list whose items are relevant and unlike each other (MMR, greedy DPP).

Both choose among *all* candidates, before anything is cut off, or there would be nothing new to choose. Before that,
scores are put on a scale of their own per list: 1 is the best score, 0 the last that would be shown without
diversity, and what is below stays below. So a trade-off means the same whatever the scorer and however many candidates
there are, and one absurdly low score does not squeeze all others together, as it would between minimum and maximum.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.config import Closed
from tailwise.errors import ConfigError, ShapeError
from tailwise.types import Facts, Floats, Request, Rows, Slate

RESIDUAL_FLOOR = 1e-6
"""Share of an item's squared vector that must be new to count; above the rounding error of float32 lengths."""

Array = NDArray[Any]


def mmr_order(scores: Array, vectors: Array, *, trade_off: float, k: int) -> Rows:
    """
    Order items so that each is relevant and unlike the ones above it.

    Each step takes the item with the highest ``trade_off * score - (1 - trade_off) * nearest``,
    where ``nearest`` is its largest cosine to an item already taken (0 before the first).

    Args:
        scores: (N,) float. Relevance, higher is better, finite.
        vectors: (N, D) float. Item embeddings, rows of unit length; a zero row (no embedding) is like nothing.
        trade_off: Weight of relevance against novelty, in [0, 1].
        k: Positions to fill; more than N fills N.

    Returns:
        (min(k, N),) int64. Rows of ``scores``, best first.

    Raises:
        ShapeError: ``scores`` and ``vectors`` differ in N.
        ConfigError: ``trade_off`` is outside [0, 1].

    Cost: O(k N D) time, O(N) memory. Ties go to the earlier row.
    Source: Carbonell & Goldstein, SIGIR 1998, doi:10.1145/290941.291025.

    >>> twins = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> mmr_order(np.array([0.9, 0.8, 0.7]), twins, trade_off=0.5, k=3).tolist()
    [0, 2, 1]
    """
    _check(scores, vectors, trade_off)
    order = np.empty(min(k, len(scores)), np.int64)
    merit = trade_off * np.asarray(scores, np.float64)  # (N,)
    gain, nearest = merit.copy(), np.full(len(scores), -1.0)
    for position in range(len(order)):
        best = order[position] = gain.argmax()
        merit[best] = -np.inf  # taken
        np.maximum(nearest, vectors @ vectors[best], out=nearest)  # (N,)
        gain = merit - (1 - trade_off) * nearest
    return order


def dpp_order(scores: Array, vectors: Array, *, trade_off: float, k: int, window: int | None = None) -> Rows:
    """
    Order items so that together they are relevant and span much: greedy MAP of a determinantal point process.

    Each step takes the item with the highest ``trade_off * score + (1 - trade_off) * log(residual)``, where
    ``residual`` is the share of its vector, squared, that those taken (the last ``window`` of them) do not span.
    That is the greedy step for the kernel ``q_i q_j cosine_ij`` with ``q = exp(alpha * score)`` and ``alpha =
    trade_off / (2 - 2 * trade_off)``, without its overflow near 1. MMR minds the nearest item, this minds all of them.

    Args:
        scores: (N,) float. Relevance, higher is better, finite.
        vectors: (N, D) float. Item embeddings, rows of unit length; a zero row (no embedding) is like nothing.
        trade_off: Weight of relevance against novelty, in [0, 1].
        k: Positions to fill; more than N fills N.
        window: Items above that count as near, at least 1; None takes all.

    Returns:
        (min(k, N),) int64. Rows of ``scores``, best first. When nothing new is left (copies, or more positions than
        dimensions) the residual stays at a floor, so that scores decide.

    Raises:
        ShapeError: ``scores`` and ``vectors`` differ in N.
        ConfigError: ``trade_off`` is outside [0, 1].

    Cost: O(k N (D + w)) time and O(N w) memory, w = min(k, window). Ties go to the earlier row.
    Source: Chen, Zhang & Zhou, NeurIPS 2018, arXiv:1709.05135, algorithms 1 and 2 (there in scores times residuals).

    >>> twins = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> dpp_order(np.array([0.9, 0.8, 0.7]), twins, trade_off=0.5, k=3).tolist()
    [0, 2, 1]
    """
    _check(scores, vectors, trade_off)
    if window is not None and window < 1:
        raise ConfigError(f"window is {window}, but it must be at least 1")
    order = np.empty(min(k, len(scores)), np.int64)
    merit = trade_off * np.asarray(scores, np.float64)  # (N,)
    vectors = np.asarray(vectors, np.float64)  # divisions by small residuals would blow up rounding errors of float32
    residual = np.ones(len(scores))  # (N,)
    width, filled = len(order) if window is None else min(window, len(order)), 0
    factor = np.empty((width, len(scores)))  # Cholesky factor of the kernel, columns of those in the window, (w, N)
    for position in range(len(order)):
        best = order[position] = (merit + (1 - trade_off) * np.log(np.maximum(residual, RESIDUAL_FLOOR))).argmax()
        merit[best] = -np.inf  # taken
        if filled == width:
            residual += _forget_oldest(factor, order[position - width : position])
            filled -= 1
        pivot = np.sqrt(max(residual[best], RESIDUAL_FLOOR))
        new = np.zeros(len(scores))  # (N,) what the others have in common with it, beyond those before
        if residual[best] > RESIDUAL_FLOOR:
            new = (vectors @ vectors[best] - factor[:filled, best] @ factor[:filled]) / pivot
        new[best] = pivot  # also for a zero row, whose product with itself says 0
        residual -= new**2
        factor[filled] = new
        filled += 1
    return order


def _forget_oldest(factor: Array, window: Rows) -> Array:
    """Rotate the first row of ``factor`` out, in place; the (N,) residual that this gives back."""
    lost = factor[0].copy()  # (N,)
    for row, item in enumerate(window[1:], start=1):
        kept = factor[row]
        length = np.hypot(kept[item], lost[item])
        cosine, sine = kept[item] / length, lost[item] / length
        factor[row - 1], lost = cosine * kept + sine * lost, cosine * lost - sine * kept
    given_back: Array = lost**2
    return given_back


def relevance(scores: Array, shown: int) -> NDArray[np.float64]:
    """
    Scores of one list on the scale of this file: 1 is the best, 0 the ``shown``-th best, the rest below.

    Scores that are not finite count as the worst finite one. Where the best are all equal the scale ends at the worst
    instead, and where all are equal every item gets 0.

    >>> relevance(np.array([9.0, 5.0, 7.0, -1.0]), shown=3).tolist()
    [1.0, 0.0, 0.5, -1.5]
    """
    finite = np.isfinite(scores)
    known = np.sort(scores[finite])[::-1].astype(np.float64)
    if len(known) == 0 or known[0] == known[-1]:
        return np.zeros(len(scores))
    last = known[min(shown, len(known)) - 1]
    low = known[-1] if last == known[0] else last
    scaled: NDArray[np.float64] = (np.where(finite, scores, known[-1]) - low) / (known[0] - low)
    return scaled


def unit_rows(vectors: Array) -> Floats:
    """(N, D) rows at unit length; rows of zeros, or with a NaN in them, become zero: no embedding."""
    vectors = np.asarray(vectors, np.float32)
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]  # (N, 1)
    unit: Floats = np.divide(vectors, norms, out=np.zeros_like(vectors), where=np.isfinite(norms) & (norms > 0))
    return unit


def _check(scores: Array, vectors: Array, trade_off: float) -> None:
    if len(scores) != len(vectors):
        raise ShapeError(f"scores has {len(scores)} rows, but vectors has {len(vectors)}")
    if not 0 <= trade_off <= 1:
        raise ConfigError(f"trade_off is {trade_off}, but it must be between 0 and 1")


class _Order(Protocol):
    def __call__(self, scores: Array, vectors: Array, *, trade_off: float, k: int) -> Rows: ...


def _reorder(request: Request, slate: Slate, *, trade_off: float, depth: int, order_of: _Order) -> Slate:
    """``order_of`` the first ``depth * request.k`` positions, chosen among all; the rest stays in its order."""
    trade_off = trade_off if request.diversity is None else 1 - request.diversity
    if trade_off == 1 or len(slate) == 0:
        return slate
    shown = min(depth * request.k, len(slate))
    scores, vectors = relevance(slate.scores, shown), unit_rows(slate.columns["vector"])
    first = order_of(scores, vectors, trade_off=trade_off, k=shown)
    rest = np.ones(len(slate), bool)
    rest[first] = False
    return slate.take(np.concatenate([first, np.flatnonzero(rest)]))


class MMR:
    """Maximal marginal relevance: no item too near to one above it. ``request.diversity`` sets 1 - ``trade_off``."""

    needs = frozenset({"vector"})
    gives: frozenset[str] = frozenset()

    class Config(Closed):
        """Settings of the maximal-marginal-relevance stage."""

        trade_off: Annotated[float, Field(ge=0, le=1)] = 1.0
        """1 keeps the score order, 0 looks at novelty only. Unitless."""
        depth: Annotated[int, Field(ge=1)] = 2
        """Positions to diversify, in multiples of what the request asks for; later steps may drop some."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def open(cls, config: Config, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  nothing is stored
        """Build from settings alone."""
        return cls(config)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """The slate in its new order; scores and columns go along unchanged."""
        config = self.config
        return _reorder(request, slate, trade_off=config.trade_off, depth=config.depth, order_of=mmr_order)


class DPP:
    """Determinantal point process: a list that spans much. ``request.diversity`` sets 1 - ``trade_off``."""

    needs = frozenset({"vector"})
    gives: frozenset[str] = frozenset()

    class Config(Closed):
        """Settings of the determinantal-point-process stage."""

        trade_off: Annotated[float, Field(ge=0, le=1)] = 0.7
        """1 keeps the score order, 0 looks at novelty only. Unitless."""
        depth: Annotated[int, Field(ge=1)] = 2
        """Positions to diversify, in multiples of what the request asks for; later steps may drop some."""
        window: Annotated[int, Field(ge=1)] | None = None
        """Items above that count as near, for long lists; None takes all."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def open(cls, config: Config, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  nothing is stored
        """Build from settings alone."""
        return cls(config)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """The slate in its new order; scores and columns go along unchanged."""
        config = self.config
        order_of = partial(dpp_order, window=config.window)
        return _reorder(request, slate, trade_off=config.trade_off, depth=config.depth, order_of=order_of)
