"""The nouns keep their promises: order, immutability, shapes; and the fakes keep the protocols'."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import ShapeError
from tailwise.types import AGAINST, EVENT_KINDS, NO_HISTORY, Event, History, Request, Slate, ids_of

ANYONE = Request("r", user_id="u")


def slate(scores: list[float], **columns: list[object]) -> Slate:
    ids = ids_of([f"i{n}" for n in range(len(scores))])
    return Slate(ids, np.array(scores, np.float32), {name: np.array(column) for name, column in columns.items()})


def test_ids_of_equal_length_stay_one_object_each() -> None:
    ids = ids_of(["ab", "cd", None])

    assert ids.shape == (3,)
    assert ids.dtype == object
    assert ids.tolist() == ["ab", "cd", None]


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


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"^year has 1 rows, but the slate has 2 items$"):
        slate([1.0, 2.0], year=[1999])


def test_scores_of_another_length_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"^scores has 1 rows, but the slate has 2 items$"):
        slate([1.0, 2.0]).score(np.array([1.0], np.float32))


@given(st.lists(st.floats(-5, 5, width=32) | st.just(float("nan")), max_size=12))
@settings(max_examples=50)
def test_score_sorts_best_first_with_ties_in_order_and_nan_last(scores: list[float]) -> None:
    before = slate([0.0] * len(scores), place=list(range(len(scores))))

    after = before.score(np.array(scores, np.float32))

    known = [n for n, score in enumerate(scores) if not math.isnan(score)]
    unknown = [n for n, score in enumerate(scores) if math.isnan(score)]
    wanted = sorted(known, key=lambda n: -scores[n]) + unknown
    assert after.item_ids.tolist() == [f"i{n}" for n in wanted]
    assert [int(place) for place in after.columns["place"]] == wanted
    assert before.item_ids.tolist() == [f"i{n}" for n in range(len(scores))]


def test_take_moves_every_column_along() -> None:
    taken = slate([3.0, 2.0, 1.0], vector=[[1, 1], [2, 2], [3, 3]]).take(np.array([2, 0]))

    assert taken.item_ids.tolist() == ["i2", "i0"]
    assert taken.scores.tolist() == [1.0, 3.0]
    assert taken.columns["vector"].tolist() == [[3, 3], [1, 1]]


def test_add_gives_a_new_slate_and_leaves_the_old_one() -> None:
    before = slate([1.0])

    after = before.add(year=np.array([1999]))

    assert "year" not in before.columns
    assert after.columns["year"].tolist() == [1999]


def event(item_id: str, time: float, kind: str = "view") -> Event:
    return Event("u", item_id, time, kind)


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
