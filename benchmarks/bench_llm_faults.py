"""
``POST /v1/rank`` with a language model in the pipeline whose server stops, stalls, drips, breaks or talks nonsense.

A made-up shop of 300 items, a deadline of 50 ms for the model's stage, 1,000 requests of different people one after
another in each state, and one pass with several clients at once. ``none`` is the same pipeline without the stage.

    python benchmarks/bench_llm_faults.py [--requests 1000] [--deadline 50]
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

import tailwise
from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.synthetic import make_world

SERVER = Path(__file__).parents[1] / "tests" / "rank" / "llm_server.py"
MODES = ("none", "stopped", "stall", "drip", "bytes", "prose", "form", "error", "huge")
SLACK_MS = 10.0
USERS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--deadline", type=float, default=50.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    options = parser.parse_args()
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "TAILWISE_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    world = make_world(users=USERS, items=300, events_per_user=12, groups=10, requests=1, seed=1)
    bad = 0
    print("   model clients errors  p50 ms  p99 ms  max ms  late  stage max ms  stage skipped")
    with tempfile.TemporaryDirectory() as scratch, llm(quiet) as (url, process):
        for mode in options.modes:
            if mode not in {"none", "stopped"}:
                httpx.post(f"{url}/mode", json={"mode": mode}).raise_for_status()
            address = "http://127.0.0.1:9" if mode == "stopped" else url
            model = fitted(world.dataset, Path(scratch), mode, address, options.deadline)
            for clients in (1, options.clients):
                with served(model, quiet) as base:
                    bad += measured(base, mode, options.requests, clients, options.deadline)
        process.kill()
    sys.exit(bool(bad))


def fitted(data: tailwise.data.load.Dataset, scratch: Path, mode: str, url: str, deadline: float) -> Path:
    backend = {"kind": "openai", "url": f"{url}/v1", "model": "local", "timeout_s": 1.0}
    asked = {"gate": "always", "mode": "first_token", "backend": backend, "breaker": {"failures": 3, "rest_s": 0.5}}
    llm_step = Step(name="listwise_llm", deadline_ms=deadline, settings=asked)
    config = PipelineConfig(
        encode=EncodeConfig(model="hash", whiten_dim=32),
        retrieve=(Step(name="popular"), Step(name="ease"), Step(name="text")),
        stage=(Step(name="fusion"), *((llm_step,) if mode != "none" else ()), Step(name="mmr")),
    )
    folder = scratch / mode
    tailwise.fit(data, config, seed=1, settings=Settings(cache=scratch / "cache", threads=1)).save(folder)
    return folder


def measured(base: str, mode: str, requests: int, clients: int, deadline: float) -> int:
    """Ask, print one line, and give how many requests failed."""
    skipped: Counter[str] = Counter()
    waited = [0.0]

    def ask(client: httpx.Client, person: int) -> tuple[float, bool]:
        body = {"user_id": f"u{person % USERS:03d}", "k": 10, "explain": True}
        start = time.perf_counter()
        reply = client.post("/v1/rank", json=body)
        took = (time.perf_counter() - start) * 1000
        if reply.status_code == 200:
            stages = [step for step in reply.json()["trace"] if step["name"] == "listwise_llm"]
            waited.extend(step["ms"] for step in stages)
            skipped.update((step.get("skipped") or "asked").split(":")[0] for step in stages)
        return took, reply.status_code == 200 and len(reply.json()["items"]) == 10

    def share(which: int) -> list[tuple[float, bool]]:
        with httpx.Client(base_url=base, timeout=30) as client:
            ask(client, which)
            return [ask(client, person) for person in range(which, requests, clients)]

    with ThreadPoolExecutor(clients) as pool:
        found = [one for part in pool.map(share, range(clients)) for one in part]
    took = np.array([ms for ms, _ in found])
    errors = sum(not good for _, good in found)
    late = int((took > deadline + SLACK_MS).sum())
    p50, p99 = np.quantile(took, [0.5, 0.99])
    reasons = ", ".join(f"{name} {count}" for name, count in skipped.most_common())
    figures = f"{p50:>7.1f} {p99:>7.1f} {took.max():>7.1f} {late:>5} {max(waited):>13.1f}"
    print(f"{mode:>8} {clients:>7} {errors:>6} {figures}  {reasons}", flush=True)
    return errors


@contextmanager
def llm(environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", process
    finally:
        process.kill()
        process.wait()


@contextmanager
def served(model: Path, environment: dict[str, str]) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tailwise.cli", "serve", str(model), "--port", str(port), "--state", "memory://"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    base = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                httpx.get(f"{base}/ready").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield base
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    main()
