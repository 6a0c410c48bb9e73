"""Models that change under a running service: real folders, real sockets, requests all the while."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from tests.serve.conftest import cinema, running

from tailwise import artifacts
from tailwise.config import PipelineConfig, Step
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.retrieve.popular import Popular
from tailwise.serve.app import create_app
from tailwise.serve.heap import settle
from tailwise.serve.service import Service

PERSON = {"user_id": "u1", "k": 5}
PATIENCE_S = 15.0


def save(folder: Path, version: str) -> None:
    """A model of the cinema that is told from others by its version, and ranks by a popularity of its own."""
    engine, step = cinema(), Step(name="popular")
    counts = np.random.default_rng(sum(version.encode())).random(96).astype(np.float32)
    source = Bound("popular", step, Popular(Popular.Config(), counts, engine.catalogue.item_ids))
    config = PipelineConfig(retrieve=(step,), stage=())
    replace(engine, config=config, sources=(source,), stages=(), manifest={"version": version, "metrics": {}}).save(
        folder
    )


class Broken:
    """A stage that always fails; it was sound when it was opened."""

    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()

    def __call__(self, *_: object) -> None:
        raise ValueError("no")


@contextmanager
def house(folder: Path, **settings: Any) -> Iterator[tuple[FastAPI, httpx.Client]]:
    """The service of MODEL in a folder."""
    model = folder / "model"
    if not model.is_dir():
        save(model, "v1")
    # A pass over the heap of all tests takes longer than one over a service's: nobody is refused for that.
    told = {"watch_s": 0.02, "refuse_after_ms": 60_000.0, **settings}
    app = create_app(Engine.open(model), Service(model=model, **told))
    with running(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield app, client


def until(happened: Callable[[], bool]) -> None:
    """Wait for something that must happen."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, "it never happened"


def version(client: httpx.Client) -> str:
    told: str = client.get("/v1/model").json()["version"]
    return told


def counted(client: httpx.Client, what: str) -> float:
    line = f'tailwise_model_changes_total{{what="{what}"}} '
    return sum(float(text.removeprefix(line)) for text in client.get("/metrics").text.splitlines() if line in text)


def test_no_request_is_lost_or_mixed_while_the_model_changes(tmp_path: Path) -> None:
    seen: list[tuple[int, str, tuple[str, ...]]] = []
    enough = threading.Event()

    def ask(address: httpx.URL) -> None:
        with httpx.Client(base_url=address, timeout=30) as own:
            while not enough.is_set():
                answer = own.post("/v1/rank", json=PERSON)
                told = answer.json()
                seen.append((answer.status_code, told["version"], tuple(item["item_id"] for item in told["items"])))

    with house(tmp_path) as (_, client):
        threads = [threading.Thread(target=ask, args=(client.base_url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in (2, 3):
            until(lambda: len(seen) > 100 * (number - 1))  # noqa: B023  it is over before the number changes
            save(tmp_path / "model", f"v{number}")
            until(lambda: seen[-1][1] == f"v{number}")  # noqa: B023  as above
        until(lambda: len(seen) > 400)
        enough.set()
        for thread in threads:
            thread.join()
        swapped = counted(client, "swapped")

    assert {status for status, _, _ in seen} == {200}
    assert {told for _, told, _ in seen} == {"v1", "v2", "v3"}
    assert len({(told, items) for _, told, items in seen}) == 3  # each version gives its own list and no other's
    assert swapped == 2


def test_a_new_model_knows_what_people_did_and_who_was_erased(tmp_path: Path) -> None:
    with house(tmp_path) as (app, client):
        store = app.state.context.engine.store
        client.post("/v1/events", json={"user_id": "u1", "item_id": "i90", "event": "click"})
        client.delete("/v1/users/u2")
        save(tmp_path / "model", "v2")
        until(lambda: version(client) == "v2")

        known = client.get("/v1/users/u1").json()["events"][-1]["item_id"]
        erased = client.get("/v1/users/u2").json()["total"]

    assert (known, erased) == ("i90", 0)
    assert app.state.context.engine.store is store


def test_the_old_model_goes_when_nobody_needs_it(tmp_path: Path) -> None:
    with house(tmp_path) as (app, client):
        old = weakref.ref(app.state.context.engine)
        client.post("/v1/rank", json=PERSON)
        gc.disable()  # it goes by itself: nothing in it points back at it
        try:
            save(tmp_path / "model", "v2")
            until(lambda: version(client) == "v2")
            client.post("/v1/rank", json=PERSON)
            until(lambda: old() is None)
        finally:
            gc.enable()


def test_an_old_model_goes_although_something_in_it_points_back_at_it(tmp_path: Path) -> None:
    with house(tmp_path) as (app, client):
        old = weakref.ref(app.state.context.engine)
        app.state.context.engine.circle = [app.state.context.engine]
        settle()  # as at the start of the service: what is set aside is not looked at any more
        save(tmp_path / "model", "v2")

        until(lambda: version(client) == "v2")
        until(lambda: old() is None)


def test_an_old_model_that_a_request_still_held_goes_when_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[bool] = []

    def counted_settle() -> None:
        settle()
        settled.append(True)

    with house(tmp_path) as (app, client):
        held = app.state.context.engine
        held.circle, old = [held], weakref.ref(held)
        monkeypatch.setattr("tailwise.serve.heap.settle", counted_settle)
        save(tmp_path / "model", "v2")
        until(lambda: version(client) == "v2" and bool(settled))
        was_held = old() is not None
        del held
        until(lambda: old() is None)
        times = len(settled)
        for _ in range(20):
            client.post("/v1/model/reload")  # looks again

    assert was_held
    assert len(settled) <= times + 1  # all is in order by then: nobody has to wait again


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest", "nothing"])
def test_a_damaged_model_is_refused_and_the_old_one_goes_on(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    with house(tmp_path) as (_, client):
        other = tmp_path / "other"
        save(other, "v2")
        file = next(other.rglob("*.safetensors"))
        if damage == "changed":
            file.write_bytes(file.read_bytes()[:-1] + b"x")
        elif damage == "missing":
            file.unlink()
        elif damage == "manifest":
            (other / "manifest.json").write_text("{")
        else:
            source = (other / "pipeline.toml").read_text(encoding="utf-8").replace("popular", "nothing")
            (other / "pipeline.toml").write_text(source, encoding="utf-8")
        artifacts._swap(other, tmp_path / "model")

        until(lambda: counted(client, "refused") == 1)
        answer = client.post("/v1/rank", json=PERSON)
        reloaded = client.post("/v1/model/reload")
        save(tmp_path / "model", "v3")  # the next whole one is served
        until(lambda: version(client) == "v3")

    assert (answer.status_code, answer.json()["version"]) == (200, "v1")
    assert reloaded.status_code == 422
    assert any("a model was refused, the old one goes on" in text for text in caplog.messages)


def test_a_model_that_fails_its_own_people_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with house(tmp_path) as (_, client):
        monkeypatch.setattr(Popular, "__call__", Broken.__call__)
        save(tmp_path / "model", "v2")
        until(lambda: counted(client, "refused") == 1)
        monkeypatch.undo()

        answer = client.post("/v1/rank", json=PERSON).json()

    assert answer["version"] == "v1"


def test_rolling_back_takes_one_call_lasts_over_a_restart_and_until_a_newer_one_comes(tmp_path: Path) -> None:
    with house(tmp_path) as (_, client):
        nothing = client.post("/v1/model/rollback")
        save(tmp_path / "model", "v2")
        until(lambda: version(client) == "v2")
        back = client.post("/v1/model/rollback").json()
        looked = client.post("/v1/model/reload").json()
    with house(tmp_path) as (_, client):
        after = version(client)
        save(tmp_path / "model", "v3")
        until(lambda: version(client) == "v3")
        again = client.post("/v1/model/rollback").json()
        undone = client.post("/v1/model/rollback").json()

    assert nothing.status_code == 422
    assert nothing.json()["detail"] == "there is no model before this one: model.previous is not there"
    assert back == {"version": "v1", "before": "v2"}
    assert (looked["version"], after) == ("v1", "v1")
    assert (again["version"], undone["version"]) == ("v1", "v3")


def test_two_services_of_one_folder_follow_one_call(tmp_path: Path) -> None:
    with house(tmp_path) as (_, one), house(tmp_path) as (_, other):
        save(tmp_path / "model", "v2")
        until(lambda: (version(one), version(other)) == ("v2", "v2"))

        one.post("/v1/model/rollback")

        until(lambda: version(other) == "v1")


def test_without_watching_a_model_changes_when_it_is_asked_for(tmp_path: Path) -> None:
    with house(tmp_path, watch_s=0) as (_, client):
        save(tmp_path / "model", "v2")
        before = version(client)
        told = client.post("/v1/model/reload").json()
        nothing_new = client.post("/v1/model/reload").json()

    assert before == "v1"
    assert told == {"version": "v2", "before": "v1"}
    assert nothing_new == {"version": "v2", "before": "v2"}


def people(client: httpx.Client, n: int) -> dict[str, int]:
    """Versions that answer ``n`` people."""
    found: dict[str, int] = {}
    for number in range(n):
        answer = client.post("/v1/rank", json={"user_id": f"p{number}"})
        assert answer.status_code == 200
        told = answer.json()["version"]
        found[told] = found.get(told, 0) + 1
    return found


def on_trial(client: httpx.Client) -> dict[str, Any]:
    told: dict[str, Any] = client.get("/v1/model").json().get("canary", {})
    return told


def test_a_canary_serves_its_share_always_the_same_people_until_it_is_promoted(tmp_path: Path) -> None:
    save(tmp_path / "canary", "v2")
    with house(tmp_path, canary=tmp_path / "canary", canary_share=0.3) as (_, client):
        until(lambda: "version" in on_trial(client))
        first, second = people(client, 120), people(client, 120)
        more = client.post("/v1/model/canary", json={"share": 1.0}).json()
        everybody = people(client, 5)
        promoted = client.post("/v1/model/canary", json={"promote": True}).json()
        metrics = client.get("/metrics").text
        back = client.post("/v1/model/rollback").json()
        after = people(client, 20)

    assert first == second
    assert 15 < first["v2"] < 60  # 36 expected of 120
    assert more["canary"]["share"] == 1.0
    assert everybody == {"v2": 5}
    assert (promoted["version"], promoted["before"]) == ("v2", "v1")
    assert 'tailwise_model_seconds_count{version="v2"}' in metrics
    assert promoted["canary"] == {"share": 0.0, "why": "it was promoted"}
    assert back["version"] == "v1"
    assert after == {"v1": 20}


def test_a_canary_that_fails_is_switched_off_and_nobody_loses_an_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "canary", "v2")
    with house(tmp_path, canary=tmp_path / "canary", canary_share=0.5, canary_after=40) as (app, client):
        until(lambda: "version" in on_trial(client))
        engine = app.state.context.models.canary.served.engine
        engine.answer = Broken()
        found = people(client, 60)
        until(lambda: on_trial(client).get("share") == 0 and "failed" in on_trial(client)["why"])
        off = counted(client, "canary_off")
    with house(tmp_path, canary=tmp_path / "canary", canary_share=0.5) as (_, client):  # it stays off after a restart
        client.post("/v1/model/reload")
        after = people(client, 20)

    assert found == {"v1": 60}
    assert off == 1
    assert after == {"v1": 20}
    assert any(text.startswith("the canary was switched off: 100.0% of its answers failed") for text in caplog.messages)


def test_a_canary_that_does_without_a_stage_is_switched_off(tmp_path: Path) -> None:
    save(tmp_path / "canary", "v2")
    with house(tmp_path, canary=tmp_path / "canary", canary_share=0.5, canary_after=40) as (app, client):
        until(lambda: "version" in on_trial(client))
        engine = app.state.context.models.canary.served.engine
        engine.stages = (Bound("broken", Step(name="broken"), Broken()),)
        people(client, 60)

        until(lambda: on_trial(client).get("share") == 0)
        why = on_trial(client)["why"]

    assert "did without a step" in why


def test_a_trial_is_ended_and_begun_again_by_call(tmp_path: Path) -> None:
    save(tmp_path / "canary", "v2")
    with house(tmp_path, canary=tmp_path / "canary", canary_share=0.5) as (app, client):
        until(lambda: "version" in on_trial(client))
        ended = client.post("/v1/model/canary", json={"share": 0}).json()
        held = app.state.context.models.canary
        too_late = client.post("/v1/model/canary", json={"promote": True})
        begun = client.post("/v1/model/canary", json={"share": 0.2}).json()
        neither = client.post("/v1/model/canary", json={})

    assert ended["canary"] == {"share": 0.0, "why": "asked for"}
    assert held is None
    assert too_late.status_code == 422
    assert (begun["canary"]["version"], begun["canary"]["share"]) == ("v2", 0.2)
    assert neither.json()["detail"] == "give one of: share, promote"


def test_a_shadow_is_compared_with_the_main_model_while_a_canary_is_tried(tmp_path: Path) -> None:
    save(tmp_path / "canary", "v2")
    save(tmp_path / "shadow", "v3")
    both = {"canary": tmp_path / "canary", "shadow": tmp_path / "shadow"}

    def compared() -> float:
        lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("tailwise_shadow_total")]
        return sum(float(line.split()[-1]) for line in lines)

    with house(tmp_path, **both, canary_share=0.5) as (_, client):
        until(lambda: "version" in on_trial(client))
        until(lambda: client.get("/v1/model").json()["shadow"]["state"] == "answering")
        before = compared()
        found = people(client, 30)
        until(lambda: compared() - before == found["v1"])
        save(tmp_path / "model", "v4")
        until(lambda: version(client) == "v4")  # both make room, and both come back
        until(lambda: "version" in on_trial(client))
        until(lambda: client.get("/v1/model").json()["shadow"]["state"] == "answering")

    assert sorted(found) == ["v1", "v2"]


def test_a_service_without_a_canary_says_how_to_have_one(tmp_path: Path) -> None:
    with house(tmp_path) as (_, client):
        answer = client.post("/v1/model/canary", json={"share": 0.1})

    assert answer.status_code == 422
    assert answer.json()["detail"] == ("this service has no canary; start it with: tailwise serve MODEL --canary OTHER")


def test_a_main_model_changes_beside_a_canary_which_makes_room_and_comes_back(tmp_path: Path) -> None:
    save(tmp_path / "canary", "v9")
    with house(tmp_path, canary=tmp_path / "canary", canary_share=1.0) as (_, client):
        until(lambda: people(client, 1) == {"v9": 1})
        save(tmp_path / "model", "v2")
        until(lambda: version(client) == "v2")

        until(lambda: people(client, 1) == {"v9": 1})


def test_the_loop_of_looking_survives_what_nobody_foresaw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    async def look(**_: object) -> bool:
        looks.append(1)
        await asyncio.sleep(0)
        raise KeyError(json.dumps("unforeseen"))

    with house(tmp_path) as (app, _):
        monkeypatch.setattr(app.state.context.life, "look", look)

        until(lambda: len(looks) > 2)
