"""
An evaluation for four readers: a terminal, a program (JSON), a repository (Markdown) and a person (HTML).

    Report ─┬─▶ table          text
            └─▶ write_report   report.json, report.md, report.html

The page stands alone: no script, no font, no picture from elsewhere. Same report and seed: same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tailwise.errors import DataError, UnavailableError
from tailwise.evaluate import plots
from tailwise.evaluate.compare import aligned
from tailwise.evaluate.results import (
    COLUMNS,
    Findings,
    Grid,
    MethodResult,
    Report,
    band_text,
    find,
    grid,
    number,
    p_text,
)

__all__ = ["MethodResult", "Report", "table", "write_report"]

FORMAT = 1
"""Of ``report.json``."""
HEADLINES = ("ndcg@{k}", "hr@{k}", "coverage@{k}", "tail_share@{k}")
"""Metrics of the tiles on top of the page."""


def table(report: Report, *, seed: int = 0) -> str:
    """
    The main table as aligned text; * marks the best of a column.

    Raises:
        UnavailableError: SciPy is not installed.
    """
    main = grid(find(report, [report.main], seed=seed))
    lines = [["method", *main.titles]]
    for method, cells in main.rows:
        lines.append([method.name, *(f"{c.text}{'*' if c.best else ' '} {c.around}".rstrip(" ") for c in cells)])
    legend = main.legend.replace("; ", "\n  ")
    return "\n".join([aligned(lines, left=(0,)), f"* {legend}", *main.besides])


def write_report(report: Report, folder: Path, *, seed: int = 0) -> list[Path]:
    """
    Write ``report.json`` (with every request's values, to be compared later), ``report.md`` and ``report.html``.

    Returns:
        The paths of the three files.

    Raises:
        UnavailableError: SciPy, matplotlib or Jinja2 is not installed, or the folder cannot be written.

    Cost: one bootstrap per method and metric at the cut-off k (see ``compare.interval``), and four plots.
    """
    keys = [key for key in report.metrics if key.partition("@")[2] in ("", str(report.k))]
    found = find(report, keys, seed=seed)
    main = grid(found)
    texts = {
        "report.json": _json(found),
        "report.md": _markdown(report, main).encode(),
        "report.html": _html(found, main).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_bytes(text)
    except OSError as error:
        raise UnavailableError(f"{folder} cannot be written: {error.strerror}") from error
    return [folder / name for name in texts]


def _json(found: Findings) -> bytes:
    report = found.report
    methods = [
        {
            "name": method.name,
            "kind": method.kind,
            "seconds": method.seconds,
            "p_value": found.p_values.get(method.name),
            "overall": method.overall,
            "intervals": {key: around for (name, key), around in found.around.items() if name == method.name},
            "exposure": np.round(method.exposure, 6).tolist(),
            "per_request": {key: np.round(values, 6).tolist() for key, values in method.per_request.items()},
        }
        for method in report.methods
    ]
    own = {"format": FORMAT, "data": report.data, "split": report.split, "k": report.k, "notes": report.notes}
    whole = {**own, "facts": report.facts, "methods": methods, "request_ids": report.request_ids}
    return msgspec.json.encode(whole, enc_hook=_plain)  # NaN becomes null, as strict JSON wants


def _plain(value: Any) -> Any:
    """A numpy number as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    raise DataError(f"{type(value).__name__} has no place in a report; give text or a number")


def _markdown(report: Report, main: Grid) -> str:
    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"

    lines = [f"# {report.data}, split {report.split}", "", *(f"- {note}" for note in report.notes), ""]
    lines += [row(["method", *main.titles]), row(["---", *["---:"] * len(main.titles)])]
    for method, cells in main.rows:
        marked = [f"**{cell.text}** {cell.around}" if cell.best else f"{cell.text} {cell.around}" for cell in cells]
        lines.append(row([method.name, *(text.rstrip() for text in marked)]))
    lines += [
        "",
        f"Bold: {main.legend}",
        *(f"\n{line}" for line in main.besides),
        "",
        row(["fact", "value"]),
        row(["---", "---"]),
    ]
    return "\n".join([*lines, *(row([name, _fact(value)]) for name, value in report.facts.items())]) + "\n"


def _html(found: Findings, main: Grid) -> str:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise UnavailableError("the report's page needs Jinja2: pip install 'tailwise[train]'") from error
    source = resources.files("tailwise.evaluate").joinpath("report.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    report = found.report
    every = [
        (key, [(number(m.mean(key), 4), band_text(found.around.get((m.name, key)))) for m in report.methods])
        for key in report.metrics
    ]
    tiles, verdict, figures = _tiles(found), _verdict(found), _figures(found)
    return page.from_string(source).render(
        report=report, grid=main, tiles=tiles, verdict=verdict, figures=figures, every=every, fact=_fact
    )


def _fact(value: str | float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else number(value, 1)


@dataclass(frozen=True, slots=True)
class _Tile:
    title: str
    value: str
    around: str
    beside: str


def _rival(report: Report) -> MethodResult | None:
    """Of the methods that are not the pipeline, the best by the main metric."""
    others = [m for m in report.methods if m is not report.pipeline and not np.isnan(m.mean(report.main))]
    return max(others, key=lambda method: method.mean(report.main), default=None)


def _tiles(found: Findings) -> list[_Tile]:
    """The pipeline's headline figures, each beside its rival's."""
    report, first, rival = found.report, found.report.pipeline, _rival(found.report)
    tiles = []
    for pattern in HEADLINES if first else ():
        key = pattern.format(k=report.k)
        title, digits = COLUMNS[pattern]
        if first is None or np.isnan(first.mean(key)):
            continue
        beside = f"{rival.name} {number(rival.mean(key), digits)}" if rival else ""
        around = band_text(found.around.get((first.name, key)))
        tiles.append(_Tile(title.format(k=report.k), number(first.mean(key), digits), around, beside))
    return tiles


def _verdict(found: Findings) -> str:
    """The one sentence to take away; empty when there is nothing to compare."""
    report, first, rival = found.report, found.report.pipeline, _rival(found.report)
    p = found.p_values.get(rival.name) if rival else None
    if first is None or rival is None or p is None or not rival.mean(report.main):
        return ""
    gain = first.mean(report.main) / rival.mean(report.main) - 1
    sure = "p\u00a0<\u00a00.001" if p < 0.001 else f"p\u00a0=\u00a0{p_text(p)}"
    metric = f"NDCG@{report.k}"
    if p >= 0.05:
        return (
            f"{first.name} is within chance of {rival.name}, the best other method, in {metric} ({gain:+.0%}, {sure})."
        )
    word = "above" if gain > 0 else "below"
    return f"{first.name} ranks {abs(gain):.0%} {word} {rival.name}, the best other method, in {metric} ({sure})."


def _figures(found: Findings) -> list[tuple[str, str, str]]:
    """Title, caption and SVG of each plot that there are figures for."""
    report, main = found.report, found.report.main
    k, metric = report.k, f"NDCG@{report.k}"
    judged = sorted((m for m in report.methods if (m.name, main) in found.around), key=lambda m: -m.mean(main))
    figures = []
    if judged:
        bands = [found.around[m.name, main] for m in judged]
        series = [_series(m, (b.low, b.mean, b.high), ()) for m, b in zip(judged, bands, strict=True)]
        drawn = plots.bars(series, label=metric, alt=f"{metric} of each method with its 95 % interval")
        figures.append(("Accuracy", f"{metric}, mean over requests; whiskers: 95 % bootstrap interval.", drawn))
    shown = [m for m in judged if not np.isnan(m.mean(f"coverage@{k}"))]
    if shown:
        series = [_series(m, [m.mean(f"coverage@{k}")], [m.mean(main)]) for m in shown]
        drawn = plots.scatter(series, labels=(f"coverage@{k}", metric), alt=f"{metric} against coverage")
        caption = "Up: right more often. Right: more of the catalogue is shown to someone."
        figures.append(("Accuracy against coverage", caption, drawn))
    cuts = sorted({int(key[5:]) for key in report.metrics if key.startswith("ndcg@")})
    deep = [m for m in report.methods if all(f"ndcg@{cut}" in m.per_request for cut in cuts)]
    if deep and len(cuts) > 1:
        series = [_series(m, cuts, [m.mean(f"ndcg@{cut}") for cut in cuts]) for m in deep]
        drawn = plots.lines(series, labels=("k, length of the list", "NDCG@k"), alt="NDCG at each length of the list")
        figures.append(("Short lists and long", "NDCG as the list gets longer.", drawn))
    exposed = [m for m in report.methods if m.exposure.size]
    if exposed:
        series = [_series(m, np.linspace(0, 1, m.exposure.size).tolist(), m.exposure.tolist()) for m in exposed]
        labels = ("share of items, least shown first", "share of exposure")
        drawn = plots.lorenz(series, labels=labels, alt="Lorenz curves of exposure")
        figures.append(("Who gets shown", "The nearer to the diagonal, the more evenly items are shown.", drawn))
    return figures


def _series(method: MethodResult, x: Sequence[float], y: Sequence[float]) -> plots.Series:
    return plots.Series(method.name, method.kind, x, y)
