"""What every store promises, and that it equals a plain list."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailwise.errors import DataError
from tailwise.state import redis
from tailwise.state.opening import open_store
from tailwise.types import Event

STORES = ("memory", "sqlite", "redis")
SHARED = ("sqlite", "redis")
"""Those that several processes may open."""


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowded machine may stand still for the tenth of a second that a read has."""
    monkeypatch.setattr(redis, "READ_S", 5.0)


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """Gives the address of an empty store of a kind, with a query."""

    def of(kind: str, query: str = "") -> str:
        if kind == "memory":
            return f"memory://?{query}"
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/{uuid.uuid4().hex}.sqlite?{query}"
        return str(request.getfixturevalue("redis_server").url(query and f"&{query}"))

    return of


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, new_url: Callable[..., str]) -> Iterator[Any]:
    with closing(open_store(new_url(request.param))) as opened:
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
    assert store.history("zoë", 10) == [replace(full, event_id=None), bare]  # ids are remembered apart


@pytest.mark.parametrize("time", [0.0, -5.25, 1e9, 1.7e9 + 0.001, 1.7e9 + 0.123456, 1732255555.1234567, 1e15])
def test_a_time_comes_back_exactly(store: Any, time: float) -> None:
    store.append([Event("ann", "a", 1.7e9 - 7), Event("ann", "b", time), Event("ann", "c", time)])

    found = [event.time for event in store.history("ann", 10)]

    assert found == sorted([1.7e9 - 7, time, time])


@pytest.mark.parametrize("value", [0.0, 0.25, 4.5, 59.75, 60.0, 0.1, -3.0, 1e-7, 1e12, None])
def test_a_value_comes_back_exactly(store: Any, value: float | None) -> None:
    store.append([Event("ann", "a", 1.0, "rating", value), Event("ann", "b", 2.0, "something new", value)])

    assert [(e.value, e.event) for e in store.history("ann", 10)] == [(value, "rating"), (value, "something new")]


@pytest.mark.parametrize(
    "event",
    [
        Event("ann", "a", math.nan),
        Event("ann", "a", math.inf),
        Event("ann", "a", 1.0, value=math.nan),
        Event("ann", "a", 1.0, position=2**70),
        Event("ann", "\ud800", 1.0),
    ],
)
def test_an_event_that_cannot_be_stored_takes_its_batch_along(store: Any, event: Event) -> None:
    with pytest.raises(DataError, match=r"^an event h"):
        store.append([Event("ann", "b", 1.0), event])

    assert store.history("ann", 10) == []


@pytest.mark.parametrize("user_id", ["a\0b", "a b:{c}*?[d]", "x" * 512, "ann@example.org", "'; DROP TABLE people"])
def test_any_text_is_an_id(store: Any, user_id: str) -> None:
    store.append([Event(user_id, user_id, 1.0), Event("a", "other", 1.0)])

    assert [event.item_id for event in store.history(user_id, 10)] == [user_id]
    assert store.size() == 2
    assert store.erase(user_id) == 1
    assert store.erased(user_id)
    assert len(store.history("a", 10)) == 1


def test_a_person_is_read_at_one_moment(store: Any) -> None:
    stranger = store.person("ann", 10)
    store.append([Event("ann", "a", 1.0), Event("ann", "b", 2.0, "purchase"), Event("ann", "c", 3.0)])
    first = store.person("ann", 2)
    store.append([Event("bob", "a", 1.0)])
    same = store.person("ann", 2)
    store.append([Event("ann", "d", 4.0)])
    later = store.person("ann", 2)
    store.erase("ann")
    gone = store.person("ann", 2)
    store.append([Event("ann", "e", 5.0)])
    back = store.person("ann", 2)

    assert (stranger.events, stranger.version, stranger.counts, stranger.erased) == ([], 0, {}, False)
    assert [event.item_id for event in first.events] == ["b", "c"]
    assert first.counts == {"view": 2, "purchase": 1}
    assert same == first
    assert (gone.events, gone.counts, gone.erased) == ([], {}, True)
    assert (back.counts, back.erased) == ({"view": 1}, True)
    assert 0 < first.version < later.version < gone.version < back.version


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


def test_events_after_an_erasure_are_kept_but_old_ones_that_come_again_are_not(store: Any) -> None:
    store.append([Event("ann", "a", 1.0, event_id="e1")])
    store.erase("ann")

    new = store.append([Event("ann", "a", 1.0, event_id="e1"), Event("ann", "b", 2.0, event_id="e2")])

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


@pytest.mark.parametrize("kind", STORES)
def test_a_person_keeps_the_newest_events_alone(new_url: Callable[..., str], kind: str) -> None:
    with closing(open_store(new_url(kind, "most=20"))) as store:
        for start in range(0, 60, 6):
            store.append([Event("ann", str(n), float(n)) for n in range(start, start + 6)])
        store.append([Event("ann", "too late", 2.0), Event("ann", "in between", 57.5)])

        kept, few = store.history("ann", 5000), store.history("ann", 3)

        assert [event.item_id for event in kept] == [*map(str, range(41, 58)), "in between", "58", "59"]
        assert [event.item_id for event in few] == ["in between", "58", "59"]
        assert store.size() == 20
        assert store.person("ann", 1).counts == {"view": 62}
        assert store.erase("ann") == 20


@pytest.mark.parametrize("kind", STORES)
def test_events_go_when_their_time_has_come(new_url: Callable[..., str], kind: str) -> None:
    now, day = time.time(), 86_400.0
    with closing(open_store(new_url(kind, "keep_days=30"))) as store:
        store.append([Event("ann", "old", now - 31 * day), Event("ann", "new", now - 29 * day)])
        store.append([Event("bob", "ancient", now - 300 * day)])

        kept = [event.item_id for event in store.history("ann", 10)]
        store.sweep()

        assert kept == ["new"]
        assert store.history("bob", 10) == []
        assert store.size() == 1


@pytest.mark.parametrize("kind", STORES)
def test_a_clock_that_jumps_deletes_nothing(
    new_url: Callable[..., str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store(new_url(kind, "keep_days=30"))) as store:
        store.append([Event("ann", "a", time.time())])
        really = time.time
        monkeypatch.setattr(time, "time", lambda: really() + 1e9)  # thirty years on

        store.append([Event("ann", "b", time.time())])
        monkeypatch.setattr(time, "time", lambda: really() - 1e9)
        store.append([Event("ann", "c", really())])
        gone = store.sweep()

        assert gone == 0
        assert sorted(event.item_id for event in store.history("ann", 10)) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", STORES)
def test_event_ids_are_remembered_within_bounds(new_url: Callable[..., str], kind: str) -> None:
    with closing(open_store(new_url(kind, "ids=50"))) as store:
        events = [Event("ann", "a", float(n), event_id=f"e{n}") for n in range(120)]
        for start in range(0, 120, 10):
            store.append(events[start : start + 10])

        again_late, again_soon = store.append(events[:1]), store.append(events[-50:])

        assert again_late == 1  # too long ago
        assert again_soon == 0


READ = """
import sys
from tailwise.state.opening import open_store
store = open_store(sys.argv[1])
for line in sys.stdin:
    print(*[event.item_id for event in store.history("ann", 10)], flush=True)
"""


@pytest.mark.parametrize("kind", SHARED)
def test_what_was_acknowledged_is_read_by_other_threads_and_processes(new_url: Callable[..., str], kind: str) -> None:
    url = new_url(kind)
    with closing(open_store(url)) as store, ThreadPoolExecutor(1) as other:
        store.append([Event("ann", "a", 1.0)])
        with subprocess.Popen(
            [sys.executable, "-c", READ, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            seen = []
            for step in range(3):
                print(file=reader.stdin, flush=True)
                seen.append(reader.stdout.readline().split())
                if step == 0:
                    store.append([Event("ann", "b", 2.0), Event("ann", "zero", 0.0)])
                if step == 1:
                    store.erase("ann")
            reader.stdin.close()

        store.append([Event("ann", "c", 3.0)])
        thread = other.submit(store.history, "ann", 10).result()

    assert seen == [["a"], ["zero", "a", "b"], []]
    assert [event.item_id for event in thread] == ["c"]


def test_the_journal_gives_every_event_once(store: Any) -> None:
    store.append([Event("ann", "before", 1.0)])
    store.keep_journal()
    store.keep_journal()
    first = [Event("ann", "a", 1.0, "rating", 4.5, "r1", 3, 0.25, "e1"), Event("bob", "b", 2.0)]
    store.append([*first, first[0]])
    claimed, again = store.claim("aa", 2), store.claim("bb", 2)
    store.append([Event("ann", "c", 3.0)])
    unchanged = store.claim("cc", 2)
    store.settle("another")
    store.settle(claimed.name)
    store.settle(claimed.name)
    rest = store.claim("dd", 100)
    store.settle(rest.name)

    assert list(claimed.events) == first
    assert claimed == again == unchanged
    assert (claimed.number, claimed.name) == (1, "events-000000001-aa.parquet")
    assert (rest.number, [event.item_id for event in rest.events]) == (2, ["c"])
    assert store.claim("ee", 2) is None
    assert store.waiting() == 0


def test_an_erased_person_goes_from_the_journal_and_the_log_is_told(store: Any) -> None:
    store.keep_journal()
    store.append([Event("ann", "a", 1.0), Event("bob", "b", 2.0)])
    claimed = store.claim("aa", 2)
    store.append([Event("ann", "c", 3.0)])

    store.erase("ann")

    assert [event.item_id for event in store.claim("aa", 2).events] == ["b"]
    store.settle(claimed.name)
    after = store.claim("bb", 9)
    assert after is None or not after.events
    (erasure,) = store.erasures()
    assert erasure.number == 1
    store.erase("ann")  # again, before the log has followed
    store.followed([replace(erasure, number=0)])
    assert len(store.erasures()) == 1
    store.followed(store.erasures())
    assert store.erasures() == []
    assert store.erased("ann")


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


@pytest.mark.parametrize("kind", STORES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])  # each gets an empty store
@given(steps=STEPS)
def test_a_store_equals_a_plain_list(new_url: Callable[..., str], kind: str, steps: list[tuple[str, Any]]) -> None:
    model: list[Event] = []
    known: set[str] = set()
    erased: set[str] = set()
    with closing(open_store(new_url(kind))) as store:
        for verb, what in steps:
            if verb == "append":
                new = []
                for event in what:
                    if event.event_id is None or event.event_id not in known:
                        new.append(replace(event, event_id=None))
                        known.add(event.event_id)
                assert store.append(what) == len(new)
                model += new
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
