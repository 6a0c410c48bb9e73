"""Reciprocal rank fusion beside exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.retrieve.merge import reciprocal_rank_fusion

LISTS = st.lists(st.lists(st.integers(0, 9), unique=True, max_size=8), max_size=5)


def fused(lists: list[list[int]]) -> list[tuple[int, Fraction]]:
    """Rows and exact scores, best first, ties by the row first met."""
    scores: dict[int, Fraction] = {}
    for rows in lists:
        for rank, row in enumerate(rows, start=1):
            scores[row] = scores.get(row, Fraction(0)) + Fraction(1, 60 + rank)
    met = {row: place for place, row in reversed(list(enumerate(row for rows in lists for row in rows)))}
    return sorted(scores.items(), key=lambda pair: (-pair[1], met[pair[0]]))


@given(LISTS)
@settings(max_examples=200)
def test_fusion_equals_exact_fractions(lists: list[list[int]]) -> None:
    rows, scores = reciprocal_rank_fusion([np.array(each, np.int64) for each in lists])

    wanted = fused(lists)
    assert rows.tolist() == [row for row, _ in wanted]
    assert scores.tolist() == pytest.approx([float(score) for _, score in wanted])
    assert rows.dtype == np.int64
    assert scores.dtype == np.float32


def test_a_tie_is_a_tie_in_whatever_order_it_was_added_up() -> None:
    # 5 stands at 1, 7 and 2, and 9 at 2, 1 and 7: the same fractions, whose sums differ in the last digit as floats.
    lists = [[5, 9], [9, 10, 11, 12, 13, 14, 5], [20, 5, 21, 22, 23, 24, 9]]

    rows, _ = reciprocal_rank_fusion([np.array(each) for each in lists])

    assert rows[:2].tolist() == [5, 9]


def test_no_list_gives_nothing() -> None:
    rows, scores = reciprocal_rank_fusion([])

    assert (rows.tolist(), scores.tolist()) == ([], [])


def test_a_source_without_an_answer_changes_nothing() -> None:
    some = [np.array([3, 1])]

    rows, _ = reciprocal_rank_fusion([np.empty(0, np.int64), *some])

    assert rows.tolist() == [3, 1]
