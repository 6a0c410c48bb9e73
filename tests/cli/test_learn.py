"""``tailwise learn``: from the service's log to the next generation, as its user runs it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tailwise import artifacts
from tailwise.cli import main
from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.changing import ChangingWorld, make_changing_world
from tailwise.learn.fit import fit
from tailwise.pipeline import Engine
from tailwise.serve.places import state_beside
from tailwise.state.log import EventLog
from tailwise.state.opening import open_store
from tailwise.types import Event

PIPELINE = PipelineConfig(
    encode=EncodeConfig(model="hash", whiten_dim=16),
    retrieve=(Step(name="popular", k=30), Step(name="ease", k=30), Step(name="next_item", k=30)),
    stage=(Step(name="fusion"), Step(name="bandit", settings={"slots": [3]}), Step(name="reasons")),
    exclude_seen=False,
)


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(scope="module")
def world() -> ChangingWorld:
    return make_changing_world(users=30, items=20, days=60, groups=2, seed=1, parts=())


@pytest.fixture
def model(world: ChangingWorld, tmp_path: Path) -> Path:
    settings = Settings(cache=tmp_path / "cache", threads=1)
    fit(world.dataset.with_events(world.dataset.events.head(1_200)), PIPELINE, settings=settings).save(
        tmp_path / "shop"
    )
    return tmp_path / "shop"


def log_of(world: ChangingWorld, folder: Path, state: str, start: int, stop: int) -> None:
    """What the service would write: events through a store into segments, some of them answers to lists."""
    store = open_store(state)
    log = EventLog(store, folder)
    rows = world.dataset.events.slice(start, stop - start).select("user_id", "item_id", "time").iter_rows()
    answers = {"position": 3, "propensity": 0.25}
    events = [Event(*row, "click") for row in rows]
    store.append([replace(e, request_id=f"r{n}", **answers) if n % 4 == 0 else e for n, e in enumerate(events)])  # type: ignore[arg-type]  # two kinds of field
    log.write(everything=True)
    store.close()


def test_the_services_log_makes_a_generation_that_opens_and_remembers(
    world: ChangingWorld, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, first = f"sqlite:///{tmp_path}/state.sqlite", Engine.open(model)
    log_of(world, tmp_path / "log", state, 1_200, 1_500)

    assert run("learn", model, "--follow", tmp_path / "log", "--once", "--state", state) == 0

    (told,) = said(capsys)
    assert (told["decision"], told["events"], told["generation"]) == ("learned", 300, 1)
    assert told["rewards"] == 75
    engine = Engine.open(model)
    assert engine.version == told["version"] != first.version
    assert engine.manifest["online"]["parent"] == first.version
    assert len(engine.people) == 1_500
    assert artifacts.check(artifacts.previous_of(model))["version"] == first.version

    log_of(world, tmp_path / "log", state, 1_500, 1_750)
    assert run("learn", model, "--follow", tmp_path / "log", "--once") == 0

    (told,) = said(capsys)
    assert (told["events"], told["generation"], told["events_learned"]) == (250, 2, 550)
    assert told["parent"] == engine.version
    assert "gain_of_this_generation" in told


def test_few_events_wait_and_out_leaves_the_model_alone(
    world: ChangingWorld, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (model / artifacts.MANIFEST).read_bytes()
    folder = tmp_path / "folder"
    folder.mkdir()
    world.dataset.events.head(1_390).write_parquet(folder / "events.parquet")

    assert run("learn", model, "--follow", folder, "--once", "--out", tmp_path / "next") == 0
    assert said(capsys) == [{"decision": "waiting", "version": json.loads(before)["version"], "events": 190}]
    assert not (tmp_path / "next").exists()
    assert run("learn", model, "--follow", folder, "--once", "--out", tmp_path / "next", "--least", "100") == 0

    assert [each["decision"] for each in said(capsys)] == ["learned"]
    assert (model / artifacts.MANIFEST).read_bytes() == before
    assert Engine.open(tmp_path / "next").manifest["online"]["root"] == json.loads(before)["version"]


@pytest.mark.parametrize("given", [True, False])
def test_whoever_was_erased_is_not_in_the_next_generation(
    world: ChangingWorld, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: bool
) -> None:
    state = f"sqlite:///{tmp_path}/state.sqlite" if given else state_beside(model)  # where the service has it
    log_of(world, tmp_path / "log", state, 1_200, 1_500)
    store = open_store(state)
    store.erase("u07")
    EventLog(store, tmp_path / "log").write(everything=True)
    store.close()

    assert run("learn", model, "--follow", tmp_path / "log", "--once", *(["--state", state] if given else [])) == 0

    capsys.readouterr()
    engine = Engine.open(model)
    past = engine.people.history("u07", engine.catalogue)
    assert past is None or not len(past)
    assert b"u07" not in (model / "people" / "people.parquet").read_bytes()


def test_bad_asking_is_told_in_a_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("learn", model, "--follow", tmp_path / "no", "--once") == 1
    assert re.fullmatch(
        r"tailwise: .*/no is no folder; give the one that tailwise serve --log writes\n", capsys.readouterr().err
    )
    assert run("learn", tmp_path / "no", "--follow", tmp_path, "--once") == 1
    assert "is not a model folder" in capsys.readouterr().err
    assert run("learn", model, "--follow", tmp_path, "--every", "0") == 2
    assert capsys.readouterr().err == "tailwise: --every is 0, but it must be above 0 seconds\n"
    assert run("learn", model, "--follow", tmp_path, "--once", "--state", "sqlite:///no.sqlite") == 2
    rule = "but no file is there; give the one that tailwise serve has"
    assert capsys.readouterr().err == f"tailwise: state is 'sqlite:///no.sqlite', {rule}\n"


def test_an_empty_log_waits(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()

    assert run("learn", model, "--follow", tmp_path / "empty", "--once") == 0

    assert [each["decision"] for each in said(capsys)] == ["waiting"]
