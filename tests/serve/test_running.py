import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tailwise.config import PipelineConfig, Step
from tailwise.errors import ArtifactError, ConfigError, UnavailableError
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.retrieve.popular import Popular
from tailwise.serve.running import bind, serve, state_beside
from tailwise.serve.service import Service

SERVE = "import sys; from tailwise.serve.running import serve; from tailwise.serve.service import Service; "


@pytest.fixture
def model(engine: Engine, tmp_path: Path) -> Path:
    """A model folder that opens by itself: the cinema with popularity alone."""
    step = Step(name="popular")
    source = Bound(
        "popular", step, Popular(Popular.Config(), np.arange(96, dtype=np.float32), engine.catalogue.item_ids)
    )
    config = PipelineConfig(retrieve=(step,), stage=())
    replace(engine, config=config, sources=(source,), stages=()).save(tmp_path / "cinema")
    return tmp_path / "cinema"


@contextmanager
def process(
    model: Path,
    *,
    workers: int = 1,
    port: int = 0,
    state: str | None = None,
    before: str = "",
    stderr: int | None = None,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service as a process of its own, and its address once it says so; ``before`` is run first in it."""
    code = f"{SERVE}{before}serve(Service(model=sys.argv[1], port={port}, workers={workers}, state={state!r}))"
    command = [sys.executable, "-c", code, str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as started:
        assert started.stdout is not None
        try:
            line = started.stdout.readline()
            assert line.startswith(f"serving {model} on http://127.0.0.1:"), line
            assert line.endswith(" (ctrl-c stops)\n")
            yield started, line.split()[3]
        finally:
            started.kill() if workers == 1 else started.terminate()


def test_the_state_lies_beside_the_model() -> None:
    assert state_beside(Path("models/shop")) == "sqlite:///models/shop.state.sqlite"
    assert state_beside(Path("/models/shop")) == "sqlite:////models/shop.state.sqlite"


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(UnavailableError, match=rf"^port {port} is in use; choose another with --port$"):
            serve(Service(model=tmp_path / "no model", port=port))


def test_a_port_is_free_again_after_a_failed_start(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with pytest.raises(ArtifactError, match=r"is not a model folder"):
        serve(Service(model=tmp_path / "no model", port=port))

    bind("127.0.0.1", port).close()


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^port is 70000, but it must be between 0 and 65535$"):
        bind("127.0.0.1", 70000)
    with pytest.raises(ConfigError, match=r"^host 'no host' has no address here; the usual one is 127\.0\.0\.1$"):
        bind("no host", 0)
    with pytest.raises(UnavailableError, match=r"^port 0 of 192\.0\.2\.1 cannot be used: .*; choose another$"):
        bind("192.0.2.1", 0)


def test_workers_cannot_share_memory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^workers is 0, but it must be at least 1$"):
        serve(Service(model=tmp_path, port=0, workers=0))
    message = r"^state is 'memory://', which 2 workers cannot share; give sqlite:///PATH, or one worker$"
    with pytest.raises(ConfigError, match=message):
        serve(Service(model=tmp_path, port=0, workers=2, state="memory://"))


def test_an_acknowledged_event_survives_kill_9_and_ctrl_c_ends_in_order(model: Path) -> None:
    event = {"user_id": "u", "item_id": "i5", "event": "click", "event_id": "e"}
    with process(model) as (first, address):
        assert httpx.post(f"{address}/v1/events", timeout=60, json=event).json() == {"accepted": 1, "new": 1}
        os.kill(first.pid, signal.SIGKILL)

    with process(model) as (second, address):
        person = httpx.get(f"{address}/v1/users/u", timeout=60).json()
        ranked = httpx.post(f"{address}/v1/rank", timeout=60, json={"request_id": "r", "user_id": "u", "k": 2}).json()
        second.send_signal(signal.SIGINT)
        status = second.wait(timeout=120)

    assert [past["item_id"] for past in person["events"]] == ["i5"]
    assert [item["item_id"] for item in ranked["items"]] == ["i95", "i94"]
    assert status == 0
    assert not model.with_name("cinema.state.sqlite-wal").exists()  # the file was closed


def test_several_workers_share_state_and_numbers(model: Path) -> None:
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with process(model, workers=2, port=port) as (_, address):
        transport = httpx.HTTPTransport(retries=9)  # until the workers listen: waits 0, 0.5, 1, 2, … seconds
        with httpx.Client(transport=transport, base_url=address, headers={"Connection": "close"}, timeout=60) as client:
            client.post("/v1/events", json={"user_id": "u", "item_id": "i5"})
            counts = [len(client.get("/v1/users/u").json()["events"]) for _ in range(8)]
            metrics = client.get("/metrics").text

    assert counts == [1] * 8
    assert 'tailwise_requests_total{method="GET",route="/v1/users/{user_id:path}",status="200"} 8.0' in metrics
    assert "tailwise_events_total 1.0" in metrics


def children(pid: int) -> set[int]:
    """The workers that a process has begun, without what only tracks what they share."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.add(int(stat.parent.name))
    return found


def test_when_a_worker_is_killed_the_other_answers_and_a_new_one_comes(model: Path) -> None:
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with process(model, workers=2, port=port) as (started, address):
        transport = httpx.HTTPTransport(retries=9)
        with httpx.Client(transport=transport, base_url=address, headers={"Connection": "close"}, timeout=60) as client:
            client.get("/health")
            before = children(started.pid)
            os.kill(min(before), signal.SIGKILL)
            gone = min(before)

            answers = [client.post("/v1/rank", json={"user_id": "u"}).status_code]
            while len(after := children(started.pid) - {gone}) < 2:
                answers.append(client.post("/v1/rank", json={"user_id": "u"}).status_code)

    assert len(before) == 2
    assert set(answers) == {200}
    assert len(after & before) == 1


def test_a_worker_that_comes_while_redis_is_away_answers_without_it_and_has_it_back(
    model: Path, own_redis: Any
) -> None:
    own_redis.settings = ()
    own_redis.start()
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with process(model, workers=2, port=port, state=own_redis.url()) as (started, address):
        transport = httpx.HTTPTransport(retries=9)
        with httpx.Client(transport=transport, base_url=address, headers={"Connection": "close"}, timeout=60) as client:
            client.get("/health")
            before = children(started.pid)
            own_redis.kill()
            for pid in before:
                os.kill(pid, signal.SIGKILL)

            answers = [client.post("/v1/rank", json={"user_id": "u"}) for _ in range(4)]  # of new workers alone
            refused = client.post("/v1/events", json={"user_id": "u", "item_id": "i5"})
            own_redis.start()
            while client.post("/v1/events", json={"user_id": "u", "item_id": "i5", "event_id": "e"}).status_code != 200:
                pass
            after = children(started.pid)

    assert not before & after
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["trace"][0]["skipped"] for answer in answers} == {"no history: the state is away"}
    assert refused.status_code == 503


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_under_the_log_harms_no_answer(model: Path) -> None:
    before = "from tailwise.serve.logs import configure; configure('json', requests=True); "
    with Path("/dev/full").open("w") as full, process(model, before=before, stderr=full.fileno()) as (_, address):
        answers = [httpx.post(f"{address}/v1/rank", timeout=60, json={"user_id": "u"}).status_code for _ in range(3)]

    assert answers == [200] * 3


MANY = 5_000


def test_five_thousand_idle_connections_keep_nobody_waiting(model: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < MANY + 500:
        pytest.skip(f"needs {MANY + 500} open files, but this machine allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle: list[socket.socket] = []
    try:
        with process(model) as (started, address), httpx.Client(timeout=60, base_url=address) as client:
            client.post("/v1/rank", json={"user_id": "u"})
            alone_kb = resident_kb(started.pid)
            place = (address.split(":")[1].strip("/"), int(address.split(":")[2]))
            answers = []
            for number in range(MANY):
                idle.append(socket.create_connection(place, timeout=20))
                if number % 250 == 0:
                    answers.append(client.post("/v1/rank", json={"user_id": "u"}).status_code)
            grown_kb = resident_kb(started.pid) - alone_kb
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert answers == [200] * 20
    assert grown_kb < 20 * MANY  # some 10 KB each


def resident_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def test_serving_needs_no_torch() -> None:
    code = (
        "import sys, tailwise.serve.running; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout == "[]\n"
