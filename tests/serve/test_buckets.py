import asyncio
import multiprocessing
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailwise.errors import UnavailableError
from tailwise.serve.buckets import RedisBuckets, SqliteBuckets, open_buckets
from tailwise.serve.keys import Caller, Limit
from tailwise.serve.limits import Buckets, Limits, MemoryBuckets

NOW = 1_800_014_400.0


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server of our own."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = ["redis-server", "--port", port, "--save", "", "--dir", str(tmp_path_factory.mktemp("redis"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert any("Ready to accept connections" in line for line in server.stdout)
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def buckets(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Buckets]:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/state.sqlite"}
    url = urls.get(request.param) or request.getfixturevalue("redis_url")
    opened = open_buckets(url)
    yield opened
    opened.close()


def test_every_store_does_the_same_sum(buckets: Buckets) -> None:
    name, limit = f"sum-{id(buckets)}", Limit(rate=4, burst=10)

    first = buckets.take(name, limit, 6, NOW)
    second = buckets.take(name, limit, 6, NOW)
    third = buckets.take(name, limit, 6, NOW)
    later = buckets.take(name, limit, 6, NOW + 0.5)

    assert first == (6, pytest.approx(1.5))
    assert second == (4, pytest.approx(2.5))
    assert third == (0, pytest.approx(0.25))
    assert later == (2, pytest.approx(2.5))


def test_every_store_counts_a_day_by_itself(buckets: Buckets) -> None:
    name = f"day-{id(buckets)}"

    counts = [buckets.count(name, 10, want, day) for want, day in ((6, 7), (6, 7), (1, 7), (6, 8))]

    assert counts == [(6, 6), (4, 10), (0, 10), (6, 6)]


def spend(url: str, asked: int) -> int:
    """One worker's requests, as fast as they go."""
    limits = Limits(open_buckets(url), clock=lambda: NOW)

    async def run() -> int:
        limit = Limit(rate=100, burst=60, daily=1000)
        verdicts = [await limits.take(Caller("shared", limit=limit)) for _ in range(asked)]
        return sum(verdict is not None and verdict.allowed for verdict in verdicts)

    try:
        return asyncio.run(run())
    finally:
        limits.close()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_two_workers_together_get_no_more_than_one_would(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/state.sqlite" if kind == "sqlite" else request.getfixturevalue("redis_url")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        allowed = pool.starmap(spend, [(url, 50), (url, 50)])

    assert sum(allowed) == 60


def test_a_daily_count_outlives_the_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.sqlite"
    first = open_buckets(url)
    first.count("a", 10, 7, 1)
    first.close()

    again = open_buckets(url)

    assert again.count("a", 10, 7, 1) == (3, 10)
    again.close()


def test_limits_lie_beside_the_state(tmp_path: Path) -> None:
    open_buckets(f"sqlite:///{tmp_path}/{{tenant}}.sqlite?keep_days=9").close()

    assert [path.name for path in tmp_path.iterdir()] == ["_all.sqlite.limits"]
    assert isinstance(open_buckets("memory://"), MemoryBuckets)


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    message = r"^.*nowhere/x: unable to open database file; its folder must exist and be writable$"
    with pytest.raises(UnavailableError, match=message):
        SqliteBuckets(tmp_path / "nowhere" / "x")


def test_a_redis_that_is_away_is_told() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        buckets = RedisBuckets(f"redis://127.0.0.1:{probe.getsockname()[1]}/0")

        with pytest.raises(UnavailableError, match=r"^Redis does not count: Error 111 connecting to .*$"):
            buckets.take("a", Limit(rate=1), 1, NOW)
        buckets.close()
