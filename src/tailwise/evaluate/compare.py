"""
How sure a difference is: intervals, paired tests, and stored reports side by side.

Methods answer the same requests, so they are compared request by request; NaN says that a request could not be
judged, and is left out. Above ``MANY`` values resampling gives what the normal distribution gives, only slower, so
that is used there.

Source: Smucker, Allan & Carterette, CIKM 2007, doi:10.1145/1321440.1321528, and Urbano, Lima & Hanjalic, SIGIR 2019,
doi:10.1145/3331184.3331259 (which test); Holm, Scandinavian Journal of Statistics 1979 (several comparisons).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tailwise.errors import ConfigError, DataError, ShapeError, UnavailableError

PerRequest = NDArray[np.float64]

RESAMPLES = 1_999
FLIPS = 9_999
MANY = 10_000
BLOCK = 1 << 22
"""Numbers held at once while resampling: 32 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it would lie if other requests of the same kind had been judged."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Paired:
    """What changes, request by request, from one method to another."""

    difference: float
    """Mean of the second minus the first."""
    low: float
    high: float
    p_value: float
    """Chance of a difference at least this large, either way, if the methods were interchangeable."""
    n: int
    """Requests that both were judged on."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one report beside the first report's. Metrics of whole lists have no interval and no test."""

    report: str
    metric: str
    first: float
    other: float
    paired: Paired | None
    p_holm: float | None
    """``paired.p_value`` corrected for every test in the same table."""


def interval(values: NDArray[Any], *, level: float = 0.95, seed: int) -> Interval:
    """
    Mean with a percentile bootstrap interval over the requests.

    Args:
        values: (B,) one number per request; NaN is left out.
        level: Share of repeated experiments whose interval holds the true mean, inside (0, 1).
        seed: Of the resampling.

    Returns:
        The mean and both ends; all NaN when nothing was judged, and all equal when nothing varies.

    Raises:
        ConfigError: ``level`` is not inside (0, 1).
        UnavailableError: SciPy is not installed.

    Cost: O(RESAMPLES B) up to ``MANY`` values, O(B) above; memory O(BLOCK).

    >>> interval(np.array([0.5, 0.5, np.nan]), seed=0)
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}, but it must lie between 0 and 1")
    known = _known(values)
    if not known.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    mean = float(known.mean())
    if np.ptp(known) == 0:  # a single value too: the bootstrap could only repeat it
        return Interval(mean, mean, mean)
    if len(known) > MANY:
        half = NormalDist().inv_cdf(0.5 + level / 2) * float(known.std(ddof=1)) / len(known) ** 0.5
        return Interval(mean, mean - half, mean + half)
    drawn = {"n_resamples": RESAMPLES, "batch": max(1, BLOCK // len(known)), "rng": np.random.default_rng(seed)}
    found = _stats().bootstrap((known,), np.mean, confidence_level=level, method="percentile", **drawn)
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def paired(a: NDArray[Any], b: NDArray[Any], *, seed: int) -> Paired:
    """
    Whether ``b`` differs from ``a`` on the same requests: a permutation test that flips the signs of the differences.

    It asks about the mean, which is what a table shows, and assumes nothing of the distribution. Wilcoxon's test asks
    about ranks instead and is often wrong on metrics that are mostly 0 (Urbano et al. 2019). Requests on which both
    agree say nothing about the sign; when all do, p is 1.

    Args:
        a: (B,) one metric of the first method; a request where either is NaN is left out.
        b: (B,) the same metric of the second method on the same requests.
        seed: Of the sign flips and of the interval.

    Returns:
        Difference ``b - a`` with a 95 % bootstrap interval, and p, never below 2 / (FLIPS + 1) when flips are drawn.

    Raises:
        ShapeError: ``a`` and ``b`` differ in B.
        UnavailableError: SciPy is not installed.

    >>> found = paired(np.array([0.0, 0.0, 0.0]), np.array([0.1, 0.2, 0.3]), seed=0)
    >>> found.p_value, found.n  # exact: 2 of 8 flips are as far from 0
    (0.25, 3)
    """
    if np.shape(a) != np.shape(b):
        raise ShapeError(f"a is {np.shape(a)} and b is {np.shape(b)}, but a pair needs both for every request")
    change = _known(np.asarray(b, np.float64) - np.asarray(a, np.float64))
    around = interval(change, seed=seed)
    return Paired(around.mean, around.low, around.high, _sign_flip_p(change[change != 0], seed), len(change))


def holm(p_values: Sequence[float]) -> list[float]:
    """
    P-values corrected for having been looked at together, in their order: the chance of any false alarm stays bounded.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return corrected.tolist()


class _Method(msgspec.Struct):
    name: str
    kind: str
    per_request: dict[str, list[float | None]]
    overall: dict[str, float | None]


class _Stored(msgspec.Struct):
    data: str
    split: str
    request_ids: list[str]
    methods: list[_Method]
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        lengths = {len(values) for method in self.methods for values in method.per_request.values()}
        if not self.methods or lengths - {len(self.request_ids)}:
            raise ValueError("every method needs one value per request")  # msgspec makes it its own error

    @property
    def speaker(self) -> _Method:
        return next((method for method in self.methods if method.kind == "pipeline"), self.methods[0])


def compare_reports(reports: Sequence[Path], *, seed: int = 0) -> list[Comparison]:
    """
    Every metric of the first report beside each of the others, request by request.

    Each report speaks through its pipeline, or its first method when it has none. Requests are matched by id; those
    that only one report has are left out, and ``Paired.n`` says how many were used.

    Args:
        reports: At least two ``report.json`` files, or folders that hold one.
        seed: Of the tests.

    Returns:
        One row per other report and metric that both have, in the order given.

    Raises:
        ConfigError: Fewer than two reports.
        DataError: A report is missing or damaged; or two differ in data or split, or share no request or metric.
        UnavailableError: SciPy is not installed.
    """
    if len(reports) < 2:
        raise ConfigError(f"compare needs at least 2 reports, but got {len(reports)}")
    first, *others = [_read(Path(path)) for path in reports]
    rows: list[Comparison] = []
    for path, other in zip(reports[1:], others, strict=True):
        _check_comparable(str(reports[0]), first, str(path), other)
        rows += _compare_two(str(path), first, other, seed)
    corrected = iter(holm([row.paired.p_value for row in rows if row.paired]))
    return [replace(row, p_holm=next(corrected)) if row.paired else row for row in rows]


def comparison_table(rows: Sequence[Comparison]) -> str:
    """The rows as aligned text; a * marks what stays below 0.05 after the correction."""
    lines = [("report", "metric", "first", "other", "difference [95 % interval]", "p", "p (Holm)", "n")]
    for row in rows:
        if row.paired and row.p_holm is not None:
            found, star = row.paired, " *" if row.p_holm < 0.05 else "  "
            change = f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
            tail = (change, f"{found.p_value:.4f}", f"{row.p_holm:.4f}{star}", str(found.n))
        else:
            tail = (f"{row.other - row.first:+.4f}", "–", "–  ", "–")
        lines.append((row.report, row.metric, f"{row.first:.4f}", f"{row.other:.4f}", *tail))
    return aligned(lines, left=(0, 1, 4))


def aligned(lines: Sequence[Sequence[str]], *, left: Collection[int]) -> str:
    """Cells as text in columns, the first line ruled off; the columns in ``left`` start flush, the others end flush."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    head, *body = [
        "  ".join(line[i].ljust(width) if i in left else line[i].rjust(width) for i, width in enumerate(widths))
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in (head, "-" * len(head), *body))


def _read(path: Path) -> _Stored:
    file = path / "report.json" if path.is_dir() else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Stored)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}; make it with: tailwise evaluate --out") from error
    except msgspec.DecodeError as error:
        raise DataError(f"{file} is not a report ({error}); make it with: tailwise evaluate --out") from error


def _check_comparable(name: str, first: _Stored, other_name: str, other: _Stored) -> None:
    """Other data or another split: nothing to compare. Where both know the data's digest, it decides, not the name."""
    data = [report.facts.get("data_digest") for report in (first, other)]
    if None in data:
        data = [first.data, other.data]
    for what, (one, two) in {"data": data, "split": (first.split, other.split)}.items():
        if one != two:
            raise DataError(
                f"{name} has {what} {one!r}, but {other_name} has {two!r}; compare reports of the same {what}"
            )


def _compare_two(name: str, first: _Stored, other: _Stored, seed: int) -> list[Comparison]:
    ours, theirs = first.speaker, other.speaker
    place = {request: i for i, request in enumerate(other.request_ids)}
    pairs = [(i, place[request]) for i, request in enumerate(first.request_ids) if request in place]
    shared = [metric for metric in ours.per_request if metric in theirs.per_request]
    if not pairs or not shared:
        what = "metric" if pairs else "request"
        raise DataError(f"{name} shares no {what} with the first report; evaluate both in the same way")
    here, there = np.array(pairs).T
    rows = []
    for metric in shared:
        a = np.array(ours.per_request[metric], np.float64)[here]
        b = np.array(theirs.per_request[metric], np.float64)[there]
        if (judged := ~np.isnan(a - b)).any():
            found = paired(a, b, seed=seed)
            rows.append(Comparison(name, metric, float(a[judged].mean()), float(b[judged].mean()), found, None))
    for metric, value in ours.overall.items():
        if value is not None and (against := theirs.overall.get(metric)) is not None:
            rows.append(Comparison(name, metric, value, against, None, None))
    return rows


def _sign_flip_p(change: PerRequest, seed: int) -> float:
    """Two-sided p of a mean change of 0, from (n,) changes none of which is 0."""
    if len(change) < 2:  # a single change is as far from 0 with either sign
        return 1.0
    if len(change) > MANY:
        spread = float(np.sqrt(np.square(change).sum()))  # of the sum, when every sign is a fair coin
        return 2 * NormalDist().cdf(-abs(float(change.sum())) / spread)
    drawn = {"n_resamples": FLIPS, "batch": max(1, BLOCK // len(change)), "rng": np.random.default_rng(seed)}
    flips = _stats().permutation_test((change,), np.mean, permutation_type="samples", vectorized=True, **drawn)
    return float(flips.pvalue)


def _known(values: NDArray[Any]) -> PerRequest:
    flat = np.asarray(values, np.float64).ravel()
    return flat[~np.isnan(flat)]


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise UnavailableError("intervals and tests need SciPy: pip install 'tailwise[train]'") from error
    return stats
