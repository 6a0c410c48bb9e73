"""A slow model as a teacher: what it thinks of some hundred slates, and how far each opinion is worth learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise import registry
from tailwise.config import Settings
from tailwise.data.interactions import Training
from tailwise.errors import Abstain, UnavailableError
from tailwise.learn.slates import Example
from tailwise.pipeline import Engine
from tailwise.rank.gate import BUCKETS, Gate, bucket
from tailwise.rank.listwise import Listwise
from tailwise.rank.opinions import Opinions
from tailwise.types import Floats, Request

Ask = Callable[[Example], tuple[Floats, float]]
"""An example to what the teacher thinks of its candidates, (N,) NaN where it says nothing, and how far it contradicts
itself in another order: 1 not at all."""

PATIENCE_MS = 3_600_000.0
"""In a fit nobody waits."""
LEAST_WEIGHT = 0.1
"""Of a list in a bucket in which the teacher is wrong as often as right: it still says how things are alike."""
OWN = 20
"""Cases of all buckets that a bucket's agreement is shrunk towards."""


@dataclass(frozen=True)
class Judgement:
    """One list that the teacher judged."""

    example: Example
    opinion: Floats  # (N,) NaN: it said nothing
    trust: float
    """In [0, 1]: shuffle consistency, 1 where nobody tried."""


def unlabelled(training: Training, engine: Engine, count: int, depth: int) -> list[Example]:
    """
    Requests of people of the log at a moment of their past, of which nobody says what was taken.

    What they did later stays out of the slates: the sources learned it, and put it higher than they would in service.
    """
    rng = np.random.default_rng((training.seed, 3))
    people = np.flatnonzero(np.diff(training.interactions.offsets) > 1)
    made = []
    for person in rng.choice(people, min(count, len(people)), replace=False):
        whole = training.past(int(person))
        request = Request("fit", history=whole.take(slice(0, int(rng.integers(1, len(whole))))))
        slate = engine.candidates(request)
        slate = slate.take(~np.isin(slate.columns["row"], whole.rows))
        nothing = np.zeros(len(slate), bool)
        made.append(Example(int(person), request, slate, nothing, 1).ordered(engine, depth))
    return made


def asker(name: str, settings: Any, training: Training, engine: Engine, depth: int) -> Ask:
    """
    How a teacher is asked.

    Raises:
        UnavailableError: It cannot be had.
    """
    if name == "listwise_llm":
        backend = settings.backend.model_copy(update={"timeout_s": max(settings.backend.timeout_s, 60.0)})
        patient = settings.model_copy(update={"backend": backend, "depth": depth})
        cache = training.cache or Settings.from_environment().cache
        kept = Opinions(settings.cache, path=cache / "opinions.sqlite")
        model = Listwise(patient, training.catalogue, Gate.always(1.0, depth), kept)

        def said(example: Example) -> tuple[Floats, float]:
            found = model.opinion(example.request, example.slate, PATIENCE_MS)
            return found.values, found.trust

        return said
    if name == "cross_encoder":  # a weight that is set keeps it even where it would not help by itself
        settings = settings.model_copy(update={"weight": 1.0 if settings.weight is None else settings.weight})
    fitter = registry.trainer(name)
    assert fitter is not None, "a teacher is a stage that learns"
    stage, _ = fitter(settings, training, engine)
    if hasattr(stage, "opinion"):
        return lambda example: (stage.opinion(example.request, example.slate.columns["row"]), 1.0)

    def ordered(example: Example) -> tuple[Floats, float]:
        places = np.arange(len(example.slate))
        after = stage(example.request, example.slate.add(place=places))
        return -np.argsort(after.columns["place"]).astype(np.float32), 1.0

    return ordered


def judgements_of(examples: Sequence[Example], ask: Ask, training: Training) -> list[Judgement]:
    """
    What the teacher thinks of each list; those of which it says nothing are left out.

    Raises:
        UnavailableError: It does not answer the first, or says nothing at all.
    """
    judgements: list[Judgement] = []
    for place, example in enumerate(examples):
        training.report("lists of the teacher", place, len(examples))
        try:
            opinion, trust = ask(example)
        except Abstain:
            continue
        except (UnavailableError, TimeoutError):
            if not judgements:
                raise
            continue
        if np.isfinite(opinion).sum() > 1:
            judgements.append(Judgement(example, opinion, trust))
    if not judgements:
        raise UnavailableError("the teacher gave no opinion")
    return judgements


def weights_of(judgements: Sequence[Judgement]) -> Floats:
    """
    What each list counts, (J,): how sure the teacher is, how consistent, and how far it agrees with what was taken.

    It is sure where its opinion spreads more than it usually does. It agrees where it puts what was taken above the
    others: of a list whose target is known that is seen, of another the mean of the bucket of its history's length
    says it, shrunk towards that of all.
    """
    spread = np.array([np.nanstd(np.where(np.isfinite(each.opinion), each.opinion, np.nan)) for each in judgements])
    sure = spread / (spread + max(float(np.median(spread)), 1e-9))
    right = np.array([correctness(judgement) for judgement in judgements])
    place = np.array([bucket(len(judgement.example.request.past.liked())) for judgement in judgements])
    known = np.isfinite(right)
    of_all = float(right[known].mean()) if known.any() else 1.0
    of_bucket = np.zeros(len(BUCKETS))
    for own in range(len(BUCKETS)):
        mine = right[known & (place == own)]
        of_bucket[own] = (mine.sum() + OWN * of_all) / (len(mine) + OWN)
    agrees = np.maximum(2 * np.where(known, right, of_bucket[place]) - 1, LEAST_WEIGHT)
    return (sure * agrees * np.array([judgement.trust for judgement in judgements])).astype(np.float32)


def correctness(judgement: Judgement) -> float:
    """The chance that the teacher puts what was taken above another candidate; NaN where that is not known."""
    return concordance(judgement.opinion, np.where(judgement.example.relevant[: len(judgement.opinion)], 1.0, 0.0))


def concordance(one: Floats, other: NDArray[Any]) -> float:
    """
    Share of the pairs that ``other`` orders which ``one`` orders alike, half of its ties; NaN without such a pair.

    >>> round(concordance(np.array([3.0, 1.0, 2.0]), np.array([1.0, 0.0, 0.0])), 2)
    1.0
    """
    there = np.isfinite(one) & np.isfinite(other)
    one, other = one[there], other[there]
    above = other[:, None] > other
    if not above.any():
        return float("nan")
    return float(((one[:, None] > one)[above].sum() + (one[:, None] == one)[above].sum() / 2) / above.sum())


def known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
