"""
Our pipeline on a task: fitted once a seed, asked by the same people, alone and by each of its sources.

Fits are kept like a peer's lists, by task, pipeline, seed and a digest of the source code, so that an interrupted run
goes on where it was and a changed pipeline is fitted again; what an older code left is removed.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from quality.measure import Result, Run, measured, read_lists, write_lists
from quality.peers import ROOT
from quality.tasks import DEPTH, Task

import tailwise
from tailwise.config import PipelineConfig
from tailwise.data.load import Dataset
from tailwise.encode.text import ITEM_COLUMNS
from tailwise.pipeline import Engine
from tailwise.types import Request, Rows

NAME = "tailwise"


@dataclass(frozen=True)
class Variant:
    """A pipeline and what it learns from."""

    name: str
    config: PipelineConfig
    text: bool = True
    """Without: items are stripped of every column that the text is made of."""

    def data(self, train: Dataset) -> Dataset:
        if self.text:
            return train
        return replace(train, items=train.items.drop([name for name in ITEM_COLUMNS if name in train.items.columns]))


WHOLE = Variant(NAME, PipelineConfig())


def our_results(task: Task, variant: Variant, seeds: Sequence[int], say: Callable[[str], None]) -> list[Result]:
    """The pipeline first, then each of its sources alone."""
    runs: dict[str, list[Run]] = {}
    for seed in seeds:
        folder = fitted(task, variant, seed, say)
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        for name in facts["methods"]:
            lists = read_lists(folder / f"{name}.parquet", task, DEPTH)
            own = facts if name == NAME else {}
            runs.setdefault(name, []).append(Run(name, seed, *measured(task, lists), own))
    return [Result(name, "pipeline" if name == NAME else "source", found) for name, found in runs.items()]


def fitted(task: Task, variant: Variant, seed: int, say: Callable[[str], None]) -> Path:
    """The folder of one fit: the model, the lists of each method, and ``facts.json``, which comes last."""
    config = json.dumps([variant.config.model_dump(mode="json"), variant.text], sort_keys=True)
    key = hashlib.sha256(f"{config}{code_digest()}".encode()).hexdigest()[:8]
    stem = f"ours-{variant.name.replace(' ', '-')}"
    folder = task.folder / f"{stem}-{seed}-{key}"
    if (folder / "facts.json").is_file():
        return folder
    say(f"{variant.name}, seed {seed}: fit")
    for old in task.folder.glob(f"{stem}-{seed}-*"):
        shutil.rmtree(old)
    folder.mkdir(parents=True)
    cpu, wall = cpu_seconds(), time.perf_counter()
    engine = tailwise.fit(variant.data(task.split.train), variant.config, seed=seed, report=progress(say))
    facts = {"fit_cpu_s": round(cpu_seconds() - cpu, 1), "fit_wall_s": round(time.perf_counter() - wall, 1)}
    engine.save(folder / "model")
    lists = {
        NAME: answers(task, engine),
        **{b.step.name: source_lists(task, engine, b.step.name) for b in engine.sources},
    }
    for name, own in lists.items():
        write_lists(folder / f"{name}.parquet", task.people, own)
    facts |= {
        "methods": list(lists),
        "chosen": dict(engine.manifest["choices"]),
        "notes": dict(engine.manifest["metrics"]),
    }
    (folder / "facts.json").write_text(json.dumps(facts, indent=1, default=str), encoding="utf-8")
    return folder


def progress(say: Callable[[str], None]) -> Callable[[str, int, int], None]:
    """A line for each new part of a fit."""
    last = ""

    def report(what: str, done: int, total: int) -> None:  # noqa: ARG001  the form that ``fit`` calls
        nonlocal last
        if what != last:
            say(f"    {what}")
            last = what

    return report


def opened(task: Task, variant: Variant, seed: int, say: Callable[[str], None]) -> Engine:
    """A fitted engine, as a service would open it."""
    return Engine.open(fitted(task, variant, seed, say) / "model")


def answers(task: Task, engine: Engine, *, k: int = DEPTH) -> list[list[str]]:
    """What the pipeline shows each person."""
    return [engine.answer(replace(asked(task, r), k=k)).slate.item_ids.tolist() for r in task.cases.requests]


def source_lists(task: Task, engine: Engine, name: str, *, k: int = DEPTH) -> list[list[str]]:
    """What one source alone would show each person."""
    source = next(bound.run for bound in engine.sources if bound.step.name == name)
    found = []
    for request in task.cases.requests:
        own = placed(asked(task, request), engine)
        seen: Rows = np.unique(own.past.rows[own.past.rows >= 0]) if task.exclude_seen else np.empty(0, np.int64)
        found.append(source(replace(own, excluded=seen), k).item_ids.tolist())
    return found


def asked(task: Task, request: Request) -> Request:
    """A fresh request: nothing computed before is kept."""
    return replace(request, exclude_seen=task.exclude_seen, cache={})


def placed(request: Request, engine: Engine) -> Request:
    """The history with rows of the engine's own catalogue, its newest events, as the engine itself would cut it."""
    past = request.past.place(engine.catalogue.rows(request.past.item_ids))
    return replace(request, history=past.take(slice(-engine.config.max_history, None)))


def without(config: PipelineConfig, *names: str) -> PipelineConfig:
    """The same pipeline, less some sources and stages."""
    return config.model_copy(
        update={
            "retrieve": tuple(step for step in config.retrieve if step.name not in names),
            "stage": tuple(step for step in config.stage if step.name not in names),
        }
    )


@cache
def code_digest() -> str:
    """Of every source file of the package."""
    total = hashlib.sha256()
    for path in sorted((ROOT / "src").rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


def cpu_seconds() -> float:
    """Of this process, all threads, and of its children: what a fit costs whatever else the machine does."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
