"""Each figure equals a plain loop over items and pairs, and a case worked by hand."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailwise.errors import ConfigError, DataError, ShapeError
from tailwise.evaluate import beyond

LISTS = np.array([[0, 1, 2], [0, 1, -1], [0, -1, -1], [-1, -1, -1]])
ALL = np.ones(4, bool)
World = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32], NDArray[np.int64], int]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Padded lists over M items, some eligible, some with a vector, with training counts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    b, m = draw(st.integers(1, 6)), draw(st.integers(2, 12))
    ranked = np.array([rng.permutation(m) for _ in range(b)])
    for row, keep in enumerate(rng.integers(0, m + 1, size=b)):
        ranked[row, keep:] = -1
    vectors = rng.normal(size=(m, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[rng.random(m) < 0.3] = 0
    return ranked, rng.random(m) < 0.8, vectors.astype(np.float32), rng.integers(0, 20, m), draw(st.integers(1, 14))


def slow_gini(counts: list[int]) -> float:
    """Mean absolute difference over all pairs, by definition, over twice the mean."""
    pairs = [abs(a - b) for a in counts for b in counts]
    return sum(pairs) / (2 * len(counts) * sum(counts)) if sum(counts) else math.nan


@settings(max_examples=80, deadline=None)
@given(worlds())
def test_figures_equal_plain_loops(world: World) -> None:
    ranked, eligible, vectors, popularity, k = world
    lists = [[int(i) for i in row[:k] if i >= 0] for row in ranked]
    shown = [sum(row.count(i) for row in lists) for i in np.flatnonzero(eligible).tolist()]
    surprise = -np.log2((popularity + 1) / (popularity.sum() + len(popularity)))

    def mean(values: Sequence[float] | NDArray[Any]) -> float:
        return float(np.mean(values)) if len(values) else math.nan

    unlike = [
        mean(
            [
                1 - vectors[a] @ vectors[b]
                for a, b in itertools.combinations(row, 2)
                if vectors[a].any() and vectors[b].any()
            ]
        )
        for row in lists
    ]

    np.testing.assert_allclose(beyond.coverage(ranked, eligible, k=k), mean([float(n > 0) for n in shown]))
    np.testing.assert_allclose(beyond.gini(ranked, eligible, k=k), slow_gini(shown), atol=1e-12)
    np.testing.assert_allclose(beyond.tail_share(ranked, eligible, k=k), [mean(eligible[row]) for row in lists])
    np.testing.assert_allclose(
        beyond.mean_popularity(ranked, popularity, k=k), [mean(popularity[row]) for row in lists]
    )
    np.testing.assert_allclose(beyond.novelty(ranked, popularity, k=k), [mean(surprise[row]) for row in lists])
    np.testing.assert_allclose(beyond.diversity(ranked, vectors, k=k), unlike, atol=1e-5)


def test_coverage_counts_each_item_once_and_only_where_it_is_eligible() -> None:
    assert beyond.coverage(LISTS, ALL, k=3) == 3 / 4
    assert beyond.coverage(LISTS, ALL, k=1) == 1 / 4
    assert beyond.coverage(LISTS, np.array([False, True, False, True]), k=3) == 1 / 2


def test_gini_goes_from_equal_exposure_to_one_item_that_has_it_all() -> None:
    equal = beyond.gini(np.array([[0, 1], [2, 3]]), ALL, k=2)
    single = beyond.gini(np.array([[2], [2], [2]]), ALL, k=1)

    assert equal == 0.0
    assert single == 3 / 4


def test_nothing_shown_has_no_gini_and_no_curve() -> None:
    nothing = np.full((2, 3), -1)

    assert math.isnan(beyond.gini(nothing, ALL, k=3))
    assert beyond.lorenz(nothing, ALL, k=3).size == 0


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_the_lorenz_curve_encloses_half_the_gini(world: World) -> None:
    ranked, _, _, _, k = world
    eligible = np.ones(ranked.shape[1], bool)

    curve = beyond.lorenz(ranked, eligible, k=k, points=1 + len(eligible))  # a point per item: no interpolation

    if curve.size:
        assert curve[0] == 0
        assert curve[-1] == pytest.approx(1)
        assert (np.diff(curve) >= -1e-12).all()
        area = np.trapezoid(curve, dx=1 / len(eligible))
        assert 1 - 2 * area == pytest.approx(beyond.gini(ranked, eligible, k=k), abs=1e-9)


def test_tail_share_divides_by_what_was_shown_not_by_k() -> None:
    found = beyond.tail_share(LISTS, np.array([False, True, True, True]), k=3)

    np.testing.assert_allclose(found, [2 / 3, 1 / 2, 0, np.nan])


def test_an_item_never_seen_is_the_most_novel_and_finite() -> None:
    found = beyond.novelty(np.array([[0], [1], [2]]), np.array([6, 1, 0]), k=1)

    np.testing.assert_allclose(found, [-math.log2(7 / 10), -math.log2(2 / 10), -math.log2(1 / 10)])


def test_diversity_worked_by_hand_leaves_out_items_without_a_vector() -> None:
    vectors = np.array([[1, 0], [0, 1], [-1, 0], [0, 0]], np.float32)

    found = beyond.diversity(np.array([[0, 1, 2], [0, 3, 2], [0, 3, -1]]), vectors, k=3)

    np.testing.assert_allclose(found, [1 - (0 - 1 + 0) / 3, 2.0, np.nan])


def test_diversity_in_small_blocks_equals_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ranked = np.array([rng.permutation(50)[:10] for _ in range(23)])
    whole = beyond.diversity(ranked, vectors, k=10)

    monkeypatch.setattr(beyond, "BLOCK", 200)  # 2 requests a block

    np.testing.assert_array_equal(beyond.diversity(ranked, vectors, k=10), whole)


def test_vectors_that_are_not_unit_are_refused() -> None:
    message = r"^vectors has length 2\.000 in row 1, but rows must be unit or zero$"

    with pytest.raises(DataError, match=message):
        beyond.diversity(np.array([[0, 1]]), np.array([[1, 0], [0, 2]], np.float32), k=2)


def test_a_row_outside_the_catalogue_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"^ranked holds row 4, but the catalogue has 4 items$"):
        beyond.coverage(np.array([[4]]), ALL, k=1)


def test_a_cut_off_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^k is 0, but it must be at least 1$"):
        beyond.tail_share(LISTS, ALL, k=0)


def test_a_negative_count_is_refused() -> None:
    message = r"^popularity holds a negative count or NaN; give the number of training events per item$"

    with pytest.raises(DataError, match=message):
        beyond.novelty(LISTS, np.array([1, -1, 0, 0]), k=1)
