"""
Fit again what is cheap: counted sources by their counts, the fusion by the newest slates and a few that came earlier.

    events from ``start`` on, but the newest ─▶ sources ─▶ slates of the newest cases ─▶ fusion ─▶ what they earn
    events from ``start`` on                 ─▶ sources with the settings that these chose, and that fusion

Networks stay as they are, and so does every stage behind the fusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise import registry
from tailwise.data.interactions import Held, Interactions, Training
from tailwise.learn.counts import Counts
from tailwise.learn.newcomers import frozen
from tailwise.learn.prequential import gains_of, part, standard_error
from tailwise.learn.replay import Replay
from tailwise.learn.slates import Example, folds_of, gather
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound, Rescore
from tailwise.rank.fusion import Fusion
from tailwise.retrieve.words import TYPED_WORDS, Words

HEAD = "fusion"
"""The stage that is fitted again."""
FACTORS = "als"
"""Item vectors that are kept while all events count and no items come in: people are folded in when they ask."""
REPLAYED = 3
"""Earlier cases that teach the fusion, at most, for each new one."""
DECAY = "decay"


@dataclass(frozen=True)
class Lesson:
    """What there is to learn."""

    engine: Engine
    """As it serves, knowing the new items."""
    whole: Interactions
    """All events."""
    held: Held
    """The newest cases."""
    replay: Replay
    counts: Counts
    seed: int
    threads: int
    began: float | None
    """Where the engine's own memory begins; None: with the first event."""
    known_items: int
    """Rows that its sources were fitted with."""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> NDArray[np.int64]:
        """Where each of the examples that ``gather`` makes stands among the cases."""
        return np.random.default_rng(self.seed).permutation(len(self.held))

    def log(self, start: float | None, *, held_out: bool) -> Interactions:
        """The events from a time on; without the newest, where they are to judge."""
        mask = np.ones(len(self.whole), bool) if start is None else self.whole.times >= start
        if held_out:
            mask &= self.whole.times < self.held.times.min(initial=np.inf)
        return self.whole if mask.all() else self.whole.pick(mask)

    def training(self, start: float | None, *, held_out: bool) -> Training:
        """For the sources' own fits; counts are not made twice."""
        log = self.log(start, held_out=held_out)
        exclude = self.engine.config.exclude_seen is not False
        made = Training(log, self.engine.catalogue, self.seed, threads=self.threads, exclude_seen=exclude)
        return replace(made, held=self.held if held_out else None, memo=self.counts.memo(log))


@dataclass(frozen=True)
class Tried:
    """A memory that was tried."""

    start: float | None
    """Where it begins."""
    gains: NDArray[np.float64]  # (J,) on the newest cases, which neither sources nor fusion had learned from
    configs: Mapping[str, Any]
    """Settings of each source that was fitted."""
    examples: list[Example]
    head: bool
    """Whether a fusion that is fitted anew earned more than the one that serves, by more than a standard error."""


def tried(lesson: Lesson, start: float | None) -> Tried:
    """
    Fit on all but the newest cases, and see what these earn; the fusion is judged by people that it did not learn from.

    Cost: the sources' fits, one retrieval a case, and the stages twice.
    """
    training = lesson.training(start, held_out=True)
    runs = _sources(lesson, training, start, None)
    engine = engine_of(lesson.engine, runs, training.interactions)
    examples = gather(training, replace(engine, stages=()))
    half = folds_of(examples, lesson.seed, 2)
    kept, gains = gains_of(engine, examples), np.zeros(len(examples))
    for side in (0, 1):
        taught = [example for example, fold in zip(examples, half, strict=True) if fold != side]
        own = [example for example, fold in zip(examples, half, strict=True) if fold == side]
        gains[half == side] = gains_of(with_head(lesson, engine, taught, start), own)
    # ``gather`` drew the cases in an order of its own: what they earn goes back to where they stand.
    back = np.argsort(lesson.order)
    kept, gains, examples = kept[back], gains[back], [examples[place] for place in back]
    configs = {name: run.config for name, run in runs.items() if hasattr(run, "config")}
    helps = bool((gains - kept).mean() > standard_error(gains - kept))
    return Tried(start, gains if helps else kept, configs, examples, helps)


def relearned(lesson: Lesson, chosen: Tried) -> Engine:
    """The engine that learned from all events of the chosen memory, with the settings that the newest cases chose."""
    training = lesson.training(chosen.start, held_out=False)
    runs = _sources(lesson, training, chosen.start, chosen.configs)
    engine = engine_of(lesson.engine, runs, training.interactions)
    return with_head(lesson, engine, chosen.examples, chosen.start) if chosen.head else engine


def engine_of(engine: Engine, runs: Mapping[str, Any], people: Interactions) -> Engine:
    """The same pipeline with other sources, among the stages too."""

    def fresh(bound: Bound) -> Bound:
        run = runs.get(bound.step.name)
        if run is None:
            return bound
        raw = run.config.model_dump(exclude_none=True, mode="json") if hasattr(run, "config") else bound.step.settings
        step = bound.step.model_copy(update={"settings": raw})
        return Bound(bound.key, step, Rescore(run) if isinstance(bound.run, Rescore) else run)

    sources = tuple(map(fresh, engine.sources))
    stages = tuple(fresh(b) if isinstance(b.run, Rescore) else b for b in engine.stages)
    steps = {"retrieve": tuple(b.step for b in sources), "stage": tuple(b.step for b in stages)}
    config = engine.config.model_copy(update=steps)
    return replace(engine, config=config, sources=sources, stages=stages, people=people)


def with_head(lesson: Lesson, engine: Engine, examples: Sequence[Example], start: float | None) -> Engine:
    """The engine with its fusion fitted on new slates and replayed ones; as it was when there is none, or no slate."""
    place = next((n for n, bound in enumerate(engine.stages) if bound.step.name == HEAD), None)
    if place is None or not examples:
        return engine
    bound = engine.stages[place]
    earlier = lesson.replay.since(start).drawn(REPLAYED * len(examples), lesson.seed)
    fitter = registry.trainer(HEAD)
    assert fitter is not None, "the registry names it"
    bare = replace(engine, stages=engine.stages[:place])
    # What ``gather`` finds there it does not make: a trainer learns from these slates and no others.
    memo: dict[object, Any] = {("slates", *(source.key for source in engine.sources)): [*earlier, *examples]}
    nobody = part(lesson.held, np.zeros(len(lesson.held), bool))
    training = replace(lesson.training(start, held_out=True), held=nobody, memo=memo)
    run, lesson.notes[HEAD] = fitter(bound.run.config, training, bare)
    run = Fusion(run.config, run.weights, bound.run.typed)  # nobody typed what arrives
    return replace(engine, stages=(*engine.stages[:place], replace(bound, run=run), *engine.stages[place + 1 :]))


def _sources(
    lesson: Lesson, training: Training, start: float | None, configs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Every source by name: fitted with the settings given, or its own, a new memory's decays chosen anew; or kept."""
    bounds = [*lesson.engine.sources, *(b for b in lesson.engine.stages if isinstance(b.run, Rescore))]
    same = start is None and lesson.began is None and lesson.known_items == len(lesson.engine.catalogue)
    runs: dict[str, Any] = {}
    for bound in bounds:
        name = bound.step.name
        run: Any = bound.run.source if isinstance(bound.run, Rescore) else bound.run
        fitter = registry.trainer(name)
        if name in runs or frozen(bound) or fitter is None or (name == FACTORS and same):
            runs.setdefault(name, run)
            continue
        config = run.config if configs is None else configs[name]
        kind = type(config)
        # The newest cases are few: they choose decays where there is no better choice, after a change.
        if (
            configs is None
            and start != lesson.began
            and DECAY in kind.model_fields
            and kind.model_fields[DECAY].default is None
        ):
            config = config.model_copy(update={DECAY: None})
        # Queries do not come with what arrives.
        known: dict[object, Any] = {TYPED_WORDS: run.typed} if isinstance(run, Words) else {}
        runs[name] = fitter(config, replace(training, memo={**training.memo, **known}))
    return runs
