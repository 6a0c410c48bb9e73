"""A generation replaces a model in one step, the one before it stays beside it and can be put back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tailwise import artifacts
from tailwise.errors import ArtifactError
from tailwise.learn.generations import ONLINE, begin_at, open_before, put_back, version_of, write_generation
from tailwise.learn.replay import Replay
from tailwise.pipeline import Engine


def generation(engine: Engine, version: str, parent: str | None = None, root: str = "fit") -> Engine:
    known = {"parent": parent, "root": root, "generation": 1}
    return replace(engine, manifest={**engine.manifest, "version": version, **({ONLINE: known} if parent else {})})


def test_a_generation_is_a_model_with_its_replay_and_the_one_before_stays(tiny_engine: Engine, tmp_path: Path) -> None:
    model, names = tmp_path / "shop", tuple(bound.step.name for bound in tiny_engine.sources)
    write_generation(generation(tiny_engine, "fit"), None, model)

    write_generation(generation(tiny_engine, "second", "fit"), Replay(names), model)

    assert artifacts.check(model)["version"] == version_of(model) == "second"
    assert (model / ONLINE / "replay.safetensors").is_file()
    assert version_of(artifacts.previous_of(model)) == "fit"
    before = open_before(model)
    assert before is not None
    assert before.version == "fit"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["shop", "shop.previous"]


def test_what_was_before_can_be_put_back_and_says_why(tiny_engine: Engine, tmp_path: Path) -> None:
    model = tmp_path / "shop"
    write_generation(generation(tiny_engine, "fit"), None, model)
    write_generation(generation(tiny_engine, "second", "fit"), None, model)

    put_back(model, {"gain_of_this_generation": -0.1})

    assert version_of(model) == "fit"
    assert Engine.open(model).manifest[ONLINE] == {
        "decision": "rolled back",
        "round": {"gain_of_this_generation": -0.1},
    }
    assert version_of(artifacts.previous_of(model)) == "second"
    assert open_before(model) is None  # a rejected one is nothing to go back to


def test_without_one_before_there_is_nothing_to_put_back(tiny_engine: Engine, tmp_path: Path) -> None:
    model = tmp_path / "shop"
    write_generation(generation(tiny_engine, "fit"), None, model)

    with pytest.raises(
        ArtifactError, match=rf"^{re.escape(str(tmp_path))}/shop.previous is not a model folder: it has"
    ):
        put_back(model, {})

    assert version_of(model) == "fit"


def test_a_half_written_previous_is_never_put_back(tiny_engine: Engine, tmp_path: Path) -> None:
    model = tmp_path / "shop"
    write_generation(generation(tiny_engine, "fit"), None, model)
    write_generation(generation(tiny_engine, "second", "fit"), None, model)
    (artifacts.previous_of(model) / "ease" / "ease.safetensors").write_bytes(b"half")

    with pytest.raises(
        ArtifactError, match=r"ease\.safetensors has 4 bytes, but the manifest says \d+; copy it again$"
    ):
        put_back(model, {})

    assert version_of(model) == "second"


def test_one_goes_on_from_out_as_long_as_it_comes_from_the_same_fit(tmp_path: Path) -> None:
    fitted, out = tmp_path / "fitted", tmp_path / "out"
    for folder, manifest in ((fitted, {"version": "fit"}), (out, {"version": "third", ONLINE: {"root": "fit"}})):
        folder.mkdir()
        (folder / artifacts.MANIFEST).write_text(json.dumps(manifest))

    assert begin_at(fitted, out) == out
    assert begin_at(fitted, tmp_path / "nothing there") == fitted
    (fitted / artifacts.MANIFEST).write_text('{"version": "another fit"}')
    assert begin_at(fitted, out) == fitted
