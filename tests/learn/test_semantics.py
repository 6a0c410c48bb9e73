"""Where texts put items: the start of the table, the neighbours of an untouched item, and how far a rare one moves."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.learn.semantics import NEIGHBOURS, SHARPNESS, SPREAD, Placement, StandIns, start_of
from tailwise.types import Floats


def units(count: int, width: int = 6, seed: int = 0) -> Floats:
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_items_start_in_the_size_of_a_trained_table_and_without_a_text_nowhere() -> None:
    vectors = units(500)
    vectors[7] = 0

    start = start_of(vectors, 4)

    assert start is not None
    assert start.shape == (500, 4)
    assert not start[7].any()
    assert abs(float(np.delete(start, 7, axis=0).std()) - SPREAD) < 1e-3
    np.testing.assert_allclose(start[3] / start[3, 0], vectors[3, :4] / vectors[3, 0], rtol=1e-4)


def test_texts_that_say_nothing_start_nothing() -> None:
    assert start_of(np.zeros((9, 3), np.float32), 4) is None
    assert start_of(np.ones((9, 3), np.float32), 4) is None  # all the same
    assert start_of(units(1), 4) is None


@given(st.integers(2, 60), st.integers(1, 60), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_neighbours_are_those_of_a_plain_search(own: int, others: int, seed: int) -> None:
    vectors, among, table = units(own, seed=seed), units(others, seed=seed + 9), units(others, 3, seed=seed + 5)

    taken = StandIns.of(vectors, np.arange(own), among, same=False).take(table)

    for row in range(own):
        cosine = among @ vectors[row]
        best = np.argsort(-cosine)[:NEIGHBOURS]
        strength = np.exp((cosine[best] - cosine[best].max()) / SHARPNESS)
        np.testing.assert_allclose(taken[row], strength / strength.sum() @ table[best], atol=1e-4)


def test_a_rare_item_goes_a_third_of_the_way_an_untouched_one_all_and_a_common_one_stays() -> None:
    vectors = units(4)
    vectors[1:] = vectors[1]  # three with one and the same text
    learned = np.array([[9, 9], [0, 0], [3, 0], [0, 6]], np.float32)
    counts = np.array([50, 0, 1, 50], np.float32)
    placement = Placement.of(vectors, counts)

    table = placement.table(learned)

    near = float(vectors[0] @ vectors[1])
    far = np.exp((near - 1) / SHARPNESS)
    of_rare = (learned[3] + far * learned[0]) / (1 + far)
    of_untouched = (learned[2] + learned[3] + far * learned[0]) / (2 + far)
    np.testing.assert_allclose(table[2], learned[2] + (of_rare - learned[2]) / 3, rtol=1e-4)
    np.testing.assert_allclose(table[1], of_untouched, rtol=1e-4)
    np.testing.assert_array_equal(table[[0, 3]], learned[[0, 3]])
    np.testing.assert_array_equal(learned[1], [0, 0])  # what was given is not changed


def test_with_power_a_neighbour_counts_as_often_as_it_was_chosen() -> None:
    vectors = np.repeat(units(1), 3, axis=0)
    learned = np.array([[1, 0], [0, 1], [7, 7]], np.float32)
    counts = np.array([30, 10, 0], np.float32)

    even, weighted = (Placement.of(vectors, counts, power).table(learned)[2] for power in (0.0, 1.0))

    np.testing.assert_allclose(even, [0.5, 0.5], rtol=1e-5)
    np.testing.assert_allclose(weighted, [0.75, 0.25], rtol=1e-5)


def test_of_what_nothing_is_known_the_row_is_zero() -> None:
    vectors = units(3)
    vectors[2] = 0

    table = Placement.of(vectors, np.array([5, 5, 0], np.float32)).table(np.ones((3, 2), np.float32))

    assert table.any(axis=1).tolist() == [True, True, False]


def test_one_item_alone_and_nobody_touched_are_no_errors() -> None:
    one = Placement.of(units(1), np.array([3.0], np.float32)).table(np.ones((1, 2), np.float32))
    untouched = Placement.of(units(4), np.zeros(4, np.float32)).table(np.ones((4, 2), np.float32))

    assert one.tolist() == [[1, 1]]
    assert untouched.tolist() == [[1, 1]] * 4
