"""
The peers: what each is, what it installs, which settings it chooses from; and running them, one at a time.

A peer is a script of ``benchmarks/peers`` in an environment of its own (``.venv-peers/NAME``), which is made when it
is missing. Its lists are kept under ``benchmarks/cache`` by data, grid, packages and seed, so that a second run
repeats only what changed. A peer that cannot be installed or fails is reported and left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from quality.measure import Result, Run, measured, read_lists, write_lists
from quality.tasks import DEPTH, Task, write_job

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".venv-peers"


class PeerError(Exception):
    """A peer cannot take part; says why."""


def grid(**values: list[Any]) -> tuple[dict[str, Any], ...]:
    """Every combination."""
    return tuple(dict(zip(values, each, strict=True)) for each in product(*values.values()))


@dataclass(frozen=True)
class Peer:
    """One method to compare with."""

    name: str
    script: str
    grid: tuple[dict[str, Any], ...]
    """What is tried on validation with seed 0; the other seeds take what that chose. One entry is taken as it is."""
    environment: str | None = None
    """Its own, by the name of its requirements file; None: the project's, for what needs numpy alone."""
    draws: bool = True
    """Whether the seed changes anything."""
    elsewhere: int | None = None
    """Of what takes long, seeds on data sets beside our own, where 0 is no part in it; on our own it takes the seeds
    of the ablation. None: as many as are asked."""

    def stem(self, seed: int) -> str:
        """The name of its files, which changes with whatever changes its lists."""
        needs = requirements(self.environment) if self.environment else ""
        key = hashlib.sha256(json.dumps([self.script, self.grid, needs]).encode()).hexdigest()[:8]
        return f"{self.name.lower().replace(' ', '-').replace(',', '')}-{key}-{seed}"


PEERS = (
    Peer("popularity", "popularity.py", ({},), draws=False),
    Peer("EASE", "ease.py", grid(ridge=[100, 200, 500], decay=[0]), draws=False),
    Peer("recency-weighted EASE", "ease.py", grid(ridge=[200, 500], decay=[0.02, 0.05, 0.1, 0.2, 0.5]), draws=False),
    Peer(
        "ALS",
        "implicit_models.py",
        grid(model=["als"], factors=[64, 128], regularization=[0.05], alpha=[1, 5, 20], iterations=[15]),
        environment="implicit",
    ),
    Peer(
        "BPR",
        "implicit_models.py",
        grid(model=["bpr"], factors=[64], learning_rate=[0.01, 0.05], regularization=[0.01], iterations=[50, 150]),
        environment="implicit",
    ),
    Peer(
        "LightGBM LambdaMART",
        "lightgbm_lambdamart.py",
        grid(leaves=[7, 31], learning_rate=[0.05], rounds=[50, 100, 200, 400]),
        environment="lightgbm",
    ),
    Peer(
        "RecTools SASRec",
        "rectools_sasrec.py",
        grid(epochs=[30, 60, 90, 120, 160, 200, 250, 300]),
        environment="rectools",
        elsewhere=0,
    ),
)


def requirements(environment: str) -> str:
    return (SCRIPTS / f"{environment}.txt").read_text(encoding="utf-8")


def peer_runs(task: Task, peer: Peer, seeds: Sequence[int], say: Callable[[str], None]) -> Result:
    """
    A peer's lists over the seeds, from the cache or made now.

    Raises:
        PeerError: Its environment cannot be made, or its script fails.
    """
    folder = task.folder
    if not (folder / "job.npz").is_file():
        write_job(task, folder / "job.npz")
    runs = []
    for seed in seeds if peer.draws else seeds[:1]:
        lists, facts = folder / f"{peer.stem(seed)}.parquet", folder / f"{peer.stem(seed)}.json"
        if not (lists.is_file() and facts.is_file()):
            say(f"{peer.name}, seed {seed}")
            answer(task, peer, seed, folder)
        known = json.loads(facts.read_text(encoding="utf-8"))
        runs.append(Run(peer.name, seed, *measured(task, read_lists(lists, task, DEPTH)), known))
    return Result(peer.name, "peer", runs)


def answer(task: Task, peer: Peer, seed: int, folder: Path) -> None:
    """Run a peer's script once, with one thread, and keep its lists by the items' names."""
    python = interpreter(peer.environment)
    chosen: Sequence[dict[str, Any]] = peer.grid
    if seed and len(peer.grid) > 1:
        first = folder / f"{peer.stem(0)}.json"
        if not first.is_file():
            answer(task, peer, 0, folder)
        chosen = [json.loads(first.read_text(encoding="utf-8"))["settings"]]
    out = folder / f"{peer.stem(seed)}.npy"
    if not out.is_file():
        command = [str(python), str(SCRIPTS / peer.script), str(folder / "job.npz"), str(out), str(seed)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        run([*command, json.dumps(chosen)], f"{peer.name}, seed {seed}", {**os.environ, **threads})
    names = task.catalogue.item_ids
    rows = np.load(out)
    write_lists(out.with_suffix(".parquet"), task.people, [names[own[own >= 0]].tolist() for own in rows])
    out.unlink()


def interpreter(environment: str | None) -> Path:
    """The Python of a peer's environment, which is made when it is missing or asks for other packages now."""
    if environment is None:
        return Path(sys.executable)
    folder, needs = ENVIRONMENTS / environment, SCRIPTS / f"{environment}.txt"
    python, stamp = folder / "bin" / "python", folder / ".made"
    if not (stamp.is_file() and stamp.read_text(encoding="utf-8") == requirements(environment)):
        run([sys.executable, "-m", "venv", str(folder)], f"the environment {environment}")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        torch = [line for line in requirements(environment).splitlines() if line.startswith("torch==")]
        if torch:  # first, so that nothing else decides which build comes
            run([*pip, *torch], f"torch for {environment}")
        run([*pip, "-r", str(needs)], f"the packages of {environment}")
        stamp.write_text(requirements(environment), encoding="utf-8")
    return python


def run(command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    """
    A command to its end; what it prints goes on as it comes.

    Raises:
        PeerError: It ends with an error.
    """
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise PeerError(f"{what} failed with exit {done.returncode}: {last}")
