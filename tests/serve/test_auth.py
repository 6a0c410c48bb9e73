import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tailwise.pipeline import Engine
from tailwise.serve.app import ROUTERS, create_app
from tailwise.serve.auth import OPEN, SCOPES, RouteTable, credentials_of
from tailwise.serve.keys import create_key, revoke_key
from tailwise.serve.service import Service

SCOPE_NAMES = ("read", "write", "admin")


@dataclass
class Guarded:
    """A service behind a door, and a key of each scope."""

    client: TestClient
    keys: dict[str, str]
    file: Path

    def ask(self, operation: str, key: str | None = None, **other: Any) -> Any:
        method, path = operation.split()
        path = path.replace("{user_id}", "u1").replace("{item_id}", "i3")
        headers = {**({} if key is None else {"Authorization": f"Bearer {key}"}), **other.pop("headers", {})}
        body = {"json": EXAMPLES.get(path, {})} if method == "POST" else {}
        return self.client.request(method, path, headers=headers, **{**body, **other})


EXAMPLES: dict[str, Any] = {
    "/v1/rank": {"user_id": "u1", "k": 2},
    "/v1/recommend": {"user_id": "u1", "k": 2},
    "/v1/rerank": {"query": "war", "documents": ["a war", "a wedding"]},
    "/v1/explain": {"user_id": "u1", "k": 2},
    "/v1/events": {"user_id": "u1", "item_id": "i1"},
}

NEED_ANOTHER_MODEL = {"POST /v1/model/rollback", "POST /v1/model/canary"}


@pytest.fixture
def guarded(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    monkeypatch.setattr("tailwise.serve.keys.LOOK_EVERY_S", 0.0)
    file = tmp_path / "keys.toml"
    keys = {scope: create_key(file, now=time.time(), scopes=(scope,))[1] for scope in SCOPE_NAMES}
    service = Service(model=tmp_path / "cinema", keys=file, state="memory://")
    with TestClient(create_app(engine, service), raise_server_exceptions=False) as client:
        yield Guarded(client, keys, file)


def described() -> dict[str, dict[str, Any]]:
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    paths = app.openapi()["paths"]
    return {f"{method.upper()} {path}": about for path, methods in paths.items() for method, about in methods.items()}


@pytest.mark.parametrize("operation", described())
def test_every_route_has_a_scope(operation: str) -> None:
    assert operation in SCOPES, "say in serve/auth.py which scope this route needs"


def test_the_table_of_scopes_names_no_route_that_is_gone() -> None:
    hidden = {"GET /", "GET /docs", "GET /openapi.json"}

    assert set(SCOPES) - hidden == set(described())


@pytest.mark.parametrize("operation", SCOPES)
def test_each_route_takes_its_scope_and_no_other(guarded: Guarded, operation: str) -> None:
    needed = SCOPES[operation]

    statuses = {scope: guarded.ask(operation, key).status_code for scope, key in guarded.keys.items()}
    without = guarded.ask(operation).status_code

    assert {scope for scope, status in statuses.items() if status != 403} == ({needed} if needed else {*SCOPE_NAMES})
    assert statuses[needed or "read"] < 400 or operation in NEED_ANOTHER_MODEL
    assert without == (200 if needed == OPEN else 401)


def test_who_has_no_key_is_told_how_to_send_one(guarded: Guarded) -> None:
    answer = guarded.ask("POST /v1/rank")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="tailwise"'
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    wanted = "this needs a key; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
    assert answer.json() == {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": wanted}


def test_a_key_may_come_in_either_header_but_not_two_keys(guarded: Guarded) -> None:
    read, admin = guarded.keys["read"], guarded.keys["admin"]

    by_header = guarded.ask("POST /v1/rank", headers={"X-API-Key": read})
    twice_the_same = guarded.ask("POST /v1/rank", headers={"X-API-Key": read, "Authorization": f"bearer {read}"})
    two = guarded.ask("DELETE /v1/users/{user_id}", headers={"X-API-Key": read, "Authorization": f"Bearer {admin}"})

    assert (by_header.status_code, twice_the_same.status_code, two.status_code) == (200, 200, 400)
    assert two.json()["detail"] == "two different keys came with one request; send one"


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dTpw",
        "Bearer tw_00000000_x",
        "tw_1",
        "Bearer \xff\xfe",
        "Bearer a.b.c",
        "Digest x",
    ],
)
def test_what_is_no_key_opens_nothing(guarded: Guarded, credential: str) -> None:
    answer = guarded.ask("POST /v1/rank", headers={"Authorization": credential.encode("latin-1")})

    assert answer.status_code == 401
    assert (
        answer.json()["detail"]
        == "the key is wrong, has expired or was revoked; ask whoever runs this service for another"
    )


def test_a_revoked_key_stops_while_the_service_runs(guarded: Guarded) -> None:
    read = guarded.keys["read"]
    before = [guarded.ask("POST /v1/rank", read).status_code for _ in range(2)]

    revoke_key(guarded.file, read.split("_")[1], now=time.time())

    assert before == [200, 200]
    assert guarded.ask("POST /v1/rank", read).status_code == 401
    assert guarded.ask("GET /v1/people", guarded.keys["admin"]).status_code == 200


def test_wrong_keys_of_one_address_are_slowed_down_but_right_ones_pass(guarded: Guarded) -> None:
    statuses = [guarded.ask("POST /v1/rank", "tw_00000000_guess").status_code for _ in range(25)]

    assert statuses[:20] == [401] * 20
    assert 429 in statuses[20:]
    slowed = guarded.ask("POST /v1/rank", "tw_00000000_guess")
    assert int(slowed.headers["retry-after"]) >= 1
    assert guarded.ask("POST /v1/rank", guarded.keys["read"]).status_code == 200


def test_a_limit_answers_429_and_says_when_to_come_again(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    _, secret = create_key(file, now=time.time(), scopes=("read",), rate=0.01, burst=2)
    service = Service(model=tmp_path / "cinema", keys=file, state="memory://")
    with TestClient(create_app(engine, service)) as client:
        answers = [client.get("/v1/items", headers={"X-API-Key": secret}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    assert answers[0].headers["ratelimit-limit"] == "2"
    assert 90 <= int(answers[2].headers["retry-after"]) <= 100
    assert answers[2].json()["detail"] == "this key may send 0.01 requests a second; wait as long as Retry-After says"


def test_unknown_paths_tell_strangers_nothing(guarded: Guarded) -> None:
    read = guarded.keys["read"]

    assert guarded.ask("GET /v1/secret-plans").status_code == 401
    assert guarded.ask("GET /v1/secret-plans", read).status_code == 404
    assert guarded.ask("PUT /v1/rank", read).status_code == 405
    assert guarded.ask("GET /static/app.js").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/users/u1/export%0A",
        "/v1/people%0A",
        "/v1/people/",
        "//v1/people",
        "/v1//people",
        "/./v1/people",
        "/static/../v1/people",
        "/static/..%2fv1/people",
        "/V1/PEOPLE",
        "/v1/people;a=b",
        "/v1/users/../people",
        "/v1/users/%2e%2e/people",
        "/v1/people%00",
        "/health/../v1/people",
        "/v1/users/u1%2Fexport",
    ],
)
def test_no_spelling_of_an_address_gets_a_read_key_what_needs_admin(guarded: Guarded, path: str) -> None:
    headers = {"X-API-Key": guarded.keys["read"], "X-Original-URL": "/v1/people", "X-HTTP-Method-Override": "DELETE"}

    answer = guarded.client.get(path, headers=headers, follow_redirects=False)

    found = answer.text
    assert '"people":[{' not in found
    assert '"exported"' not in found
    assert answer.status_code in {200, 307, 403, 404, 405}
    assert answer.status_code != 200 or "/static" in path or path.startswith("/v1/users/")


def test_the_table_finds_what_the_router_finds(guarded: Guarded) -> None:
    table: RouteTable = guarded.client.app.state.routes  # type: ignore[attr-defined]  # a FastAPI, which has a state
    paths = ["/v1/users/a/export", "/v1/users/a", "/v1/users/a/export/b", "/v1/users//export", "/v1/items/a/b/similar"]

    found = {path: table.find("GET", path) for path in paths}

    assert list(found.values()) == [
        "GET /v1/users/{user_id}/export",
        "GET /v1/users/{user_id}",
        "GET /v1/users/{user_id}",
        "GET /v1/users/{user_id}/export",
        "GET /v1/items/{item_id}/similar",
    ]
    assert table.find("DELETE", "/v1/users/a/export") == "DELETE /v1/users/{user_id}"
    assert table.find("POST", "/v1/rank\n") is None


def test_the_description_says_what_needs_a_key(guarded: Guarded) -> None:
    description = guarded.client.get("/openapi.json").json()

    assert set(description["components"]["securitySchemes"]) == {"bearer", "key"}
    assert description["paths"]["/v1/rank"]["post"]["security"] == [{"bearer": []}, {"key": []}]
    assert "429" in description["paths"]["/v1/rank"]["post"]["responses"]
    assert "security" not in description["paths"]["/health"]["get"]


def test_without_keys_everything_is_open(client: TestClient) -> None:
    assert client.get("/v1/people").status_code == 200
    assert client.delete("/v1/users/nobody").status_code == 200
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


def test_keys_are_found_in_either_header() -> None:
    assert credentials_of([(b"authorization", b"Bearer  x "), (b"x-api-key", b"y")]) == {"x", "y"}
    assert credentials_of([(b"authorization", b"Basic x")]) == {""}
    assert credentials_of([]) == set()
