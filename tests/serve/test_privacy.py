import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tailwise.data.pseudonyms import Pseudonyms
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.serve.app import create_app
from tailwise.serve.auth import SCOPES
from tailwise.serve.service import Service
from tailwise.state.sqlite import SqliteStore
from tailwise.types import Request, Slate

SECRET = "0123456789abcdef" * 4
MARK = "wilhelmina-9271"


def best(client: TestClient, user_id: str) -> list[str]:
    answer = client.post("/v1/rank", json={"request_id": "r", "user_id": user_id, "k": 5, "exclude_seen": False}).json()
    return [item["item_id"] for item in answer["items"]]


def written(folder: Path) -> bytes:
    """Every byte of every file below a folder."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@dataclass(frozen=True)
class Remembering:
    """A stage that keeps something of each person, and can forget."""

    kept: dict[str | None, int]
    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        self.kept[request.user_id] = len(slate)
        return slate

    def forget(self, user_id: str) -> int:
        return int(self.kept.pop(user_id, None) is not None)


@pytest.fixture
def filed(engine: Engine, tmp_path: Path) -> Iterator[TestClient]:
    """The cinema with its state in a folder of files."""
    (tmp_path / "state").mkdir()
    engine.store = SqliteStore(tmp_path / "state" / "state.sqlite")
    with TestClient(create_app(engine), raise_server_exceptions=False) as client:
        yield client


def test_an_erased_person_is_gone_everywhere(client: TestClient) -> None:
    client.post("/v1/events", json=[{"user_id": "u1", "item_id": "i1"}, {"user_id": "u2", "item_id": "i1"}])

    answer = client.delete("/v1/users/u1").json()

    told = "events of the fit, no longer used; gone with the next fit"
    assert answer.pop("removed") == {"state": 1, "caches": {}, "model": told}
    assert answer == {"user_id": "u1", "erased": True, "events": 1}
    assert client.get("/v1/users/u1").json() == {"user_id": "u1", "total": 0, "events": []}
    assert "u1" not in [person["user_id"] for person in client.get("/v1/people?search=u1").json()["people"]]
    assert best(client, "u1") == best(client, "nobody")
    assert client.get("/v1/users/u2").json()["total"] == 15


def test_no_file_of_the_state_holds_an_erased_id(filed: TestClient, tmp_path: Path) -> None:
    event = {"user_id": MARK, "item_id": "i1", "event": "click", "request_id": "r-of-her", "event_id": "e-of-her"}
    filed.post("/v1/events", json=[event, {"user_id": "u2", "item_id": "i1"}])
    best(filed, MARK)
    filed.post("/v1/explain", json={"user_id": MARK, "k": 2})
    assert MARK.encode() in written(tmp_path / "state")  # else the rest would prove nothing

    answer = filed.delete(f"/v1/users/{MARK}")

    assert answer.json()["removed"] == {"state": 1, "caches": {}, "model": "nothing"}
    left = written(tmp_path / "state")
    assert MARK.encode() not in left
    assert b"e-of-her" not in left
    assert b"r-of-her" not in left
    assert b"u2" in left


def test_erasing_says_what_becomes_of_the_log(engine: Engine, tmp_path: Path) -> None:
    service = Service(model=tmp_path / "cinema", log=tmp_path / "log")
    with TestClient(create_app(engine, service)) as client:
        removed = client.delete("/v1/users/u1").json()["removed"]

    assert removed["log"] == "marked; its files are rewritten without the person, in the background"


def test_a_step_that_remembers_people_forgets(app: FastAPI, engine: Engine) -> None:
    run = Remembering({})
    engine.stages = (*engine.stages, Bound("memory", engine.stages[0].step, run))
    with TestClient(app) as client:
        best(client, "u1")
        best(client, "u2")

        answer = client.delete("/v1/users/u1").json()

    assert answer["removed"]["caches"] == {"memory": 1}
    assert set(run.kept) == {"u2"}


def test_an_export_is_everything(client: TestClient) -> None:
    event = {"user_id": "u1", "item_id": "i2", "event": "rating", "value": 4.5, "time": 1.0, "request_id": "r1"}
    event |= {"position": 3, "propensity": 0.5}
    client.post("/v1/events", json=event)

    found = client.get("/v1/users/u1/export").json()

    assert found["user_id"] == "u1"
    assert found["exported"] > 1.7e9
    assert found["model"]["version"] == "c1ne3a00"
    assert len(found["model"]["events"]) == 14
    stored = dict(event)
    del stored["user_id"]
    assert found["state"]["events"] == [stored]
    assert found["state"]["counts"] == {"rating": 1}
    assert not found["erased_before"]


def test_an_export_after_erasing_is_empty(client: TestClient) -> None:
    client.delete("/v1/users/u1")

    found = client.get("/v1/users/u1/export").json()

    assert found["erased_before"]
    assert found["model"]["events"] == found["state"]["events"] == []


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("GET", "/export")])
def test_an_id_longer_than_any_is_refused(client: TestClient, method: str, path: str) -> None:
    response = client.request(method, f"/v1/users/{'x' * 513}{path}")

    assert response.status_code == 422
    assert response.json()["detail"] == "user_id has 513 characters, but at most 512 are taken"


@pytest.fixture
def hidden(engine: Engine, tmp_path: Path) -> Iterator[TestClient]:
    """A service that stores pseudonyms."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "state").mkdir()
    engine.store = SqliteStore(tmp_path / "state" / "state.sqlite")
    service = Service(model=tmp_path / "cinema", pseudonymise=tmp_path / "secret")
    with TestClient(create_app(engine, service), raise_server_exceptions=False) as client:
        yield client


def test_pseudonymised_no_route_stores_or_logs_an_id(
    hidden: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    bodies: dict[str, Any] = {
        "/v1/events": [{"user_id": MARK, "item_id": "i1", "event": "click"}],
        "/v1/rerank": {"query": "war", "documents": ["a war", "a wedding"], "user_id": MARK},
    }
    for operation in SCOPES:
        method, path = operation.split()
        if method == "DELETE" or path.startswith("/v1/model/"):
            continue
        body = {"json": bodies.get(path, {"user_id": MARK, "k": 3, "explain": True})} if method == "POST" else {}
        answer = hidden.request(method, path.replace("{user_id}", MARK).replace("{item_id}", "i1"), **body)
        assert answer.status_code == 200, operation

    name = Pseudonyms(SECRET.encode()).of(MARK)
    stored = written(tmp_path / "state")
    assert MARK.encode() not in stored
    assert name.encode() in stored
    assert not [record for record in caplog.records if MARK in record.getMessage() and "HTTP Request" not in record.msg]
    assert hidden.get("/v1/people").json()["people"] == []


def test_pseudonymised_a_person_is_still_one_person(hidden: TestClient) -> None:
    hidden.post("/v1/events", json={"user_id": MARK, "item_id": "i7", "event": "click"})

    found = hidden.get(f"/v1/users/{MARK}").json()
    stranger = hidden.get(f"/v1/users/{Pseudonyms(SECRET.encode()).of(MARK)}").json()

    assert found["user_id"] == MARK
    assert [event["item_id"] for event in found["events"]] == ["i7"]
    assert stranger["total"] == 0  # a pseudonym opens nothing
    assert len(hidden.get(f"/v1/users/{MARK}/export").json()["state"]["events"]) == 1
    assert hidden.delete(f"/v1/users/{MARK}").json()["events"] == 1
    assert hidden.get(f"/v1/users/{MARK}").json()["total"] == 0


def test_erasing_answers_in_json_that_tells_every_place(client: TestClient) -> None:
    answer = client.delete("/v1/users/stranger")

    assert json.loads(answer.text)["removed"] == {"state": 0, "caches": {}, "model": "nothing"}
