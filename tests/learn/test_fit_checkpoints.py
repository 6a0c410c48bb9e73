"""An interrupted fit is picked up by the same fit, and by no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
pytest.importorskip("implicit", reason="needs implicit: pip install 'tailwise[train]'")

from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.data.load import Dataset
from tailwise.pipeline import Engine

QUICK = PipelineConfig(
    encode=EncodeConfig(model="hash", whiten_dim=16),
    retrieve=(
        Step(name="popular"),
        Step(
            name="sequence",
            settings={"shape": {"dim": 16, "layers": 1, "max_length": 10}, "train": {"epochs": 3, "patience": 3}},
        ),
    ),
)

Fit = Callable[..., Engine]


def files(folder: Path) -> dict[str, str]:
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    return {name: facts["sha256"] for name, facts in listed.items()}


class Stopped(Exception):  # noqa: N818  it stands for ctrl-c, which is no error
    """Someone pressed ctrl-c."""


def stop_at(what: str, done: int) -> Callable[[str, int, int], None]:
    def report(now: str, so_far: int, total: int) -> None:
        if (now, so_far) == (what, done):
            raise Stopped

    return report


@pytest.mark.parametrize("where", [("sequence", 2), ("slates", 0)])
def test_an_interrupted_fit_is_picked_up_and_a_finished_one_leaves_no_checkpoints(
    where: tuple[str, int], data: Dataset, fitted: Fit, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    fitted(data, QUICK).save(tmp_path / "whole")
    with pytest.raises(Stopped):
        fitted(data, QUICK, checkpoints=checkpoints, report=stop_at(*where))
    assert list(checkpoints.rglob("progress.json"))
    told: list[tuple[str, int, int]] = []

    engine = fitted(data, QUICK, checkpoints=checkpoints, report=lambda *what: told.append(what))

    engine.save(tmp_path / "resumed")
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")
    assert ("sequence", 0, 3) not in told  # the first epochs were not run again
    assert not list(checkpoints.rglob("*"))


OTHER_FITS: dict[str, Callable[[Dataset], dict[str, Any]]] = {
    "another seed": lambda data: {"data": data, "seed": 1},
    "other data": lambda data: {"data": data.with_events(data.events.head(-1))},
    "other settings": lambda data: {
        "data": data,
        "config": QUICK.model_copy(update={"encode": EncodeConfig(model="hash", whiten_dim=15)}),
    },
    "another cut": lambda data: {"data": data, "until": float(data.events["time"].max())},
    "another holdout": lambda data: {"data": data, "holdout": "last"},
}


@pytest.mark.parametrize("change", OTHER_FITS)
def test_checkpoints_of_one_fit_are_never_used_for_another(
    change: str, data: Dataset, fitted: Fit, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(Stopped):
        fitted(data, QUICK, checkpoints=checkpoints, report=stop_at("slates", 0))
    other = {"config": QUICK, **OTHER_FITS[change](data)}
    told: list[tuple[str, int, int]] = []

    engine = fitted(**other, checkpoints=checkpoints, report=lambda *what: told.append(what))

    assert ("sequence", 0, 3) in told
    engine.save(tmp_path / "beside")
    fitted(**other).save(tmp_path / "alone")
    assert files(tmp_path / "beside") == files(tmp_path / "alone")
