"""
What an evaluation found, and how sure it is: the nouns that ``report`` shows.

    MethodResult ─▶ Report ─▶ Findings (intervals, p-values) ─▶ Grid (the main table, as text)

Metric keys carry their cut-off: ``ndcg@10``, ``hr@10``, ``coverage@10``; ``auc``, ``log_loss``, ``ece``, ``mae`` and
``rmse`` have none. A method may lack any of them. NaN says "could not be judged" and shows as –.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import DataError, ShapeError
from tailwise.evaluate.compare import Interval, holm, interval, paired

Kind = Literal["pipeline", "source", "baseline"]

LOWER_IS_BETTER = frozenset({"ece", "gini", "log_loss", "mae", "rmse", "seconds"})
COLUMNS = {
    "ndcg@{k}": ("NDCG@{k}", 4),
    "hr@{k}": ("HR@{k}", 4),
    "mrr@{k}": ("MRR@{k}", 4),
    "recall@{k}": ("Recall@{k}", 4),
    "recall@50": ("Recall@50", 4),
    "auc": ("AUC", 3),
    "coverage@{k}": ("Coverage", 3),
    "tail_share@{k}": ("Tail share", 3),
    "gini@{k}": ("Gini", 3),
    "novelty@{k}": ("Novelty", 2),
    "diversity@{k}": ("Diversity", 3),
    "log_loss": ("Log-loss", 3),
    "ece": ("ECE", 4),
    "mae": ("MAE", 3),
    "rmse": ("RMSE", 3),
    "seconds": ("Seconds", 1),
}
"""Metrics of the main table in order, each with its title and decimals; the first is the main one."""


@dataclass(frozen=True, eq=False)
class MethodResult:
    """What one method reached."""

    name: str
    per_request: dict[str, NDArray[np.float64]]
    """Metric to (B,), aligned with ``Report.request_ids``; NaN where a request could not be judged."""
    overall: dict[str, float]
    """Metrics of all lists together."""
    seconds: float | None
    kind: Kind
    exposure: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """``beyond.lorenz``: share of exposure at evenly spaced shares of the items; empty: not drawn."""

    def mean(self, key: str) -> float:
        """A metric, or ``seconds``, as one number; NaN when there is none."""
        if key == "seconds":
            return float("nan") if self.seconds is None else self.seconds
        values = self.per_request.get(key, np.empty(0))
        known = values[~np.isnan(values)]
        return float(known.mean()) if known.size else float(self.overall.get(key, np.nan))


@dataclass(frozen=True, eq=False)
class Report:
    """
    One evaluation. The first method of kind ``pipeline`` is the one that others are tested against.

    Raises:
        ShapeError: A method has another number of values than there are requests.
        DataError: There is no method, or a method or a request comes twice.
    """

    data: str
    split: str
    notes: tuple[str, ...]
    """What a reader must know to read the figures: "full ranking over 1,682 items; seen items filtered"."""
    request_ids: tuple[str, ...]
    k: int
    methods: tuple[MethodResult, ...]
    facts: dict[str, str | int | float]
    """Machine, seed, versions, counts; ``data_digest`` decides whether two reports are about the same data."""

    def __post_init__(self) -> None:
        n = len(self.request_ids)
        for method in self.methods:
            for key, values in method.per_request.items():
                if values.shape != (n,):
                    raise ShapeError(f"{method.name} has {key} of shape {values.shape}, but there are {n} requests")
        if not self.methods:
            raise DataError("the report has no method; give at least one")
        for what, names in (("method", [method.name for method in self.methods]), ("request", self.request_ids)):
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise DataError(f"the report has {what} {twice!r} twice; each must come once")

    @property
    def pipeline(self) -> MethodResult | None:
        return next((method for method in self.methods if method.kind == "pipeline"), None)

    @property
    def main(self) -> str:
        """The metric that intervals and tests are about."""
        return f"ndcg@{self.k}"

    @property
    def metrics(self) -> list[str]:
        """Every metric that some method has, in the order met."""
        return list(dict.fromkeys(key for method in self.methods for key in (*method.per_request, *method.overall)))


@dataclass(frozen=True, eq=False)
class Findings:
    """A report with how sure it is."""

    report: Report
    around: dict[tuple[str, str], Interval]
    """By (method, metric)."""
    p_values: dict[str, float]
    """Of each other method's main metric against the pipeline's, Holm-corrected; empty without a pipeline."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of the main table."""

    text: str
    best: bool = False
    around: str = ""
    """Its interval, where the table shows one."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The main table, ready to be set in any form."""

    titles: list[str]
    rows: list[tuple[MethodResult, list[Cell]]]
    legend: str
    """What the marks mean, but for how the best is marked."""
    besides: list[str]
    """A line for each method that has no place in the table, because it does not rank."""


def find(report: Report, keys: Sequence[str], *, seed: int) -> Findings:
    """
    Intervals of the per-request metrics among ``keys``, and tests of the main one against the pipeline.

    Raises:
        UnavailableError: SciPy is not installed.
    """
    around = {
        (method.name, key): interval(method.per_request[key], seed=seed)
        for method in report.methods
        for key in keys
        if key in method.per_request
    }
    first, main = report.pipeline, report.main
    if first is None or main not in first.per_request:
        return Findings(report, around, {})
    others = [method for method in report.methods if method is not first and main in method.per_request]
    raw = [paired(method.per_request[main], first.per_request[main], seed=seed).p_value for method in others]
    return Findings(report, around, dict(zip((method.name for method in others), holm(raw), strict=True)))


def grid(found: Findings) -> Grid:
    """The main table: the methods with the main metric (all, if none has it), and each column with a figure."""
    report = found.report
    methods = [m for m in report.methods if not np.isnan(m.mean(report.main))] or list(report.methods)
    formats = {key.format(k=report.k): (title.format(k=report.k), digits) for key, (title, digits) in COLUMNS.items()}
    columns: dict[str, list[Cell]] = {}
    for key, (title, digits) in formats.items():
        values = np.array([method.mean(key) for method in methods])
        if np.isnan(values).all():
            continue
        best = np.nanmin(values) if key.partition("@")[0] in LOWER_IS_BETTER else np.nanmax(values)
        if np.sum(~np.isnan(values)) == 1:
            best = np.nan  # the only figure of a column is no best
        bands = [found.around.get((method.name, key)) if key == report.main else None for method in methods]
        columns[title] = [
            Cell(number(v, digits), bool(v == best), band_text(b)) for v, b in zip(values, bands, strict=True)
        ]
    legend = "best of its column (lower is better for Gini, errors, losses and seconds); [95 % bootstrap interval]"
    if found.p_values and report.pipeline:
        columns["p"] = [Cell(p_text(found.p_values.get(method.name))) for method in methods]
        legend += f"; p: paired permutation test of NDCG@{report.k} against {report.pipeline.name}, Holm-corrected"
    rows = [(method, [column[place] for column in columns.values()]) for place, method in enumerate(methods)]
    besides = []
    for method in report.methods:
        if method not in methods:
            known = [(t, method.mean(key), digits) for key, (t, digits) in formats.items()]
            figures = [f"{title} {number(value, digits)}" for title, value, digits in known if not np.isnan(value)]
            besides.append(f"{method.name}: {', '.join(figures) or 'nothing measured'}")
    return Grid(list(columns), rows, f"{legend}.", besides)


def number(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def band_text(found: Interval | None) -> str:
    return "" if found is None or np.isnan(found.mean) else f"[{found.low:.4f}, {found.high:.4f}]"


def p_text(p: float | None) -> str:
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"
