"""Fit the curves that make heads mean what they say, and keep each only where people it was not drawn from gain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tailwise.data.episodes import CHANCES
from tailwise.errors import UnavailableError
from tailwise.learn.lessons import LEAST, Lessons
from tailwise.rank.calibration import Curve, chance_of, expected_calibration_error, log_loss, log_odds_of
from tailwise.rank.multitask import MultiTaskConfig
from tailwise.types import Floats, Rows

Fit = Callable[[Floats, Floats], Curve]
Values = NDArray[np.float64]


def calibrated(
    config: MultiTaskConfig, lessons: Lessons, said: Floats, labels: Floats, people: Rows
) -> tuple[tuple[Curve, ...], dict[str, float | str]]:
    """
    A curve for each head.

    Args:
        config: Says how.
        lessons: Names the heads.
        said: (R, C, K) what the network says of held-out episodes: log-odds, or deviations.
        labels: (R, C, K) in the same units; NaN where there is none.
        people: (R,) whose episodes these are.

    Returns:
        (K,) curves; one that does not help people that it was not drawn from is left out. And notes: errors before,
        and after as two-fold cross-fitting over people tells them.
    """
    curves: list[Curve] = []
    notes: dict[str, float | str] = {}
    whose = np.broadcast_to(people[:, None], said.shape[:2])
    for place, task in enumerate(lessons.tasks):
        known = np.isfinite(labels[..., place])
        x, y, owner = said[..., place][known], labels[..., place][known], whose[known]
        fit = FITS[config.calibration] if task in CHANCES else shrunk
        loss = chance_loss if task in CHANCES else squared
        after = _cross_fitted(fit, x, y, owner)
        helps = after is not None and loss(after, y) < loss(x, y)
        curves.append(fit(x, y) if helps else Curve.line())
        kept = after if helps and after is not None else x
        notes |= _chance_notes(task, x, kept, y) if task in CHANCES else _quantity_notes(task, lessons, kept, y)
    return tuple(curves), notes


def temperature(log_odds: Floats, happened: Floats) -> Curve:
    """
    The line in log-odds of the highest likelihood, held near "as it is" by one row's worth of prior.

    Source: Guo et al., ICML 2017, arXiv 1706.04599 (temperature); Platt 1999 (with the shift, for other base rates).
    """
    from scipy.optimize import minimize

    x, y = log_odds.astype(np.float64), happened.astype(np.float64)

    def loss(line: Values) -> tuple[float, Values]:
        slope = np.exp(line[0])
        logits = slope * x + line[1]
        wrong = chance_of(logits) - y
        value = (np.logaddexp(0, logits) - y * logits).sum() + (line @ line) / 2
        return value, np.array([(wrong * x).sum() * slope, wrong.sum()]) + line

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-3, 3), (-10, 10)])
    return Curve.line(float(np.exp(found.x[0])), float(found.x[1]))


def isotonic(log_odds: Floats, happened: Floats) -> Curve:
    """
    The rising staircase nearest to what happened, its steps joined, none at 0 or 1.

    Raises:
        UnavailableError: scikit-learn is not installed.

    Source: Zadrozny & Elkan, KDD 2002, doi:10.1145/775047.775151.
    """
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise UnavailableError("isotonic calibration needs scikit-learn: pip install 'tailwise[train]'") from error
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(log_odds.astype(np.float64), happened.astype(np.float64))
    edge = 1 / (len(log_odds) + 2)  # nothing that was seen a few times is certain
    levels = np.clip(fitted.y_thresholds_, edge, 1 - edge)
    return Curve(fitted.X_thresholds_.astype(np.float32), log_odds_of(levels))


def shrunk(deviations: Floats, wanted: Floats) -> Curve:
    """The share, in [0, 1], of a quantity's deviation that is best believed."""
    x, y = deviations.astype(np.float64), wanted.astype(np.float64)
    return Curve.line(float(np.clip(x @ y / max(float(x @ x), 1e-12), 0, 1)))


FITS: dict[str, Fit] = {
    "temperature": temperature,
    "isotonic": isotonic,
    "none": lambda log_odds, happened: Curve.line(),  # noqa: ARG005  as it is
}


def chance_loss(log_odds: Floats, happened: Floats) -> float:
    return log_loss(chance_of(log_odds), happened)


def squared(deviations: Floats, wanted: Floats) -> float:
    return float(np.square(deviations - wanted, dtype=np.float64).mean()) if len(wanted) else float("nan")


def _cross_fitted(fit: Fit, x: Floats, y: Floats, people: Rows) -> Floats | None:
    """What curves drawn from one half of the people say of the other half; None where a half has too little."""
    out = np.empty_like(x)
    for part in (0, 1):
        judge = people % 2 == part
        if (~judge).sum() < LEAST or judge.sum() < LEAST or np.ptp(y[~judge]) == 0:
            return None
        out[judge] = fit(x[~judge], y[~judge])(x[judge])
    return out


def _chance_notes(task: str, before: Floats, after: Floats, happened: Floats) -> dict[str, float | str]:
    if not len(happened):
        return {f"{task}: held out": "no labels"}
    return {
        f"{task}: base rate": round(float(happened.mean()), 4),
        f"{task}: ece before": round(expected_calibration_error(chance_of(before), happened), 4),
        f"{task}: ece after": round(expected_calibration_error(chance_of(after), happened), 4),
        f"{task}: log-loss before": round(chance_loss(before, happened), 4),
        f"{task}: log-loss after": round(chance_loss(after, happened), 4),
    }


def _quantity_notes(task: str, lessons: Lessons, after: Floats, wanted: Floats) -> dict[str, float | str]:
    if not len(wanted):
        return {f"{task}: held out": "no labels"}
    spread = float((lessons.usual.rating if task == "rating" else lessons.usual.dwell)[1])
    usual, unit = ("damped means", "") if task == "rating" else ("mean", " of log seconds")
    return {
        f"{task}: rmse{unit}": round(spread * squared(after, wanted) ** 0.5, 4),
        f"{task}: rmse{unit}, {usual}": round(spread * squared(np.zeros_like(wanted), wanted) ** 0.5, 4),
    }
