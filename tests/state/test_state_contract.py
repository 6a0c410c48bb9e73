"""What every store promises, and that it equals a plain list."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.state.memory import MemoryStore
from tailwise.state.sqlite import SqliteStore
from tailwise.types import Event

Make = Callable[[Path], Any]
STORES = {"memory": lambda _: MemoryStore(), "sqlite": lambda folder: SqliteStore(folder / "state.sqlite")}
every_store = pytest.mark.parametrize("make", list(STORES.values()), ids=list(STORES))


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with closing(request.param(tmp_path)) as opened:
        yield opened


def test_history_is_the_newest_events_oldest_first(store: Any) -> None:
    store.append([Event("ann", item, time) for item, time in [("c", 3.0), ("a", 1.0), ("d", 4.0), ("b", 2.0)]])

    found = [event.item_id for event in store.history("ann", 3)]

    assert found == ["b", "c", "d"]


def test_events_of_one_time_keep_the_order_they_came_in(store: Any) -> None:
    store.append([Event("ann", "first", 5.0), Event("ann", "second", 5.0)])
    store.append([Event("ann", "third", 5.0), Event("ann", "before", 4.0)])

    found = [event.item_id for event in store.history("ann", 10)]

    assert found == ["before", "first", "second", "third"]


def test_an_event_comes_back_as_it_went_in(store: Any) -> None:
    full = Event("zoë", "寿司|x", 1.5, "rating", 4.5, "r1", 3, 0.25, "e1")
    bare = Event("zoë", "", 2.0)

    new = store.append([full, bare])

    assert new == 2
    assert store.history("zoë", 10) == [full, bare]


def test_a_known_event_id_changes_nothing(store: Any) -> None:
    first = Event("ann", "a", 1.0, event_id="e1")
    store.append([first])

    new = store.append([replace(first, item_id="b"), replace(first, user_id="bob"), Event("ann", "c", 2.0)])

    assert new == 1
    assert [event.item_id for event in store.history("ann", 10)] == ["a", "c"]
    assert store.history("bob", 10) == []


def test_events_without_an_id_are_never_the_same(store: Any) -> None:
    new = store.append([Event("ann", "a", 1.0), Event("ann", "a", 1.0)])

    assert new == 2
    assert store.size() == 2


def test_appending_nothing_is_fine(store: Any) -> None:
    assert store.append([]) == 0
    assert store.size() == 0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_none_gives_none(store: Any, limit: int) -> None:
    store.append([Event("ann", "a", 1.0)])

    assert store.history("ann", limit) == []


def test_a_stranger_has_no_history_and_was_never_erased(store: Any) -> None:
    assert store.history("nobody", 10) == []
    assert not store.erased("nobody")
    assert store.size() == 0


def test_erasing_forgets_one_person_and_remembers_that_it_did(store: Any) -> None:
    store.append([Event("ann", "a", 1.0, event_id="e1"), Event("ann", "b", 2.0), Event("bob", "a", 3.0)])
    store.history("ann", 10)

    gone = store.erase("ann")

    assert gone == 2
    assert store.history("ann", 10) == []
    assert (store.erased("ann"), store.erased("bob")) == (True, False)
    assert len(store.history("bob", 10)) == 1


def test_events_after_an_erasure_are_kept(store: Any) -> None:
    store.append([Event("ann", "a", 1.0, event_id="e1")])
    store.erase("ann")

    new = store.append([Event("ann", "b", 2.0, event_id="e1")])

    assert new == 1
    assert [event.item_id for event in store.history("ann", 10)] == ["b"]
    assert store.erased("ann")


def test_erasing_a_stranger_still_bars_older_copies(store: Any) -> None:
    assert store.erase("nobody") == 0
    assert store.erased("nobody")


def test_changing_a_returned_history_does_not_change_the_store(store: Any) -> None:
    store.append([Event("ann", "a", 1.0)])

    store.history("ann", 10).clear()

    assert len(store.history("ann", 10)) == 1


def test_appends_of_many_threads_all_arrive_once(store: Any) -> None:
    def send(thread: int) -> int:
        events = [Event(f"u{thread % 3}", "a", float(n), event_id=f"{thread // 2}-{n}") for n in range(20)]
        return sum(store.append([event]) for event in events)

    with ThreadPoolExecutor(8) as pool:
        new = sum(pool.map(send, range(8)))

    assert new == 80  # threads 2n and 2n + 1 send the same ids
    assert store.size() == 80


def test_the_memory_store_keeps_the_newest_thousand_of_a_person() -> None:
    store = MemoryStore()
    store.append([Event("ann", str(n), float(n), event_id=str(n)) for n in range(1005)])

    kept = store.history("ann", 5000)

    assert [event.item_id for event in kept] == [str(n) for n in range(5, 1005)]
    assert len(store._known) == 1000  # what went takes its id along, or memory would grow for ever


EVENTS = st.builds(
    Event,
    user_id=st.sampled_from("ab"),
    item_id=st.sampled_from("xyz"),
    time=st.integers(0, 4).map(float),
    event_id=st.none() | st.sampled_from("123456"),
)
STEPS = st.lists(
    st.tuples(st.just("append"), st.lists(EVENTS, max_size=4))
    | st.tuples(st.just("erase"), st.sampled_from("ab"))
    | st.tuples(st.just("history"), st.integers(0, 6)),
    max_size=12,
)


def append_to(model: list[Event], events: list[Event]) -> int:
    before = len(model)
    for event in events:
        if event.event_id is None or event.event_id not in {known.event_id for known in model}:
            model.append(event)
    return len(model) - before


@every_store
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_a_store_equals_a_plain_list(make: Make, steps: list[tuple[str, Any]]) -> None:
    model: list[Event] = []
    erased: set[str] = set()
    with tempfile.TemporaryDirectory() as folder, closing(make(Path(folder))) as store:
        for verb, what in steps:
            if verb == "append":
                assert store.append(what) == append_to(model, what)
            elif verb == "erase":
                assert store.erase(what) == sum(event.user_id == what for event in model)
                model = [event for event in model if event.user_id != what]
                erased.add(what)
            for user_id in "ab":
                limit = what if verb == "history" else 100
                theirs = sorted((e for e in model if e.user_id == user_id), key=lambda e: e.time)
                assert store.history(user_id, limit) == theirs[len(theirs) - min(limit, len(theirs)) :]
                assert store.erased(user_id) == (user_id in erased)
            assert store.size() == len(model)
