"""Fresh, else stale, else what suits everybody; told in the trace, and by itself fresh again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwise.data.baskets import Acts
from tailwise.errors import UnavailableError
from tailwise.pipeline import Engine, recall
from tailwise.pipeline.recall import Recall, in_line
from tailwise.state.memory import MemoryStore
from tailwise.state.opening import open_store
from tailwise.types import Event, History, Request


def person_of(engine: Engine, user_id: str) -> tuple[list[str], list[str], str | None]:
    answer = engine.answer(Request("r", user_id=user_id, k=5))
    step = answer.trace[0]
    assert step.name == "person"
    return answer.history.item_ids.tolist(), answer.slate.item_ids.tolist(), step.skipped


def test_an_engine_goes_from_fresh_to_stale_to_everybodys_list_and_back(tiny_engine: Engine, own_redis: Any) -> None:
    own_redis.start()
    engine = replace(tiny_engine, store=open_store(own_redis.url()))
    known, stranger = engine.people.user_ids[:2]
    engine.observe(user_id=known, item_id="i01", event="click")
    fresh = person_of(engine, known)
    nobody = person_of(engine, "nobody")
    own_redis.kill()

    stale, unknown = person_of(engine, known), person_of(engine, stranger)
    with pytest.raises(UnavailableError):
        engine.observe(user_id=known, item_id="i02")
    with pytest.raises(UnavailableError):
        engine.history(known)
    own_redis.start()
    for _ in range(200_000):
        back = person_of(engine, known)
        if back[2] is None:
            break

    assert fresh[2] is None
    assert fresh[0][-1] == "i01"
    assert stale[:2] == fresh[:2]
    assert stale[2] in {f"history of {seconds} s ago: the state is away" for seconds in range(9)}
    assert unknown[0] == []  # what the fit knew is not used: the person may have been erased meanwhile
    assert unknown[1] == nobody[1]
    assert unknown[2] == "no history: the state is away"
    assert back == fresh
    engine.store.close()


def test_a_damaged_file_harms_those_it_holds_alone(tiny_engine: Engine, tmp_path: Path) -> None:
    import sqlite3

    engine = replace(tiny_engine, store=open_store(f"sqlite:///{tmp_path}/state.sqlite"))
    engine.observe(user_id="ann", item_id="i01")
    engine.observe(user_id="bob", item_id="i01")
    with sqlite3.connect(tmp_path / "state.sqlite") as other:
        other.execute("UPDATE people SET events = x'00' WHERE user_id = 'ann'")
    other.close()

    damaged, whole = person_of(engine, "ann"), person_of(engine, "bob")

    assert damaged[2] == "no history: the state is away"
    assert (whole[0], whole[2]) == (["i01"], None)
    engine.store.close()


class Away(MemoryStore):
    away = False

    def person(self, user_id: str, limit: int) -> Any:
        if self.away:
            raise UnavailableError("the store is away")
        return super().person(user_id, limit)


def test_an_erased_person_is_not_remembered(tiny_engine: Engine) -> None:
    engine = replace(tiny_engine, store=(store := Away()))
    engine.observe(user_id="ann", item_id="i01")
    person_of(engine, "ann")

    gone = engine.erase("ann")
    store.away = True

    assert gone == 1
    assert person_of(engine, "ann")[0] == []


def test_a_memory_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    store, memory = Away(), Recall()
    store.append([Event("ann", "a", 1.0)])
    memory.read(store, "ann")
    store.away = True

    assert memory.read(store, "ann")[0] is not None
    monkeypatch.setattr(recall, "OLDEST_S", -1.0)
    assert memory.read(store, "ann") == (None, "no history: the state is away")


def test_memories_are_bounded_and_who_was_read_last_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST_EVENTS", 30)
    store, memory = Away(), Recall()
    for user_id in "abcdef":
        store.append([Event(user_id, "x", float(n)) for n in range(9)])
        memory.read(store, user_id)
        memory.read(store, "a")
    store.away = True

    remembered = {user_id for user_id in "abcdef" if memory.read(store, user_id)[0] is not None}

    assert remembered == {"a", "e", "f"}
    assert memory._events == 30


def test_going_away_and_coming_back_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    store, memory = Away(), Recall()
    for away in (False, True, True, True, False, False):
        store.away = away
        memory.read(store, "ann")

    assert [record.getMessage() for record in caplog.records] == [
        "the state is away, lists are made of what is remembered: the store is away",
        "the state is back",
    ]


def test_a_history_without_times_keeps_its_order_where_the_log_has_one(tiny_engine: Engine) -> None:
    ids = tiny_engine.catalogue.item_ids[:3].tolist()
    past = History.of([Event("", item_id, 0.0) for item_id in ids])
    timed = History.of([Event("", item_id, float(n)) for n, item_id in enumerate(ids)])
    log, gap = tiny_engine.people, tiny_engine.people.usual_gap

    spread = {acts: in_line(past, log, {"choices": {"people_act": acts.value}}) for acts in Acts}

    assert gap > 0
    assert spread[Acts.LINES].times.tolist() == [0.0, gap, 2 * gap]
    assert spread[Acts.LINES].item_ids.tolist() == ids
    assert spread[Acts.BASKETS] is spread[Acts.SETS] is in_line(past, log, {}) is past
    assert in_line(timed, log, {"choices": {"people_act": Acts.LINES.value}}) is timed


def test_a_person_asked_for_with_the_history_alone_gets_the_same_list(tiny_engine: Engine) -> None:
    user_id = str(tiny_engine.people.user_ids[2])
    ids = tiny_engine.history(user_id).item_ids.tolist()

    known, told, turned = (
        tiny_engine.rank(**asked, k=5).item_ids.tolist()
        for asked in ({"user_id": user_id}, {"history": ids}, {"history": ids[::-1]})
    )

    read = tiny_engine.answer(Request("r", history=History.of([Event("", item_id, 0.0) for item_id in ids]))).history
    assert np.diff(read.times).tolist() == [tiny_engine.people.usual_gap] * (len(ids) - 1)
    assert len(set(known) & set(told)) >= 4
    assert told != turned
