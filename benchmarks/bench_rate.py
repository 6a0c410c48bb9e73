"""
Latency of ``POST /v1/rank`` against rate, under ``wrk``: candidates, connections and workers; memory and CPU beside.

Each connection sends its next request when it has an answer; more connections, more rate, until the cores are busy.
Fits a model of MovieLens 100K with few epochs (speed does not depend on them), or takes ``--model``. Histories have 50
events. Writes ``docs/benchmarks-serve.md``, ``docs/serve.png`` and ``benchmarks/results/serve.json``.

    python benchmarks/bench_rate.py [--model MODEL] [--seconds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_quality import movielens
from bench_serve import free_port, quick_model, ready, requests, verdict

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
CANDIDATES = (25, 100, 200, 300)
CONNECTIONS = (1, 2, 4, 8, 16, 32)
WORKERS = (1, 2)
BODIES = 500
SCRIPT = """
local bodies, n = {}, 0
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
function request()
  n = n % #bodies + 1
  return wrk.format("POST", "/v1/rank", {["Content-Type"] = "application/json"}, bodies[n])
end
function done(summary, latency)
  local e, f = summary.errors, io.open(os.getenv("OUT"), "w")
  local form = '{"requests": %d, "seconds": %.3f, "errors": %d, "p50": %.3f, "p99": %.3f, "p99.9": %.3f}'
  f:write(string.format(form, summary.requests, summary.duration / 1e6,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
  f:close()
end
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    busy = os.getloadavg()[0]
    data, rows = movielens(), []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "rank.lua").write_text(SCRIPT)
        for n in CANDIDATES:
            (folder / f"{n}.jsonl").write_bytes(b"\n".join(requests(data, BODIES, candidates=n)) + b"\n")
        model = options.model or quick_model(data, folder / "model")
        for workers in WORKERS:
            with serving(model, folder, workers) as (address, server):
                for n in CANDIDATES:
                    load(address, folder, n, connections=4, seconds=2)  # every worker has then seen such requests
                    for connections in CONNECTIONS:
                        before = cpu_s(server)
                        row = load(address, folder, n, connections=connections, seconds=options.seconds)
                        row["cpu_ms"] = (cpu_s(server) - before) * 1000 / max(row["requests"], 1)
                        rows.append({"workers": workers, "candidates": n, "connections": connections, **row})
                        print(told(rows[-1]), flush=True)
                memory = memory_mb(server)
                print(f"{workers} workers: {memory}", flush=True)
                rows[-1]["memory_mb"] = memory
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    write({"machine": machine, "load_before": busy, "data": "ML-100K", "seed": 0, "rows": rows})


@contextmanager
def serving(model: Path, folder: Path, workers: int) -> Iterator[tuple[str, int]]:
    """The service as a process of its own; its address and its process."""
    port = free_port()
    state = ["--state", f"sqlite:///{folder}/state-{workers}.sqlite"]
    command = [sys.executable, "-m", "tailwise.cli", "serve", str(model), "--port", str(port)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [*command, "--workers", str(workers), *state], stdout=subprocess.DEVNULL, env={**os.environ, **threads}
    )
    try:
        address = f"http://127.0.0.1:{port}"
        ready(address)
        while len(processes(server.pid)) < (1 if workers == 1 else workers + 1):  # the first of them is the parent
            time.sleep(0.1)
        yield address, server.pid
    finally:
        server.terminate()
        server.wait(20)


def load(address: str, folder: Path, candidates: int, *, connections: int, seconds: int) -> dict[str, Any]:
    """One run of wrk, beside the service on the same cores."""
    out = folder / "out.json"
    told = {"BODIES": str(folder / f"{candidates}.jsonl"), "OUT": str(out)}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(folder / "rank.lua"), address]
    subprocess.run(command, env={**os.environ, **told}, stdout=subprocess.DEVNULL, check=True)
    found: dict[str, Any] = json.loads(out.read_text())
    return {**found, "rate": found["requests"] / found["seconds"]}


def processes(pid: int) -> list[int]:
    """A process and its children, without those that only track what is shared."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            tracks = b"resource_tracker" in (stat.parent / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if parent == pid and not tracks:
            found.append(int(stat.parent.name))
    return found


def cpu_s(pid: int) -> float:
    """Processor time of a process and its children, in seconds."""
    ticks = 0
    for own in processes(pid):
        fields = Path(f"/proc/{own}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> dict[str, float]:
    """Of a process and its children: resident pages summed, and with shared ones counted once (PSS)."""
    sums = {"Rss": 0.0, "Pss": 0.0}
    for own in processes(pid):
        for line in Path(f"/proc/{own}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0]) / 1000
    return {name.lower(): round(value) for name, value in sums.items()}


def told(row: dict[str, Any]) -> str:
    """A row of the table."""
    names = ("workers", "candidates", "connections")
    return (
        "| " + " | ".join(str(row[name]) for name in names) + f" | {row['rate']:.0f} | {row['p50']:.1f} | "
        f"{row['p99']:.1f} | {row['p99.9']:.1f} | {row['cpu_ms']:.2f} | {row['errors']} |"
    )


def write(result: dict[str, Any]) -> None:
    """The table, the picture and the numbers."""
    rows = result["rows"]
    (HERE / "results" / "serve.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    at = {(row["workers"], row["candidates"], row["connections"]): row for row in rows}
    alone, far = at[1, 100, 1], at[1, 300, 1]
    most = max(
        (row["rate"] for row in rows if row["workers"] == 2 and row["candidates"] == 100 and row["p99"] <= 50),
        default=0,
    )
    p50, p99, p99_far = alone["p50"], alone["p99"], far["p99"]
    goals = [
        f"100 candidates, one connection: p50 {p50:.1f} ms (goal 2.5: {verdict(p50 <= 2.5)})",
        f"100 candidates, one connection: p99 {p99:.1f} ms (goal 6: {verdict(p99 <= 6)})",
        f"100 candidates, two workers: {most:.0f} requests/s with p99 ≤ 50 ms (goal 600: {verdict(most >= 600)})",
        f"300 candidates, one connection: p99 {p99_far:.1f} ms (goal 10: {verdict(p99_far <= 10)})",
    ]
    sizes = [(row["workers"], row["memory_mb"]) for row in rows if "memory_mb" in row]
    memory = "; ".join(f"{n} worker{'s' * (n > 1)} {size['rss']} MB, {size['pss']} MB" for n, size in sizes)
    load_before = result["load_before"]
    busy = " (others were at work: times are longer than on an idle machine, CPU a request less so)"
    lines = [
        "# How fast it answers",
        "",
        "`make bench-serve` measures `POST /v1/rank` with wrk over loopback: ML-100K, the default pipeline, a history",
        "of 50 events in each request, k = 10, 500 different requests (seed 0), state in SQLite. wrk and the service",
        f"share the cores of one machine: {result['machine']}. Load of the machine before it began:",
        f"{load_before:.1f}{busy if load_before > 0.5 else ''}.",
        "",
        "More than 50 ms behind, a service spares costly stages (`--shed-after-ms`): where many connections wait,",
        "rates are those of such answers, and CPU a request falls. Errors: 429, or wrk's timeout of 2 s.",
        "",
        *(f"- {goal}" for goal in goals),
        f"- memory of all processes, summed and with shared pages counted once: {memory}",
        "",
        "![latency against rate](serve.png)",
        "",
        "| workers | candidates | connections | requests/s | p50 ms | p99 ms | p99.9 ms | CPU ms a request | errors |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(told, rows),
        "",
    ]
    (DOCS / "benchmarks-serve.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(goals))
    picture(rows)


def picture(rows: list[dict[str, Any]]) -> None:
    """p50 (full) and p99 (dashed) against the rate."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, workers in zip(axes, WORKERS, strict=True):
        for colour, n in zip(("#0b6e4f", "#1f5fbf", "#b3541e", "#7a3b8f"), CANDIDATES, strict=True):
            own = [row for row in rows if (row["workers"], row["candidates"]) == (workers, n)]
            rates = [row["rate"] for row in own]
            axis.plot(rates, [row["p50"] for row in own], "o-", color=colour, label=f"{n} candidates")
            axis.plot(rates, [row["p99"] for row in own], "o--", color=colour)
        axis.set(xlabel="requests/s", yscale="log", title=f"{workers} worker{'s' * (workers > 1)}")
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_ylabel("ms: p50, and p99 dashed")
    axes[0].legend(frameon=False)
    figure.savefig(DOCS / "serve.png", dpi=110)


if __name__ == "__main__":
    main()
