"""Histories and items as tokens, and logits of rows, by a graph whose answer is known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.encode.pairs import ROOM, TITLE_TOKENS, Frame, Words, logits

FRAME = Frame(start=(1,), comma=(9,), middle=(2,), end=(3,), history=6, item=2)
TITLES = Words.join([[11, 12], [], [21], [31, 32, 33], list(range(40, 40 + TITLE_TOKENS + 5))])


class Sums:
    """Stands for onnxruntime: a logit is the mean of the item's tokens."""

    def run(self, names: None, inputs: dict[str, Any]) -> list[Any]:
        assert names is None
        (ids,), (part,) = inputs["input_ids"], inputs["part"]
        return [np.array([[ids[part == own].mean() for own in inputs["which"]]], np.float32)]


def test_a_history_is_its_newest_titles_newest_first_as_many_as_fit_whole() -> None:
    assert FRAME.past(TITLES, np.array([3, 0, 2])).tolist() == [21, 9, 11, 12]  # the next would take four more


def test_an_item_that_comes_again_or_has_no_title_takes_no_room() -> None:
    assert FRAME.past(TITLES, np.array([2, 1, 0, 1, 0])).tolist() == [11, 12, 9, 21]


def test_of_a_first_title_that_is_too_long_the_start_is_read() -> None:
    assert FRAME.past(TITLES, np.array([2, 4])).tolist() == [40, 41, 42, 43, 44, 45]


@pytest.mark.parametrize("liked", [[], [1], [1, 1]])
def test_a_history_without_titles_is_no_tokens(liked: list[int]) -> None:
    assert len(FRAME.past(TITLES, np.array(liked, np.int64))) == 0


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 40))
def test_a_history_never_takes_more_room_than_it_has(liked: list[int], room: int) -> None:
    frame = FRAME.model_copy(update={"history": room})

    past = frame.past(TITLES, np.array(liked, np.int64))

    assert len(past) <= room
    assert bool(len(past)) == bool({*liked} - {1})


def test_items_stand_behind_one_history_each_with_its_end_and_cut() -> None:
    ((ids, part),) = FRAME.rows(np.array([7, 8]), [np.array([31, 32, 33]), np.array([41])])

    assert ids.tolist() == [1, 7, 8, 2, 31, 32, 3, 41, 3]
    assert part.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]


def test_a_model_that_reads_one_item_gets_rows_of_one() -> None:
    rows = FRAME.model_copy(update={"together": False}).rows(np.array([7]), [np.array([31]), np.array([41])])

    assert [ids.tolist() for ids, _ in rows] == [[1, 7, 2, 31, 3], [1, 7, 2, 41, 3]]
    assert [part.tolist() for _, part in rows] == [[0, 0, 0, 1, 1]] * 2


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 200), st.integers(1, 4))
def test_rows_have_room_and_leave_no_item_out(count: int, length: int, history: int, least: int) -> None:
    frame = FRAME.model_copy(update={"item": 40, "history": 200})
    items = [np.full(length, 100 + place) for place in range(count)]

    rows = frame.rows(np.full(history, 7), items, least)

    assert [int(own) for ids, part in rows for own in ids[np.flatnonzero(np.diff(part)) + 1]] == list(
        range(100, 100 + count)
    )
    assert len(rows) >= min(count, least)
    assert all(len(ids) <= max(ROOM + length + 1, history + 2 + length + 1) for ids, _ in rows)
    assert all(part.tolist() == sorted(part) for _, part in rows)


def test_words_are_found_by_row_and_row_minus_one_has_none() -> None:
    assert TITLES.of(3).tolist() == [31, 32, 33]
    assert TITLES.of(-1).tolist() == []
    assert TITLES.lengths(np.array([3, -1, 1, 0])).tolist() == [3, 0, 0, 2]
    assert len(TITLES) == 5


def test_no_texts_at_all_are_no_words() -> None:
    assert len(Words.join([])) == 0
    assert Words.join([]).lengths(np.array([-1])).tolist() == [0]


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_logits_come_in_the_order_of_the_items_whatever_the_threads(threads: int | None) -> None:
    frame = FRAME.model_copy(update={"end": ()})
    rows = [
        *frame.rows(np.array([7]), [np.array([4, 6]), np.array([1])]),
        *frame.rows(np.array([7, 7, 7]), [np.array([9, 9])]),
        *frame.rows(np.array([], np.int64), [np.array([2]), np.array([3]), np.array([8])]),
    ]
    pool = None if threads is None else ThreadPoolExecutor(threads)

    said = logits(Sums(), rows, pool)

    assert said.tolist() == [5.0, 1.0, 9.0, 2.0, 3.0, 8.0]
    assert said.dtype == np.float32


def test_no_items_have_no_logits() -> None:
    assert FRAME.rows(np.array([7]), []) == []
    assert logits(Sums(), []).tolist() == []
