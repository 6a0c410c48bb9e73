from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import ConfigError, ShapeError
from tailwise.rerank.diversity import RESIDUAL_FLOOR, dpp_order, mmr_order, relevance, unit_rows

both_orders = pytest.mark.parametrize("order_of", [mmr_order, dpp_order])
OrderOf = Callable[..., Any]


def plain_mmr(scores: list[float], vectors: Any, trade_off: float, k: int) -> list[int]:
    taken: list[int] = []
    while len(taken) < min(k, len(scores)):
        gains = {}
        for row in range(len(scores)):
            if row not in taken:
                nearest = max((float(vectors[row] @ vectors[other]) for other in taken), default=0.0)
                gains[row] = trade_off * scores[row] - (1 - trade_off) * nearest
        taken.append(max(gains, key=lambda row: (gains[row], -row)))
    return taken


def plain_dpp(scores: list[float], vectors: Any, trade_off: float, k: int, window: int | None) -> list[int]:
    taken: list[int] = []
    while len(taken) < min(k, len(scores)):
        near = taken[-window:] if window else taken
        gains = {}
        for row in range(len(scores)):
            if row not in taken:
                new = 1.0
                if near and vectors[row].any():  # what least squares cannot explain by those near
                    weights = np.linalg.lstsq(vectors[near].T, vectors[row], rcond=1e-9)[0]
                    new = float(np.sum((vectors[row] - vectors[near].T @ weights) ** 2))
                gains[row] = trade_off * scores[row] + (1 - trade_off) * np.log(max(new, RESIDUAL_FLOOR))
        taken.append(max(gains, key=lambda row: (gains[row], -row)))
    return taken


def random_case(seed: int, n: int, dim: int) -> tuple[list[float], Any]:
    """Scores, and unit vectors of which one in four is missing and one in four a copy."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(n, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[random.random(n) < 0.25] = 0
    copies = random.random(n) < 0.25
    vectors[copies] = vectors[random.integers(0, n, copies.sum())]
    return random.random(n).tolist(), vectors


def test_mmr_prefers_a_new_topic_over_a_near_copy() -> None:
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])

    order = mmr_order(np.array([0.9, 0.8, 0.7]), vectors, trade_off=0.5, k=3)

    # By hand: 0.45 first; then 0.40 - 0.40 = 0 against 0.35 - 0 = 0.35.
    assert order.tolist() == [0, 2, 1]


def test_dpp_prefers_a_new_topic_over_a_near_copy() -> None:
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])

    order = dpp_order(np.array([0.9, 0.8, 0.7]), vectors, trade_off=0.5, k=3)

    # By hand: 0.45 first; then 0.40 + 0.5 log(1 - 0.64) = -0.11 against 0.35 + 0.5 log 1 = 0.35.
    assert order.tolist() == [0, 2, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 5), st.integers(0, 11), st.floats(0, 1))
def test_mmr_equals_the_plain_definition(seed: int, n: int, dim: int, k: int, trade_off: float) -> None:
    scores, vectors = random_case(seed, n, dim)

    order = mmr_order(np.array(scores), vectors, trade_off=trade_off, k=k)

    gains_tie = trade_off < 1e-6  # copies then differ by rounding alone
    assert gains_tie or order.tolist() == plain_mmr(scores, vectors, trade_off, k)
    assert len(set(order.tolist())) == min(k, n)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, 9),
    st.integers(1, 5),
    st.integers(0, 11),
    st.floats(0, 1),
    st.none() | st.integers(1, 4),
)
def test_dpp_equals_the_plain_definition(
    seed: int, n: int, dim: int, k: int, trade_off: float, window: int | None
) -> None:
    scores, vectors = random_case(seed, n, dim)

    order = dpp_order(np.array(scores), vectors, trade_off=trade_off, k=k, window=window)

    gains_tie = trade_off < 1e-6
    assert gains_tie or order.tolist() == plain_dpp(scores, vectors, trade_off, k, window)
    assert len(set(order.tolist())) == min(k, n)


def test_dpp_takes_the_greedy_step_of_the_determinant() -> None:
    random = np.random.default_rng(3)
    vectors = unit_rows(random.normal(size=(12, 6))).astype(np.float64)
    scores, trade_off = random.random(12), 0.6
    quality = np.exp(trade_off / (2 - 2 * trade_off) * scores)
    kernel = quality[:, None] * (vectors @ vectors.T) * quality

    order = dpp_order(scores, vectors, trade_off=trade_off, k=5).tolist()

    for position in range(5):
        tried = {
            row: np.linalg.det(kernel[np.ix_([*order[:position], row], [*order[:position], row])])
            for row in range(12)
            if row not in order[:position]
        }
        assert max(tried, key=lambda row: tried[row]) == order[position]


@both_orders
def test_trade_off_one_is_the_score_order(order_of: OrderOf) -> None:
    scores, vectors = random_case(1, 30, 4)

    order = order_of(np.array(scores), vectors, trade_off=1.0, k=30)

    assert order.tolist() == np.argsort(-np.array(scores)).tolist()


@both_orders
def test_copies_alone_come_in_score_order(order_of: OrderOf) -> None:
    copies = np.tile([0.6, 0.8], (5, 1))

    order = order_of(np.array([0.1, 0.5, 0.3, 0.2, 0.4]), copies, trade_off=0.5, k=5)

    assert order.tolist() == [1, 4, 2, 3, 0]


def test_a_missing_embedding_is_neither_relevant_nor_alike() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    scores = np.array([0.9, 0.5, 0.4, 0.6])

    orders = [order_of(scores, vectors, trade_off=0.5, k=4).tolist() for order_of in (mmr_order, dpp_order)]

    assert orders == [[0, 1, 2, 3], [0, 1, 2, 3]]  # after the copy was put off, their scores decide


def test_dpp_forgets_what_left_the_window() -> None:
    vectors = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.9, 0.43588989]])
    scores = np.array([1.0, 0.9, 0.8, 0.1])

    whole = dpp_order(scores, vectors, trade_off=0.5, k=4)
    windowed = dpp_order(scores, vectors, trade_off=0.5, k=4, window=1)

    assert whole.tolist() == [0, 1, 3, 2]
    assert windowed.tolist() == [0, 1, 2, 3]  # the copy of 0 is new again beside 1


@pytest.mark.parametrize("window", [2, 3, 5])
def test_a_window_equals_the_plain_definition_among_similar_items(window: int) -> None:
    for seed in range(30):
        random = np.random.default_rng(seed)
        scores, vectors = random.random(14), random.random((14, 6))  # in one quadrant: the window's history matters
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

        order = dpp_order(scores, vectors, trade_off=0.5, k=14, window=window)

        assert order.tolist() == plain_dpp(scores.tolist(), vectors, 0.5, 14, window)


def test_more_positions_than_dimensions_end_in_score_order() -> None:
    random = np.random.default_rng(0)
    scores, vectors = random.random(250), random.random((250, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    order = dpp_order(scores, vectors, trade_off=0.4, k=250)

    assert sorted(order) == list(range(250))
    assert (np.diff(scores[order[16:]]) <= 0).all()  # rounding errors once grew without bound here


def test_a_much_better_copy_still_comes_before_a_bad_novelty() -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])

    order = dpp_order(np.array([1.0, 0.9, 0.1]), vectors, trade_off=0.95, k=3)

    # By hand: 0.95 * 0.9 + 0.05 * log(1e-6) = 0.16 against 0.95 * 0.1 = 0.095.
    assert order.tolist() == [0, 1, 2]


@both_orders
def test_an_empty_list_stays_empty(order_of: OrderOf) -> None:
    assert order_of(np.empty(0), np.empty((0, 4)), trade_off=0.5, k=10).tolist() == []


@both_orders
def test_arrays_that_do_not_fit_are_refused(order_of: OrderOf) -> None:
    with pytest.raises(ShapeError, match=r"^scores has 3 rows, but vectors has 2$"):
        order_of(np.zeros(3), np.zeros((2, 4)), trade_off=0.5, k=2)


@both_orders
@pytest.mark.parametrize("trade_off", [-0.1, 1.1, float("nan")])
def test_a_trade_off_out_of_range_is_refused(order_of: OrderOf, trade_off: float) -> None:
    with pytest.raises(
        ConfigError, match=f"^trade_off is {re.escape(str(trade_off))}, but it must be between 0 and 1$"
    ):
        order_of(np.zeros(2), np.zeros((2, 4)), trade_off=trade_off, k=2)


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^window is 0, but it must be at least 1$"):
        dpp_order(np.zeros(2), np.zeros((2, 4)), trade_off=0.5, k=2, window=0)


def test_one_absurd_score_does_not_change_the_scale_of_the_others() -> None:
    scores = np.array([3.0, 2.0, 1.0, 0.0], np.float32)

    plain = relevance(scores, 3)
    odd = relevance(np.array([3.0, 2.0, 1.0, -1e30], np.float32), 3)

    assert plain.tolist() == [1.0, 0.5, 0.0, -0.5]
    assert odd[:3].tolist() == plain[:3].tolist()


def test_scores_that_are_not_numbers_count_as_the_worst() -> None:
    scores = np.array([4.0, np.nan, 2.0, -np.inf, np.inf], np.float32)

    assert relevance(scores, 2).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_equal_scores_have_no_scale() -> None:
    assert relevance(np.full(3, 7.0, np.float32), 2).tolist() == [0.0, 0.0, 0.0]
    assert relevance(np.array([7.0, 7.0, 5.0], np.float32), 2).tolist() == [1.0, 1.0, 0.0]
    assert relevance(np.full(2, np.nan, np.float32), 2).tolist() == [0.0, 0.0]


@settings(max_examples=50)
@given(st.lists(st.floats(width=32), max_size=8), st.integers(1, 10))
def test_relevance_is_finite_and_keeps_the_order(scores: list[float], shown: int) -> None:
    array = np.array(scores, np.float32)

    scaled = relevance(array, shown)

    assert np.isfinite(scaled).all()
    finite = np.isfinite(array)
    order = np.argsort(array[finite], kind="stable")
    assert (np.diff(scaled[finite][order]) >= 0).all()


def test_unit_rows_leave_what_is_no_embedding_at_zero() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]]))

    assert rows.tolist() == [[np.float32(0.6), np.float32(0.8)], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
