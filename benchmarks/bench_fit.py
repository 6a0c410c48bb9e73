"""
``tailwise fit`` on MovieLens 100K as a whole process: wall and CPU seconds, and the largest resident memory.

    python benchmarks/bench_fit.py [--runs 1]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_quality import movielens

GOAL_SECONDS, GOAL_BYTES = 90, 1.5e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    folder = movielens().folder
    walls, cpus, peaks = [], [], []
    for run in range(options.runs):
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "tailwise.cli", "fit", str(folder), "--out", str(Path(scratch) / "model")]
            start = time.perf_counter()
            child = subprocess.Popen(
                [*command, "--seed", str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            walls.append(time.perf_counter() - start)
        if child.returncode:
            sys.exit(f"fit ended with {child.returncode}")
        cpus.append(usage.ru_utime + usage.ru_stime)
        peaks.append(usage.ru_maxrss * 1024)
    wall, peak = statistics.median(walls), max(peaks)
    print(f"fit ML-100K: {wall:.0f} s wall, {statistics.median(cpus):.0f} s CPU, {peak / 1e9:.2f} GB peak")
    print(f"goal: ≤ {GOAL_SECONDS} s: {'reached' if wall <= GOAL_SECONDS else 'MISSED'}")
    print(f"goal: ≤ {GOAL_BYTES / 1e9} GB: {'reached' if peak <= GOAL_BYTES else 'MISSED'}")


if __name__ == "__main__":
    main()
