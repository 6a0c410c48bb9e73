"""Whether the newest events are still what a model learned from: of the data, of its scores, of what it earns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Interactions
from tailwise.learn.arrivals import FRESH
from tailwise.learn.prequential import Judged
from tailwise.types import EVENT_KINDS

BINS = 10
"""Of popularity and of scores, each holding as much of what was."""
SHIFTED = 0.25
"""A population stability index from which a distribution counts as another; below 0.1 it counts as the same."""
SURE = 2.0
"""Standard errors by which a model must earn less than before, to say that something changed."""
LEAST = 50
"""Events, or cases, below which a distribution says nothing."""


def stability_index(before: NDArray[Any], now: NDArray[Any]) -> float:
    """
    How far two distributions over the same bins are apart: 0 for equal ones.

    Args:
        before: (B,) counts, or shares.
        now: (B,) counts, or shares.

    Returns:
        The population stability index, ``sum((p - q) log(p / q))``, with half a count added to every bin of both, so
        that an empty one is no infinity. NaN when either has nothing.

    >>> round(stability_index(np.array([50.0, 50.0]), np.array([90.0, 10.0])), 2)
    0.85
    """
    if not before.sum() or not now.sum():
        return float("nan")
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, now))
    return float(((p - q) * np.log(p / q)).sum())


@dataclass(frozen=True)
class Reference:
    """What a model was like when it was made, to compare with; stands in the manifest."""

    accuracy: float | None = None
    """NDCG@10 on what came next, a running mean."""
    error: float = 0.0
    """Its standard error."""
    spread: Sequence[float] = ()
    """Deciles of how far the best score lies above the tenth; empty: not known."""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Reference:
        """What ``told`` gave."""
        return cls(raw.get("accuracy"), float(raw.get("error", 0.0)), tuple(raw.get("spread", ())))

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {"accuracy": self.accuracy, "error": self.error, "spread": list(self.spread)}

    def with_new(self, now: Judged) -> Reference:
        """After a model met new cases and earned what it used to, or was changed."""
        known = now.tops[np.isfinite(now.tops)]
        deciles = np.quantile(known, np.arange(1, BINS) / BINS) if len(known) >= LEAST else self.spread
        spread = tuple(float(each) for each in deciles)
        if not len(now.gains):
            return Reference(self.accuracy, self.error, spread)
        if self.accuracy is None:
            return Reference(now.mean, now.error, spread)
        return Reference((self.accuracy + now.mean) / 2, float(np.hypot(self.error, now.error)) / 2, spread)


@dataclass(frozen=True)
class Drift:
    """What changed."""

    kinds: float
    """Stability index of the kinds of event."""
    popularity: float
    """Stability index of events over items in bins of their popularity, items that were unknown last."""
    unknown: float
    """Share of the new events whose item the model did not know."""
    lengths: float
    """Stability index of the lengths of histories, by doublings, at the new events and at as many before them."""
    scores: float
    """Stability index of how far the best score lies above the tenth; NaN when not known."""
    fell: bool
    """Whether the model earns less on what is new than it used to, by more than ``SURE`` standard errors."""

    @property
    def suspected(self) -> bool:
        """Whether older events may speak of another world."""
        return self.fell or self.popularity > SHIFTED

    def told(self) -> dict[str, Any]:
        """As JSON; what is not known is null."""
        numbers = {name: getattr(self, name) for name in ("kinds", "popularity", "unknown", "lengths", "scores")}
        plain = {name: None if np.isnan(value) else round(value, 4) for name, value in numbers.items()}
        return {**plain, "fell": self.fell, "suspected": self.suspected}


def drift_of(whole: Interactions, n_known: int, now: Judged, before: Reference) -> Drift:
    """
    Compare what is new with what a model learned from.

    Args:
        whole: All events; its context tells which are fresh.
        n_known: Items that the model knows: the first rows.
        now: What the model earns on the new events.
        before: What it used to be.

    Cost: O(E).
    """
    fresh = whole.context[FRESH].to_numpy()
    fell = before.accuracy is not None and len(now.gains) >= LEAST
    if fell:
        assert before.accuracy is not None
        fell = before.accuracy - now.mean > SURE * float(np.hypot(before.error, now.error))
    return Drift(
        kinds=stability_index(*(np.bincount(whole.kinds[own], minlength=len(EVENT_KINDS)) for own in (~fresh, fresh))),
        popularity=_popularity(whole, fresh, n_known),
        unknown=float((whole.rows[fresh] >= n_known).mean()) if fresh.any() else 0.0,
        lengths=_lengths(whole, fresh),
        scores=_scores(now, before),
        fell=bool(fell),
    )


def _lengths(whole: Interactions, fresh: NDArray[np.bool_]) -> float:
    """Index over doublings of how much each person had done before an event."""
    doublings = np.log2(np.arange(len(whole)) - whole.offsets[whole.users] + 1).astype(np.int64)
    old = np.flatnonzero(~fresh)
    old = old[np.argsort(-whole.times[old], kind="stable")[: int(fresh.sum())]]
    size = int(doublings.max(initial=0)) + 1
    return stability_index(*(np.bincount(doublings[own], minlength=size) for own in (old, np.flatnonzero(fresh))))


def _popularity(whole: Interactions, fresh: NDArray[np.bool_], n_known: int) -> float:
    """Index over bins of items that had a tenth of the old events each, and one of unknown items."""
    counts = np.bincount(whole.rows[~fresh], minlength=whole.n_items)
    if fresh.sum() < LEAST or counts.sum() < LEAST:
        return float("nan")
    order = np.argsort(-counts, kind="stable")
    bins = np.empty(whole.n_items, np.int64)
    bins[order] = np.minimum((np.cumsum(counts[order]) - counts[order]) * BINS // counts.sum(), BINS - 1)
    bins[n_known:] = BINS
    old, new = (np.bincount(bins[whole.rows[own]], minlength=BINS + 1) for own in (~fresh, fresh))
    return stability_index(old, new)


def _scores(now: Judged, before: Reference) -> float:
    known = now.tops[np.isfinite(now.tops)]
    if not before.spread or len(known) < LEAST:
        return float("nan")
    counts = np.bincount(np.searchsorted(np.array(before.spread), known), minlength=BINS)
    return stability_index(np.ones(BINS) * len(known) / BINS, counts)
