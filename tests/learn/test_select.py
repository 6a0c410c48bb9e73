"""Which texts to label: choices that can be worked by hand, and a greedy oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import ConfigError, ShapeError
from tailwise.learn.select import doubt, few_shot, to_label
from tailwise.types import Floats


def cloud(seed: int, rows: int = 30, dim: int = 5) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def covered(vectors: Floats, rows: list[int]) -> float:
    """How near all are to their nearest chosen row, added up one by one."""
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float64)
    return sum(max(float(unit[other] @ unit[row]) for row in rows) for other in range(len(unit)))


@given(seed=st.integers(0, 50), k=st.integers(1, 6))
def test_each_choice_of_facility_is_as_good_as_any_other_row_would_be(seed: int, k: int) -> None:
    vectors = cloud(seed, rows=12)

    rows = few_shot(vectors, k).tolist()

    for at in range(k):
        others = [covered(vectors, [*rows[:at], row]) for row in range(12) if row not in rows[:at]]
        assert covered(vectors, rows[: at + 1]) == pytest.approx(max(others), abs=1e-5)


@pytest.mark.parametrize("method", ["facility", "kmeans++"])
def test_one_of_each_group_stands_for_all(method: str) -> None:
    centres = np.eye(4, dtype=np.float32)
    vectors = np.repeat(centres, 10, axis=0) + 0.01 * cloud(1, rows=40, dim=4)

    for seed in range(5):
        rows = few_shot(vectors, 4, method=method, seed=seed)  # type: ignore[arg-type]  # a parameter of the test

        assert sorted(rows // 10) == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["facility", "kmeans++"])
def test_rows_are_chosen_once_even_when_all_are_alike(method: str) -> None:
    rows = few_shot(np.ones((5, 3), np.float32), 9, method=method)  # type: ignore[arg-type]  # a parameter of the test

    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^method is 'best', but it must be one of: kmeans\+\+, facility$"):
        few_shot(cloud(0), 2, method="best")  # type: ignore[arg-type]  # what is refused


def test_doubts_by_hand() -> None:
    sure, torn = [0.9, 0.1], [0.5, 0.5]
    chances = np.array([sure, torn], np.float32)

    entropy, margin = doubt(chances), doubt(chances, kind="margin")

    np.testing.assert_allclose(entropy, [-0.9 * np.log(0.9) - 0.1 * np.log(0.1), np.log(2)], rtol=1e-5)
    np.testing.assert_allclose(margin, [0.2, 1.0], rtol=1e-5)


def test_models_disagree_where_each_is_sure_of_something_else_and_not_where_nobody_can_know() -> None:
    opposed = [[0.99, 0.01], [0.01, 0.99]]
    unknowable = [[0.5, 0.5], [0.5, 0.5]]
    chances = np.array([opposed, unknowable], np.float32).transpose(1, 0, 2)  # (S, N, C)

    found = doubt(chances, kind="disagreement")

    assert found[0] > 0.6
    assert found[1] == pytest.approx(0.0, abs=1e-6)


def test_labels_that_are_true_by_themselves_each_count() -> None:
    chances = np.array([[0.5, 0.5], [0.5, 1.0], [1.0, 1.0]], np.float32)

    np.testing.assert_allclose(doubt(chances, exclusive=False), [2 * np.log(2), np.log(2), 0], atol=1e-5)
    np.testing.assert_allclose(doubt(chances, kind="margin", exclusive=False), [1, 1, 0], atol=1e-6)


@given(seed=st.integers(0, 30))
def test_disagreement_is_never_below_zero_nor_above_the_entropy(seed: int) -> None:
    drawn = np.random.default_rng(seed).dirichlet(np.ones(4), size=(3, 6)).astype(np.float32)

    told = doubt(drawn, kind="disagreement")

    assert (told >= -1e-5).all()
    assert (told <= doubt(drawn) + 1e-5).all()


def test_one_model_cannot_disagree() -> None:
    with pytest.raises(ShapeError, match=r"^disagreement needs at least 2 models, but chances has 1$"):
        doubt(np.ones((3, 2), np.float32), kind="disagreement")
    with pytest.raises(ShapeError, match=r"^chances has 1 dimensions, but it must be \(N, C\) or \(S, N, C\)$"):
        doubt(np.ones(3, np.float32))


def test_the_most_doubtful_are_next_and_never_one_that_has_a_label() -> None:
    doubts = np.array([0.1, 0.9, 0.5, 0.8], np.float32)

    assert to_label(doubts, None, 2).tolist() == [1, 3]
    assert to_label(doubts, None, 2, labelled=np.array([1])).tolist() == [3, 2]
    assert to_label(doubts, None, 9, labelled=np.array([0, 1])).tolist() == [3, 2]


def test_twins_are_not_both_asked_for() -> None:
    doubts = np.array([1.0, 0.99, 0.6, 0.0], np.float32)
    vectors = np.array([[1, 0], [1, 0.01], [0, 1], [0.5, 0.5]], np.float32)

    rows = set(to_label(doubts, vectors, 2).tolist())

    assert rows in ({0, 2}, {1, 2})


def test_vectors_of_other_rows_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"^doubts has 2 rows, but vectors has 30$"):
        to_label(np.ones(2, np.float32), cloud(0), 1)
