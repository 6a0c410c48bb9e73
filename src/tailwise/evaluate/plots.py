"""
Pictures for the report page: SVG text to stand inside HTML, coloured by the page.

Each function draws named series and returns one ``<svg>`` element. Ink and colours are CSS variables (``--ink``,
``--muted``, ``--line``, ``--pipeline``, ``--source``, ``--baseline``), so that one picture suits light and dark pages,
and its text is text in the page's own font. No global state of matplotlib is kept changed.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from tailwise.errors import UnavailableError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

INK, MUTED, LINE = "#0a0b0c", "#0a0b0d", "#0a0b0e"
KINDS = {"pipeline": "#0a0b1a", "source": "#0a0b1b", "baseline": "#0a0b1c"}
VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line"} | {colour: f"--{kind}" for kind, colour in KINDS.items()}
"""Colours that nobody would draw with, and the CSS variables that stand in the page for them."""
DASHES = ((), (5, 1.6), (1.4, 1.4), (6, 1.6, 1.4, 1.6), (11, 2), (3, 3), (6, 1.6, 1.4, 1.6, 1.4, 1.6), (1.4, 4))
"""On and off lengths, in widths of the line, that tell methods of one kind apart."""
SIZE = (4.8, 3.5)
"""Inches; small, so that text stays readable on a phone."""
FONT = 9.0


@dataclass(frozen=True, slots=True)
class Series:
    """What one method draws. ``kind`` is a key of ``KINDS``."""

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]


def bars(series: Sequence[Series], *, label: str, alt: str) -> str:
    """
    One bar a method, first on top, with a whisker for its interval; ``x`` holds low, mean and high.

    Raises:
        UnavailableError: matplotlib is not installed; so does every function here.
    """
    height = 0.6 + 0.36 * len(series)
    with _drawing((SIZE[0], height), alt) as (_, axes, out):
        room = _room(series)
        axes.set_position((room, 0.5 / height, 0.9 - room, 1 - 0.54 / height))
        for place, one in enumerate(series):
            low, mean, high = one.x
            axes.barh(place, mean, height=0.62, color=KINDS[one.kind], alpha=1.0 if one.kind == "pipeline" else 0.75)
            axes.plot((low, high), (place, place), color=INK, linewidth=1.3, solid_capstyle="butt")
            axes.annotate(f"{mean:.3f}", (high, place), (4, 0), textcoords="offset points", va="center", color=INK)
        axes.set_yticks(range(len(series)), [one.name for one in series], color=INK)
        axes.set_ylim(len(series) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(label)
    return out[0]


def scatter(series: Sequence[Series], *, labels: tuple[str, str], alt: str) -> str:
    """One named point a method; each name goes to the side where it covers least."""
    with _drawing(SIZE, alt) as (_, axes, out):
        for one in series:
            edge: dict[str, Any] = {"edgecolors": INK, "linewidths": 1.2} if one.kind == "pipeline" else {}
            axes.scatter(one.x, one.y, s=64 if one.kind == "pipeline" else 38, color=KINDS[one.kind], zorder=3, **edge)
        axes.margins(0.16, 0.14)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        _name_points(axes, series)
    return out[0]


def lines(series: Sequence[Series], *, labels: tuple[str, str], alt: str) -> str:
    """One line a method, named at its right end."""
    with _drawing(SIZE, alt) as (figure, axes, out):
        axes.set_position((0.125, 0.14, 0.835 - _room(series), 0.83))
        for turn, one in enumerate(series):
            _line(axes, one, turn)
            axes.plot(one.x, one.y, "o", color=KINDS[one.kind], markersize=3.5)
        axes.set_xticks(sorted({x for one in series for x in one.x}))
        axes.set_ylim(bottom=0)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        ends = [one.y[-1] for one in series]
        gap = 1.25 * FONT * (axes.get_ylim()[1] - axes.get_ylim()[0]) / (axes.bbox.height * 72 / figure.dpi)
        right = max(one.x[-1] for one in series)
        for one, end, place in zip(series, ends, apart(ends, gap), strict=True):
            link: dict[str, Any] = {"arrowstyle": "-", "color": LINE, "shrinkA": 0, "shrinkB": 3, "relpos": (0, 0.5)}
            spot: dict[str, Any] = {"textcoords": axes.get_yaxis_transform(), "va": "center", "annotation_clip": False}
            axes.annotate(one.name, (right, end), (1.035, place), color=KINDS[one.kind], arrowprops=link, **spot)
    return out[0]


def lorenz(series: Sequence[Series], *, labels: tuple[str, str], alt: str) -> str:
    """Share of exposure by share of items, under the diagonal on which every item is shown equally often."""
    with _drawing(SIZE, alt) as (_, axes, out):
        axes.plot((0, 1), (0, 1), color=LINE, linewidth=1)
        handles = [_line(axes, one, place) for place, one in enumerate(series)]
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        names = [one.name for one in series]
        axes.legend(handles, names, loc="upper left", frameon=False, labelcolor=INK, handlelength=2.4)
    return out[0]


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """
    The nearest heights, in the same order, that stand at least ``gap`` apart, none below half a gap.

    Neighbours that come too near form a group around their common middle, as one would place labels by hand.

    >>> apart([5.0, 5.0, 9.0], gap=2.0)
    [4.0, 6.0, 9.0]
    """
    groups: list[list[int]] = []
    starts: list[float] = []
    for place in np.argsort(heights, kind="stable").tolist():
        groups.append([place])
        starts.append(max(heights[place], gap / 2))
        while len(groups) > 1 and starts[-1] < starts[-2] + gap * len(groups[-2]):
            last = groups.pop()
            starts.pop()
            groups[-1] += last
            middle = sum(heights[i] for i in groups[-1]) / len(groups[-1])
            starts[-1] = max(middle - gap * (len(groups[-1]) - 1) / 2, gap / 2)
    placed = {i: start + gap * at for group, start in zip(groups, starts, strict=True) for at, i in enumerate(group)}
    return [placed[i] for i in range(len(heights))]


def _room(series: Sequence[Series]) -> float:
    """Share of the width that the longest name takes beside the axes, at most 0.45."""
    return min(0.45, 0.04 + 0.62 * FONT * max(len(one.name) for one in series) / (72 * SIZE[0]))


def _line(axes: Axes, one: Series, place: int) -> Line2D:
    first = one.kind == "pipeline"
    dashes = () if first else DASHES[place % len(DASHES)]
    width, above = (2.4, 4) if first else (1.3, 3)
    return axes.plot(one.x, one.y, dashes=dashes, linewidth=width, color=KINDS[one.kind], zorder=above)[0]


def _name_points(axes: Axes, series: Sequence[Series]) -> None:
    """Write each point's name right, left, above or below it: the first side that covers no point and no name."""
    scale = axes.figure.dpi / 72  # pixels a point of type
    axes.autoscale_view()  # otherwise only drawing settles the limits
    centres = axes.transData.transform([(one.x[0], one.y[0]) for one in series])
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in centres / scale]
    for one, (x, y) in zip(series, centres / scale, strict=True):
        width, height = 0.62 * FONT * len(one.name), FONT
        sides = {
            (8, 0): (x + 7, y - height / 2, x + 8 + width, y + height / 2),
            (-8, 0): (x - 8 - width, y - height / 2, x - 7, y + height / 2),
            (0, 11): (x - width / 2, y + 6, x + width / 2, y + 6 + height),
            (0, -11): (x - width / 2, y - 6 - height, x + width / 2, y - 6),
        }
        cost = {side: sum(_overlap(box, other) for other in taken) for side, box in sides.items()}
        best = min(sides, key=lambda side: cost[side])
        taken.append(sides[best])
        align = {8: "left", -8: "right", 0: "center"}[best[0]]
        at: dict[str, Any] = {"textcoords": "offset points", "ha": align, "va": "center", "annotation_clip": False}
        axes.annotate(one.name, (one.x[0], one.y[0]), best, color=INK, **at)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


@contextmanager
def _drawing(size: tuple[float, float], alt: str) -> Iterator[tuple[Figure, Axes, list[str]]]:
    """A figure and plain axes; when the block ends, the SVG is put into the list."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnavailableError("the report's plots need matplotlib: pip install 'tailwise[train]'") from error
    settings: dict[Any, Any] = {  # matplotlib types each key
        "svg.fonttype": "none",
        "svg.hashsalt": alt,
        "text.parse_math": False,
        "font.family": ["sans-serif"],
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": FONT,
    }
    out: list[str] = []
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The page's font draws the text; what matplotlib's own lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=size)
        axes = figure.add_axes((0.125, 0.14, 0.85, 0.83))
        for side, spine in axes.spines.items():
            spine.set(visible=side in ("left", "bottom"), color=LINE)
        axes.tick_params(color=LINE, labelcolor=MUTED)
        axes.xaxis.label.set_color(MUTED)
        axes.yaxis.label.set_color(MUTED)
        axes.grid(visible=True, color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        yield figure, axes, out
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    out.append(_for_page(text.getvalue(), alt))


def _for_page(svg: str, alt: str) -> str:
    """An SVG file as an element: no prologue, no style of its own, ids that no other picture has, variables."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>p{crc32(alt.encode()):08x}-", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return body.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1).strip()
