"""
Which texts to label: a few that stand for all, or those whose label would teach a model the most.

Everything here takes rows of vectors or chances and gives row numbers, so that it serves any encoder and any head.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import ConfigError, ShapeError, UnavailableError
from tailwise.types import Floats, Rows

Few = Literal["kmeans++", "facility"]
Doubt = Literal["entropy", "margin", "disagreement"]
FEW: tuple[str, ...] = ("kmeans++", "facility")
POOL = 10
"""Of what is doubtful, so many times as many as are wanted are looked at for being unlike each other."""


def few_shot(vectors: Floats, k: int, *, method: Few = "facility", seed: int = 0) -> Rows:
    """
    Rows that stand for all: what to label, or to show a model, when there is room for ``k``.

    ``kmeans++`` draws rows far from those already drawn; ``facility`` takes, one by one, the row that brings all others
    nearest to a chosen one. The first k of ``facility`` are the same whatever is asked for after them.

    Args:
        vectors: (N, D) float, any length; compared by cosine.
        k: How many; more than N gives all.
        method: Which way.
        seed: Of ``kmeans++``.

    Returns:
        (min(k, N),) int64, each row once.

    Raises:
        ConfigError: ``method`` is another.
        UnavailableError: scikit-learn is not installed, and ``kmeans++`` is asked for.

    Cost: O(k N D) time; ``facility`` O(N²) memory up to 20,000 rows, of which it draws as many where there are more.
    Source: Arthur & Vassilvitskii, SODA 2007 (k-means++); Nemhauser, Wolsey & Fisher, Math. Program. 1978,
    doi:10.1007/BF01588971 (greedy choice is within 63 % of the best).

    >>> few_shot(np.array([[1.0, 0.0], [0.9, 0.1], [0.9, 0.2], [0.0, 1.0]]), 2).tolist()
    [2, 3]
    """
    if method not in FEW:
        raise ConfigError(f"method is {method!r}, but it must be one of: {', '.join(FEW)}")
    unit = _unit(vectors)
    if method == "facility":
        return _facility(unit, k, np.random.default_rng(seed))
    try:
        from sklearn.cluster import kmeans_plusplus
    except ImportError as error:
        raise UnavailableError("kmeans++ needs scikit-learn: pip install 'tailwise[train]'") from error
    _, rows = kmeans_plusplus(unit.astype(np.float64), min(k, len(unit)), random_state=seed)
    found = np.unique(np.asarray(rows, np.int64))  # twins are drawn twice where there is nothing else
    rest = np.setdiff1d(np.arange(len(unit)), found)
    return np.concatenate([found, rest[: min(k, len(unit)) - len(found)]])


def doubt(chances: Floats, *, kind: Doubt = "entropy", exclusive: bool = True) -> Floats:
    """
    How much a label would tell, by row; higher is more.

    Args:
        chances: (N, C) what a model says, or (S, N, C) what S models, or one with dropout S times, say.
        kind: ``entropy`` of the mean; ``margin``: how near the two likeliest are; ``disagreement`` (BALD): the entropy
            of the mean less the mean of the entropies: what the models do not agree on, and not what nobody can know.
        exclusive: One label is true (rows sum to 1); else each is true or not by itself, and counts by itself.

    Returns:
        (N,) float32; nats, or for ``margin`` in [0, 1].

    Raises:
        ShapeError: ``chances`` has neither two nor three dimensions, or there are no two models to disagree.

    Source: Settles, TR 1648, 2009 (entropy, margin); Houlsby et al., arXiv 1112.5745 (BALD); Gal, Islam & Ghahramani,
    ICML 2017, arXiv 1703.02910 (by dropout).

    >>> doubt(np.array([[0.5, 0.5], [1.0, 0.0]])).round(3).tolist()
    [0.6930000185966492, 0.0]
    """
    if chances.ndim not in {2, 3}:
        raise ShapeError(f"chances has {chances.ndim} dimensions, but it must be (N, C) or (S, N, C)")
    each = chances if chances.ndim == 3 else chances[None]  # (S, N, C)
    mean = each.mean(0)  # (N, C)
    if kind == "margin":
        return _margin(mean, exclusive=exclusive)
    if kind == "entropy":
        return _entropy(mean, exclusive=exclusive)
    if len(each) < 2:
        raise ShapeError("disagreement needs at least 2 models, but chances has 1")
    return _entropy(mean, exclusive=exclusive) - np.mean([_entropy(one, exclusive=exclusive) for one in each], axis=0)


def to_label(doubts: Floats, vectors: Floats | None, k: int, *, labelled: Rows | None = None) -> Rows:
    """
    The next rows to label: the most doubtful, and among these such as are unlike each other.

    Args:
        doubts: (N,) what ``doubt`` says.
        vectors: (N, D) to tell like from unlike; None takes the most doubtful alone.
        k: How many.
        labelled: Rows that have a label already.

    Returns:
        At most (k,) int64, none of them labelled.

    Raises:
        ShapeError: ``doubts`` and ``vectors`` differ in N.

    Source: Sener & Savarese, ICLR 2018, arXiv 1708.00489 (why unlike ones: a batch of twins teaches once).
    """
    if vectors is not None and len(vectors) != len(doubts):
        raise ShapeError(f"doubts has {len(doubts)} rows, but vectors has {len(vectors)}")
    worth = np.asarray(doubts, np.float64).copy()
    if labelled is not None:
        worth[labelled] = -np.inf
    order = np.argsort(-worth, kind="stable")
    order = order[np.isfinite(worth[order])]
    if vectors is None or k >= len(order):
        return order[:k].astype(np.int64)
    pool = order[: POOL * k]
    return pool[_facility(_unit(vectors[pool]), k, np.random.default_rng(0), weights=_above_least(worth[pool]))]


def _facility(unit: Floats, k: int, rng: np.random.Generator, weights: Floats | None = None) -> Rows:
    """Greedy facility location over (N, D) unit rows; what ``weights`` (N,) say counts how much a row wants company."""
    rows = np.arange(len(unit))
    if len(rows) > 20_000:
        rows = np.sort(rng.choice(rows, 20_000, replace=False))
    near = unit[rows] @ unit[rows].T  # (N, N)
    wants = np.ones(len(rows), np.float32) if weights is None else weights[rows]
    best = np.full(len(rows), -1.0, np.float32)  # cosine of each to the nearest chosen one
    chosen: list[int] = []
    for _ in range(min(k, len(rows))):
        gain = np.maximum(near - best[:, None], 0).T @ wants  # (N,)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        best = np.maximum(best, near[chosen[-1]])
    return rows[chosen].astype(np.int64)


def _above_least(worth: NDArray[np.float64]) -> Floats:
    """Doubts to weights in (0, 1]."""
    spread = float(np.ptp(worth))
    return (0.1 + 0.9 * (worth - worth.min()) / (spread if spread > 0 else 1.0)).astype(np.float32)


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32)


def _entropy(chances: Floats, *, exclusive: bool) -> Floats:
    """(N, C) to (N,) nats."""
    p = np.clip(chances.astype(np.float64), 1e-12, 1 - 1e-12)
    own = -p * np.log(p)
    if not exclusive:
        own -= (1 - p) * np.log(1 - p)
    return own.sum(1).astype(np.float32)


def _margin(chances: Floats, *, exclusive: bool) -> Floats:
    """(N, C) to (N,): 1 where the two likeliest are equal, 0 where nothing is in doubt."""
    if not exclusive:
        return (1 - np.abs(2 * chances - 1).min(1)).astype(np.float32)
    if chances.shape[1] < 2:
        return np.zeros(len(chances), np.float32)
    top = np.sort(chances, axis=1)[:, -2:]
    return (1 - (top[:, 1] - top[:, 0])).astype(np.float32)
