"""Curves from what was said to what happened, kept only where they help."""

from __future__ import annotations

import builtins
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tailwise.errors import UnavailableError
from tailwise.learn.calibrate import FITS, calibrated, chance_loss, isotonic, shrunk, temperature
from tailwise.rank.calibration import chance_of, expected_calibration_error
from tailwise.rank.multitask import MultiTaskConfig, Usual
from tailwise.types import Floats

NUMBERS = np.array([3.0, 2.0, 1.0, 5.0], np.float32)
USUAL = Usual(NUMBERS, NUMBERS, np.zeros(3, np.float32))


def lessons(*tasks: str) -> Any:
    return SimpleNamespace(tasks=tasks, usual=USUAL)


def overconfident(n: int = 4000, seed: int = 0) -> tuple[Floats, Floats]:
    """Log-odds three times too far out and one too high, and what happened."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-0.5, 1.0, n)
    return (3 * true + 1).astype(np.float32), (rng.random(n) < chance_of(true)).astype(np.float32)


@pytest.mark.parametrize("fit", [temperature, isotonic])
def test_a_curve_undoes_what_is_wrong_with_chances(fit: Any) -> None:
    said, happened = overconfident()
    fresh, later = overconfident(seed=1)

    curve = fit(said, happened)

    assert expected_calibration_error(chance_of(fresh), later) > 0.1
    assert expected_calibration_error(chance_of(curve(fresh)), later) < 0.05
    assert (np.diff(curve(np.linspace(-20, 20, 99))) >= 0).all()


def test_a_temperature_finds_the_line() -> None:
    curve = temperature(*overconfident(40_000))

    assert curve(np.array([1.0, 4.0])) == pytest.approx([0.0, 1.0], abs=0.1)


def test_with_hardly_any_rows_a_line_stays_near_as_it_is() -> None:
    curve = temperature(np.array([1.0, -1.0], np.float32), np.array([1.0, 0.0], np.float32))

    assert np.abs(curve(np.array([1.0, -1.0]))) == pytest.approx([1.0, 1.0], abs=0.7)


def test_isotonic_is_never_certain() -> None:
    curve = isotonic(np.array([-1.0, 0.0, 1.0], np.float32), np.array([0.0, 0.0, 1.0], np.float32))

    assert chance_of(curve(np.array([-9.0, 9.0]))) == pytest.approx([0.2, 0.8])


def test_isotonic_needs_a_library_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)

    with pytest.raises(
        UnavailableError, match=r"^isotonic calibration needs scikit-learn: pip install 'tailwise\[train\]'$"
    ):
        isotonic(np.zeros(3, np.float32), np.zeros(3, np.float32))


def test_a_quantity_is_believed_as_far_as_it_is_right() -> None:
    x = np.array([-2.0, 0.0, 2.0], np.float32)

    assert shrunk(x, x / 4)(x) == pytest.approx(x / 4)
    assert shrunk(x, -x)(x) == pytest.approx([0, 0, 0])
    assert shrunk(x, 3 * x)(x) == pytest.approx(x)
    assert shrunk(np.zeros(3, np.float32), x)(x).tolist() == [0, 0, 0]


def test_a_curve_that_helps_is_kept_and_the_notes_tell_how_much() -> None:
    said, happened = overconfident()
    people = np.arange(len(said)) // 4

    (curve,), notes = calibrated(
        MultiTaskConfig(), lessons("click"), said[:, None, None], happened[:, None, None], people
    )

    assert curve(np.array([4.0])) == pytest.approx([1.0], abs=0.2)
    assert notes["click: ece before"] > 0.1
    assert notes["click: ece after"] < 0.03
    assert notes["click: log-loss after"] < notes["click: log-loss before"]
    assert notes["click: base rate"] == pytest.approx(happened.mean(), abs=1e-4)


def test_a_curve_that_does_not_help_other_people_is_left_out() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(0, 1, 60).astype(np.float32)
    happened = (rng.random(60) < chance_of(true)).astype(np.float32)
    config = MultiTaskConfig(calibration="isotonic")  # a staircase of sixty rows learns them by heart

    (curve,), notes = calibrated(config, lessons("click"), true[:, None, None], happened[:, None, None], np.arange(60))

    assert curve(true) == pytest.approx(true)
    assert notes["click: log-loss after"] == notes["click: log-loss before"] == round(chance_loss(true, happened), 4)


def test_none_leaves_chances_as_they_are() -> None:
    said, happened = overconfident(100)

    assert FITS["none"](said, happened)(said) == pytest.approx(said)


@pytest.mark.parametrize("labels", [np.full((6, 1, 2), np.nan, np.float32), np.empty((0, 1, 2), np.float32)])
def test_without_held_out_labels_nothing_is_mended(labels: Floats) -> None:
    curves, notes = calibrated(
        MultiTaskConfig(), lessons("click", "rating"), np.zeros_like(labels), labels, np.arange(len(labels))
    )

    assert [curve(np.array([2.0])).tolist() for curve in curves] == [[2.0], [2.0]]
    assert notes == {"click: held out": "no labels", "rating: held out": "no labels"}


def test_errors_of_quantities_are_in_their_unit() -> None:
    wanted = np.tile([1.0, -1.0], 40).astype(np.float32)

    _, notes = calibrated(
        MultiTaskConfig(), lessons("rating"), (wanted / 2)[:, None, None], wanted[:, None, None], np.arange(80) // 2
    )

    assert notes == {"rating: rmse": 1.0, "rating: rmse, damped means": 2.0}
