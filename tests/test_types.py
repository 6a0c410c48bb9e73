"""The nouns keep their promises: order, immutability, shapes; and the fakes keep the protocols'."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.types import AGAINST, EVENT_KINDS, NO_HISTORY, Event, History, Request

ANYONE = Request("r", user_id="u")


def test_a_history_sorts_by_time_and_keeps_the_order_of_equal_times() -> None:
    events = [Event("u", "late", 9.0), Event("u", "first", 1.0, "rating", 4.0), Event("u", "second", 1.0)]

    past = History.of(events)

    assert past.item_ids.tolist() == ["first", "second", "late"]
    assert past.values[0] == 4.0
    assert np.isnan(past.values[1:]).all()
    assert past.rows.tolist() == [-1, -1, -1]


def test_an_empty_history_has_no_length_and_nothing_liked() -> None:
    assert len(NO_HISTORY) == 0
    assert NO_HISTORY.liked().tolist() == []
    assert NO_HISTORY.take(slice(-5, None)).item_ids.tolist() == []


@given(st.lists(st.tuples(st.sampled_from(EVENT_KINDS), st.integers(-1, 5)), max_size=12))
@settings(max_examples=50)
def test_liked_is_what_is_known_and_not_spoken_against(events: list[tuple[str, int]]) -> None:
    past = History.of([Event("u", str(row), float(n), kind) for n, (kind, row) in enumerate(events)])

    liked = past.place(np.array([row for _, row in events], np.int64)).liked()

    assert liked.tolist() == [row for kind, row in events if row >= 0 and kind not in AGAINST]


def test_a_request_without_history_has_an_empty_past() -> None:
    assert len(ANYONE.past) == 0


def test_requests_do_not_share_a_cache() -> None:
    assert Request("a").cache is not Request("b").cache


def event(item_id: str, time: float, kind: str = "view") -> Event:
    return Event("u", item_id, time, kind)


def test_columns_of_events_make_the_same_history() -> None:
    events = [Event("u", "b", 9.0, "click", 3.0), Event("u", "a", 1.0), Event("u", "c", 1.0, "skip")]

    one = History.of_columns(["b", "a", "c"], [9.0, 1.0, 1.0], ["click", "view", "skip"], [3.0, None, None])

    for name in ("item_ids", "times", "events", "rows"):
        assert getattr(one, name).tolist() == getattr(History.of(events), name).tolist()
    np.testing.assert_array_equal(one.values, History.of(events).values)


@given(st.lists(st.integers(-1, 4), max_size=12))
@settings(max_examples=50)
def test_newest_is_the_last_place_of_each_known_item(rows: list[int]) -> None:
    past = History.of([Event("u", str(row), float(n)) for n, row in enumerate(rows)]).place(np.array(rows, np.int64))

    wanted = sorted(max(place for place, row in enumerate(rows) if row == item) for item in {*rows} - {-1})

    assert past.newest.tolist() == wanted


def test_moments_ago_count_what_happened_at_once_once() -> None:
    past = History.of([event("a", 1), event("b", 2), event("c", 2), event("d", 5)])

    assert past.moments_ago.tolist() == [2, 1, 1, 0]
    assert NO_HISTORY.moments_ago.tolist() == []


def test_joined_histories_are_in_the_order_of_time() -> None:
    known, later = History.of([event("a", 1), event("c", 3)]), History.of([event("b", 2), event("d", 4)])

    joined = known.join(later)

    assert joined.item_ids.tolist() == ["a", "b", "c", "d"]


def test_an_act_that_a_later_fit_learned_from_is_there_once() -> None:
    known = History.of([event("a", 1), event("b", 2)])
    later = History.of([event("b", 2), event("b", 2, "purchase"), event("a", 3)])

    joined = known.join(later)

    assert list(zip(joined.item_ids, joined.events, strict=True)) == [
        ("a", "view"),
        ("b", "view"),
        ("b", "purchase"),
        ("a", "view"),
    ]
