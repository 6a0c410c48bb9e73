"""
``tailwise fit`` on made-up logs of growing size, 100,000 items: CPU and wall seconds, and the largest resident memory.

    python benchmarks/bench_scale.py [--events 10000 100000 1000000] [--sequence] [--out benchmarks/results/scale.json]

Each size is a process of its own. Without ``--sequence`` the pipeline has the sources that are solved in closed form
and the fusion; with it, the sequence model too, for ``--epochs`` epochs. Rows that the file at ``--out`` has already
are kept, so that a long run can be done in parts; the plot goes to ``docs/scale.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROOT = Path(__file__).parents[1]
ITEMS = 100_000
MEAN_EVENTS = 25
"""Of a person; numbers of events are geometric from 2 on, so that some have hundreds."""
TASTES, OWN_TASTES, FOLLOW = 500, 4, 0.3
"""Groups of items, groups that a person likes, and the chance that an event follows on the one before."""
GOAL_BYTES, GOAL_EVENTS, GOAL_SLOPE = 16e9, 10_000_000, 1.1
CLOSED = ("popular", "ease", "als", "item_knn", "next_item", "again")


def main() -> None:
    options = arguments()
    kind = "sequence" if options.sequence else "closed form"
    rows: list[dict[str, Any]] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else []
    for events in options.events:
        rows = [row for row in rows if (row["pipeline"], row["events"]) != (kind, events)]
        row = {"pipeline": kind, **measured(events, sequence=options.sequence, epochs=options.epochs)}
        print(json.dumps(row), flush=True)
        rows = sorted([*rows, row], key=lambda row: (row["pipeline"], row["events"]))
        options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    plot(rows, ROOT / "docs" / "scale.png")
    judge(rows)


def make_log(folder: Path, events: int, *, seed: int = 0) -> None:
    """
    A log whose people have tastes, whose items have a long tail, and in which items have sequels.

    Cost: O(events) numpy; 10 million take seconds.
    """
    rng = np.random.default_rng(seed)
    people = max(events // MEAN_EVENTS, 1)
    lengths = 2 + rng.geometric(1 / (MEAN_EVENTS - 1), people)
    users = np.repeat(np.arange(people), lengths)[:events]
    tastes = rng.integers(TASTES, size=(people, OWN_TASTES))
    # Within a group items are drawn by rank, the first about a hundred times as often as the last.
    of_taste = ITEMS // TASTES
    taste = tastes[users, (rng.random(len(users)) ** 2 * OWN_TASTES).astype(np.int64)]
    rank = (of_taste ** rng.random(len(users)) - 1).astype(np.int64)
    items = taste * of_taste + rank
    # Sequels, by doubling the length of a run in each pass: what follows on, follows on what came before it.
    follows = (rng.random(len(users)) < FOLLOW) & (np.diff(users, prepend=-1) == 0)
    origin = np.where(follows, 0, np.arange(len(users)))
    origin = np.maximum.accumulate(origin)
    steps = np.arange(len(users)) - origin
    items = (items[origin] + steps * 7) % ITEMS
    times = 1.6e9 + 86_400 * np.arange(len(users)) * (300 / len(users)) + rng.random(len(users))
    order = rng.permutation(len(users))  # a log is not sorted by person
    ids = pl.Series([f"u{person}" for person in range(people)])
    names = pl.Series([f"i{row}" for row in range(ITEMS)])
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(
        {"user_id": ids.gather(users[order]), "item_id": names.gather(items[order]), "time": times[order]}
    ).write_parquet(folder / "events.parquet")
    pl.DataFrame({"item_id": names}).write_parquet(folder / "items.parquet")


def measured(events: int, *, sequence: bool, epochs: int) -> dict[str, Any]:
    """What a fit of so many events takes, as a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        make_log(scratch / "log", events)
        (scratch / "pipeline.toml").write_text(pipeline(sequence=sequence, epochs=epochs), encoding="utf-8")
        command = [sys.executable, "-m", "tailwise.cli", "fit", str(scratch / "log"), "--out", str(scratch / "model")]
        start = time.perf_counter()
        child = subprocess.Popen(
            [*command, "--config", str(scratch / "pipeline.toml"), "--debug"], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        if child.returncode:
            sys.exit(f"fit of {events:,} events ended with {child.returncode}")
        size = sum(path.stat().st_size for path in (scratch / "model").rglob("*") if path.is_file())
    cpu = usage.ru_utime + usage.ru_stime
    return {
        "events": events,
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(wall, 1),
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
        "model_gb": round(size / 1e9, 2),
    }


def pipeline(*, sequence: bool, epochs: int) -> str:
    """The TOML of what is fitted: the default but for text, which these logs do not have."""
    lines = ['track = "none"'] + [f'[[retrieve]]\nname = "{name}"\nk = 100' for name in CLOSED]
    if sequence:
        lines.append(f'[[retrieve]]\nname = "sequence"\nk = 200\ntrain = {{ epochs = {epochs} }}')
    return "\n\n".join([*lines, '[[stage]]\nname = "fusion"']) + "\n"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory against events, both on logarithmic axes, with the line that twice the events take twice."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, label in zip(axes, ("cpu_seconds", "peak_gb"), ("CPU seconds", "peak memory, GB"), strict=True):
        for kind in sorted({row["pipeline"] for row in rows}):
            own = [row for row in rows if row["pipeline"] == kind]
            axis.plot([row["events"] for row in own], [row[key] for row in own], marker="o", label=kind)
        largest = max(rows, key=lambda row: row["events"])
        span = np.array([min(row["events"] for row in rows), largest["events"]])
        axis.plot(span, largest[key] * span / largest["events"], ":", color="grey", label="linear")
        axis.set(xscale="log", yscale="log", xlabel="events", ylabel=label)
        axis.grid(alpha=0.3)
    axes[1].axhline(GOAL_BYTES / 1e9, color="tab:red", linewidth=0.8)
    axes[0].legend()
    figure.savefig(path, dpi=90)


def judge(rows: list[dict[str, Any]]) -> None:
    """Goals: from the second largest size on seconds grow about as events do, and 10 million stay below 16 GB."""
    for kind in sorted({row["pipeline"] for row in rows}):
        own = [row for row in rows if row["pipeline"] == kind]
        if len(own) > 1:
            before, last = own[-2:]
            slope = np.log(last["cpu_seconds"] / before["cpu_seconds"]) / np.log(last["events"] / before["events"])
            verdict = "reached" if slope <= GOAL_SLOPE else "MISSED"
            print(f"{kind}: CPU grows as events to the power {slope:.2f}; goal ≤ {GOAL_SLOPE}: {verdict}")
        if own[-1]["events"] >= GOAL_EVENTS:
            verdict = "reached" if own[-1]["peak_gb"] <= GOAL_BYTES / 1e9 else "MISSED"
            print(f"{kind}: {own[-1]['peak_gb']} GB at {own[-1]['events']:,}; goal ≤ {GOAL_BYTES / 1e9:g}: {verdict}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--sequence", action="store_true", help="with the sequence model")
    parser.add_argument("--epochs", type=int, default=3, help="of the sequence model (default: 3)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "scale.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
