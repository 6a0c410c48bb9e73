"""``POST /v1/explain``: the contract, the language, and a model that may only phrase."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.serve.conftest import cinema

from tailwise.errors import UnavailableError
from tailwise.nets.questions import BackendConfig, Question, Reply
from tailwise.pipeline import Engine
from tailwise.rerank.reasons import Reasons
from tailwise.serve import explaining, warming
from tailwise.serve.app import create_app


@pytest.fixture(scope="module")
def fitted(tiny_engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_app(replace(tiny_engine)), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def user(tiny_engine: Engine) -> str:
    return str(tiny_engine.people.user_ids[2])


def asked(client: TestClient, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    response = client.post("/v1/explain", json=fields, headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_contributions_cited_history_and_what_would_have_to_be_gone(fitted: TestClient, user: str) -> None:
    answer = asked(fitted, request_id="r1", user_id=user, k=4)

    assert answer["request_id"] == "r1"
    assert [item["place"] for item in answer["items"]] == [1, 2, 3, 4]
    for item in answer["items"]:
        assert sum(part["adds"] for part in item["sources"]) == pytest.approx(item["fused"], abs=1e-4)
        assert sum(item["kinds"].values()) == pytest.approx(item["judged"] - item["baseline"], abs=1e-3)
        assert all({"item_id", "title", "adds", "by"} == one.keys() for one in item["history"])
    assert any(item["without"] for item in answer["items"])
    assert answer["rankings"] > 0
    assert "said" not in answer


def test_it_explains_the_list_that_rank_gives(fitted: TestClient, user: str) -> None:
    ranked = fitted.post("/v1/rank", json={"user_id": user, "k": 5}).json()

    answer = asked(fitted, user_id=user, k=5)

    assert [item["item_id"] for item in answer["items"]] == [item["item_id"] for item in ranked["items"]]
    texts = [[reason["text"] for reason in item["reasons"]] for item in answer["items"]]
    assert texts == [item["reasons"] for item in ranked["items"]]


def test_an_item_that_is_not_on_the_list_is_told_why(fitted: TestClient, user: str) -> None:
    (item,) = asked(fitted, user_id=user, item_id="nobody knows it")["items"]

    assert item["place"] is None
    assert item["missing"]["why"] == "unknown"


HEADER = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"}


@pytest.mark.parametrize(
    ("headers", "context", "language"),
    [
        (HEADER, {}, "zh"),
        (HEADER, {"locale": "en-GB"}, "en"),
        ({"Accept-Language": "fr"}, {}, "en"),
        ({}, {"locale": "zh"}, "zh"),
        ({"Accept-Language": "\u00ff;;;q=,=,"}, {}, "en"),
    ],
)
def test_reasons_come_in_the_language_of_the_context_else_of_the_header(
    fitted: TestClient, user: str, headers: dict[str, str], context: dict[str, str], language: str
) -> None:
    told = {name: value.encode("latin-1") for name, value in headers.items()}

    ranked = fitted.post("/v1/rank", json={"user_id": user, "context": context}, headers=told).json()["items"]  # type: ignore[arg-type]  # bytes may be sent
    answer = fitted.post("/v1/explain", json={"user_id": user, "k": 2, "context": context}, headers=told).json()  # type: ignore[arg-type]

    chinese = [any("\u4e00" <= letter <= "\u9fff" for letter in text) for item in ranked for text in item["reasons"]]
    assert chinese
    assert set(chinese) == {language == "zh"}
    assert answer["language"] == language


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({}, "a request needs one of: user_id, history, candidates, query"),
        ({"user_id": "u", "item_id": ""}, "request.item_id: Expected `str` of length >= 1"),
        ({"user_id": "u", "phrase": 1}, "request.phrase: Expected `bool`, got `int`"),
        (
            {"user_id": "u", "phrase": True},
            "phrase is true, but the stage reasons of this model names no model to phrase with",
        ),
    ],
)
def test_what_cannot_be_explained_is_the_callers_fault(fitted: TestClient, fields: dict[str, Any], detail: str) -> None:
    response = fitted.post("/v1/explain", json=fields)

    assert response.status_code == 422
    assert response.json()["detail"] == detail


class Speaks:
    """A back end that says what it is told to."""

    remote = False
    kinds = frozenset({"order"})
    fingerprint = "speaks"

    def __init__(self, text: str, error: Exception | None = None) -> None:
        self.text, self.error = text, error
        self.heard: list[tuple[Question, float]] = []

    def ask(self, question: Question, timeout_s: float) -> Reply:
        self.heard.append((question, timeout_s))
        if self.error is not None:
            raise self.error
        return Reply(self.text)


def speaking(engine: Engine, monkeypatch: pytest.MonkeyPatch, backend: Speaks, **settings: Any) -> TestClient:
    """The service of an engine whose reasons are phrased by ``backend``."""
    config = Reasons.Config(phrase=BackendConfig(model="it"), **settings)
    stages = tuple(
        replace(b, run=Reasons(config, engine.catalogue)) if b.step.name == "reasons" else b for b in engine.stages
    )
    monkeypatch.setattr(warming, "open_backend", lambda config, kind: backend)
    return TestClient(create_app(replace(engine, stages=stages)), raise_server_exceptions=False)


def test_a_model_phrases_only_when_it_is_asked_to(
    tiny_engine: Engine, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Speaks("People with a taste like yours enjoy this one.")
    client = speaking(tiny_engine, monkeypatch, backend)

    silent, answer = asked(client, user_id=user, k=2), asked(client, user_id=user, k=2, phrase=True)

    assert "said" not in silent
    assert answer["said"] == {item["item_id"]: backend.text for item in answer["items"]}
    assert answer["refused"] == {}
    assert 'tailwise_phrases_total{outcome="said"} 2.0' in client.get("/metrics").text
    assert len(backend.heard) == 2
    assert all(0 < seconds <= 5 for _, seconds in backend.heard)


def test_a_phrase_that_names_another_item_is_refused_and_counted(
    tiny_engine: Engine, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_engine.catalogue.title(0)
    client = speaking(tiny_engine, monkeypatch, Speaks(f"Because you liked “{other} and more”."))

    answer = asked(client, user_id=user, k=3, phrase=True)

    assert answer["said"] == {}
    assert answer["refused"] == {"names": 3}
    assert 'tailwise_phrases_total{outcome="names"} 3.0' in client.get("/metrics").text
    assert all(item["reasons"] for item in answer["items"])  # the plain sentences stand


@pytest.mark.parametrize("error", [TimeoutError("late"), UnavailableError("nobody answers")])
def test_a_model_that_does_not_answer_leaves_the_plain_sentences(
    tiny_engine: Engine, user: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    answer = asked(speaking(tiny_engine, monkeypatch, Speaks("", error)), user_id=user, k=2, phrase=True)

    assert (answer["said"], answer["refused"]) == ({}, {"failed": 2})


def test_after_the_deadline_nobody_is_asked(tiny_engine: Engine, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Speaks("Fine.")

    answer = asked(speaking(tiny_engine, monkeypatch, backend, phrase_ms=1e-6), user_id=user, k=2, phrase=True)

    assert (answer["said"], answer["refused"], backend.heard) == ({}, {"late": 2}, [])


def test_names_of_a_model_go_with_it() -> None:
    gone = []
    for _ in range(3):
        catalogue = cinema().catalogue
        explaining._titles(catalogue)
        assert explaining._titles(catalogue) is explaining._titles(catalogue)
        gone.append(weakref.ref(catalogue))
        del catalogue
    gc.collect()

    assert [one() for one in gone] == [None, None, None]
