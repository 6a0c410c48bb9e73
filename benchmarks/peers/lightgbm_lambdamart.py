"""
LightGBM LambdaMART as a second stage over simple features: what a ranking service of today does.

Candidates: the best 100 of EASE, the 50 most popular, the 50 that most often come after the person's newest item.
Features: EASE's score and rank; popularity, all along and in the last tenth of the events; how often the item comes
after the newest item and after the newest five; cosine to the newest ten by who liked both; shared labels; how often
and how long ago the person had the item; length of the history. The model learns from the validation events
(candidates and features from what came before), and its settings are chosen by five folds over those people.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import numpy as np
from common import Fit, Job, Part, ndcg, run, top
from ease import fit as fit_ease
from scipy.sparse import csr_matrix

FOLDS, SOON = 5, 3
"""``SOON``: an item comes after another when it is among the next so many of the same person."""


class Features:
    """Candidates of a person and what is known of them, from one part of the events."""

    def __init__(self, part: Part) -> None:
        self.part, job = part, part.job
        self.ease = fit_ease(part, {"ridge": 200, "decay": 0}, 0)
        self.popular = part.counts()
        newest = slice(-max(len(part.item) // 10, 1), None)
        self.recent = np.bincount(part.item[newest], minlength=job.n_items)
        self.histories, self.seen = part.histories(), part.seen()
        shape = (job.n_users, job.n_items)
        liked = csr_matrix((np.ones(len(part.user)), (part.user, part.item)), shape=shape)
        liked.data[:] = 1.0
        norms = np.sqrt(np.maximum(np.asarray(liked.sum(0)).ravel(), 1))
        self.liked = liked.multiply(1 / norms).tocsc()
        pairs = [
            (own[:-ahead], own[ahead:]) for own in self.histories for ahead in range(1, SOON + 1) if len(own) > ahead
        ]
        before, after = (np.concatenate(side) for side in zip(*pairs, strict=True))
        square = (job.n_items, job.n_items)
        self.after = csr_matrix((np.ones(len(before), np.float32), (before, after)), shape=square)

    def of(self, person: int) -> tuple[np.ndarray, np.ndarray]:
        """(C,) candidates and (C, F) features."""
        job, own = self.part.job, self.histories[person]
        ease = self.ease(np.array([person]))[0].astype(np.float64)
        follows = np.asarray(self.after[own[-1]].todense()).ravel() if len(own) else np.zeros(job.n_items)
        popular = self.popular.astype(np.float64)
        sources = [(ease, 100), (popular.copy(), 50), (follows.astype(np.float64), 50)]
        banned = self.seen[person] if job.exclude_seen else np.empty(0, np.int64)
        found = []
        for scores, k in sources:
            scores[banned] = -np.inf
            found.append(top(scores[None], k)[0])
        rows = np.unique(np.concatenate(found))
        rows = rows[rows >= 0]
        near = self.after[own[-5:]][:, rows].sum(0) if len(own) else np.zeros((1, len(rows)))
        alike = (self.liked[:, own[-10:]].T @ self.liked[:, rows]).sum(0) if len(own) else np.zeros((1, len(rows)))
        labels = job.labels[rows].astype(np.float64)
        had = np.isin(own, rows)
        times = np.bincount(own, minlength=job.n_items)[rows]
        age = np.full(job.n_items, 1_000.0)
        age[own[had]] = np.arange(len(own))[::-1][had]
        columns = [
            ease[rows],
            (-ease[rows]).argsort().argsort(),
            popular[rows],
            self.recent[rows],
            follows[rows],
            np.asarray(near).ravel(),
            np.asarray(alike).ravel(),
            labels @ job.labels[own].mean(0) if len(own) else labels.sum(1),
            labels @ job.labels[own[-10:]].mean(0) if len(own) else labels.sum(1),
            times,
            age[rows],
            np.full(len(rows), len(own)),
        ]
        return rows, np.stack(columns, 1).astype(np.float32)


taught: dict[int, tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]] = {}


def lessons(job: Job) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Candidates, features and targets of the people of the validation."""
    if id(job) not in taught:
        people, targets = job.held()
        features = Features(job.part(inner=True))
        rows, values = zip(*(features.of(int(person)) for person in people), strict=True)
        taught[id(job)] = list(rows), list(values), targets
    return taught[id(job)]


def boosted(rows: list, values: list, targets: list, settings: dict[str, Any], seed: int) -> lgb.Booster:
    marks = [np.isin(own, wanted) for own, wanted in zip(rows, targets, strict=True)]
    use = [place for place, own in enumerate(marks) if own.any()]
    data = lgb.Dataset(
        np.concatenate([values[place] for place in use]),
        np.concatenate([marks[place] for place in use]).astype(int),
        group=[len(rows[place]) for place in use],
    )
    own = {"num_leaves": settings["leaves"], "learning_rate": settings["learning_rate"]}
    fixed = {
        "objective": "lambdarank",
        "lambdarank_truncation_level": 20,
        "min_data_in_leaf": 50,
        "verbosity": -1,
        "num_threads": 1,
        "seed": seed,
        "deterministic": True,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "feature_fraction": 0.8,
    }
    return lgb.train({**fixed, **own}, data, num_boost_round=settings["rounds"])


def choose(
    job: Job,
    grid: list[dict[str, Any]],
    fit: Fit,  # noqa: ARG001  the folds share one table of features
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Five folds over people; a model of many rounds also answers for fewer."""
    rows, values, targets = lessons(job)
    fold = np.arange(len(rows)) % FOLDS
    most = max(one["rounds"] for one in grid)
    kinds = {(one["leaves"], one["learning_rate"]) for one in grid}
    models = {
        (kind, part): boosted(
            *(taken(what, fold != part) for what in (rows, values, targets)),
            {"leaves": kind[0], "learning_rate": kind[1], "rounds": most},
            0,
        )
        for kind in sorted(kinds)
        for part in range(FOLDS)
    }
    tried = []
    for one in grid:
        kind = (one["leaves"], one["learning_rate"])
        lists = [
            ordered(rows[p], models[kind, fold[p]].predict(values[p], num_iteration=one["rounds"]), 10)
            for p in range(len(rows))
        ]
        tried.append({**one, "ndcg@10": round(ndcg(np.stack(lists), targets), 4)})
        print(f"  {one}: cross-validated NDCG@10 {tried[-1]['ndcg@10']:.4f}", flush=True)
    best = max(range(len(grid)), key=lambda place: tried[place]["ndcg@10"])
    return grid[best], tried


def taken(values: list, mask: np.ndarray) -> list:
    return [values[place] for place in np.flatnonzero(mask)]


def ordered(rows: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    best = rows[np.argsort(-scores, kind="stable")[:k]]
    return np.pad(best, (0, k - len(best)), constant_values=-1)


def fit(part: Part, settings: dict[str, Any], seed: int) -> Callable[[np.ndarray], np.ndarray]:
    taught.clear()  # made afresh, so that the seconds of a fit count them
    model = boosted(*lessons(part.job), settings, seed)
    features = Features(part)

    def score(people: np.ndarray) -> np.ndarray:
        scores = np.full((len(people), part.job.n_items), -np.inf)
        for place, person in enumerate(people):
            rows, values = features.of(int(person))
            scores[place, rows] = model.predict(values)
        return scores

    return score


if __name__ == "__main__":
    run(fit, packages=("lightgbm",), choose=choose)
