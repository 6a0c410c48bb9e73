"""The circle of a live service: events from HTTP and a queue into the store, and on into a log that a fit reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event as Signal
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from tailwise.data.load import load
from tailwise.data.pseudonyms import Pseudonyms
from tailwise.errors import ConfigError, UnavailableError
from tailwise.pipeline import Engine
from tailwise.serve.app import create_app
from tailwise.serve.feeding import Feeding, reader
from tailwise.serve.service import Service
from tailwise.state.memory import MemoryStore
from tailwise.state.opening import open_store


def test_events_of_a_running_service_reach_the_log_and_erased_people_leave_it(engine: Engine, tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/state.sqlite")
    service = Service(model=tmp_path, log=tmp_path / "log")
    event = {"user_id": "ann", "item_id": "i1", "event": "click", "request_id": "r1", "position": 2, "event_id": "e1"}

    with TestClient(create_app(replace(engine, store=store), service)) as client:
        client.post("/v1/events", json=[event, event, {**event, "user_id": "bob", "event_id": "e2"}])
        client.delete("/v1/users/bob")

    read = load(tmp_path / "log").events
    assert read["user_id"].to_list() == ["ann"]
    assert read.select("item_id", "event", "request_id", "position").row(0) == ("i1", "click", "r1", 2)


def test_events_of_a_stream_are_known_to_the_next_list(engine: Engine, redis_server: Any, tmp_path: Path) -> None:
    stream = f"feeding-{tmp_path.name}"
    url = f"redis://127.0.0.1:{redis_server.port}/0/{stream}"
    client = Redis(port=redis_server.port)
    client.xadd(stream, {"user_id": "newcomer", "item_id": "i36", "event": "favourite"})
    store = MemoryStore()
    counted: list[int] = []
    feeding = Feeding(store, Service(model=tmp_path, ingest=url), counted.append)
    feeding.start()
    try:
        while not store.history("newcomer", 1) or client.xpending(stream, "tailwise")["pending"]:
            pass
    finally:
        feeding.stop()
        client.close()

    assert replace(engine, store=store).history("newcomer").item_ids.tolist() == ["i36"]
    assert sum(counted) == 1


def test_people_of_a_stream_get_their_pseudonyms(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 32)

    (event,) = reader(tmp_path / "secret")(b'{"user_id": "ann", "item_id": "a"}', 1.0)

    assert event.user_id == Pseudonyms(b"x" * 32).of("ann")


def test_what_cannot_be_begun_is_told_before_the_service_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UnavailableError, match=r"^event log .*/file cannot be written: File exists; events wait in"):
        Feeding(MemoryStore(), Service(model=tmp_path, log=tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"^stream is 'redis://h', but it must be"):
        Feeding(MemoryStore(), Service(model=tmp_path, ingest="redis://h"))


def test_an_end_does_not_wait_for_a_sweep_of_millions(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Vast(MemoryStore):
        """A store that is never done with looking."""

        begun, gone_on = Signal(), Signal()

        def sweep(self) -> int:
            self.begun.set()
            self.gone_on.wait()
            return 0

    monkeypatch.setattr("tailwise.serve.feeding.ROUND_S", 0.01)
    store = Vast()
    with TestClient(create_app(replace(engine, store=store), Service(model=tmp_path))):
        store.begun.wait()

    store.gone_on.set()
    assert caplog.messages == ["retention goes on for longer than 0.01 s and is left behind"]
