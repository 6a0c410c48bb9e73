"""
``kill -9`` at any moment, two hundred times: what was acknowledged is there once, in the store and in the log.

A parent forks writers, so that a life costs milliseconds. Each appends small batches, some twice, runs the event log
beside them, and says on a pipe what was acknowledged; it is killed after a random number of lines, between or in the
middle of anything. Every tenth time the Redis server itself is killed under a writer.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tailwise.state.log import EventLog, Rotation
from tailwise.state.opening import open_store

LIVES = 100
"""Of each store."""

PARENT = """
import os, random, signal, sys, time
import polars, redis, tailwise.state.redis, tailwise.state.sqlite
from pathlib import Path
from tailwise.errors import UnavailableError
from tailwise.state.log import EventLog, Rotation
from tailwise.state.opening import open_store
from tailwise.types import Event

url, folder, lives = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

def live(life, out):
    store = open_store(url)
    log = EventLog(store, folder, Rotation(events=40, look_s=0.002))
    chance = random.Random(life)
    if chance.random() < 0.5:
        log.start()
    batch = 0
    while True:
        ids = [f"{life}.{batch}.{n}" for n in range(chance.randint(1, 6))]
        events = [Event(f"u{chance.randrange(40)}", i, 1e9 + life * 1000 + batch, event_id=i) for i in ids]
        for again in range(1 + (batch % 3 == 0)):
            for attempt in range(500):  # while the server is away, until it has them
                try:
                    store.append(events)
                    break
                except UnavailableError:
                    time.sleep(0.02)
            else:
                return
            os.write(out, (" ".join(ids) + "\\n").encode())
        batch += 1

chance = random.Random(7)
for life in range(lives):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        try:
            live(life, theirs)
        finally:
            os._exit(3)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as reader:
        heard, enough = b"", chance.randint(1, 600)
        while len(heard) < enough:
            heard += reader.read(4096)
        if life % 10 == 5:
            print("server", flush=True)
            sys.stdin.readline()  # it was killed meanwhile
            heard += reader.read(4096)
        os.kill(child, signal.SIGKILL)
        while more := reader.read(65536):
            heard += more
    status = os.waitpid(child, 0)[1]
    sys.stdout.write(heard.decode())
    print(f"dead {os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)}", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_two_hundred_deaths_lose_and_double_nothing(kind: str, tmp_path: Path, own_redis: Any) -> None:
    folder = tmp_path / "log"
    if kind == "redis":
        own_redis.start()
    url = f"sqlite:///{tmp_path}/state.sqlite" if kind == "sqlite" else own_redis.url()
    with closing(open_store(url)) as store:
        store.keep_journal()  # before the first event, or those of a life without a log might not be in it
    command = [sys.executable, "-c", PARENT, url, str(folder), str(LIVES)]
    acknowledged, deaths = set(), 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for line in parent.stdout:
            if line.startswith("dead"):
                assert line == f"dead {signal.SIGKILL:d}\n"  # still writing, or the test would prove nothing
                deaths += 1
            elif line == "server\n":
                if kind == "redis":
                    own_redis.kill()
                    own_redis.start()
                print(file=parent.stdin, flush=True)
            else:
                acknowledged |= set(line.split())
    with closing(open_store(url)) as store:
        EventLog(store, folder, Rotation(events=40)).write(everything=True)
        stored = Counter(event.item_id for user in range(40) for event in store.history(f"u{user}", 1000))
    logged = Counter(pl.concat(pl.read_parquet(path) for path in sorted(folder.glob("events-*.parquet")))["item_id"])

    assert (parent.returncode, deaths) == (0, LIVES)
    assert len(acknowledged) > 5 * LIVES
    assert acknowledged <= set(stored)
    assert max(stored.values()) == 1
    assert stored == logged
