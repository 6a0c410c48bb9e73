import asyncio
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tailwise.config import Step
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import SPARED
from tailwise.serve.app import create_app
from tailwise.serve.pressure import BEAT_S, Pressure
from tailwise.serve.service import Service
from tailwise.types import StageTrace


def costs(**ms: float) -> list[StageTrace]:
    return [StageTrace(name, each, 10, 10) for name, each in ms.items()]


def behind(seconds: float) -> Pressure:
    pressure = Pressure(shed_after_ms=50, refuse_after_ms=2000)
    pressure.felt(seconds)
    return pressure


def test_without_a_wait_nothing_is_spared_nor_refused(engine: Engine) -> None:
    pressure = behind(0.049)
    pressure.took(costs(mmr=9.0, because=9.0))

    assert pressure.spare(engine) == frozenset()
    assert pressure.retry_after() is None


def test_what_costs_most_is_spared_first_and_never_what_was_promised(engine: Engine) -> None:
    pressure = behind(0.051)
    pressure.took(costs(retrieve=1.0, mmr=2.0, exposure=5.0, because=0.01, blend=1.0))

    assert pressure.spare(engine) == {"mmr", "blend"}


def test_a_stage_is_spared_by_its_key_and_rules_never(engine: Engine) -> None:
    stages = (*engine.stages, replace(engine.stages[0], key="rules", step=Step(name="rules")))
    pressure = behind(0.5)
    pressure.took(costs(rules=50.0))

    assert pressure.spare(replace(engine, stages=stages)) == frozenset()


def test_a_spared_stage_does_not_become_cheap_by_being_spared(engine: Engine) -> None:
    pressure = behind(0.1)
    pressure.took(costs(mmr=4.0, retrieve=4.0))
    for _ in range(100):
        pressure.took([StageTrace("mmr", 0.0, 9, 9, SPARED), StageTrace("retrieve", 4.0, 0, 9)])

    assert pressure.spare(engine) == {"mmr"}


def test_the_wait_fades_when_the_crowd_is_gone() -> None:
    pressure = behind(4.0)
    assert pressure.retry_after() == 4

    for _ in range(20):
        pressure.felt(0.0)

    assert pressure.lag_s < 0.01
    assert pressure.retry_after() is None


def test_a_caller_is_told_to_wait_for_at_least_a_second() -> None:
    pressure = Pressure(shed_after_ms=1, refuse_after_ms=10)
    pressure.felt(0.02)

    assert pressure.retry_after() == 1
    assert not math.isnan(pressure.lag_s)


def test_a_blocked_loop_is_felt_while_it_is_still_blocked() -> None:
    async def block() -> tuple[float, float]:
        pressure = Pressure(shed_after_ms=50, refuse_after_ms=2000)
        watching = asyncio.create_task(pressure.watch())
        await asyncio.sleep(BEAT_S / 2)
        calm = pressure.lag_s
        until = time.perf_counter() + 0.15
        while time.perf_counter() < until:
            pass
        busy = pressure.lag_s  # the timer could not run meanwhile
        watching.cancel()
        return calm, busy

    calm, busy = asyncio.run(block())

    assert calm < 0.1
    assert busy > 0.1


def test_an_answer_under_load_says_what_it_did_without(engine: Engine) -> None:
    app = create_app(engine, Service(model=Path(), shed_after_ms=1e-6))
    with TestClient(app) as client:
        client.post("/v1/rank", json={"user_id": "u1"})
        app.state.context.pressure.took(costs(mmr=1000.0))
        app.state.context.pressure.felt(1.0)  # fades below the limit within a second

        answer = client.post("/v1/rank", json={"user_id": "u1"}).json()

    assert {step["name"]: step.get("skipped") for step in answer["trace"]}["mmr"] == SPARED
    assert len(answer["items"]) == 10


@pytest.mark.parametrize("route", ["/v1/rank", "/v1/recommend", "/v1/rerank"])
def test_too_long_a_wait_refuses_ranking_with_a_time_to_come_again(
    app: FastAPI, client: TestClient, route: str
) -> None:
    app.state.context.pressure.felt(1e6)

    refused = client.post(route, json={"user_id": "u1"})

    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 1e6
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["detail"].startswith("more is asked than can be answered; ask again in ")


def test_events_and_health_are_never_refused_for_load(app: FastAPI, client: TestClient) -> None:
    app.state.context.pressure.felt(1e6)

    stored = client.post("/v1/events", json={"user_id": "u1", "item_id": "i1"})

    assert stored.status_code == 200
    assert client.get("/health").status_code == 200
    assert client.get("/metrics").status_code == 200
