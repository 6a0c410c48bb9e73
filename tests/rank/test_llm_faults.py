"""A served pipeline with a language model in it, whose server stops, stalls or talks nonsense: nobody notices."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from tailwise.config import Step, settings_of
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.rank.listwise import Listwise, ListwiseConfig, set_gate
from tailwise.serve.app import create_app
from tailwise.serve.running import QUIET
from tailwise.serve.service import Service
from tailwise.state.memory import MemoryStore

DEADLINE = 60.0
REQUESTS = 250
UNHURRIED = Service(model=Path(), shed_after_ms=60_000.0, refuse_after_ms=60_000.0)
"""On a crowded machine stages would be spared, and the order another one."""


def with_model(engine: Engine, url: str, *, deadline: float = DEADLINE, **settings: Any) -> Engine:
    """The engine with the language model as its last stage, asked about everybody."""
    backend = {"url": f"{url}/v1", "model": "smol", "timeout_s": settings.pop("timeout_s", 0.4)}
    raw = {"gate": "always", "mode": "likelihood", "depth": 3, "history": 2, "in_flight": 2, "columns": ["title"]}
    config = settings_of(ListwiseConfig, {**raw, "backend": backend, **settings}, where="listwise_llm")
    run = Listwise(config, engine.catalogue, set_gate(config))
    step = Step(name="listwise_llm", deadline_ms=deadline)
    others = tuple(bound for bound in engine.stages if bound.key in {"fusion", "mmr"})
    return replace(engine, stages=(*others, Bound("listwise_llm", step, run)), store=MemoryStore())


@contextmanager
def served(engine: Engine) -> Iterator[httpx.Client]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        server = uvicorn.Server(uvicorn.Config(create_app(engine, UNHURRIED), **QUIET))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def lateness() -> Iterator[list[float]]:
    """By how many ms plain waits of as long as the deadline come late, while the block runs."""
    late, end = [], threading.Event()

    def watch() -> None:
        while not end.is_set():
            start = time.perf_counter()
            end.wait(DEADLINE / 1000)
            if not end.is_set():
                late.append((time.perf_counter() - start) * 1000 - DEADLINE)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield late
    finally:
        end.set()
        thread.join()
        late.append(0.0)


def ranked(client: httpx.Client, person: int) -> tuple[list[str], str | None, float]:
    """The order for a person, why the model's stage was skipped, and how long it took, in ms."""
    body = {"user_id": f"u{person % 36:02d}", "candidates": [f"i{row:02d}" for row in range(0, 48, 2)], "k": 10}
    reply = client.post("/v1/rank", json={**body, "explain": True})
    reply.raise_for_status()
    answer = reply.json()
    (stage,) = [step for step in answer["trace"] if step["name"] == "listwise_llm"]
    return [item["item_id"] for item in answer["items"]], stage.get("skipped"), stage["ms"]


def metrics(client: httpx.Client) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    found = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
    start = 'tailwise_stage_count{stage="listwise_llm",what="'
    return {name[len(start) : -2]: value for name, value in found.items() if name.startswith(start)}


@pytest.mark.parametrize("mode", ["stopped", "stall", "drip", "bytes", "error", "prose", "form", "huge"])
def test_the_fast_order_stands_and_nothing_is_late(server: Any, tiny_engine: Engine, mode: str) -> None:
    url = "http://127.0.0.1:9" if mode == "stopped" else server.url
    if mode != "stopped":
        server.behave(mode)
    plain = with_model(tiny_engine, url, gate="few_events", few=0)  # who would never be asked about

    with served(plain) as client:
        wanted = [ranked(client, person)[0] for person in range(36)]
    with served(with_model(tiny_engine, url)) as client, lateness() as waits:
        found = [ranked(client, person) for person in range(REQUESTS)]
        counts = metrics(client)

    assert [order for order, _, _ in found] == [wanted[person % 36] for person in range(REQUESTS)]
    reasons = Counter(why.split(":")[0] for _, why, _ in found if why is not None)
    assert sum(reasons.values()) == REQUESTS
    assert set(reasons) <= {"late", "busy", "breaker", "failed"}
    took = np.array([ms for _, _, ms in found])
    # The slowest of a crowded machine say nothing of us, nor does what a plain wait is late by on it.
    assert np.quantile(took, 0.98) <= DEADLINE + 10 + np.quantile(waits, 0.98)
    assert counts["failed"] >= 1 or mode in {"stall", "drip"}
    assert counts["asks"] <= 40
    assert counts["asked"] == REQUESTS


def test_a_stalled_model_keeps_nobody_else_waiting(server: Any, tiny_engine: Engine) -> None:
    server.behave("stall")

    with served(with_model(tiny_engine, server.url, deadline=5_000.0, timeout_s=5.0)) as client:
        ask = partial(httpx.post, f"{client.base_url}/v1/rank", timeout=60)
        stuck = [threading.Thread(target=ask, kwargs={"json": {"user_id": f"u0{n}"}}) for n in range(2)]
        for thread in stuck:
            thread.start()
        while len(server.seen()) < 2:
            assert any(thread.is_alive() for thread in stuck)
        for _ in range(5):
            client.get("/health").raise_for_status()
        waiting = [thread.is_alive() for thread in stuck]
        for thread in stuck:
            thread.join()

    assert waiting == [True, True]


def test_a_model_that_answers_late_is_there_for_the_next_request(model_server: Any, tiny_engine: Engine) -> None:
    engine = with_model(tiny_engine, model_server.url, timeout_s=300.0, weight=50.0)

    with served(engine) as client:
        first = ranked(client, 3)
        until = time.monotonic() + 300
        while metrics(client)["in_flight"]:
            assert time.monotonic() < until
        second = ranked(client, 3)
        counts = metrics(client)

    assert first[1] == "late: over 60 ms"
    assert second[1] is None
    assert sorted(second[0]) == sorted(first[0])
    assert (counts["late"], counts["cache_hits"], counts["asks"]) == (1, 1, 1)
    assert counts["tokens_in"] > 0
    assert counts["breaker"] == 0


def test_a_model_that_comes_back_is_asked_again(server: Any, tiny_engine: Engine) -> None:
    server.behave("error")
    engine = with_model(tiny_engine, server.url, breaker={"failures": 1, "rest_s": 0.05}, mode="windows")

    with served(engine) as client:
        ranked(client, 1)
        opened = metrics(client)["breaker"]
        server.behave("prose")
        until = time.monotonic() + 120
        while metrics(client)["malformed"] == 0:
            ranked(client, 1)
            assert time.monotonic() < until

    assert opened in {1, 2}
    assert server.seen()
