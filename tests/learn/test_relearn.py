"""What is fitted again and what is kept; the fusion from new slates and old ones; no case judges what it taught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.data.synthetic import make_world
from tailwise.learn import relearn
from tailwise.learn.arrivals import events_of, plain_events, together
from tailwise.learn.counts import Counts
from tailwise.learn.prequential import fresh_cases, gains_of, judged
from tailwise.learn.relearn import Lesson, relearned, tried
from tailwise.learn.replay import Replay
from tailwise.pipeline import Engine
from tailwise.rank.fusion import Fusion

QUICK = PipelineConfig(
    encode=EncodeConfig(model="hash", whiten_dim=16),
    retrieve=(
        Step(name="popular", k=30),
        Step(name="ease", k=30),
        Step(name="als", k=30, settings={"factors": 8}),
        Step(name="next_item", k=30),
    ),
    stage=(Step(name="fusion"), Step(name="ease"), Step(name="fusion")),
    exclude_seen=False,
)
WORLD = make_world(users=60, items=30, events_per_user=16, groups=3, requests=1, seed=6).dataset
EARLY, LATE = WORLD.events.head(800), WORLD.events.slice(800)


@pytest.fixture
def engine(fitted: Callable[..., Engine]) -> Engine:
    return fitted(WORLD.with_events(EARLY))


@pytest.fixture
def lesson(engine: Engine) -> Lesson:
    whole = together(events_of(engine.people, engine.catalogue), plain_events(LATE), engine.catalogue)
    cases = fresh_cases(whole, 80, exclude_seen=False)
    bare = replace(whole, context=pl.DataFrame())
    names = tuple(bound.step.name for bound in engine.sources)
    held = replace(cases, whole=bare)
    return Lesson(engine, bare, held, Replay(names), Counts(), 0, 1, None, len(engine.catalogue))


def test_sources_never_see_the_newest_cases_that_judge_them(lesson: Lesson) -> None:
    begin = lesson.held.times.min()

    inner, whole = lesson.training(None, held_out=True), lesson.training(None, held_out=False)

    assert inner.interactions.times.max() < begin
    assert len(whole.interactions) == len(WORLD.events)
    assert whole.held is None
    assert lesson.log(float(begin), held_out=False).times.min() >= begin


def test_counted_sources_are_fitted_again_and_item_vectors_are_kept(lesson: Lesson, engine: Engine) -> None:
    found = relearned(lesson, tried(lesson, None))

    before, after = ({b.step.name: b.run for b in e.sources} for e in (engine, found))
    assert after["als"] is before["als"]
    assert not np.array_equal(after["ease"].weights.values, before["ease"].weights.values)
    assert after["ease"].config == before["ease"].config  # decays are kept as long as everything counts
    among_stages = found.stages[1].run.source
    assert among_stages is after["ease"]
    assert len(found.people) == len(WORLD.events)


def test_a_shorter_memory_fits_all_anew_with_decays_of_its_own(lesson: Lesson, engine: Engine) -> None:
    start = float(np.median(WORLD.events["time"]))

    made = tried(lesson, start)
    found = relearned(lesson, made)

    before, after = ({b.step.name: b.run for b in e.sources} for e in (engine, found))
    assert after["als"] is not before["als"]
    assert made.configs["ease"].decay is not None
    assert found.people.times.min() >= start


def test_what_a_memory_earns_is_what_its_engine_shows(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relearn, "with_head", lambda lesson, engine, examples, start: engine)

    made = tried(lesson, None)

    assert not made.head
    expected = judged(lesson.engine, lesson.held, lesson.engine.catalogue).gains
    training = lesson.training(None, held_out=True)
    served = relearn.engine_of(lesson.engine, relearn._sources(lesson, training, None, None), training.interactions)
    assert made.gains == pytest.approx(gains_of(served, made.examples))
    assert made.gains == pytest.approx(judged(served, lesson.held, lesson.engine.catalogue).gains)
    assert len(made.gains) == len(expected) == len(lesson.held)


def test_new_slates_and_at_most_three_times_as_many_old_ones_teach_the_fusion(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tried(lesson, None)
    old = lesson.replay.with_new(made.examples * 5, [1.0] * 5 * len(made.examples))
    seen: list[int] = []
    trainer = relearn.registry.trainer

    def watching(name: str) -> Callable[..., object] | None:
        fitter = trainer(name)

        def fit(config: object, training: object, bare: Engine) -> object:
            seen.append(len(next(iter(training.memo.values()))))  # type: ignore[attr-defined]  # a Training
            assert fitter is not None
            return fitter(config, training, bare)

        return fit if name == relearn.HEAD else fitter

    monkeypatch.setattr(relearn.registry, "trainer", watching)
    taught = replace(lesson, replay=old)

    head = relearn.with_head(taught, lesson.engine, made.examples[:20], None)

    assert seen == [20 + 60]
    assert head.stages[0].run.weights != lesson.engine.stages[0].run.weights
    assert head.stages[2].run is lesson.engine.stages[2].run  # the first fusion alone
    assert relearn.with_head(lesson, lesson.engine, [], None) is lesson.engine

    # What was learned from queries stays: what arrives has none.
    first, *others = lesson.engine.stages
    asked = Fusion(first.run.config, first.run.weights, {"ease": 0.5})
    searching = replace(lesson.engine, stages=(replace(first, run=asked), *others))
    after = relearn.with_head(replace(taught, engine=searching), searching, made.examples[:20], None).stages[0].run
    assert after.weights == head.stages[0].run.weights
    assert after.typed == {"ease": 0.5}


def test_the_cases_stand_where_they_stood(lesson: Lesson) -> None:
    made = tried(lesson, None)

    targets = [e.slate.columns["row"][e.relevant].tolist() for e in made.examples]

    wanted = [rows.tolist() for rows in lesson.held.targets]
    assert [own for own, want in zip(targets, wanted, strict=True) if own and own != want] == []
    assert [e.person for e in made.examples] == lesson.held.people.tolist()
