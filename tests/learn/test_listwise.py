"""A fit asks a model about held-out cases once, learns for whom it counts, and does without where it does not help."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request

from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.synthetic import World, make_world
from tailwise.learn.fit import fit
from tailwise.pipeline import Engine


class Reranker:
    """A server that wants what shares words with the query; or, when it is contrary, what shares none."""

    def __init__(self) -> None:
        self.asked = 0
        self.contrary = False
        self.url = ""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        words = set(re.findall(r"\w+", body["query"].lower()))
        shared = [len(words & set(re.findall(r"\w+", text.lower()))) for text in body["documents"]]
        sign = -1 if self.contrary else 1
        return {"results": [{"index": n, "relevance_score": sign * count} for n, count in enumerate(shared)]}


@pytest.fixture
def reranker() -> Iterator[Reranker]:
    app, one = FastAPI(), Reranker()

    @app.post("/rerank")
    async def rerank(request: Request) -> dict[str, Any]:
        return one.answer(await request.json())

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        one.url = f"http://127.0.0.1:{listening.getsockname()[1]}/rerank"
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield one
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(users=120, items=48, events_per_user=12, groups=4, requests=1, seed=3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the fit; the environment names another one, which nobody may use."""
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "other"))
    return tmp_path / "cache"


def fitted(world: World, url: str, cache: Path, **settings: Any) -> Engine:
    backend = {"kind": "rerank", "url": url, "model": "words"}
    step = Step(
        name="listwise_llm",
        settings={
            "mode": "rerank",
            "backend": backend,
            "cases": 100,
            "depth": 30,
            "columns": ["title", "description"],
            **settings,
        },
    )
    config = PipelineConfig(
        encode=EncodeConfig(model="hash", whiten_dim=16),
        retrieve=(Step(name="popular", k=48),),
        stage=(step,),
        exclude_seen=False,
    )
    return fit(world.dataset, config, seed=5, settings=Settings(cache=cache, threads=1))


def test_a_model_that_helps_is_used_and_a_second_fit_asks_nothing(
    world: World, reranker: Reranker, cache: Path
) -> None:
    first = fitted(world, reranker.url, cache)
    asked = reranker.asked

    second = fitted(world, reranker.url, cache)

    notes = first.manifest["metrics"]["listwise_llm"]
    assert notes["decision"] == "asked where it helps"
    assert notes["ndcg@10 after (cross-fitted)"] > notes["ndcg@10 before"]
    assert 60 <= asked == notes["questions"] <= 100
    assert reranker.asked == asked
    assert second.stages[0].run.gate == first.stages[0].run.gate
    assert second.manifest["metrics"]["listwise_llm"]["questions"] == 0
    assert (cache / "opinions.sqlite").is_file()
    assert not cache.with_name("other").exists()


def test_a_model_that_hurts_sleeps(world: World, reranker: Reranker, cache: Path, tmp_path: Path) -> None:
    reranker.contrary = True

    engine = fitted(world, reranker.url, cache)
    engine.save(tmp_path / "model")
    opened = Engine.open(tmp_path / "model")

    assert engine.manifest["metrics"]["listwise_llm"]["decision"] == "not used: not asked: it helps nobody"
    asked = reranker.asked
    answer = opened.answer(opened_request())
    assert reranker.asked == asked
    assert [step.skipped for step in answer.trace if step.name == "listwise_llm"] == [None]


def test_without_a_model_the_fit_warns_and_the_stage_sleeps(
    world: World, caplog: pytest.LogCaptureFixture, cache: Path
) -> None:
    with caplog.at_level(logging.WARNING, "tailwise.learn.listwise"):
        engine = fitted(world, "http://127.0.0.1:9/rerank", cache)

    problem = "the language model gave no opinion: 127.0.0.1:9 cannot be asked: ConnectError"
    assert engine.manifest["metrics"]["listwise_llm"]["decision"] == f"not used: {problem}"
    assert [record.message for record in caplog.records if record.name == "tailwise.learn.listwise"] == [
        f"listwise_llm is not used: {problem}"
    ]
    assert engine.stages[0].run.gate is None


@pytest.mark.parametrize("gate", ["always", "few_events"])
def test_a_gate_that_is_set_needs_no_learning(
    world: World, reranker: Reranker, gate: str, cache: Path, tmp_path: Path
) -> None:
    engine = fitted(world, reranker.url, cache, gate=gate)
    assert reranker.asked == 0
    engine.save(tmp_path / "model")

    answer = Engine.open(tmp_path / "model").answer(opened_request())

    assert engine.manifest["metrics"]["listwise_llm"] == {"decision": f"used as set: gate = {gate!r}"}
    assert reranker.asked == 1
    assert [step.skipped for step in answer.trace if step.name == "listwise_llm"] == [None]


def test_too_few_cases_teach_nothing_and_nobody_is_asked(world: World, reranker: Reranker, cache: Path) -> None:
    engine = fitted(world, reranker.url, cache, cases=20)

    assert re.fullmatch(
        r"not used: 20 cases were drawn \(cases = 20\), and \d+ of them could teach it, fewer than 40",
        engine.manifest["metrics"]["listwise_llm"]["decision"],
    )
    assert reranker.asked == 0


def opened_request() -> Any:
    from tailwise.types import Request

    return Request("r", user_id="u003", k=5)
