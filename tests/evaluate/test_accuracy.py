"""Each metric equals a plain loop, an independent library (ir_measures) and cases worked by hand."""

import math
from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailwise.errors import ConfigError, DataError, ShapeError
from tailwise.evaluate import accuracy as acc

RANKED = np.array([[7, 3, 5, 1], [2, 9, -1, -1], [4, 6, 8, 0]])
TARGETS = np.array([[5, 7, 11], [9, -1, -1], [1, 2, 3]])
World = tuple[NDArray[np.int64], NDArray[np.int64], int]
METRICS = (acc.hit_rate, acc.precision, acc.recall, acc.reciprocal_rank, acc.average_precision, acc.ndcg)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Lists with pads at the end, targets with pads anywhere and repeats; some requests have no target."""
    b, m = draw(st.integers(1, 6)), draw(st.integers(3, 30))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    ranked = np.array([rng.permutation(m) for _ in range(b)])[:, : draw(st.integers(1, m))]
    for row, keep in enumerate(rng.integers(0, ranked.shape[1] + 1, size=b)):
        ranked[row, keep:] = -1
    targets = rng.integers(-1, m, size=(b, draw(st.integers(1, 8))))
    return ranked, targets, draw(st.integers(1, 12))


def slow(ranked: list[int], targets: list[int], k: int) -> list[float]:
    """The six metrics of one request, in the order of METRICS, by the book."""
    relevant = {t for t in targets if t >= 0}
    if not relevant:
        return [math.nan] * 6
    found, precisions, gain, first = 0, [], 0.0, 0.0
    for place, item in enumerate(list(ranked)[:k], start=1):
        if item in relevant:
            found += 1
            precisions.append(found / place)
            gain += 1 / math.log2(place + 1)
            first = first or 1 / place
    reachable = min(len(relevant), k)
    ideal = sum(1 / math.log2(place + 1) for place in range(1, reachable + 1))
    return [float(found > 0), found / k, found / len(relevant), first, sum(precisions) / reachable, gain / ideal]


def test_hits_mark_the_places_that_hold_a_target() -> None:
    marks = acc.hits(RANKED, TARGETS)

    assert marks.tolist() == [[True, False, True, False], [False, True, False, False], [False] * 4]


def test_pads_never_hit_pads() -> None:
    marks = acc.hits(np.array([[-1, -1], [0, -1]]), np.array([[-1], [-1]]))

    assert not marks.any()


def test_an_item_that_is_a_target_of_another_request_is_no_hit() -> None:
    marks = acc.hits(np.array([[0, 1], [1, 0]]), np.array([[0], [1]]))

    assert marks.tolist() == [[True, False], [True, False]]


def test_metrics_worked_by_hand() -> None:
    marks, n = acc.hits(RANKED, TARGETS), acc.count_relevant(TARGETS)

    found = {metric.__name__: metric(marks, n, 3) for metric in METRICS}

    ideal = 1 + 1 / math.log2(3) + 1 / 2  # three relevant items fit three places
    expected: dict[str, list[float]] = {
        "hit_rate": [1, 1, 0],
        "precision": [2 / 3, 1 / 3, 0],
        "recall": [2 / 3, 1, 0],
        "reciprocal_rank": [1, 1 / 2, 0],
        "average_precision": [(1 + 2 / 3) / 3, 1 / 2, 0],
        "ndcg": [(1 + 1 / 2) / ideal, 1 / math.log2(3), 0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)


@settings(max_examples=80, deadline=None)
@given(worlds())
def test_metrics_equal_a_plain_loop(world: World) -> None:
    ranked, targets, k = world

    marks, n = acc.hits(ranked, targets), acc.count_relevant(targets)
    found = np.array([metric(marks, n, k) for metric in METRICS]).T

    expected = [slow(ranked[row].tolist(), targets[row].tolist(), k) for row in range(len(ranked))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_moving_a_hit_up_never_lowers_a_metric(world: World) -> None:
    ranked, targets, k = world
    marks, n = acc.hits(ranked, targets), acc.count_relevant(targets)

    for metric in METRICS:
        before, after = metric(marks, n, k), metric(-np.sort(-marks.astype(int), axis=1) > 0, n, k)
        judged = ~np.isnan(before)

        assert (after[judged] >= before[judged] - 1e-12).all()
        assert ((after[judged] >= 0) & (after[judged] <= 1 + 1e-12)).all()


def test_metrics_equal_ir_measures() -> None:
    rng = np.random.default_rng(5)
    b, m, k = 60, 40, 10
    ranked = np.array([rng.permutation(m) for _ in range(b)])[:, :15]
    targets = np.array([rng.choice(m, 4, replace=False) for _ in range(b)])
    truth = {f"q{i}": {f"d{t}": 1 for t in row} for i, row in enumerate(targets)}
    run = {f"q{i}": {f"d{item}": float(-place) for place, item in enumerate(row)} for i, row in enumerate(ranked)}
    ours = dict(zip(("Success", "P", "R", "RR", "AP", "nDCG"), METRICS, strict=True))
    marks, n = acc.hits(ranked, targets), acc.count_relevant(targets)

    for name, metric in ours.items():
        measure = ir_measures.parse_measure(f"{name}@{k}")
        theirs = {row.query_id: row.value for row in ir_measures.iter_calc([measure], truth, run)}
        found = metric(marks, n, k)

        assert found.any(), "a run without hits would agree by accident"
        np.testing.assert_allclose(found, [theirs[f"q{i}"] for i in range(b)], rtol=1e-6, err_msg=name)


def test_average_precision_divides_by_what_fits_where_trec_divides_by_all() -> None:
    marks = np.array([[True, True]])

    found = acc.average_precision(marks, np.array([5]), 2)

    assert found.tolist() == [1.0]


def test_a_request_without_targets_is_not_judged() -> None:
    marks, n = acc.hits(np.array([[1, 2]]), np.array([[-1]])), np.array([0])

    assert all(np.isnan(metric(marks, n, 5)).all() for metric in METRICS)


def test_a_list_shorter_than_k_is_judged_against_k() -> None:
    marks, n = np.array([[True]]), np.array([3])

    assert acc.precision(marks, n, 10).tolist() == [0.1]
    assert acc.ndcg(marks, n, 10)[0] == pytest.approx(1 / (1 + 1 / math.log2(3) + 1 / 2))


def test_an_empty_list_scores_zero() -> None:
    marks, n = np.zeros((2, 0), bool), np.array([1, 2])

    assert all(metric(marks, n, 10).tolist() == [0.0, 0.0] for metric in METRICS)


def test_an_item_shown_twice_is_refused() -> None:
    with pytest.raises(DataError, match=r"^request 1 shows item 4 twice; show each item once$"):
        acc.hits(np.array([[1, 2, 3], [4, 5, 4]]), np.array([[1], [4]]))


def test_lists_and_targets_must_be_of_the_same_requests() -> None:
    with pytest.raises(
        ShapeError, match=r"^ranked is \(3, 4\) and targets is \(2, 1\), but both must be \(B, …\) rows$"
    ):
        acc.hits(RANKED, np.array([[1], [2]]))


def test_marks_and_counts_must_be_of_the_same_requests() -> None:
    with pytest.raises(ShapeError, match=r"^marks is \(1, 2\), but n_relevant is \(2,\); they must agree in B$"):
        acc.ndcg(np.zeros((1, 2), bool), np.array([1, 1]), 2)


def test_a_cut_off_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^k is 0, but it must be at least 1$"):
        acc.ndcg(np.zeros((1, 2), bool), np.array([1]), 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_auc_of_ranks_counts_the_pairs_in_the_right_order(n: int, n_targets: int, seed: int) -> None:
    n_targets = min(n, n_targets)
    ranks = np.random.default_rng(seed).permutation(n)[:n_targets]
    others = [r for r in range(n) if r not in ranks]
    right = [t < o for t in ranks for o in others]

    found = acc.auc(np.append(ranks, [-1, -1])[None, :], n)

    np.testing.assert_allclose(found, [np.mean(right) if right else np.nan])


def test_auc_takes_another_length_for_each_request() -> None:
    found = acc.auc(np.array([[0], [0], [4]]), np.array([5, 1, 5]))

    np.testing.assert_allclose(found, [1.0, np.nan, 0.0])


def test_auc_refuses_a_rank_outside_the_list() -> None:
    with pytest.raises(DataError, match=r"^request 1 has rank 5 among 5 items$"):
        acc.auc(np.array([[0], [5]]), 5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20))
def test_auc_of_scores_counts_a_tie_as_half(rows: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([float(s) for s, _ in rows]), np.array([label for _, label in rows])
    pairs = [(a > b) + (a == b) / 2 for a in scores[labels] for b in scores[~labels]]

    found = acc.auc_of_scores(scores, labels)

    np.testing.assert_allclose(found, np.mean(pairs) if pairs else np.nan)


def test_errors_of_ratings_worked_by_hand() -> None:
    predicted, actual = np.array([3.0, 4.0, 5.0]), np.array([3.0, 2.0, 4.0])

    assert acc.mae(predicted, actual) == 1.0
    assert acc.rmse(predicted, actual) == pytest.approx(math.sqrt(5 / 3))


def test_log_loss_worked_by_hand() -> None:
    found = acc.log_loss(np.array([0.5, 0.8, 0.4]), np.array([1, 1, 0]))

    assert found == pytest.approx(-(math.log(0.5) + math.log(0.8) + math.log(0.6)) / 3)


def test_one_confident_error_costs_a_finite_sum() -> None:
    assert acc.log_loss(np.array([0.0]), np.array([1])) == pytest.approx(-math.log(1e-15))
    assert acc.next_item_log_loss(np.array([-np.inf, 0.0, math.log(0.25)])).tolist() == pytest.approx(
        [-math.log(1e-15), 0.0, math.log(4)]
    )


@pytest.mark.parametrize("metric", [acc.mae, acc.rmse])
def test_a_missing_rating_is_named_by_its_row(metric: Callable[..., float]) -> None:
    with pytest.raises(DataError, match=r"^actual is NaN in row 1; leave out what was not measured$"):
        metric(np.array([1.0, 2.0]), np.array([1.0, np.nan]))


def test_columns_of_different_length_are_refused() -> None:
    message = r"^predicted is \(2,\) and actual is \(1,\), but both must be \(N,\) with N above 0$"

    with pytest.raises(ShapeError, match=message):
        acc.mae(np.array([1.0, 2.0]), np.array([1.0]))


def test_a_probability_above_one_is_refused() -> None:
    with pytest.raises(DataError, match=r"^probability holds 1\.5, but it must lie between 0 and 1$"):
        acc.log_loss(np.array([0.5, 1.5]), np.array([0, 1]))


def test_a_log_probability_above_zero_is_refused() -> None:
    message = r"^log_probabilities holds 0\.5, but the logarithm of a probability is at most 0$"

    with pytest.raises(DataError, match=message):
        acc.next_item_log_loss(np.array([-1.0, 0.5]))
