"""The engine: who is looked up, what is left out, what happens when a part fails, and that a model opens equal."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.config import Step
from tailwise.errors import RequestError
from tailwise.fakes import FixedRetriever, Reverse
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import SPARED
from tailwise.pipeline.engine import Answer
from tailwise.pipeline.signals import signal_names
from tailwise.types import Column, Event, History, Request, Rows, Slate

Make = Callable[..., Engine]
ALL = list("abcdefghij")


@dataclass(frozen=True)
class Breaks:
    """A source that answers nothing."""

    def __call__(self, request: Request, k: int) -> Slate:
        raise ZeroDivisionError("oh")

    def scores(self, request: Request, rows: Rows) -> Column:
        raise ZeroDivisionError("oh")


@dataclass(frozen=True)
class Wants:
    """A stage that needs columns and changes nothing."""

    needs: frozenset[str]
    gives: frozenset[str] = frozenset()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return slate


def answered(engine: Engine, **fields: Any) -> Answer:
    return engine.answer(Request("r", **fields))


def ids(slate: Slate) -> list[str]:
    return list(slate.item_ids.tolist())


# What is shown.


def test_sources_are_merged_and_seen_items_left_out(make: Make) -> None:
    engine = make(sources={"first": FixedRetriever(tuple("abc")), "second": FixedRetriever(tuple("abcd"))})

    answer = answered(engine, user_id="ann")

    assert ids(answer.slate) == ["c", "d"]  # ann had a and b
    assert answer.slate.scores.tolist() == pytest.approx([2 / 61, 1 / 62])
    assert answer.excluded_seen
    assert answer.slate.columns["first_rank"].tolist() == [1, 2]
    assert [entry.name for entry in answer.trace] == ["person", "retrieve", "hydrate"]


def test_at_most_k_items_are_shown(make: Make) -> None:
    assert ids(make().rank(user_id="stranger", k=3)) == ["a", "b", "c"]
    assert len(make().rank(user_id="stranger", k=1000)) == 10


@pytest.mark.parametrize(
    ("config", "asked", "candidates", "shown"),
    [
        (None, None, None, list("cdefghij")),
        (True, None, None, list("cdefghij")),
        (False, None, None, ALL),
        (True, False, None, ALL),
        (False, True, None, list("cdefghij")),
        (True, None, ("b", "e", "a"), ["b", "e", "a"]),  # whoever brings candidates means them
        (True, False, ("b", "e", "a"), ["b", "e", "a"]),
        (False, True, ("b", "e", "a"), ["e"]),
    ],
)
def test_seen_items_are_left_out_as_asked(
    make: Make, config: bool | None, asked: bool | None, candidates: tuple[str, ...] | None, shown: list[str]
) -> None:
    answer = answered(make(exclude_seen=config), user_id="ann", exclude_seen=asked, candidates=candidates)

    assert ids(answer.slate) == shown
    assert answer.excluded_seen == (len(shown) in (1, 8))


def test_an_unknown_item_that_was_seen_is_left_out_too(make: Make) -> None:
    engine = make()
    engine.observe(user_id="ann", item_id="new")

    slate = engine.rank(user_id="ann", candidates=["new", "newer"], exclude_seen=True)

    assert ids(slate) == ["newer"]


def test_candidates_are_ranked_once_each_known_or_not(make: Make) -> None:
    engine = make(stages=[(Step(name="reverse"), Reverse())])

    slate = engine.rank(user_id="stranger", candidates=["e", "zz", "e", "b", "zz"])

    assert ids(slate) == ["b", "zz", "e"]
    assert slate.columns["row"].tolist() == [1, -1, 4]
    assert slate.columns["first_rank"].tolist() == [3, 2, 1]


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_any_number_of_candidates_up_to_the_limit(make: Make, count: int) -> None:
    engine = make(stages=[(Step(name="reverse"), Reverse())])

    slate = engine.rank(candidates=[f"i{n}" for n in range(count)], k=1000)

    assert len(slate) == min(count, 1000)


def test_too_many_candidates_are_refused(make: Make) -> None:
    with pytest.raises(RequestError, match=r"^candidates holds 5001 items, but at most 5000 are ranked at once$"):
        make().rank(candidates=["a"] * 5001)


def test_facts_and_scores_come_for_those_that_need_them(make: Make) -> None:
    wants = Wants(frozenset({"year", "score_fixed"}))

    slate = make(stages=[(Step(name="wants"), wants)]).rank(candidates=["c", "zz"])

    assert set(slate.columns) == {"row", "first_rank", "year", "score_fixed"}
    assert slate.columns["year"][0] == 2002
    assert np.isnan(slate.columns["year"][1])
    assert slate.columns["score_fixed"][0] == -2.0


# Who asks.


def test_a_stranger_and_nobody_get_an_answer(make: Make) -> None:
    for fields in ({"user_id": "stranger"}, {"candidates": ("a",)}, {"query": "heat"}, {"history": History.of(())}):
        assert len(answered(make(), **fields).slate) > 0


def test_a_given_history_replaces_the_stored_one(make: Make) -> None:
    answer = answered(make(), user_id="ann", history=History.of([Event("ann", "j", 1.0)]))

    assert answer.history.item_ids.tolist() == ["j"]
    assert ids(answer.slate) == list("abcdefghi")


def test_what_is_observed_is_known_at_once(make: Make) -> None:
    engine = make()
    request = Request("r", user_id="ann")
    before = engine.answer(request)

    engine.observe(user_id="ann", item_id="e", event="purchase", time=300.0)

    after = engine.answer(request)  # the very same request
    assert before.history.item_ids.tolist() == ["a", "b"]
    assert after.history.item_ids.tolist() == ["a", "b", "e"]
    assert after.history.rows.tolist() == [0, 1, 4]
    assert "e" in ids(before.slate)
    assert "e" not in ids(after.slate)
    assert ids(engine.rank(user_id="bob")) == ids(answered(engine, user_id="bob").slate)


def test_what_was_computed_for_a_request_is_not_used_when_it_is_asked_again(fresh_engine: Engine) -> None:
    request = Request("r", user_id="someone new", k=48)
    before = fresh_engine.answer(request)

    for place in range(3):
        fresh_engine.observe(user_id="someone new", item_id=before.slate.item_ids[-1 - place])

    fresh = fresh_engine.answer(replace(request, cache={}))
    assert ids(fresh_engine.answer(request).slate) == ids(fresh.slate)
    assert request.cache == {}


def test_events_come_together_in_order_of_time(make: Make) -> None:
    engine = make()
    for item_id, time in (("e", 150.0), ("f", 50.0), ("g", 250.0)):
        engine.observe(user_id="ann", item_id=item_id, time=time)

    assert engine.history("ann").item_ids.tolist() == ["f", "a", "e", "b", "g"]
    assert engine.history("ann", until=150.0).item_ids.tolist() == ["f", "a", "e"]


def test_an_erased_person_is_a_stranger(make: Make) -> None:
    engine = make()
    engine.observe(user_id="ann", item_id="e")

    engine.store.erase("ann")

    assert len(engine.history("ann")) == 0
    assert ids(engine.rank(user_id="ann")) == ALL
    engine.observe(user_id="ann", item_id="f", time=1.0)
    assert engine.history("ann").item_ids.tolist() == ["f"]


def test_only_the_newest_events_are_used_but_all_are_left_out(make: Make) -> None:
    events = [("ann", item, float(n)) for n, item in enumerate("abcde", start=1)]

    answer = answered(make(events=events, max_history=2), user_id="ann")

    assert answer.history.item_ids.tolist() == ["d", "e"]
    assert ids(answer.slate) == list("fghij")


MOMENTS = st.lists(st.tuples(st.sampled_from(ALL), st.integers(1, 9)), max_size=8)


@given(
    st.lists(st.tuples(st.sampled_from(ALL), st.integers(1, 9)), min_size=1, max_size=8), MOMENTS, st.integers(0, 10)
)
@settings(max_examples=40)
def test_events_after_the_request_are_never_used(
    make: Make, fitted: list[tuple[str, int]], later: list[tuple[str, int]], now: int
) -> None:
    engine = make(events=[("ann", item, float(time)) for item, time in fitted])
    for item, time in later:
        engine.observe(user_id="ann", item_id=item, time=float(time))
    past = {item for item, time in [*fitted, *later] if time <= now}

    stored = answered(engine, user_id="ann", time=float(now))
    given_history = History.of([Event("ann", item, float(time)) for item, time in [*fitted, *later]])
    given_answer = answered(engine, history=given_history, time=float(now))

    for answer in (stored, given_answer):
        assert (answer.history.times <= now).all()
        assert set(answer.history.item_ids) == past
        assert ids(answer.slate) == [item for item in ALL if item not in past]


# What fails.


def test_a_source_that_breaks_is_left_out_and_the_trace_says_so(make: Make) -> None:
    engine = make(
        sources={"breaks": Breaks(), "fixed": FixedRetriever(tuple("abc"))},
        stages=[(Step(name="wants"), Wants(frozenset({"score_breaks", "score_fixed"})))],
    )

    answer = answered(engine, user_id="stranger")

    assert ids(answer.slate) == ["a", "b", "c"]
    assert np.isnan(answer.slate.columns["score_breaks"]).all()
    assert answer.slate.columns["score_fixed"].tolist() == [0, -1, -2]
    skipped = [(entry.name, entry.skipped) for entry in answer.trace if entry.skipped]
    assert skipped == [("breaks", "failed: ZeroDivisionError")] * 2


def test_when_every_source_breaks_the_items_come_in_an_honest_order(make: Make) -> None:
    answer = answered(make(sources={"breaks": Breaks()}), user_id="stranger", k=3)

    assert ids(answer.slate) == ["a", "b", "c"]
    assert [step.name for step in answer.trace if step.skipped] == ["breaks", "popular"]


def test_a_stage_that_breaks_leaves_the_order_of_the_one_before(make: Make) -> None:
    class Wrong:
        needs: frozenset[str] = frozenset()
        gives: frozenset[str] = frozenset()

        def __call__(self, request: Request, slate: Slate) -> Slate:
            return slate.take(np.array([99]))

    engine = make(stages=[(Step(name="reverse"), Reverse()), (Step(name="wrong"), Wrong())])

    answer = answered(engine, user_id="stranger", k=2)

    assert ids(answer.slate) == ["j", "i"]
    assert answer.trace[-1].skipped is not None
    assert answer.trace[-1].skipped.startswith("failed: IndexError: ")


def test_an_event_of_an_unknown_kind_is_refused_and_not_kept(make: Make) -> None:
    engine = make()

    with pytest.raises(RequestError, match=r"^event is 'eat', but it must be one of: view, click, "):
        engine.observe(user_id="ann", item_id="e", event="eat")

    assert len(engine.history("ann")) == 2


@dataclass(frozen=True)
class Judges:
    """A stage that reads signals and changes nothing."""

    names: tuple[str, ...]
    needs: frozenset[str] = frozenset({"signals"})
    gives: frozenset[str] = frozenset()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return slate


def test_a_spared_stage_leaves_the_order_and_nobody_makes_what_only_it_reads(make: Make) -> None:
    sources = {"first": FixedRetriever(tuple("abc"))}
    bare = make(sources=sources)
    judges = Judges(signal_names(bare.sources, bare.catalogue))
    engine = make(sources=sources, stages=[(Step(name="reverse"), Reverse()), (Step(name="judges"), judges)])

    spared = engine.answer(Request("r", user_id="nobody"), spare=frozenset({"reverse", "judges"}))
    whole = engine.answer(Request("r", user_id="nobody"))

    assert (ids(spared.slate), ids(whole.slate)) == (["a", "b", "c"], ["c", "b", "a"])
    assert {s.name: s.skipped for s in spared.trace if s.skipped} == dict.fromkeys(("reverse", "judges"), SPARED)
    assert ("signals" in spared.slate.columns, "signals" in whole.slate.columns) == (False, True)


def test_no_list_is_empty_while_there_are_items_to_show(fresh_engine: Engine) -> None:
    texts = tuple(bound for bound in fresh_engine.sources if bound.step.name == "text")
    engine = replace(fresh_engine, sources=texts, stages=())

    answer = engine.answer(Request("r", history=History.of([Event("", "nobody knows it", 0.0)]), k=5))

    popular = np.argsort(-engine.catalogue.popularity, kind="stable")[:5]
    assert answer.slate.item_ids.tolist() == engine.catalogue.item_ids[popular].tolist()
    assert [(step.name, step.skipped) for step in answer.trace if step.skipped] == [
        ("popular", "nothing is known of what is wanted")
    ]
