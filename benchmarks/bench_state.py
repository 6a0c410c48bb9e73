"""
What a store takes and gives: events a second, bytes a person, time of a history. Prints JSON.

    python benchmarks/bench_state.py [--people 100000] [--seconds 5] [--http] [--redis redis://127.0.0.1:6379/9]

``--people`` with 20 events each, arriving one person after the other by chance over 30 days, with times in
milliseconds, as POST /v1/events gives them; sizes are then stated for a million people. ``--http`` posts batches of 100
events to a real service on loopback, which has a process of its own. Every event has an ``event_id``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from tailwise.state.opening import open_store
from tailwise.types import Event

EACH, BATCH, ITEMS = 20, 100, 100_000
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--redis", help="address of a server for the same, in a prefix of its own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        url = f"sqlite:///{scratch}/state.sqlite"
        out: dict[str, Any] = {"machine": machine(), "sqlite": of_store(url, options.people, options.seconds)}
        if options.redis:
            address = f"{options.redis}?prefix=bench-{os.getpid()}"
            out["redis"] = of_store(address, min(options.people, 20_000), options.seconds)
        if options.http:
            out["http"] = over_http(Path(scratch), options.seconds)
    print(json.dumps(out, indent=2))


def batches(people: int, *, seed: int = 0) -> Iterator[list[Event]]:
    """All events of all people, in the order in which they happen."""
    rng = np.random.default_rng(seed)
    who = rng.permutation(np.repeat(np.arange(people), EACH))
    popular = rng.zipf(1.2, len(who)) % ITEMS
    times = np.round(1.76e9 + np.sort(rng.random(len(who))) * 30 * 86_400, 3)
    kinds = np.array(["view", "click", "favourite", "purchase"])[rng.integers(0, 4, len(who))]
    for start in range(0, len(who), BATCH):
        part = slice(start, start + BATCH)
        columns = (who[part].tolist(), popular[part].tolist(), times[part].tolist(), kinds[part].tolist())
        yield [
            Event(f"u{u}", f"i{i}", t, k, event_id=f"{seed}-{start + n}")
            for n, (u, i, t, k) in enumerate(zip(*columns, strict=True))
        ]


def of_store(url: str, people: int, seconds: float) -> dict[str, Any]:
    with closing(open_store(url)) as store:
        cpu, start, count = time.process_time(), time.perf_counter(), 0
        for batch in batches(people):
            count += store.append(batch)
        took, used = time.perf_counter() - start, time.process_time() - cpu
        told: dict[str, Any] = {"events": count, "events_per_s": round(count / took)}
        told["cpu_us_per_event"] = round(used / count * 1e6, 1)
        if url.startswith("sqlite"):
            told |= size(Path(url.removeprefix("sqlite:///")), people)
        return told | histories(store) | {"four_threads_events_per_s": together(store, seconds)}


def together(store: Any, seconds: float) -> int:
    """Four threads, each with batches of its own; they share commits."""
    ready = [list(batches(10_000, seed=thread + 1)) for thread in range(4)]
    end = time.perf_counter() + seconds

    def send(own: list[list[Event]]) -> int:
        count = 0
        for batch in own:
            if time.perf_counter() > end:
                break
            count += store.append(batch)
        return count

    start = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        return round(sum(pool.map(send, ready)) / (time.perf_counter() - start))


def histories(store: Any, people: int = 300) -> dict[str, float]:
    """Of people with 50 events: read for the first time, and again after one more event."""
    names = [f"reader {n}" for n in range(people)]
    for name in names:
        store.append([Event(name, f"i{n}", 1.76e9 + n * 60.5) for n in range(50)])
    times: dict[str, list[float]] = {"cold": [], "after_one_more": [], "warm": []}
    for round_, spent in times.items():
        for name in names:
            if round_ == "after_one_more":
                store.append([Event(name, "i1", 1.77e9)])
            start = time.perf_counter()
            found = store.history(name, 50)
            spent.append((time.perf_counter() - start) * 1e6)
            assert len(found) == 50
    return {f"history_50_{name}_p50_us": round(float(np.median(spent)), 1) for name, spent in times.items()}


def size(path: Path, people: int) -> dict[str, float]:
    """Of the file, with what does not grow with people apart: the names of the items and the newest event ids."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT sum(pgsize) FROM dbstat WHERE name IN ('items', 'sqlite_autoindex_items_1', 'ids')"
        try:
            fixed = int(file.execute(query).fetchone()[0] or 0)
        except sqlite3.OperationalError:  # this SQLite was built without dbstat
            fixed = 0
    whole = path.stat().st_size
    factor = 1_000_000 / people
    return {
        "people": people,
        "bytes_per_person": round(whole / people, 1),
        "of_which_items_and_ids_in_all": fixed,
        "factor_to_a_million": factor,
        "gib_per_million_people": round(((whole - fixed) * factor + fixed) / GIB, 4),
        "gib_per_million_people_all_times_the_factor": round(whole * factor / GIB, 4),
    }


SERVE = """
import sys
from pathlib import Path
from tailwise.serve.running import serve
from tailwise.serve.service import Service
serve(Service(model=Path(sys.argv[1]), port=0, state=sys.argv[2]))
"""


def over_http(scratch: Path, seconds: float, clients: int = 4) -> dict[str, Any]:
    """Batches of 100 over loopback, from processes of our own; the service has one worker."""
    model = small_model(scratch / "model")
    command = [sys.executable, "-c", SERVE, str(model), f"sqlite:///{scratch}/http.sqlite"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = server.stdout.readline().split(" on ")[1].split()[0]
    try:
        post = [sys.executable, __file__, "--post", address, "--seconds", str(seconds)]
        sending = [
            subprocess.Popen([*post, "--seed", str(n)], stdout=subprocess.PIPE, text=True) for n in range(clients)
        ]
        rates = [float(process.communicate()[0]) for process in sending]
        cpu = cpu_seconds(server.pid)
    finally:
        server.terminate()
        server.wait(20)
    events = sum(rates) * seconds
    return {
        "clients": clients,
        "events_per_s": round(sum(rates)),
        "server_cpu_us_per_event": round(cpu / events * 1e6, 1),
    }


def post(address: str, seconds: float, seed: int) -> None:
    """Posts ready-made bodies as fast as answers come; prints events a second."""
    import http.client

    bodies = []
    for batch in batches(2_000, seed=seed + 10):
        fields = [
            {
                "user_id": e.user_id,
                "item_id": e.item_id,
                "time": e.time,
                "event": e.event,
                "event_id": f"{seed}/{e.event_id}",
            }
            for e in batch
        ]
        bodies.append(json.dumps(fields).encode())
    host, _, port = address.removeprefix("http://").partition(":")
    line = http.client.HTTPConnection(host, int(port))
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        line.request(
            "POST", "/v1/events", bodies[count % len(bodies)].replace(b'"event_id": "', b'"event_id": "%d/' % count)
        )
        answer = line.getresponse()
        assert json.loads(answer.read())["new"] == BATCH
        count += 1
    print(count * BATCH / spent)


def small_model(folder: Path) -> Path:
    import polars as pl

    import tailwise
    from tailwise.config import PipelineConfig, Step
    from tailwise.data.load import Dataset

    rows = [{"user_id": f"u{n % 30}", "item_id": f"i{n % 17}", "time": 1e9 + n} for n in range(300)]
    config = PipelineConfig(retrieve=(Step(name="popular"),), stage=(), track="none")
    tailwise.fit(Dataset.of("bench", events=pl.DataFrame(rows)), config).save(folder)
    return folder


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    load = os.getloadavg()[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": round(load, 1),
        "peak_mb": peak,
    }


if __name__ == "__main__":
    if "--post" in sys.argv:
        asked = argparse.ArgumentParser()
        asked.add_argument("--post")
        asked.add_argument("--seconds", type=float)
        asked.add_argument("--seed", type=int)
        given = asked.parse_args()
        post(given.post, given.seconds, given.seed)
    else:
        main()
