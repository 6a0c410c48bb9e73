"""
Lists to figures: one code for all methods, whoever made the lists.

A method's lists are a Parquet file (``user_id``, ``item_ids``, best first). Accuracy is per person; coverage and Gini
are of all lists together. Over seeds a figure is a mean with its standard deviation, and a test compares people, each
with the mean over the seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from quality.tasks import Task

from tailwise.evaluate import accuracy, beyond
from tailwise.evaluate.compare import holm, paired
from tailwise.types import Rows

K = 10
MAIN = f"ndcg@{K}"
PER_PERSON = (MAIN, f"hr@{K}", f"mrr@{K}", f"recall@{K}", f"tail_share@{K}", "tail_ndcg@10", "ndcg@20")
COLUMNS = {
    MAIN: ("NDCG@10", 4),
    f"hr@{K}": ("HR@10", 4),
    f"recall@{K}": ("Recall@10", 4),
    f"mrr@{K}": ("MRR@10", 4),
    f"coverage@{K}": ("Coverage@10", 3),
    f"tail_share@{K}": ("Tail share@10", 3),
    f"gini@{K}": ("Gini", 3),
}


@dataclass(frozen=True)
class Run:
    """One method with one seed."""

    method: str
    seed: int
    per_person: Mapping[str, NDArray[np.float64]]
    overall: Mapping[str, float]
    facts: Mapping[str, Any]
    """Settings, seconds, versions."""

    def value(self, key: str) -> float:
        if key in self.overall:
            return float(self.overall[key])
        values = self.per_person[key]
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


@dataclass(frozen=True)
class Result:
    """One method over its seeds."""

    method: str
    kind: str
    """``pipeline``, ``source`` (of the pipeline), ``peer``."""
    runs: Sequence[Run] = field(default_factory=list)

    def mean(self, key: str) -> float:
        return float(np.mean([run.value(key) for run in self.runs]))

    def spread(self, key: str) -> float:
        """Standard deviation over the seeds; NaN with one run, or with a method that draws nothing."""
        values = [run.value(key) for run in self.runs]
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def people(self, key: str) -> NDArray[np.float64]:
        """Each person's mean over the seeds, (B,)."""
        return np.mean([run.per_person[key] for run in self.runs], axis=0)

    def cpu_seconds(self) -> float:
        """Of one fit with the chosen settings."""
        return float(np.mean([run.facts.get("fit_cpu_s", np.nan) for run in self.runs]))


def write_lists(path: Path, people: Sequence[str], lists: Sequence[Sequence[str]]) -> None:
    """In one step, so that a file that is there is whole."""
    unfinished = path.with_suffix(".unfinished")
    schema = {"user_id": pl.String, "item_ids": pl.List(pl.String)}
    pl.DataFrame({"user_id": people, "item_ids": lists}, schema=schema).write_parquet(unfinished)
    unfinished.replace(path)


def read_lists(path: Path, task: Task, depth: int) -> Rows:
    """(B, depth) rows in the order of the task's people, -1 where a list is shorter or absent."""
    frame = pl.read_parquet(path)
    lists = dict(zip(frame["user_id"], frame["item_ids"], strict=True))
    out = np.full((len(task.people), depth), -1, np.int64)
    for place, user_id in enumerate(task.people):
        rows = task.catalogue.rows(lists.get(user_id, ()))[:depth]
        out[place, : len(rows)] = rows
    return out


def measured(task: Task, ranked: Rows) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Figures per person, each (B,), and figures of all lists together."""
    targets, catalogue = task.cases.targets, task.catalogue
    marks, n = accuracy.hits(ranked, targets), accuracy.count_relevant(targets)
    # Targets in the long tail alone: NaN for people who have none.
    rare = np.where((targets >= 0) & catalogue.tail[targets], targets, -1)
    rare_marks, rare_n = accuracy.hits(ranked, rare), accuracy.count_relevant(rare)
    per = {
        MAIN: accuracy.ndcg(marks, n, K),
        "ndcg@20": accuracy.ndcg(marks, n, 20),
        f"hr@{K}": accuracy.hit_rate(marks, n, K),
        f"mrr@{K}": accuracy.reciprocal_rank(marks, n, K),
        f"recall@{K}": accuracy.recall(marks, n, K),
        f"tail_share@{K}": beyond.tail_share(ranked, catalogue.tail, k=K),
        f"tail_ndcg@{K}": accuracy.ndcg(rare_marks, rare_n, K),
    }
    eligible = catalogue.popularity > 0
    overall = {
        f"coverage@{K}": beyond.coverage(ranked, eligible, k=K),
        f"gini@{K}": beyond.gini(ranked, eligible, k=K),
    }
    return per, overall


def compared(ours: Result, others: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """By method: how much ours is better in NDCG@10, person by person, and p, Holm-corrected over the methods."""
    found = [paired(other.people(MAIN), ours.people(MAIN), seed=0) for other in others]
    corrected = holm([one.p_value for one in found])
    return {o.method: (f.difference, p) for o, f, p in zip(others, found, corrected, strict=True)}
