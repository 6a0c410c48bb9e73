"""The best rows and what a target earns, beside plain sorting."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.scores import at_rows, best_slate, falling, gains, inputs_of, top_rows, with_best_moved
from tailwise.types import Request, Slate, ids_of

NAN = float("nan")
SCORE = st.sampled_from([NAN, -math.inf, -1.0, 0.0, 0.5, 0.5, 2.0, math.inf])
SCORES = st.lists(SCORE, max_size=15)


def sorted_rows(scores: list[float], k: int, excluded: set[int]) -> list[int]:
    """What ``top_rows`` promises, by plain sorting."""
    allowed = [row for row, s in enumerate(scores) if not math.isnan(s) and s > -math.inf and row not in excluded]
    return sorted(allowed, key=lambda row: (-scores[row], row))[:k]


@given(SCORES, st.integers(0, 18), st.data())
@settings(max_examples=150)
def test_top_rows_equal_plain_sorting(scores: list[float], k: int, data: st.DataObject) -> None:
    excluded = data.draw(st.sets(st.integers(0, len(scores) - 1)) if scores else st.just(set()))
    array = np.array(scores, np.float32)

    rows = top_rows(array, k, np.array(sorted(excluded), np.int64))

    assert rows.dtype == np.int64
    assert rows.tolist() == sorted_rows(scores, k, excluded)
    assert np.array_equal(array, np.array(scores, np.float32), equal_nan=True)  # the caller's scores stay


def test_ties_at_the_cut_go_to_the_earlier_row() -> None:
    assert top_rows(np.array([1, 2, 1, 1, 2], np.float32), 3, np.empty(0, np.int64)).tolist() == [1, 4, 0]


def test_a_slate_of_the_best_has_their_rows_and_scores() -> None:
    request = Request("r", excluded=np.array([1]))

    slate = best_slate(np.array([0.1, 0.9, NAN, 0.5], np.float32), 3, request, ids_of(list("abcd")))

    assert slate.item_ids.tolist() == ["d", "a"]
    assert slate.scores.tolist() == pytest.approx([0.5, 0.1])
    assert slate.columns["row"].tolist() == [3, 0]


def test_what_is_in_order_already_has_scores_that_fall_and_that_nobody_can_change() -> None:
    assert falling(0).tolist() == []
    assert falling(5).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(ValueError, match=r"^assignment destination is read-only$"):
        falling(5)[0] = 2.0


def test_row_minus_one_has_no_score() -> None:
    found = at_rows(np.array([1.0, 2.0], np.float32), np.array([1, -1, 0]))

    assert found.dtype == np.float32
    assert np.array_equal(found, [2.0, np.nan, 1.0], equal_nan=True)


def earned(scores: list[float], target: int, seen: set[int], k: int) -> float:
    """What ``gains`` promises, one person at a time."""
    rivals = [s for row, s in enumerate(scores) if row != target and row not in seen]
    ahead = sum(s > scores[target] for s in rivals) + sum(s == scores[target] for s in rivals) / 2
    return 1 / math.log2(ahead + 2) if ahead < k else 0.0


def test_a_target_earns_what_its_place_is_worth() -> None:
    scores = np.array([[0.9, 0.5, 0.7, 0.1]] * 4, np.float32)

    found = gains(scores, np.array([0, 1, 2, 3]), [np.array([0]), np.array([0]), np.empty(0, np.int64), np.array([1])])

    # Rank 1 although seen; rank 2, because the best was seen; rank 2; rank 3 of those that are left.
    assert found.tolist() == pytest.approx([1.0, 1 / math.log2(3), 1 / math.log2(3), 1 / math.log2(4)])


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 5), st.data())
@settings(max_examples=100)
def test_gains_equal_counting_with_ties_as_half(people: int, items: int, k: int, data: st.DataObject) -> None:
    value = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    scores = data.draw(st.lists(st.lists(value, min_size=items, max_size=items), min_size=people, max_size=people))
    targets = data.draw(st.lists(st.integers(0, items - 1), min_size=people, max_size=people))
    seen = data.draw(st.lists(st.sets(st.integers(0, items - 1)), min_size=people, max_size=people))

    found = gains(
        np.array(scores, np.float32), np.array(targets), [np.array(sorted(rows), np.int64) for rows in seen], k=k
    )

    assert found.tolist() == pytest.approx([earned(*each, k) for each in zip(scores, targets, seen, strict=True)])


def test_a_model_that_broke_down_earns_nothing() -> None:
    scores = np.full((2, 3), np.nan, np.float32)

    assert gains(scores, np.array([0, 1]), [np.array([0]), np.empty(0, np.int64)]).tolist() == [0.0, 0.0]


def test_nobody_earns_nothing() -> None:
    assert gains(np.empty((0, 5), np.float32), np.empty(0, np.int64), []).tolist() == []


@given(st.lists(SCORE, max_size=12), st.integers(0, 14))
@settings(max_examples=100)
def test_what_is_behind_stays_behind_in_its_order_and_keeps_its_distances(scores: list[float], depth: int) -> None:
    slate = Slate(ids_of([f"i{place}" for place in range(len(scores))]), np.array(scores, np.float32))
    moved = np.arange(min(depth, len(scores)), dtype=np.float32)  # the worst of them is now the best
    if not len(moved):
        return

    found = with_best_moved(slate, moved)

    assert found.item_ids.tolist() == [*slate.item_ids[: len(moved)][::-1], *slate.item_ids[len(moved) :]]
    assert found.scores[: len(moved)].tolist() == moved[::-1].tolist()
    assert (np.diff(found.scores) <= 0).all()


def test_incoming_scores_are_counted_from_the_best_and_what_has_none_is_as_good_as_the_worst() -> None:
    signals = np.zeros((3, 2), np.float32)
    slate = Slate(ids_of(["a", "b", "c"]), np.array([3.0, 1.0, NAN], np.float32), {"signals": signals})

    found, base = inputs_of(slate)

    assert found is signals
    assert base.tolist() == [0.0, -2.0, -2.0]
    assert inputs_of(slate.take(np.array([2])))[1].tolist() == [0.0]


def test_what_the_catalogue_does_not_know_stays_behind_what_was_moved_as_it_came() -> None:
    rows = np.array([3, -1, 4, -1, 5])
    slate = Slate(ids_of(list("abcde")), np.array([5, 4, 3, 2, 1], np.float32), {"row": rows})

    moved = with_best_moved(slate, np.array([1.0, 9.0, 2.0, 10.0], np.float32))
    strangers = with_best_moved(slate.take(np.array([1, 3])), np.array([1.0, 2.0], np.float32))

    assert moved.item_ids.tolist() == ["c", "a", "b", "d", "e"]
    assert moved.scores.tolist()[:4] == [2.0, 1.0, 0.0, -1.0]
    assert strangers.item_ids.tolist() == ["d", "b"]
