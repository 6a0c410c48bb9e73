"""
MovieLens 100K, leave-last-out, full ranking: the fitted default pipeline over several seeds, beside plain baselines.

    python benchmarks/bench_quality.py [--seeds 3] [--out bench_quality.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

import tailwise
from tailwise.config import Settings
from tailwise.data import sources
from tailwise.data.split import check_leak, split_last
from tailwise.evaluate.run import evaluate

GOAL = 0.115


def main() -> None:
    options = arguments()
    data = movielens()
    split = split_last(data)
    check_leak(split)
    figures: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        start = time.perf_counter()
        engine = tailwise.fit(data, holdout="last", seed=seed)
        took = time.perf_counter() - start
        for method in evaluate(engine, split, seed=seed).methods:
            if method.per_request:
                keys = ("ndcg@10", "hr@10", "coverage@10", "tail_share@10")
                row = {key: method.mean(key) for key in keys}
                figures.setdefault(method.name, []).append(row | ({"fit_s": took} if method.kind == "pipeline" else {}))
        print(f"seed {seed}: NDCG@10 {figures['tailwise'][-1]['ndcg@10']:.4f}, fit {took:.0f} s", flush=True)
    print(
        f"\n{'method':10} {'NDCG@10':>16} {'HR@10':>8} {'coverage':>9} {'tail':>6}   mean ± sd of {options.seeds} seeds"
    )
    for name, rows in figures.items():
        mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        spread = float(np.std([row["ndcg@10"] for row in rows]))
        print(
            f"{name:10} {mean['ndcg@10']:8.4f} ± {spread:.4f} {mean['hr@10']:8.4f} "
            f"{mean['coverage@10']:9.3f} {mean['tail_share@10']:6.3f}"
        )
    reached = float(np.mean([row["ndcg@10"] for row in figures["tailwise"]]))
    print(f"goal: NDCG@10 ≥ {GOAL}: {'reached' if reached >= GOAL else 'MISSED'} ({reached:.4f})")
    threads = Settings.from_environment().threads
    print(f"machine: {platform.machine()}, {threads} threads, Python {platform.python_version()}")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def movielens() -> tailwise.data.load.Dataset:
    """ML-100K from the cache folder, fetched when it is not there."""
    folder = Settings.from_environment().cache / "data" / "ml-100k"
    if not (folder / "events.parquet").is_file():
        sources.get("ml-100k", folder, report=print)
    return tailwise.load(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
