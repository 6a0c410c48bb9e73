"""The orders that rules make, on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.rerank.orders import boost_order, cap_order, pin_order


def test_a_boost_works_on_negative_and_on_equal_scores() -> None:
    lift = np.array([0.0, 0.0, 1.0])

    assert boost_order(np.array([-1.0, -2.0, -3.0], np.float32), lift).tolist() == [0, 1, 2]
    assert boost_order(np.array([-1.0, -2.0, -3.0], np.float32), 2 * lift).tolist() == [0, 2, 1]
    assert boost_order(np.zeros(3, np.float32), lift).tolist() == [2, 0, 1]


def test_scores_that_are_not_numbers_do_no_harm() -> None:
    scores = np.array([np.nan, 2.0, 1.0], np.float32)

    assert boost_order(scores, np.array([0.0, 0.0, 9.0])).tolist() == [2, 0, 1]
    assert boost_order(scores, np.zeros(3)).tolist() == [0, 1, 2]
    assert boost_order(np.full(2, np.nan, np.float32), np.array([0.0, 1.0])).tolist() == [1, 0]


def plain_cap(groups: list[list[int]], most: list[int], within: list[int]) -> list[int]:
    left: list[int] = list(range(len(groups[0])))
    taken: list[int] = []
    while left and len(taken) < max(within):
        counts = [[group[row] for row in taken] for group in groups]
        room = [
            row
            for row in left
            if all(
                group[row] < 0 or count.count(group[row]) < limit or len(taken) >= reach
                for group, count, limit, reach in zip(groups, counts, most, within, strict=True)
            )
        ]
        taken.append((room or left)[0])
        left.remove(taken[-1])
    return taken + left


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 9), st.integers(1, 3))
def test_caps_together_equal_the_plain_definition(data: st.DataObject, n: int, caps: int) -> None:
    def each(strategy: st.SearchStrategy[Any]) -> Any:
        return data.draw(st.lists(strategy, min_size=caps, max_size=caps))

    groups = each(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
    most, within = each(st.integers(1, 3)), each(st.integers(1, 10))

    order, passed = cap_order([np.array(group) for group in groups], most, within)

    assert order.tolist() == plain_cap(groups, most, within)
    places = np.argsort(order)
    assert all(places[row] > row for mask in passed for row in np.flatnonzero(mask))


def test_a_pin_on_a_taken_place_takes_the_next_and_past_the_end_the_last() -> None:
    order = np.array([0, 1, 2, 3])

    assert pin_order(order, [(2, np.array([3])), (2, np.array([0]))]).tolist() == [1, 3, 0, 2]
    assert pin_order(order, [(99, np.array([0])), (99, np.array([1]))]).tolist() == [2, 3, 1, 0]
    assert pin_order(order, []).tolist() == [0, 1, 2, 3]
