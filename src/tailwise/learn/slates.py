"""Slates of held-out cases, made by the engine as it will be in service: what every judge of slates learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Training
from tailwise.pipeline import Engine
from tailwise.types import Column, Request, Slate

MOST = 3_000
"""Cases at most: a slate of 300 candidates with 40 signals takes 50 kB."""
FOLDS = 5


@dataclass(frozen=True)
class Example:
    """A case with its slate."""

    person: int
    request: Request
    slate: Slate
    relevant: NDArray[np.bool_]
    """(N,) which candidates are targets."""
    targets: int
    """How many there are, in the slate or not."""

    def ordered(self, engine: Engine, depth: int | None = None) -> Example:
        """The same after the engine's stages, cut to the best ``depth``."""
        slate = engine.staged(self.request, self.slate)
        slate = slate if depth is None else slate.take(np.arange(min(depth, len(slate))))
        relevant = np.isin(slate.columns["row"], self.slate.columns["row"][self.relevant])
        return replace(self, slate=slate, relevant=relevant)


def gather(training: Training, engine: Engine, most: int = MOST, depth: int | None = None) -> list[Example]:
    """
    Examples of cases drawn at random, each after the stages that the engine has.

    The sources never saw a target, so their scores are out of fold. Retrieval is done once a fit, whatever the number
    of stages that learn.

    Args:
        training: With cases.
        engine: With the sources, and the stages so far.
        most: Cases at most.
        depth: Candidates of each that are kept after the stages; None keeps all, which takes memory.

    Returns:
        Examples, in an order drawn by the seed; those whose slate misses every target are there too.

    Cost: one answer per case.
    """
    made: list[Example] = training.memo.setdefault(("slates", *(bound.key for bound in engine.sources)), [])
    if len(made) < most:
        made += _retrieved(training, engine, len(made), most)
    examples = made[:most]
    return [example.ordered(engine, depth) for example in examples] if engine.stages else examples


def _retrieved(training: Training, engine: Engine, start: int, stop: int) -> list[Example]:
    """Examples of the drawn cases from one place to another, without stages."""
    from threadpoolctl import threadpool_limits

    held = training.cases()
    told = np.random.default_rng((training.seed, 1)).random(len(held)) >= engine.config.context_dropped
    chosen = np.random.default_rng(training.seed).permutation(len(held))[start:stop]

    def one(place: int) -> Example:
        case = int(chosen[place])
        if place % 100 == 0:
            training.report("slates", place, len(chosen))
        # Beside the person's own past the target itself must be allowed, or repeats could not be learned.
        past, targets = held.past(case, training.catalogue), held.targets[case]
        request = Request("fit", history=past, exclude_seen=training.exclude_seen)
        if engine.contexts.features and told[case]:
            time, context = held.moment(case)
            request = replace(request, time=time, context=context)
        slate = engine.candidates(request)
        relevant = np.isin(slate.columns["row"], targets)
        return Example(int(held.people[case]), request, slate, relevant, len(targets))

    with threadpool_limits(1, "blas"):  # products too small to share out; and Python's threads would wait in turn
        made = [one(place) for place in range(len(chosen))]
    training.report("slates", len(chosen), len(chosen))
    return made


def folds_of(examples: Sequence[Example], seed: int, folds: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each example, (J,): all of a person's are in one, so that nobody is judged by what they taught."""
    people, owner = np.unique([example.person for example in examples], return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(people))
    return np.asarray(drawn[owner] % folds, np.int64)


def earned(scores: Column, relevant: NDArray[np.bool_], targets: int, *, k: int = 10) -> float:
    """
    NDCG@k of a slate, with ties at the middle of the places that they could have.

    Args:
        scores: (N,) higher is better.
        relevant: (N,) which are targets.
        targets: How many there are, in the slate or not.
        k: Positions that count.

    >>> earned(np.array([3.0, 2.0, 1.0]), np.array([False, True, False]), 1)
    0.6309297535714575
    """
    own = scores[relevant]
    ahead = (scores > own[:, None]).sum(1) + ((scores == own[:, None]).sum(1) - 1) / 2
    ideal = (1 / np.log2(np.arange(2, min(targets, k) + 2))).sum()
    return float((1 / np.log2(ahead[ahead < k] + 2)).sum() / ideal)
