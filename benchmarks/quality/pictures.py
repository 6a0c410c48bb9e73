"""Accuracy against coverage and against what a fit costs: one picture a task, two panels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tailwise.evaluate.plots import Series, _name_points

COLOURS = {"pipeline": "#b5371f", "source": "#2f6f9f", "peer": "#6b6b6b"}
LABELS = {"pipeline": "tailwise", "source": "one of its sources, alone", "peer": "peer, tuned on validation"}


def draw(content: dict[str, Any], path: Path) -> None:
    """Write a PNG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 8.5, "font.family": ["sans-serif"]}):
        figure = Figure(figsize=(10.4, 4.3), dpi=110, layout="constrained")
        left, right = figure.subplots(1, 2)
        methods = content["methods"]
        points(left, [(one, one["mean"]["coverage@10"]) for one in methods])
        left.set_xlabel("coverage@10: share of the items with events that anybody is shown")
        timed = [(one, max(one["fit_cpu_s"], 0.1)) for one in methods if one.get("fit_cpu_s") is not None]
        right.set_xscale("log")
        points(right, timed)
        right.set_xlabel("CPU seconds of one fit, settings known (logarithmic)")
        for axes in (left, right):
            axes.set_ylabel("NDCG@10")
            axes.set_ylim(bottom=0)
            axes.grid(visible=True, color="#e3e3e3", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        kinds = [kind for kind in COLOURS if any(one["kind"] == kind for one in methods)]
        handles = [left.scatter([], [], color=COLOURS[kind], label=LABELS[kind]) for kind in kinds]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds), frameon=False)
        figure.savefig(path)


def points(axes: Any, values: list[tuple[dict[str, Any], float]]) -> None:
    for one, x in values:
        big = one["kind"] == "pipeline"
        sd = one.get("sd", {}).get("ndcg@10") or 0.0
        axes.errorbar(
            x,
            one["mean"]["ndcg@10"],
            yerr=sd,
            fmt="o",
            markersize=8 if big else 5,
            color=COLOURS[one["kind"]],
            elinewidth=1,
            zorder=3,
        )
    if values:
        low, high = (pick(x for _, x in values) for pick in (min, max))
        axes.set_xlim((low / 4, high * (high / low) ** 0.35 * 1.6) if axes.get_xscale() == "log" else (0, high * 1.3))
        axes.set_ylim(0, 1.15 * max(one["mean"]["ndcg@10"] for one, _ in values))
        axes.figure.draw_without_rendering()  # settles the places that the names stand beside
        _name_points(axes, [Series(one["name"], "pipeline", [x], [one["mean"]["ndcg@10"]]) for one, x in values])
