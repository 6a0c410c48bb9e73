"""
Where the figures of a run go: TensorBoard, MLflow, Weights & Biases, or nowhere.

    train ─▶ Watched.epoch ─▶ Tracker ─▶ <cache>/runs/<data>-<version>

While it goes on a run has a name of its own; at its end it takes the version of the model that it made. Nothing leaves
this machine unless the environment says so (``MLFLOW_TRACKING_URI``, ``WANDB_MODE``).
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tailwise.errors import UnavailableError

log = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]


class Tracker(Protocol):
    """Takes figures. It may fail: who uses it goes on without."""

    def log(self, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Figures of one epoch, from 1, of the net called ``name``."""
        ...

    def close(self, name: str | None) -> str:
        """End the run under its last name, or as it stands with None; how to look at it."""
        ...


Begin = Callable[[], Tracker]


@dataclass
class Watched:
    """A report of progress that is told every epoch's figures too; pass it where a report is asked for."""

    report: Report
    begin: Begin | None = None
    """Opens the run when its first figures come: what trains no net leaves no empty run."""
    listen: Callable[[str, int, Mapping[str, float]], None] = lambda name, number, figures: None  # noqa: ARG005  nobody
    """Told first; what it raises ends the training."""
    _tracker: Tracker | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        self.report(what, done, total)

    def epoch(self, name: str, number: int, figures: Mapping[str, float]) -> None:
        """Figures of one epoch, from 1: ``loss``, ``learning_rate``, ``seconds``, and ``validation`` when judged."""
        known = {key: value for key, value in figures.items() if math.isfinite(value)}
        self.listen(name, number, known)
        try:
            if self.begin is not None:
                self._tracker, self.begin = self.begin(), None
            if self._tracker is not None:
                self._tracker.log(name, number, known)
        except Exception as error:  # noqa: BLE001  figures are a convenience: the work goes on without
            self._give_up(error)

    def close(self, name: str | None) -> str | None:
        """End the run, under the version of its model when there is one; how to look at it, None without a run."""
        try:
            return None if self._tracker is None else self._tracker.close(name)
        except Exception as error:  # noqa: BLE001  the model is there all the same
            self._give_up(error)
            return None

    def _give_up(self, error: Exception) -> None:
        log.warning("tracking ended: %s: %s", type(error).__name__, error)
        self.begin = self._tracker = None


def tracker_of(kind: str, runs: Path, name: str, environment: MutableMapping[str, str]) -> Begin | None:
    """
    What opens a run.

    Args:
        kind: ``tensorboard``, ``mlflow``, ``wandb`` or ``none``.
        runs: The folder of all runs.
        name: Of the run while it goes on.
        environment: What says where MLflow and Weights & Biases keep things; nothing in it keeps them here.

    Returns:
        None for ``none``, and for ``tensorboard``, the default, where that is not installed.

    Raises:
        UnavailableError: The package that is asked for is not installed.
    """
    kinds: dict[str, Callable[[Path, str, MutableMapping[str, str]], Tracker]] = {
        "tensorboard": TensorBoard,
        "mlflow": MLflow,
        "wandb": WeightsAndBiases,
    }
    if kind not in kinds:
        return None
    if find_spec(kind) is None:
        if kind == "tensorboard":
            return None
        raise UnavailableError(f"track = {kind!r} needs {kind}: pip install 'tailwise[{kind}]'")
    return partial(kinds[kind], runs, name, environment)


class TensorBoard:
    """A folder of events for ``tensorboard --logdir``."""

    def __init__(self, runs: Path, name: str, environment: Mapping[str, str]) -> None:  # noqa: ARG002  as the others
        from torch.utils.tensorboard import SummaryWriter

        self._folder = runs / name
        self._writer: Any = SummaryWriter(self._folder)

    def log(self, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            self._writer.add_scalar(f"{name}/{key}", value, epoch)
        self._writer.flush()

    def close(self, name: str | None) -> str:
        self._writer.close()
        if name is not None:
            last = self._folder.with_name(name)
            shutil.rmtree(last, ignore_errors=True)  # of an earlier fit that gave the same model
            self._folder = self._folder.rename(last)
        return f"figures of every epoch are in {self._folder}; look: tensorboard --logdir {self._folder.parent}"


class MLflow:
    """A run of the experiment ``tailwise``, in an SQLite file unless ``MLFLOW_TRACKING_URI`` says where."""

    def __init__(self, runs: Path, name: str, environment: MutableMapping[str, str]) -> None:
        environment.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        runs.mkdir(parents=True, exist_ok=True)
        self._uri = environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs / 'mlflow.sqlite'}"
        self._client = MlflowClient(self._uri)
        known = self._client.get_experiment_by_name("tailwise")
        artifacts = (runs / "mlflow-artifacts").as_uri()
        experiment = known.experiment_id if known else self._client.create_experiment("tailwise", artifacts)
        self._run = self._client.create_run(experiment, run_name=name).info.run_id

    def log(self, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            self._client.log_metric(self._run, f"{name}/{key}", value, step=epoch)

    def close(self, name: str | None) -> str:
        if name is not None:
            self._client.update_run(self._run, name=name)
        self._client.set_terminated(self._run, "FINISHED" if name else "KILLED")
        return f"figures of every epoch are in MLflow; look: mlflow ui --backend-store-uri {self._uri}"


class WeightsAndBiases:
    """A run of the project ``tailwise``, kept on this machine unless ``WANDB_MODE`` says otherwise."""

    def __init__(self, runs: Path, name: str, environment: Mapping[str, str]) -> None:
        import wandb

        runs.mkdir(parents=True, exist_ok=True)
        mode: Any = environment.get("WANDB_MODE") or "offline"
        quiet = wandb.Settings(silent=True, console="off", save_code=False, disable_git=True)
        self._run: Any = wandb.init(project="tailwise", name=name, dir=runs, mode=mode, settings=quiet)
        self._seen: set[str] = set()
        self._end = wandb.teardown

    def log(self, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        if name not in self._seen:  # each net counts its own epochs
            self._seen.add(name)
            self._run.define_metric(f"{name}/*", step_metric=f"{name}/epoch")
        self._run.log({f"{name}/epoch": epoch, **{f"{name}/{key}": value for key, value in figures.items()}})

    def close(self, name: str | None) -> str:
        if name is not None:
            self._run.name = name
        where = Path(self._run.dir).parent
        self._run.finish(exit_code=0 if name else 1)
        self._end()  # or the file is whole only when this process is gone
        return f"figures of every epoch are in {where}; send them: wandb sync {where}"
