"""
``POST /v1/rank`` over loopback: 100 candidates and a 50-event history, one worker.

Fits a model of MovieLens 100K with few epochs (speed does not depend on them), or takes ``--model``.

    python benchmarks/bench_serve.py [--model MODEL] [--requests 2000] [--clients 200]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from bench_quality import movielens

import tailwise
from tailwise.config import PipelineConfig, Step

GOAL_P50, GOAL_P99, GOAL_MB = 5.0, 12.0, 400.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=200)
    options = parser.parse_args()
    data = movielens()
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or quick_model(data, Path(scratch) / "model")
        port = free_port()
        command = [sys.executable, "-m", "tailwise.cli", "serve", str(model), "--port", str(port)]
        state = ["--state", f"sqlite:///{scratch}/state.sqlite"]
        server = subprocess.Popen([*command, *state], stdout=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}"
            print(f"ready after {ready(address):.1f} s")
            bodies = requests(data, options.requests)
            failed = one_by_one(address, bodies) + all_at_once(address, bodies, options.clients)
            megabytes = resident(server.pid)
            print(f"resident memory {megabytes:.0f} MB; goal ≤ {GOAL_MB:.0f}: {verdict(megabytes <= GOAL_MB)}")
        finally:
            server.terminate()
            server.wait(10)
    sys.exit(bool(failed))


def quick_model(data: tailwise.data.load.Dataset, folder: Path) -> Path:
    default = PipelineConfig()
    sequence = Step(name="sequence", settings={"train": {"epochs": 1}})
    sources = tuple(sequence if step.name == "sequence" else step for step in default.retrieve)
    tailwise.fit(data, default.model_copy(update={"retrieve": sources})).save(folder)
    return folder


def requests(data: tailwise.data.load.Dataset, count: int, *, candidates: int = 100) -> list[bytes]:
    """Random candidates and histories, seeded."""
    rng = np.random.default_rng(0)
    items = data.items["item_id"].to_list()
    bodies = []
    for number in range(count):
        chosen = rng.choice(len(items), 50 + candidates, replace=False)
        history = [{"item_id": items[i], "event": "click", "time": 9e8 + j} for j, i in enumerate(chosen[:50])]
        body = {"request_id": f"r{number}", "history": history, "candidates": [items[i] for i in chosen[50:]], "k": 10}
        bodies.append(json.dumps(body).encode())
    return bodies


def one_by_one(address: str, bodies: list[bytes]) -> int:
    times, failed = [], 0
    with httpx.Client() as client:
        for body in [*bodies[:100], *bodies]:  # the first hundred warm up
            start = time.perf_counter()
            answer = client.post(f"{address}/v1/rank", content=body)
            times.append((time.perf_counter() - start) * 1000)
            failed += answer.status_code != 200 or len(answer.json()["items"]) != 10
    p50, p99 = np.percentile(times[100:], [50, 99])
    print(f"concurrency 1, {len(bodies)} requests: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {failed} failed")
    print(f"goal: p50 ≤ {GOAL_P50} ms: {verdict(p50 <= GOAL_P50)}; p99 ≤ {GOAL_P99} ms: {verdict(p99 <= GOAL_P99)}")
    return failed


def all_at_once(address: str, bodies: list[bytes], clients: int) -> int:
    """Every client sends its requests one after the other, all clients at the same time."""

    async def run() -> tuple[int, float]:
        limits = httpx.Limits(max_connections=clients)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:

            async def one(own: list[bytes]) -> int:
                answers = [await client.post(f"{address}/v1/rank", content=body) for body in own]
                return sum(answer.status_code != 200 for answer in answers)

            start = time.perf_counter()
            failures = await asyncio.gather(*(one(bodies[place::clients]) for place in range(clients)))
            return sum(failures), len(bodies) / (time.perf_counter() - start)

    failed, rate = asyncio.run(run())
    print(f"{clients} clients at once: {rate:.0f} requests/s (client on the same cores), {failed} failed")
    return failed


def ready(address: str) -> float:
    start = time.perf_counter()
    while time.perf_counter() - start < 60:
        try:
            if httpx.get(f"{address}/ready").status_code == 200:
                return time.perf_counter() - start
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    sys.exit("the service did not get ready in 60 s")


def resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


if __name__ == "__main__":
    main()
