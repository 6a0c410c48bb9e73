"""
Chances that mean what they say: a monotone curve from what a network says to what happened, and how far off it is.

A calibrator is a polyline in log-odds: its knots. Two knots make a line (temperature and shift), more make isotonic
regression's staircase with its steps joined. Reading it needs numpy alone, whatever fitted it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import ShapeError
from tailwise.types import Floats

FAR = 30.0
"""Log-odds beyond which a chance is 0 or 1 in float32."""


@dataclass(frozen=True)
class Curve:
    """A polyline; before its first and after its last knot it stays as it is there."""

    x: Floats  # (P,) rising
    y: Floats  # (P,) not falling

    @classmethod
    def line(cls, slope: float = 1.0, shift: float = 0.0) -> Self:
        """
        ``slope * x + shift``, for x in ±30.

        >>> Curve.line(0.5, 1.0)(np.array([2.0, -4.0])).tolist()
        [2.0, -1.0]
        """
        x = np.array([-FAR, FAR], np.float32)
        return cls(x, (slope * x + shift).astype(np.float32))

    def __call__(self, values: NDArray[Any]) -> Floats:
        """The curve at (…,) values; NaN stays NaN."""
        read: Floats = np.interp(values, self.x, self.y).astype(np.float32)
        return read


def chance_of(log_odds: NDArray[Any]) -> Floats:
    """
    Log-odds to chances, (…,).

    >>> chance_of(np.array([0.0, -100.0, 100.0])).tolist()
    [0.5, 0.0, 1.0]
    """
    return (0.5 * (1 + np.tanh(np.asarray(log_odds, np.float64) / 2))).astype(np.float32)


def log_odds_of(chances: NDArray[Any]) -> Floats:
    """Chances to log-odds within ±30, (…,)."""
    p = np.clip(np.asarray(chances, np.float64), 1e-13, 1 - 1e-13)
    return (np.log(p) - np.log1p(-p)).astype(np.float32)


def expected_calibration_error(chances: NDArray[Any], happened: NDArray[Any], *, bins: int = 15) -> float:
    """
    How far chances are from what happened: the mean gap between the two in bins of equal size.

    Args:
        chances: (R,) in [0, 1].
        happened: (R,) 0 or 1.
        bins: Groups of as nearly the same number of rows as can be, by chance; equal chances may be divided.

    Returns:
        In [0, 1], lower is better; NaN without rows.

    Raises:
        ShapeError: The two differ in R.

    Source: Naeini, Cooper & Hauskrecht, AAAI 2015 (ECE); Nguyen & O'Connor, EMNLP 2015, §3 (bins of equal size).

    >>> round(expected_calibration_error(np.array([0.2, 0.2, 0.7, 0.7]), np.array([0, 1, 1, 1]), bins=2), 3)
    0.3
    """
    if len(chances) != len(happened):
        raise ShapeError(f"chances has {len(chances)} rows, but happened has {len(happened)}")
    if not len(chances):
        return float("nan")
    # Equal chances in the order of the rows: an order by outcome would make gaps out of nothing.
    order = np.argsort(chances, kind="stable")
    gaps = (np.asarray(chances, np.float64) - np.asarray(happened, np.float64))[order]
    starts = np.unique(np.arange(bins) * len(gaps) // bins)
    return float(np.abs(np.add.reduceat(gaps, starts)).sum() / len(gaps))


def log_loss(chances: NDArray[Any], happened: NDArray[Any]) -> float:
    """Mean log-loss in nats, chances held 1e-7 away from 0 and 1; NaN without rows."""
    if not len(chances):
        return float("nan")
    p = np.clip(np.asarray(chances, np.float64), 1e-7, 1 - 1e-7)
    return float(-np.where(np.asarray(happened) > 0.5, np.log(p), np.log1p(-p)).mean())
