"""``export``: a copy of a model folder whose networks count in eight bits."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailwise.cli.progress import say


def export_verb(verbs: Any, verb: Callable[..., argparse.ArgumentParser]) -> None:
    """The verb that quantises; ``verb`` adds one."""
    export = verb(verbs, "export", "a quantised copy of a model", "tailwise export models/shop --int8")
    export.add_argument("model", metavar="MODEL", type=Path, help="model folder")
    export.add_argument("--int8", action="store_true", required=True, help="weights in eight bits, activations by row")
    export.add_argument("--out", metavar="COPY", type=Path, help="folder to write (default: MODEL-int8)")


def export_model(options: argparse.Namespace) -> int:
    """
    Write a copy with every network quantised, and say what each lost in size.

    A network that is int8 already is copied as it is. What the items' vectors were made with does not matter: the
    encoder's vectors move by less than what tells two items apart.

    Raises:
        ArtifactError: The model is damaged, or something else than a model stands in the copy's place.
        UnavailableError: The package onnx is missing, or the disk refuses.
        ConfigError: The copy would replace the model itself.
    """
    from importlib import util

    from tailwise import artifacts
    from tailwise.errors import UnavailableError, UsageError
    from tailwise.nets.quantise import quantise_onnx

    if util.find_spec("onnx") is None:
        raise UnavailableError("exporting a model needs onnx: pip install 'tailwise[train]'")
    out = options.out or options.model.with_name(f"{options.model.name}-int8")
    if out.resolve() == options.model.resolve():
        raise UsageError(f"--out is {out}, which is the model itself; choose another folder")
    manifest = artifacts.check(options.model)
    changed: dict[str, int] = {}
    with artifacts.writing(out, {**manifest, "int8": changed}, keep=True) as fresh:
        shutil.copytree(options.model, fresh, dirs_exist_ok=True)
        for path in sorted(fresh.rglob("*.onnx")):
            before, name = path.stat().st_size, str(path.relative_to(fresh))
            changed[name] = quantise_onnx(path, path)
            if changed[name]:
                mark_int8(path.with_name("config.json"))
            say(f"{name}: {before / 1e6:.2f} MB to {path.stat().st_size / 1e6:.2f} MB, {changed[name]} tables in int8")
    say(f"saved {out}; next: tailwise serve {out}")
    return 0


def mark_int8(card: Path) -> None:
    """Say in an encoder's card that it is quantised now; other networks have no such card."""
    from tailwise.encode.exported import FORMAT, is_exported

    if is_exported(card.parent):
        known = json.loads(card.read_text(encoding="utf-8"))
        card.write_text(json.dumps({**known, "int8": True, "format": FORMAT}, indent=2), encoding="utf-8")
