"""Curves in log-odds, and how far chances are from what happened."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tailwise.errors import ShapeError
from tailwise.rank.calibration import Curve, chance_of, expected_calibration_error, log_loss, log_odds_of

LOG_ODDS = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-25, 25))


def test_a_line_is_a_line_within_what_can_be_told_apart() -> None:
    values = Curve.line(0.5, -1.0)(np.array([-4.0, 0.0, 2.0, 60.0, np.nan]))

    assert values[:3].tolist() == [-3.0, -1.0, 0.0]
    assert values[3] == 14.0  # it stays as it is at its last knot
    assert math.isnan(values[4])


@given(LOG_ODDS, st.floats(0.1, 5), st.floats(-3, 3))
def test_a_curve_never_changes_the_order(values: np.ndarray, slope: float, shift: float) -> None:
    curve = Curve.line(slope, shift)

    after = curve(np.sort(values))

    assert (np.diff(after) >= 0).all()


@given(LOG_ODDS)
def test_chances_and_log_odds_undo_each_other(values: np.ndarray) -> None:
    small = values[np.abs(values) < 8]

    assert log_odds_of(chance_of(small)) == pytest.approx(small, abs=1e-2)
    assert chance_of(values) == pytest.approx([1 / (1 + math.exp(-v)) for v in values], abs=1e-6)


def test_chances_that_mean_what_they_say_have_no_error() -> None:
    chances = np.repeat([0.2, 0.6], 10)
    happened = np.concatenate([[1, 1], np.zeros(8), np.ones(6), np.zeros(4)])

    assert expected_calibration_error(chances, happened, bins=2) == pytest.approx(0)
    assert expected_calibration_error(chances + 0.1, happened, bins=2) == pytest.approx(0.1)


@given(
    st.lists(st.tuples(st.integers(0, 100).map(lambda n: n / 100), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 12),
)
def test_the_error_equals_a_plain_loop_over_bins(rows: list[tuple[float, bool]], bins: int) -> None:
    ordered = sorted(rows, key=lambda row: row[0])
    cuts = [ordered[b * len(rows) // bins : (b + 1) * len(rows) // bins] for b in range(bins)]
    plain = sum(abs(sum(p - y for p, y in cut)) for cut in cuts) / len(rows)

    found = expected_calibration_error(np.array([p for p, _ in rows]), np.array([y for _, y in rows]), bins=bins)

    assert found == pytest.approx(plain, abs=1e-9)


def test_without_rows_nothing_is_known() -> None:
    assert math.isnan(expected_calibration_error(np.array([]), np.array([])))
    assert math.isnan(log_loss(np.array([]), np.array([])))


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"^chances has 2 rows, but happened has 1$"):
        expected_calibration_error(np.array([0.1, 0.2]), np.array([1]))


def test_log_loss_is_the_mean_of_logs_and_never_infinite() -> None:
    assert log_loss(np.array([0.25, 0.5]), np.array([1, 0])) == pytest.approx((math.log(4) + math.log(2)) / 2)
    assert log_loss(np.array([0.0]), np.array([1])) == pytest.approx(7 * math.log(10), rel=1e-3)
