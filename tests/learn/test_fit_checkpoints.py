"""An interrupted fit is picked up by the same fit, and by no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
pytest.importorskip("implicit", reason="needs implicit: pip install 'tailwise[train]'")

from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.load import Dataset
from tailwise.data.synthetic import make_world
from tailwise.learn.fit import fit
from tailwise.pipeline import Engine

CONFIG = PipelineConfig(
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


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_world(users=40, items=48, events_per_user=10, groups=4, requests=1, seed=3).dataset


@pytest.fixture
def fitted(tmp_path: Path) -> Fit:
    """``fit`` with a cache of its own and one thread."""
    settings = Settings(cache=tmp_path / "cache", threads=1)
    return lambda data, config=CONFIG, **more: fit(data, config, settings=settings, **more)


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


@pytest.mark.parametrize("where", [("sequence", 2), ("fusion", 0)])
def test_an_interrupted_fit_is_picked_up_and_a_finished_one_leaves_no_checkpoints(
    where: tuple[str, int], data: Dataset, fitted: Fit, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    fitted(data, CONFIG).save(tmp_path / "whole")
    with pytest.raises(Stopped):
        fitted(data, CONFIG, checkpoints=checkpoints, report=stop_at(*where))
    assert list(checkpoints.rglob("progress.json"))
    told: list[tuple[str, int, int]] = []

    engine = fitted(data, CONFIG, checkpoints=checkpoints, report=lambda *what: told.append(what))

    engine.save(tmp_path / "resumed")
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")
    assert ("sequence", 0, 3) not in told  # the first epochs were not run again
    assert not list(checkpoints.rglob("*"))


OTHER_FITS: dict[str, Callable[[Dataset], dict[str, Any]]] = {
    "another seed": lambda data: {"data": data, "seed": 1},
    "other data": lambda data: {"data": data.with_events(data.events.head(-1))},
    "other settings": lambda data: {
        "data": data,
        "config": CONFIG.model_copy(update={"encode": EncodeConfig(model="hash", whiten_dim=15)}),
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
        fitted(data, CONFIG, checkpoints=checkpoints, report=stop_at("fusion", 0))
    other = {"config": CONFIG, **OTHER_FITS[change](data)}
    told: list[tuple[str, int, int]] = []

    engine = fitted(**other, checkpoints=checkpoints, report=lambda *what: told.append(what))

    assert ("sequence", 0, 3) in told
    engine.save(tmp_path / "beside")
    fitted(**other).save(tmp_path / "alone")
    assert files(tmp_path / "beside") == files(tmp_path / "alone")
