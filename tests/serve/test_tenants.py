import itertools
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import jwt
import numpy as np
import pytest
from starlette.testclient import TestClient

from tailwise.config import PipelineConfig, Step
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.retrieve.popular import Popular
from tailwise.serve.auth import SCOPES
from tailwise.serve.keys import create_key
from tailwise.serve.running import bind, load
from tailwise.serve.service import Service

NAMES = ("library", "shop")
SECRET = "k" * 40


@dataclass
class House:
    """Two tenants in one process: what belongs to one has its name in it."""

    client: TestClient
    folder: Path
    keys: dict[str, str] = field(default_factory=dict)

    def ask(self, tenant: str, method: str, path: str, **other: Any) -> Any:
        headers = {"X-API-Key": self.keys[tenant], **other.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **other)


def tenant_model(engine: Engine, folder: Path, tenant: str) -> None:
    """The cinema with every id and title of this tenant's own."""
    import polars as pl

    from tailwise.data.catalogue import Catalogue
    from tailwise.data.interactions import Interactions

    films = engine.catalogue.frame.with_columns(pl.format(f"{tenant}-{{}}", "item_id").alias("item_id"))
    films = films.with_columns(pl.format(f"{{}} of the {tenant}", "title").alias("title"))
    old = engine.catalogue
    catalogue = Catalogue(films, popularity=old.popularity, recent=old.popularity, vectors=old.vectors, tail_cut=0.2)
    people = engine.people
    events = pl.DataFrame(
        {
            "user_id": [f"{tenant}-{name}" for name in people.user_ids[people.users]],
            "item_id": [f"{tenant}-i{row}" for row in people.rows],
            "time": people.times,
            "event": ["click"] * len(people),
            "value": pl.Series([None] * len(people), dtype=pl.Float64),
        }
    )
    step = Step(name="popular")
    source = Bound("popular", step, Popular(Popular.Config(), np.arange(96, dtype=np.float32), catalogue.item_ids))
    config = PipelineConfig(retrieve=(step,), stage=())
    manifest = {"version": f"{tenant}0001", "metrics": {}, "seed": 0}
    people = Interactions.of(events, catalogue)
    replace(
        engine, config=config, catalogue=catalogue, people=people, sources=(source,), stages=(), manifest=manifest
    ).save(folder / tenant)


@pytest.fixture(scope="module")
def house(site: tuple[str, Engine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("tenants")
    for tenant in NAMES:
        tenant_model(site[1], folder, tenant)
    file = folder / "keys.toml"
    now, scopes = time.time(), ("read", "write", "admin")
    keys = {tenant: create_key(file, now=now, scopes=scopes, tenant=tenant)[1] for tenant in NAMES}
    keys["operator"] = create_key(file, now=now, scopes=scopes)[1]
    keys["elsewhere"] = create_key(file, now=now, scopes=scopes, tenant="bank")[1]
    (folder / "secret").write_text(SECRET)
    token = 'issuer = "i"\naudience = "a"\nalgorithms = ["HS256"]\nsecret_file = "secret"\ntenant_claim = "org"\n'
    (folder / "jwt.toml").write_text(token)
    service = Service(model=folder, tenants=folder, keys=file, jwt=folder / "jwt.toml")
    with TestClient(load(service), raise_server_exceptions=False) as client:
        yield House(client, folder, keys)


def everything(house: House, tenant: str, mark: str) -> list[tuple[str, Any]]:
    """Every route that needs a key, asked by ``tenant`` with ids, titles and names that hold ``mark``."""
    user, item, query = f"{mark}-u1", f"{mark}-i3", f"of the {mark}"
    event = {"user_id": user, "item_id": item, "event_id": f"{mark}-e", "tenant": mark}
    bodies: dict[str, Any] = {
        "/v1/rank": {"user_id": user, "candidates": [item, f"{mark}-i4"], "explain": True, "tenant": mark},
        "/v1/recommend": {"user_id": user, "explain": True, "context": {"tenant": mark}},
        "/v1/rerank": {"query": query, "documents": [{"id": item}, {"text": "x"}], "user_id": user, "model": "m"},
        "/v1/explain": {"user_id": user, "candidates": [item], "k": 2},
        "/v1/events": [event],
    }
    spoofed = {"X-Tenant": mark, "X-Tailwise-Tenant": mark, "X-Forwarded-User": mark, "Host": f"{mark}.example"}
    cookies = {"tailwise.caller": mark, "tenant": mark}
    answers = []
    for operation in (name for name, scope in SCOPES.items() if scope):
        method, path = operation.split()
        for tail in ("", f"?tenant={mark}", f"?search={mark}"):
            told = path.replace("{user_id}", user).replace("{item_id}", item) + tail
            body = {"json": bodies.get(path, {})} if method == "POST" else {}
            house.client.cookies.update(cookies)
            answers.append((told, house.ask(tenant, method, told, headers=spoofed, **body)))
    house.client.cookies.clear()
    return answers


@pytest.mark.parametrize(("tenant", "other"), list(itertools.permutations(NAMES)))
def test_nobody_crosses_on_any_route(house: House, tenant: str, other: str) -> None:
    secret = f"{other}-secret-item"
    event = {"user_id": f"{other}-u1", "item_id": secret, "event_id": f"{other}-e", "event": "click"}
    assert house.ask(other, "POST", "/v1/events", json=event).status_code == 200
    before = house.ask(other, "GET", f"/v1/users/{other}-u1").json()

    answers = everything(house, tenant, other)

    assert len(answers) >= 33
    for path, answer in answers:
        assert answer.status_code < 500, (path, answer.text)
        found = answer.text
        assert secret not in found, path
        assert f"{other}0001" not in found, path
        assert f"of the {other}" not in found, path  # which is in every title of the other's
    after = house.ask(other, "GET", f"/v1/users/{other}-u1").json()
    assert after == before  # the other's erasing, and events with the same id, changed nothing here
    assert house.ask(other, "POST", "/v1/events", json=event).json()["new"] == 0


def test_each_has_answers_of_its_own(house: House) -> None:
    for tenant in NAMES:
        answer = house.ask(tenant, "POST", "/v1/recommend", json={"user_id": f"{tenant}-u1"}).json()
        assert answer["version"] == f"{tenant}0001"
        assert len(answer["items"]) == 10
        assert all(item["item_id"].startswith(tenant) for item in answer["items"])
        card = house.ask(tenant, "GET", "/v1/model").json()
        assert card["version"] == f"{tenant}0001"


def test_each_state_is_a_file_of_its_own_without_a_word_of_the_others(house: House) -> None:
    for tenant in NAMES:
        event = {"user_id": f"only-{tenant}", "item_id": f"thing-of-{tenant}"}
        house.ask(tenant, "POST", "/v1/events", json=event)

    for tenant, other in itertools.permutations(NAMES):
        files = list(house.folder.glob(f"{tenant}.state.sqlite*"))
        written = b"".join(path.read_bytes() for path in files)
        assert f"only-{tenant}".encode() in written
        assert f"only-{other}".encode() not in written
        assert f"thing-of-{other}".encode() not in written


def test_numbers_are_a_tenants_own_and_the_operator_sees_all(house: House) -> None:
    house.ask("shop", "POST", "/v1/events", json=[{"user_id": "n", "item_id": "n"}] * 7)

    own = {tenant: house.ask(tenant, "GET", "/metrics").text for tenant in NAMES}
    every = house.ask("operator", "GET", "/metrics").text

    def stored(text: str, label: str = "") -> float:
        return float(
            next(line for line in text.splitlines() if line.startswith(f"tailwise_events_total{label} ")).split()[1]
        )

    assert stored(own["shop"]) >= stored(own["library"]) + 5
    assert "tenant" not in own["shop"]
    assert stored(every, '{tenant="shop"}') == stored(own["shop"])
    assert stored(every, '{tenant="library"}') == stored(own["library"])
    assert every.count("# TYPE tailwise_events_total counter") == 1


def test_a_key_of_no_tenant_or_of_another_service_reaches_nobody(house: House) -> None:
    operator = house.ask("operator", "GET", "/v1/people")
    stranger = house.ask("elsewhere", "GET", "/v1/people")

    assert operator.status_code == stranger.status_code == 403
    wanted = "this key has no tenant, but this service serves several; use a key of one of them"
    assert operator.json()["detail"] == wanted
    assert stranger.json()["detail"] == "this service does not serve the tenant of this key"
    assert house.ask("elsewhere", "GET", "/metrics").status_code == 403


@pytest.mark.parametrize("org", ["library", "shop", "bank", "", "../shop", "shop/../library", ["shop"], None, {"a": 1}])
def test_a_tokens_tenant_is_its_claim_and_nothing_else(house: House, org: Any) -> None:
    claims = {"iss": "i", "aud": "a", "sub": "s", "exp": time.time() + 60, "scope": "read", "org": org}
    headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}", "X-Tenant": "shop"}

    answer = house.client.get("/v1/model", headers=headers)

    if org in {"library", "shop"} if isinstance(org, str) else False:
        assert answer.json()["version"] == f"{org}0001"
    else:
        assert answer.status_code == 403


def test_what_is_open_tells_of_no_tenant(house: House) -> None:
    for path in ("/health", "/ready", "/docs", "/", "/openapi.json"):
        answer = house.client.get(path)
        assert answer.status_code == 200
        assert not [name for name in NAMES if name in answer.text], path
    assert house.client.get("/ready").json() == {"status": "ready", "tenants": 2}
    assert house.client.get("/v1/model").status_code == 401
    assert house.client.get("/metrics").status_code == 401


def test_a_service_is_ready_when_all_its_tenants_are(house: House, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text((house.folder / "keys.toml").read_text())
    for tenant in NAMES:
        (tmp_path / tenant).symlink_to(house.folder / tenant)
    app = load(Service(model=tmp_path, tenants=tmp_path, keys=tmp_path / "keys.toml"))
    with TestClient(app) as client:
        assert client.get("/ready").status_code == 200
        app._app._app._apps["shop"].state.context.engine.store.close()  # type: ignore[attr-defined]  # the Front's

        answer = client.get("/ready")

    assert answer.status_code == 503
    assert answer.json()["detail"] == "the model or the state of a tenant does not answer; the service's log says which"


@contextmanager
def workers(folder: Path) -> Iterator[str]:
    """A service of two workers for every tenant in ``folder``, in processes of their own; its address."""
    with bind("127.0.0.1", random.randrange(20_000, 32_000)) as free:  # the system gives none of these to others
        port = free.getsockname()[1]
    settings = f"model=folder, tenants=folder, keys=folder / 'keys.toml', port={port}, workers=2"
    code = f"from pathlib import Path; folder = Path({str(folder)!r}); serve(Service({settings}))"
    imports = "from tailwise.serve.running import serve; from tailwise.serve.service import Service; "
    with subprocess.Popen([sys.executable, "-c", imports + code], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        try:
            line = started.stdout.readline()
            assert line.startswith(f"serving {folder} on "), line
            yield line.split()[3]
        finally:
            started.terminate()


def test_workers_serve_every_tenant_and_numbers_stay_apart(house: House, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text((house.folder / "keys.toml").read_text())
    for tenant in NAMES:
        (tmp_path / tenant).symlink_to(house.folder / tenant)
    with workers(tmp_path) as address:
        transport = httpx.HTTPTransport(retries=9)  # until the workers listen: waits 0, 0.5, 1, 2, … seconds

        def ask(tenant: str, method: str, path: str, **body: Any) -> httpx.Response:
            # Each request is a connection of its own, so that any of the workers may get it.
            headers = {"X-API-Key": house.keys[tenant], "Connection": "close"}
            return client.request(method, path, headers=headers, **body)

        with httpx.Client(transport=transport, base_url=address, timeout=60) as client:
            for number in range(7):
                ask("shop", "POST", "/v1/events", json={"user_id": "both", "item_id": f"shop-i{number}"})
            ask("library", "POST", "/v1/events", json={"user_id": "both", "item_id": "library-i1"})
            seen = {tenant: ask(tenant, "GET", "/v1/users/both").json()["total"] for tenant in NAMES}
            models = {tenant: ask(tenant, "GET", "/v1/model").json()["version"] for tenant in NAMES}
            own = {tenant: ask(tenant, "GET", "/metrics").text for tenant in NAMES}
            every = ask("operator", "GET", "/metrics").text

    assert seen == {"shop": 7, "library": 1}
    assert models == {"shop": "shop0001", "library": "library0001"}
    assert "tailwise_events_total 7.0\n" in own["shop"]
    assert "tailwise_events_total 1.0\n" in own["library"]
    assert not [tenant for tenant in NAMES for other in NAMES if other != tenant and other in own[tenant]]
    assert 'tailwise_events_total{tenant="shop"} 7.0\n' in every
    assert 'tailwise_events_total{tenant="library"} 1.0\n' in every
    assert every.count("# TYPE tailwise_events_total counter") == 1
