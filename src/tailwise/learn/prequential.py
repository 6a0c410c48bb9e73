"""A model judged by what people did next, before it learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Held, Interactions
from tailwise.learn.arrivals import FRESH
from tailwise.learn.slates import Example, earned
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import run_stage
from tailwise.types import Request, Slate

K = 10
"""Positions that count."""


@dataclass(frozen=True)
class Judged:
    """What a model earned, a case each."""

    gains: NDArray[np.float64]  # (J,) NDCG@10
    tops: NDArray[np.float64]  # (J,) how far the best item's score lies above the tenth's; NaN for a shorter list

    @property
    def mean(self) -> float:
        """NDCG@10; 0 of nothing."""
        return float(self.gains.mean()) if len(self.gains) else 0.0

    @property
    def error(self) -> float:
        """Its standard error."""
        return standard_error(self.gains)


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean of (J,) values; 0 of fewer than two."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def fresh_cases(whole: Interactions, most: int, *, exclude_seen: bool) -> Held:
    """
    The newest liked events that a model has not learned from, as cases in the order of people.

    Args:
        whole: All events; its context tells which are fresh.
        most: Cases at most; the newest are taken.
        exclude_seen: Whether what a person has had is not shown again, so that nothing could find it.

    The past of a case ends before the moment of its target, so that the rest of a basket does not tell.
    """
    places = np.flatnonzero(whole.context[FRESH].to_numpy() & whole.likes)
    starts = whole.moment_starts
    ends = starts[np.searchsorted(starts, places, side="right") - 1] if len(places) else places
    if exclude_seen:
        begins = whole.offsets[whole.users[places]]
        new = [whole.rows[p] not in whole.rows[b:e] for p, b, e in zip(places, begins, ends, strict=True)]
        places, ends = places[new], ends[new]
    newest = np.sort(np.argsort(-whole.times[places], kind="stable")[:most])
    places, ends = places[newest], ends[newest]
    return Held(whole, whole.users[places], ends, whole.times[places], tuple(whole.rows[places, None]))


def part(held: Held, chosen: NDArray[np.bool_]) -> Held:
    """The cases that a mask (J,) selects."""
    targets = tuple(own for own, there in zip(held.targets, chosen, strict=True) if there)
    return Held(held.whole, held.people[chosen], held.ends[chosen], held.times[chosen], targets)


def judged(engine: Engine, held: Held, catalogue: Catalogue) -> Judged:
    """
    What an engine earns on cases, as it serves.

    Args:
        engine: Whose catalogue may lack the last rows of ``catalogue``: it cannot find these, and earns 0 for them.
        held: Cases.
        catalogue: Of the cases.

    Cost: one answer a case.
    """
    gains, tops = np.zeros(len(held)), np.full(len(held), np.nan)
    for case in range(len(held)):
        past = held.past(case, catalogue)
        past = past.place(np.where(past.rows < len(engine.catalogue), past.rows, -1))
        exclude = engine.config.exclude_seen is not False
        slate = engine.answer(Request("online", history=past, k=K, exclude_seen=exclude)).slate
        gains[case], tops[case] = _gain(slate, held, case), _spread(slate)
    return Judged(gains, tops)


def gains_of(engine: Engine, examples: Sequence[Example]) -> NDArray[np.float64]:
    """
    NDCG@10 of slates after an engine's stages, (J,): what ``judged`` says, with candidates that are there already.

    Stages that fail, or are late, are skipped as they are in service.
    """
    gains = np.zeros(len(examples))
    names = frozenset(name for bound in engine.stages for name in bound.run.needs) & engine.catalogue.names
    with ThreadPoolExecutor(1) as pool:
        for case, example in enumerate(examples):
            request = replace(example.request, k=K)
            slate = example.slate.add(**engine.catalogue.at(example.slate.columns["row"], names))
            for bound in engine.stages:
                slate = run_stage(bound, request, slate, trace=[], pool=pool)
            slate = slate.take(np.arange(min(K, len(slate))))
            relevant = np.isin(slate.columns["row"], example.slate.columns["row"][example.relevant])
            gains[case] = _earned(relevant, example.targets)
    return gains


def _gain(slate: Slate, held: Held, case: int) -> float:
    return _earned(np.isin(slate.columns["row"], held.targets[case]), len(held.targets[case]))


def _earned(relevant: NDArray[np.bool_], targets: int) -> float:
    """Of the places of a list: stages may order by more than scores."""
    return earned(-np.arange(len(relevant), dtype=np.float64), relevant, targets) if relevant.any() else 0.0


def _spread(slate: Slate) -> float:
    return float(slate.scores[0] - slate.scores[K - 1]) if len(slate) >= K else float("nan")
