"""
Mixed load for half an hour against one worker: does memory grow, does anything fail?

First what the service remembers of people is filled to its bounds (100,000 events and as many ids of events, some
25 and 10 MB), which it would otherwise reach after hours, so that what grows afterwards is a leak. Then ranks, events,
explanations, look-ups and erasures of thousands of people, one after the other on a few connections. Every ten seconds
it notes the resident memory; the slope is of the second half.

    python benchmarks/soak.py [--model MODEL] [--minutes 30] [--clients 4]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from bench_quality import movielens
from bench_serve import free_port, quick_model, ready, resident

PEOPLE = 5_000
FIRST = 120_000
"""Events that fill what is remembered, in batches of ``BATCH``."""
BATCH = 100
STEADY_MB_H = 10.0
"""Growth of the second half, in MB an hour, that counts as none."""
FILLING_S = 1200.0
"""Runs that are shorter have not settled: their slope is shown, not judged."""
SAMPLE_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    data = movielens()
    items = data.items["item_id"].to_list()
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or quick_model(data, Path(scratch) / "model")
        port = free_port()
        command = [sys.executable, "-m", "tailwise.cli", "serve", str(model), "--port", str(port)]
        state = ["--state", f"sqlite:///{scratch}/state.sqlite"]
        server = subprocess.Popen([*command, *state], stdout=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}"
            ready(address)
            fill(address, items)
            answers, samples = asyncio.run(
                soak(address, items, server.pid, seconds=options.minutes * 60, clients=options.clients)
            )
        finally:
            server.terminate()
            ended = server.wait(30)
    sys.exit(judged(answers, samples, ended))


def fill(address: str, items: list[str]) -> None:
    """Give everybody a past, and have it read, so that bounded memories are full."""
    rng = np.random.default_rng(0)
    with httpx.Client(base_url=address, timeout=60) as client:
        for _ in range(FIRST // BATCH):
            chosen = zip(rng.integers(PEOPLE, size=BATCH), rng.integers(len(items), size=BATCH), strict=True)
            client.post("/v1/events", json=[event(f"p{user}", items[item]) for user, item in chosen]).raise_for_status()
        for user in range(PEOPLE):
            body = {"user_id": f"p{user}", "candidates": items[:2]}
            client.post("/v1/rank", json=body).raise_for_status()


def event(user: str, item: str) -> dict[str, str]:
    """An event as a careful client sends it."""
    return {"user_id": user, "item_id": item, "event": "click", "event_id": uuid.uuid4().hex}


async def soak(
    address: str, items: list[str], pid: int, *, seconds: float, clients: int
) -> tuple[Counter[tuple[str, int]], list[tuple[float, float]]]:
    """Answers by route and status, and (seconds, MB) samples."""
    answers: Counter[tuple[str, int]] = Counter()
    samples: list[tuple[float, float]] = []
    begin = time.monotonic()
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:

        async def one(seed: int) -> None:
            rng = np.random.default_rng(seed)
            while time.monotonic() - begin < seconds:
                what, method, path, body = asked(rng, items)
                try:
                    status = (await client.request(method, path, json=body)).status_code
                except httpx.HTTPError as error:
                    print(f"{what}: {type(error).__name__}: {error}", flush=True)
                    status = 0
                answers[what, status] += 1

        async def watch() -> None:
            while (gone := time.monotonic() - begin) < seconds:
                samples.append((gone, resident(pid)))
                print(f"{gone:6.0f} s  {samples[-1][1]:6.1f} MB  {sum(answers.values())} answers", flush=True)
                await asyncio.sleep(min(SAMPLE_S, max(seconds - gone, 0.1)))

        await asyncio.gather(watch(), *(one(seed) for seed in range(clients)))
    samples.append((seconds, resident(pid)))
    return answers, samples


def asked(rng: np.random.Generator, items: list[str]) -> tuple[str, str, str, object]:
    """One request of the mix: its name, method, path and body."""
    user = f"p{rng.integers(PEOPLE)}"
    events = [event(user, items[item]) for item in rng.integers(len(items), size=int(rng.integers(1, 5)))]
    candidates = [items[i] for i in rng.choice(len(items), 100, replace=False)]
    kinds: dict[str, tuple[float, str, str, object]] = {
        "rank": (0.50, "POST", "/v1/rank", {"user_id": user, "candidates": candidates}),
        "events": (0.35, "POST", "/v1/events", events),
        "recommend": (0.05, "POST", "/v1/recommend", {"user_id": user, "explain": True}),
        "user": (0.06, "GET", f"/v1/users/{user}", None),
        "erase": (0.02, "DELETE", f"/v1/users/{user}", None),
        "metrics": (0.01, "GET", "/metrics", None),
        "explain": (0.01, "POST", "/v1/explain", {"user_id": user, "candidates": candidates[:20], "k": 5}),
    }
    what = rng.choice(list(kinds), p=[share for share, *_ in kinds.values()])
    return str(what), *kinds[what][1:]


def judged(answers: Counter[tuple[str, int]], samples: list[tuple[float, float]], ended: int) -> int:
    """Print what came of it; 1 when something failed or memory grows."""
    times, sizes = np.array(samples).T
    late = times >= times[-1] / 2
    slope = float(np.polyfit(times[late], sizes[late], 1)[0]) * 3600
    errors = {f"{what} {status}": n for (what, status), n in answers.items() if not 200 <= status < 300}
    total = {what: sum(n for (name, _), n in answers.items() if name == what) for what, _ in sorted(answers)}
    print(json.dumps({"answers": total, "errors": errors, "load": os.getloadavg()[0]}))
    print(f"memory: {sizes[0]:.1f} MB at first, {sizes[-1]:.1f} at the end, {sizes.max():.1f} at most")
    print(f"slope of the second half: {slope:+.1f} MB an hour (at most {STEADY_MB_H:g} counts as none)")
    grows = slope > STEADY_MB_H and times[-1] >= FILLING_S
    return int(bool(errors) or grows or ended != 0)


if __name__ == "__main__":
    main()
