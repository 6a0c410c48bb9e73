import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from fastapi import FastAPI
from starlette.testclient import TestClient

from tailwise.config import PipelineConfig, Step
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.retrieve.popular import Popular
from tailwise.serve.draining import Drain

CODE = """
import sys
from tailwise.serve.running import serve
from tailwise.serve.service import Service

serve(Service(model=sys.argv[1], port=0, drain_s=1.5))
"""


def model_of(engine: Engine, folder: Path) -> Path:
    step = Step(name="popular")
    counts = engine.catalogue.popularity
    source = Bound("popular", step, Popular(Popular.Config(), counts, engine.catalogue.item_ids))
    config = PipelineConfig(retrieve=(step,), stage=())
    Engine(config, engine.catalogue, engine.people, (source,), (), {}).save(folder)
    return folder


def test_no_request_is_lost_between_the_order_to_stop_and_the_end(engine: Engine, tmp_path: Path) -> None:
    model = model_of(engine, tmp_path / "cinema")
    with subprocess.Popen([sys.executable, "-c", CODE, str(model)], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        address = service.stdout.readline().split()[3]
        before = httpx.get(f"{address}/ready").status_code
        os.kill(service.pid, signal.SIGTERM)
        unready, answered = None, 0
        while unready is None:  # the signal is handled between two requests
            answered += httpx.post(f"{address}/v1/rank", json={"user_id": "u1"}).status_code == 200
            seen = httpx.get(f"{address}/ready")
            unready = seen if seen.status_code == 503 else None
        still = httpx.post(f"{address}/v1/rank", json={"user_id": "u1"}).status_code
        ended = service.wait(timeout=120)

    assert before == 200
    assert "about to stop" in unready.json()["detail"]
    assert (still, answered > 0) == (200, True)
    assert ended in {0, -signal.SIGTERM}


def test_without_a_pause_nothing_stands_between_the_signal_and_its_handler() -> None:
    loop, handler = asyncio.new_event_loop(), signal.getsignal(signal.SIGTERM)

    Drain(0).install(loop)

    loop.close()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_readiness_ends_before_the_service_does(app: FastAPI, client: TestClient) -> None:
    app.state.context.drain.begun = True

    answer = client.get("/ready")

    assert answer.status_code == 503
    assert answer.json()["detail"] == "the service is about to stop; ask another one"
    assert client.get("/health").status_code == 200
