"""What every registered source and stage promises, on a tiny fitted world; a new name is covered at once."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tailwise import registry
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Rescore
from tailwise.retrieve.pairs import Additive
from tailwise.types import NO_HISTORY, Event, History, Request, Retriever, Slate, Stage

UNKNOWN = ("nobody knows it", "nor this")


def history(*rows: int, kind: str = "click") -> History:
    past = History.of([Event("", f"i{row:02d}", 1.7e9 + n, kind) for n, row in enumerate(rows)])
    return past.place(np.array(rows, np.int64))


PASTS = {
    "many": history(3, 17, 3, 40, 8, 21),
    "one": history(5),
    "none": NO_HISTORY,
    "unknown": history(-1, -1),
    "disliked": history(4, 9, 30, kind="dislike"),
}


def request(past: History, **fields: Any) -> Request:
    """As a stage or source gets it: placed history, a cache of its own."""
    return Request("r", history=past, seed=1, **fields)


def component(engine: Engine, name: str) -> Any:
    (run,) = (bound.run for bound in (*engine.sources, *engine.stages) if bound.step.name == name)
    return run


def slates(engine: Engine, past: History) -> dict[str, Slate]:
    """Candidates as a stage may meet them, with every column."""
    every = engine.candidates(request(past, candidates=tuple(f"i{row:02d}" for row in range(0, 48, 2))))
    strange = engine.candidates(request(past, candidates=(UNKNOWN[0], "i07", UNKNOWN[1], "i12")))
    blank = {name: np.full(len(every), np.nan, np.float32) for name in every.columns if name.startswith("score_")}
    return {
        "many": every,
        "unknown items": strange,
        "only unknown items": strange.take(np.array([0, 2])),
        "one": every.take(np.array([3])),
        "none": every.take(np.array([], np.int64)),
        "no score known": replace(every.add(**blank), scores=np.full(len(every), np.nan, np.float32)),
        "all alike": replace(every, scores=np.ones(len(every), np.float32)),
    }


def equal(first: Slate, second: Slate) -> bool:
    return (
        first.item_ids.tolist() == second.item_ids.tolist()
        and np.array_equal(first.scores, second.scores, equal_nan=True)
        and first.columns.keys() == second.columns.keys()
        and all(repr(first.columns[name].tolist()) == repr(second.columns[name].tolist()) for name in first.columns)
    )


def check_kept(before: Slate, after: Slate) -> None:
    """No item invented or twice, and every column moved along with its item."""
    place = {item_id: n for n, item_id in enumerate(before.item_ids)}
    assert set(after.item_ids) <= set(before.item_ids)
    assert len(set(after.item_ids)) == len(after)
    assert before.columns.keys() <= after.columns.keys()
    order = np.array([place[item_id] for item_id in after.item_ids], np.int64)
    for name in before.columns:
        assert repr(after.columns[name].tolist()) == repr(before.columns[name][order].tolist()), name
    assert all(len(column) == len(after) for column in (after.scores, *after.columns.values()))


@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize("name", sorted(registry.STAGES))
def test_a_stage_keeps_its_promises(tiny_engine: Engine, name: str, past: str) -> None:
    stage: Stage = component(tiny_engine, name)
    for what, before in slates(tiny_engine, PASTS[past]).items():
        assert stage.needs <= before.columns.keys(), what
        copy = before.take(np.arange(len(before)))
        for fields in ({}, {"k": 1}, {"diversity": 0.9, "tail_share": 1.0}, {"diversity": 0.0, "tail_share": 0.0}):
            after = stage(request(PASTS[past], **fields), before)

            check_kept(before, after)
            assert stage.gives <= after.columns.keys(), what
            assert equal(after, stage(request(PASTS[past], **fields), before)), what
            assert equal(before, copy), f"{what}: the slate that it was given is not its own to change"


@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize("name", sorted(registry.SOURCES))
def test_a_source_among_the_stages_keeps_them_too(tiny_engine: Engine, name: str, past: str) -> None:
    stage = Rescore(component(tiny_engine, name))
    for before in slates(tiny_engine, PASTS[past]).values():
        after = stage(request(PASTS[past]), before)

        check_kept(before, after)
        assert len(after) == len(before)
        known = after.scores[~np.isnan(after.scores)]
        assert (np.diff(known) <= 0).all()
        assert np.isnan(after.scores[len(known) :]).all()


@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize("name", sorted(registry.SOURCES))
def test_a_source_keeps_its_promises(tiny_engine: Engine, name: str, past: str) -> None:
    source: Retriever = component(tiny_engine, name)
    catalogue = tiny_engine.catalogue
    for k in (1, 7, 1000):
        for excluded in (np.empty(0, np.int64), np.array([0, 3, 17, 47]), np.arange(48)):
            asked = request(PASTS[past], excluded=excluded)

            found = source(asked, k)

            rows = found.columns["row"]
            assert len(found) <= min(k, 48 - len(excluded))
            assert not np.isin(rows, excluded).any()
            assert len(set(rows)) == len(rows)
            assert found.item_ids.tolist() == catalogue.item_ids[rows].tolist()
            assert np.isfinite(found.scores).all()
            assert (np.diff(found.scores) <= 0).all()
            assert source.scores(asked, rows) == pytest.approx(found.scores, rel=1e-5, abs=1e-6)
            assert equal(found, source(request(PASTS[past], excluded=excluded), k))


@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize("name", sorted(registry.SOURCES))
def test_a_source_scores_any_rows_and_knows_nothing_of_row_minus_one(tiny_engine: Engine, name: str, past: str) -> None:
    source: Retriever = component(tiny_engine, name)
    every = source.scores(request(PASTS[past]), np.arange(48))

    some = source.scores(request(PASTS[past]), np.array([-1, 40, 2, -1, 2]))

    assert every.shape == (48,)
    assert some.dtype == every.dtype == np.float32
    assert some[[1, 2, 4]] == pytest.approx(every[[40, 2, 2]], rel=1e-5, abs=1e-6, nan_ok=True)
    assert np.isnan(some[[0, 3]]).all()
    assert len(source.scores(request(PASTS[past]), np.array([], np.int64))) == 0


def test_the_whole_pipeline_answers_the_same_twice(tiny_engine: Engine) -> None:
    for past in PASTS.values():
        asked = Request("r", history=past, k=48)

        assert equal(tiny_engine.answer(asked).slate, tiny_engine.answer(asked).slate)
        assert not [entry for entry in tiny_engine.answer(asked).trace if entry.skipped]


@pytest.mark.parametrize("past", PASTS)
def test_what_an_additive_source_says_of_each_event_adds_up_to_its_score(tiny_engine: Engine, past: str) -> None:
    rows = np.array([7, 3, -1, 40, 7])
    for bound in tiny_engine.sources:
        if isinstance(bound.run, Additive):
            asked = request(PASTS[past])

            parts = bound.run.contributions(asked, rows)

            assert parts.shape == (5, len(PASTS[past])), bound.key
            assert parts.dtype == np.float32, bound.key
            scores = np.nan_to_num(bound.run.scores(asked, rows))
            assert parts.sum(axis=1) == pytest.approx(scores, rel=1e-3, abs=1e-4), bound.key


def test_these_sources_are_additive(tiny_engine: Engine) -> None:
    found = {bound.step.name for bound in tiny_engine.sources if isinstance(bound.run, Additive)}

    assert {"ease", "als", "item_knn", "next_item", "again", "text"} <= found
