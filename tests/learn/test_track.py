"""Trackers: where figures go, what is left there, and that none of them takes the work down."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tailwise.errors import UnavailableError
from tailwise.learn import track
from tailwise.learn.track import Tracker, Watched, tracker_of

SILENT = lambda *_: None  # noqa: E731  used as a value


class Kept:
    """A tracker in memory."""

    def __init__(self) -> None:
        self.figures: list[tuple[str, int, dict[str, float]]] = []
        self.name: str | None = "open"

    def log(self, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        self.figures.append((name, epoch, dict(figures)))

    def close(self, name: str | None) -> str:
        self.name = name
        return "in memory"


class Broken(Kept):
    """One that fails at once."""

    def log(self, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        raise OSError("no space left")


def follow(watched: Watched) -> None:
    """What a training of two nets tells."""
    for epoch in (1, 2, 3):
        watched.epoch("sequence", epoch, {"loss": 1 / epoch, "validation": epoch / 10, "learning_rate": 0.1})
    watched.epoch("tasks", 1, {"loss": 5.0})


def test_progress_goes_on_to_who_shows_it() -> None:
    told: list[tuple[str, int, int]] = []

    Watched(lambda *what: told.append(what))("sequence", 2, 9)

    assert told == [("sequence", 2, 9)]


def test_every_figure_that_is_a_number_is_kept() -> None:
    kept = Kept()
    watched = Watched(SILENT, lambda: kept)

    watched.epoch("sequence", 1, {"loss": 0.5, "validation": float("nan"), "seconds": float("inf")})

    assert kept.figures == [("sequence", 1, {"loss": 0.5})]
    assert watched.close("shop-1") == "in memory"
    assert kept.name == "shop-1"


def test_a_run_is_opened_once_and_only_when_there_is_something_to_keep() -> None:
    opened: list[Tracker] = []

    def begin() -> Tracker:
        opened.append(Kept())
        return opened[-1]

    idle, busy = Watched(SILENT, begin), Watched(SILENT, begin)

    assert idle.close("shop-1") is None
    assert opened == []
    follow(busy)
    assert len(opened) == 1


def test_a_tracker_that_breaks_ends_the_tracking_and_not_the_work(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(SILENT, Broken)

    follow(watched)

    assert watched.close("shop-1") is None
    assert [record.getMessage() for record in caplog.records] == ["tracking ended: OSError: no space left"]


def test_what_listens_may_end_the_training() -> None:
    def stop(*_: Any) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError):
        follow(Watched(SILENT, listen=stop))


def test_nothing_is_kept_when_nothing_is_wanted(tmp_path: Path) -> None:
    assert tracker_of("none", tmp_path, "shop", {}) is None


def test_without_tensorboard_there_is_quietly_no_tracking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(track, "find_spec", lambda _: None)

    assert tracker_of("tensorboard", tmp_path, "shop", {}) is None


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_what_is_asked_for_and_not_installed_is_named(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(track, "find_spec", lambda _: None)

    rule = rf"^track = '{kind}' needs {kind}: pip install 'tailwise\[{kind}\]'$"
    with pytest.raises(UnavailableError, match=rule):
        tracker_of(kind, tmp_path, "shop", {})


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {tag: [(e.step, round(e.value, 4)) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_tensorboard_gets_a_curve_of_every_figure_under_the_version_of_the_model(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'tailwise[train]'")
    pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    (tmp_path / "shop-abc").mkdir()
    (tmp_path / "shop-abc" / "of an earlier fit").write_text("the same model")
    watched = Watched(SILENT, tracker_of("tensorboard", tmp_path, "shop-now", {}))

    follow(watched)
    said = watched.close("shop-abc")

    where = tmp_path / "shop-abc"
    assert said == f"figures of every epoch are in {where}; look: tensorboard --logdir {tmp_path}"
    assert [path.name for path in tmp_path.iterdir()] == ["shop-abc"]
    assert scalars(where) == {
        "sequence/loss": [(1, 1.0), (2, 0.5), (3, 0.3333)],
        "sequence/validation": [(1, 0.1), (2, 0.2), (3, 0.3)],
        "sequence/learning_rate": [(1, 0.1), (2, 0.1), (3, 0.1)],
        "tasks/loss": [(1, 5.0)],
    }
    assert not (where / "of an earlier fit").exists()


def test_an_interrupted_run_of_tensorboard_stays_under_the_name_that_it_has(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'tailwise[train]'")
    pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    watched = Watched(SILENT, tracker_of("tensorboard", tmp_path, "shop-now", {}))

    follow(watched)
    watched.close(None)

    assert len(scalars(tmp_path / "shop-now")) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what MLflow asks of SQLAlchemy is its own affair
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_mlflow_keeps_a_run_in_a_file_and_sends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(variable, "")  # so that what was there comes back
        monkeypatch.delenv(variable)
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow: pip install 'tailwise[mlflow]'")
    watched = Watched(SILENT, tracker_of("mlflow", tmp_path / "runs", "shop-now", os.environ))

    follow(watched)
    said = watched.close("shop-abc")

    uri = f"sqlite:///{tmp_path / 'runs' / 'mlflow.sqlite'}"
    assert said == f"figures of every epoch are in MLflow; look: mlflow ui --backend-store-uri {uri}"
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("tailwise").experiment_id])
    assert (run.info.run_name, run.info.status) == ("shop-abc", "FINISHED")
    curve = client.get_metric_history(run.info.run_id, "sequence/loss")
    assert [(each.step, each.value) for each in curve] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.data.metrics["tasks/loss"] == 5.0
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_weights_and_biases_keeps_a_run_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs wandb: pip install 'tailwise[wandb]'")
    watched = Watched(SILENT, tracker_of("wandb", tmp_path, "shop-now", {}))

    follow(watched)
    said = watched.close("shop-abc")

    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert said == f"figures of every epoch are in {folder}; send them: wandb sync {folder}"
    (kept,) = folder.glob("*.wandb")
    data = kept.read_bytes()
    for text in (b"sequence/validation", b"tasks/loss", b"shop-abc"):
        assert text in data


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_the_environment_is_not_touched_by_asking(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(track, "find_spec", lambda _: object())
    before = dict(os.environ)

    assert tracker_of(kind, tmp_path, "shop", os.environ) is not None  # nothing is opened yet

    assert dict(os.environ) == before
    assert list(tmp_path.iterdir()) == []
