"""Generations of a model on the disk: the one that serves, the one before it beside it, and what replaces what."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailwise import artifacts
from tailwise.learn.replay import Replay
from tailwise.pipeline import Engine
from tailwise.pipeline.stored import fill_model

ONLINE = "online"
"""Folder in a model, and entry of its manifest."""


def write_generation(engine: Engine, replay: Replay | None, model: Path) -> None:
    """
    Put a new generation in the place of a model, in one step; the one that was there stays beside it.

    Raises:
        UnavailableError: The disk refuses; the old model stands.
    """
    with artifacts.writing(model, engine.manifest, keep=True) as folder:
        fill_model(engine, folder)
        if replay is not None:
            replay.save(folder / ONLINE)


def put_back(model: Path, told: Mapping[str, Any]) -> None:
    """
    Put the generation before a model in its place again, in one step; the one that goes stays beside it.

    Args:
        model: Where it stands.
        told: Why; goes into the manifest.

    Raises:
        ArtifactError: There is none before it, or it is damaged.
        UnavailableError: The disk refuses; the model stands.
    """
    before = artifacts.previous_of(model)
    manifest = artifacts.check(before)
    online = {**manifest.get(ONLINE, {}), "decision": "rolled back", "round": dict(told)}
    with artifacts.writing(model, {**manifest, ONLINE: online}, keep=True) as folder:
        shutil.copytree(before, folder, dirs_exist_ok=True)


def version_of(model: Path) -> str | None:
    """Of the model that stands there now; None when there is none."""
    return _manifest(model).get("version")


def begin_at(fitted: Path, out: Path) -> Path:
    """Which of two models to go on from: ``out`` when it comes from ``fitted`` as that is now, else ``fitted``."""
    online = _manifest(out).get(ONLINE, {})
    return out if online.get("root") == version_of(fitted) else fitted


def open_before(model: Path) -> Engine | None:
    """The generation before a model, to judge the model by; None when what stands there is not its parent."""
    before, parent = artifacts.previous_of(model), _manifest(model).get(ONLINE, {}).get("parent")
    return Engine.open(before) if parent is not None and version_of(before) == parent else None


def _manifest(model: Path) -> dict[str, Any]:
    path = model / artifacts.MANIFEST
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
