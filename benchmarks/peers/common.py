"""What every peer needs: its job, best lists from scores, and its validation figure. numpy alone."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 512
"""People scored at once."""
MOST_JUDGED = 2_000
"""At most so many people, drawn at random, choose the settings."""


@dataclass(frozen=True)
class Job:
    """What a peer may know, by name as ``quality/tasks.py`` writes it."""

    user: np.ndarray  # (E,) in the stable order
    item: np.ndarray
    time: np.ndarray
    liked: np.ndarray
    inner: np.ndarray
    held_user: np.ndarray
    held_item: np.ndarray
    asked: np.ndarray  # (B,) people, -1 a stranger
    labels: np.ndarray  # (M, G)
    n_items: int
    exclude_seen: bool
    depth: int

    @property
    def n_users(self) -> int:
        return int(self.user.max()) + 1

    def part(self, *, inner: bool) -> Part:
        """Training without the held-out events, to choose by; or all of it."""
        mask = self.inner if inner else np.ones(len(self.user), bool)
        liked = mask & self.liked
        return Part(self, self.user[liked], self.item[liked], self.time[liked], self.user[mask], self.item[mask])

    def held(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """The people of the validation and the items that each of them took, new ones where seen are filtered."""
        people = np.unique(self.held_user)
        targets = [self.held_item[self.held_user == person] for person in people]
        if self.exclude_seen:
            seen = self.part(inner=True).seen()
            targets = [np.setdiff1d(own, seen[person]) for person, own in zip(people, targets, strict=True)]
        kept = [place for place, own in enumerate(targets) if len(own)]
        if len(kept) > MOST_JUDGED:
            kept = np.sort(np.random.default_rng(0).choice(kept, MOST_JUDGED, replace=False)).tolist()
        return people[kept], [np.unique(targets[place]) for place in kept]


@dataclass(frozen=True)
class Part:
    """Events to learn from, oldest first, and what each person has had."""

    job: Job
    user: np.ndarray  # (L,) liked
    item: np.ndarray
    time: np.ndarray
    seen_user: np.ndarray
    seen_item: np.ndarray

    def counts(self) -> np.ndarray:
        return np.bincount(self.item, minlength=self.job.n_items).astype(np.float64)

    def histories(self) -> list[np.ndarray]:
        """Per person, the items liked, oldest first."""
        return grouped(self.user, self.item, self.job.n_users)

    def seen(self) -> list[np.ndarray]:
        return grouped(self.seen_user, self.seen_item, self.job.n_users)

    def lists(self, people: np.ndarray, score: Callable[[np.ndarray], np.ndarray], k: int) -> np.ndarray:
        """
        (B, k) best items of each person; strangers get the most popular. Ties go to the lower row.

        ``score`` takes (b,) people to (b, M) scores; -inf is never shown.
        """
        out = np.full((len(people), k), -1, np.int64)
        seen = self.seen() if self.job.exclude_seen else None
        for block in blocks(people):
            scores = np.repeat(self.counts()[None], len(block), 0)
            known = people[block] >= 0
            if known.any():
                scores[known] = score(people[block][known])
            for place, person in enumerate(people[block]):
                if seen is not None and person >= 0:
                    scores[place, seen[person]] = -np.inf
            out[block] = top(scores, k)
        return out


def grouped(keys: np.ndarray, values: np.ndarray, n: int) -> list[np.ndarray]:
    """Values by key, in their order."""
    order = np.argsort(keys, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(keys, minlength=n))[:-1])


def blocks(people: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(people), BLOCK):
        yield np.arange(start, min(start + BLOCK, len(people)))


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """(b, M) to (b, k) places, best first, ties to the lower; -1 where nothing is left."""
    out = np.full((len(scores), k), -1, np.int64)
    k = min(k, scores.shape[1])
    least = np.partition(scores, -k, axis=1)[:, -k]
    for place, own in enumerate(scores):
        rows = np.flatnonzero((own >= least[place]) & (own > -np.inf))
        best = rows[np.argsort(-own[rows], kind="stable")[:k]]
        out[place, : len(best)] = best
    return out


def ndcg(lists: np.ndarray, targets: list[np.ndarray], k: int = 10) -> float:
    """Mean NDCG at k, to choose settings by; the benchmark itself judges by ``tailwise.evaluate``."""
    gains = 1 / np.log2(np.arange(2, k + 2))
    marks = [np.isin(own[:k], wanted) & (own[:k] >= 0) for own, wanted in zip(lists, targets, strict=True)]
    ideal = [gains[: len(wanted)].sum() for wanted in targets]
    return float(np.mean([(gains[: len(m)] * m).sum() / best for m, best in zip(marks, ideal, strict=True)]))


def cpu_seconds() -> float:
    """Of this process and its children, whatever else the machine does."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


Fit = Callable[[Part, dict[str, Any], int], Callable[[np.ndarray], np.ndarray]]


def choose(job: Job, grid: list[dict[str, Any]], fit: Fit) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The settings with the best validation NDCG@10, and the figure of each."""
    people, targets = job.held()
    part = job.part(inner=True)
    tried = []
    for settings in grid:
        found = ndcg(part.lists(people, fit(part, settings, 0), 10), targets)
        tried.append({**settings, "ndcg@10": round(found, 4)})
        print(f"  {settings}: validation NDCG@10 {found:.4f}", flush=True)
    best = max(range(len(grid)), key=lambda place: tried[place]["ndcg@10"])
    return grid[best], tried


Choose = Callable[[Job, list[dict[str, Any]], Fit], tuple[dict[str, Any], list[dict[str, Any]]]]


def run(fit: Fit, *, packages: tuple[str, ...], choose: Choose = choose) -> None:
    """
    ``PEER.py JOB OUT SEED GRID``: choose among the settings in GRID (JSON), fit on all of training, write what was
    asked.

    One entry in GRID is taken as it is.
    """
    path, out, seed, grid = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    job, start = read(path), cpu_seconds()
    chosen, tried = choose(job, grid, fit) if len(grid) > 1 else (grid[0], [])
    tuned, wall = cpu_seconds(), time.perf_counter()
    part = job.part(inner=False)
    score = fit(part, chosen, seed)
    fitted, took = cpu_seconds(), time.perf_counter() - wall
    lists = part.lists(job.asked, score, job.depth)
    write(
        out,
        lists,
        {
            "settings": chosen,
            "tried": tried,
            "fit_cpu_s": round(fitted - tuned, 2),
            "fit_wall_s": round(took, 2),
            "tune_cpu_s": round(tuned - start, 2),
            "answer_cpu_s": round(cpu_seconds() - fitted, 2),
            "packages": {name: version(name) for name in packages},
        },
    )


def read(path: Path) -> Job:
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    scalars = {name: found.pop(name).item() for name in ("n_items", "exclude_seen", "depth")}
    return Job(**found, **scalars)


def write(out: Path, lists: np.ndarray, facts: dict[str, Any]) -> None:
    """(B, depth) rows and what is to be said of them; the lists come last, so that they are there only when all is."""
    out.with_suffix(".json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    unfinished = out.with_suffix(f".{os.getpid()}.npy")
    np.save(unfinished, lists)
    unfinished.replace(out)
