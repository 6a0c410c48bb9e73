"""Run an engine, its sources and the usual baselines over the people of a split, and measure them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.data.interactions import Interactions, Training
from tailwise.data.split import Split
from tailwise.errors import DataError
from tailwise.evaluate import accuracy, beyond
from tailwise.evaluate.calibration import head_results
from tailwise.evaluate.ratings import rating_errors
from tailwise.evaluate.results import MethodResult, Report
from tailwise.pipeline import Engine
from tailwise.retrieve.again import Again, AgainConfig
from tailwise.retrieve.collaborative import Ease, EaseConfig
from tailwise.retrieve.factors import Als, AlsConfig
from tailwise.retrieve.popular import Popular, PopularConfig
from tailwise.types import AGAINST, NO_HISTORY, Request, Retriever, Rows, Slate

CUTS = (1, 5, 10, 20)
DEPTH = 50
"""Positions asked for: of items that are hard to find, such as new ones, it counts how many are among these."""
FAR = 100 * 365.25
"""Half-life in days that counts all events alike."""
MIXED = 0.01
"""Share of the uniform guess in the log-loss, so that an item that was not retrieved costs much but not everything."""


@dataclass(frozen=True)
class Cases:
    """People of a split who can be judged, with what they had before and did after."""

    requests: tuple[Request, ...]
    targets: Rows  # (B, T) rows, -1 pads


def cases_of(engine: Engine, split: Split, *, most: int | None = None, seed: int = 0) -> Cases:
    """
    One request a person of the test part: their training events as history, their test items as targets.

    A stranger has an empty history. Events against an item are no targets. Items that a person has had already are
    targets only where the engine shows such items again. People whose targets are all unknown to the catalogue cannot
    be judged.

    Raises:
        DataError: Nobody can be judged.
    """
    past = Interactions.of(split.train.events, engine.catalogue)
    exclude = engine.config.exclude_seen is not False
    rows = engine.catalogue.rows(split.test["item_id"])
    wanted = (
        (split.test.with_columns(row=pl.Series(rows)).filter(pl.col("row") >= 0, ~pl.col("event").is_in(list(AGAINST))))
        .group_by("user_id", maintain_order=True)
        .agg(pl.col("row").unique(maintain_order=True))
    )
    people, lists = wanted["user_id"].to_list(), wanted["row"].to_list()
    if most is not None and len(people) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(people), most, replace=False))
        people, lists = [people[i] for i in chosen], [lists[i] for i in chosen]
    requests, targets = [], []
    for user_id, own in zip(people, lists, strict=True):
        history = past.history(user_id, engine.catalogue) or NO_HISTORY
        fresh = np.array(own, np.int64)
        if exclude:
            fresh = fresh[~np.isin(fresh, history.rows)]
        if len(fresh):
            requests.append(Request(user_id, history=history, k=DEPTH, exclude_seen=exclude))
            targets.append(fresh)
    if not requests:
        raise DataError(
            f"nobody in the {split.name} split can be judged: no test item is new to them and in the catalogue"
        )
    padded = np.full((len(targets), max(map(len, targets))), -1, np.int64)
    for row, own_rows in enumerate(targets):
        padded[row, : len(own_rows)] = own_rows
    return Cases(tuple(requests), padded)


def evaluate(
    engine: Engine,
    split: Split,
    *,
    seed: int = 0,
    most: int | None = None,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,  # noqa: ARG005  silent by default
) -> Report:
    """
    Measure the pipeline beside each of its sources and plain baselines, by full ranking.

    The baselines are popularity, EASE, ALS and, where what people had may be shown again, their most frequent items.

    Args:
        engine: Fitted on the training part alone.
        split: What was held out.
        seed: Of the baselines and of the draw of people.
        most: At most so many people; None takes all.
        report: Progress.

    Returns:
        The figures, ready for ``report.write_report``.

    Raises:
        DataError: Nobody can be judged.
    """
    cases = cases_of(engine, split, most=most, seed=seed)
    training = Training(Interactions.of(split.train.events, engine.catalogue), engine.catalogue, seed)
    judge = _Judge(engine, cases, training, report)
    methods = [judge.pipeline()]
    alone = [judge.source(bound.step.name, bound.run) for bound in engine.sources]
    methods += [method for method in alone if method.overall["coverage@10"] > 0]
    silent = [method.name for method in alone if method.overall["coverage@10"] == 0]
    again = engine.config.exclude_seen is False
    for name, fitter in {**BASELINES, **(REPEATS if again else {})}.items():
        start = time.perf_counter()
        model = fitter(training)
        methods.append(judge.source(name, model, kind="baseline", seconds=time.perf_counter() - start))
    errors = rating_errors(split)
    if errors:
        methods.append(MethodResult("damped means (ratings)", {}, errors, None, "baseline"))
    methods += head_results(engine, split, seed=seed)
    seen = "seen items may come again" if again else "seen items filtered"
    plain = "Pop, EASE and ALS" + (", and the person's own most frequent items," if again else "")
    notes = (
        f"Full ranking over all {len(engine.catalogue):,} items; {seen}.",
        f"{len(cases.requests):,} people judged; {split.note}",
        (
            "Log-loss and the pipeline's AUC are those of the order before diversity, exposure and newcomers; an item "
            "that was not retrieved counts as ranked at random among the others."
        ),
        f"{plain} are plain baselines: no decay, no fusion.",
        *([f"Found nothing for anybody, and are left out: {', '.join(silent)}."] if silent else []),
        *([_by_chance(cases, len(engine.catalogue))] if split.name.startswith("cold") else []),
    )
    facts: dict[str, str | int | float] = {
        "data_digest": str(split.train.digest())[:16],
        "seed": seed,
        "model": engine.version,
        "machine": str(engine.manifest.get("machine", "")),
        "items": len(engine.catalogue),
        "training events": split.train.events.height,
        "fit seconds": float(engine.manifest.get("seconds", float("nan"))),
    }
    ids = tuple(request.request_id for request in cases.requests)
    return Report(split.train.name, split.name, notes, ids, 10, tuple(methods), facts)


def _by_chance(cases: Cases, n_items: int) -> str:
    """What to hold the figures of items that nobody has had against."""
    closed = (len(np.unique(request.past.rows)) if request.exclude_seen else 0 for request in cases.requests)
    chance = np.mean([min(1.0, DEPTH / (n_items - own)) for own in closed])
    return (
        f"The targets are items without events: a list drawn by lot has Recall@{DEPTH} {chance:.4f}. New items get "
        "places from the twenty-first on, so that figures at 10 are about the others."
    )


BASELINES: Mapping[str, Callable[[Training], Retriever]] = {
    "Pop": lambda training: Popular.fit(PopularConfig(half_life_days=FAR), training),
    "EASE": lambda training: Ease.fit(EaseConfig(decay=0.0), training),
    "ALS": lambda training: Als.fit(AlsConfig(decay=0.0), training),
}
REPEATS: Mapping[str, Callable[[Training], Retriever]] = {
    "own": lambda training: Again.fit(AgainConfig(decay=0.0), training),
}
"""Baselines where what people had may be shown again: the person's own items, most frequent first."""


@dataclass(frozen=True)
class _Judge:
    """Measures one method after another on the same cases."""

    engine: Engine
    cases: Cases
    training: Training
    report: Callable[[str, int, int], None]

    @property
    def given(self) -> frozenset[str]:
        """Stages that give places away, whatever the scores say."""
        return frozenset(bound.key for bound in self.engine.stages if hasattr(bound.run, "brings"))

    def pipeline(self) -> MethodResult:
        """The engine as it serves."""
        ranked, places, chances = [], [], []
        every = len(self.engine.catalogue)
        start = time.perf_counter()
        for done, (request, targets) in enumerate(zip(self.cases.requests, self.cases.targets, strict=True)):
            if done % 100 == 0:
                self.report("evaluate the pipeline", done, len(self.cases.requests))
            ranked.append(_padded(self.engine.answer(request).slate))
            by_merit = replace(request, k=1000, diversity=0.0, tail_share=0.0, cache={})
            plain = self.engine.answer(by_merit, spare=self.given).slate
            open_items = every - len(np.unique(request.past.rows)) if request.exclude_seen else every
            places.append(_places(plain, targets, open_items))
            chances.append(_log_chance(plain, targets, open_items))
        self.report("evaluate the pipeline", len(self.cases.requests), len(self.cases.requests))
        took = time.perf_counter() - start
        extra = {"log_loss": accuracy.next_item_log_loss(np.array(chances)), "auc": np.array(places)}
        fit_seconds = self.engine.manifest.get("seconds")
        result = self._measure("tailwise", np.stack(ranked), extra, "pipeline", fit_seconds)
        result.overall["ms_per_request"] = 500 * took / len(self.cases.requests)  # two answers a case
        return result

    def source(
        self, name: str, source: Retriever, *, kind: Any = "source", seconds: float | None = None
    ) -> MethodResult:
        """One source alone, over the whole catalogue."""
        every = np.arange(len(self.engine.catalogue))
        ranked, places = [], []
        for done, (request, targets) in enumerate(zip(self.cases.requests, self.cases.targets, strict=True)):
            if done % 100 == 0:
                self.report(f"evaluate {name}", done, len(self.cases.requests))
            seen = np.unique(request.past.rows) if request.exclude_seen else np.empty(0, np.int64)
            asked = replace(request, excluded=seen, cache={})
            ranked.append(_padded(source(asked, DEPTH)))
            scores = np.nan_to_num(source.scores(asked, every), nan=-np.inf).astype(np.float64)
            scores[seen] = np.nan
            labels = np.zeros(len(every), bool)
            labels[targets[targets >= 0]] = True
            shown = ~np.isnan(scores)
            places.append(accuracy.auc_of_scores(np.maximum(scores[shown], -1e30), labels[shown]))
        self.report(f"evaluate {name}", len(self.cases.requests), len(self.cases.requests))
        return self._measure(name, np.stack(ranked), {"auc": np.array(places)}, kind, seconds)

    def _measure(
        self, name: str, ranked: Rows, extra: dict[str, NDArray[np.float64]], kind: Any, seconds: float | None
    ) -> MethodResult:
        """Accuracy a person, and what the lists are like together."""
        catalogue = self.engine.catalogue
        marks = accuracy.hits(ranked, self.cases.targets)
        n = accuracy.count_relevant(self.cases.targets)
        per = dict(extra)
        for k in CUTS:
            per |= {f"ndcg@{k}": accuracy.ndcg(marks, n, k), f"hr@{k}": accuracy.hit_rate(marks, n, k)}
        per |= {
            "mrr@10": accuracy.reciprocal_rank(marks, n, 10),
            "map@10": accuracy.average_precision(marks, n, 10),
            "precision@10": accuracy.precision(marks, n, 10),
            "recall@10": accuracy.recall(marks, n, 10),
            f"recall@{DEPTH}": accuracy.recall(marks, n, DEPTH),
            "tail_share@10": beyond.tail_share(ranked, catalogue.tail, k=10),
            "novelty@10": beyond.novelty(ranked, catalogue.popularity, k=10),
            "diversity@10": beyond.diversity(ranked, catalogue.vectors, k=10),
        }
        eligible = catalogue.popularity > 0
        overall = {
            "coverage@10": beyond.coverage(ranked, eligible, k=10),
            "gini@10": beyond.gini(ranked, eligible, k=10),
        }
        return MethodResult(name, per, overall, seconds, kind, beyond.lorenz(ranked, eligible, k=10))


def _padded(slate: Slate) -> Rows:
    """(DEPTH,) rows, -1 where the slate is shorter."""
    out = np.full(DEPTH, -1, np.int64)
    rows = slate.columns["row"][:DEPTH]
    out[: len(rows)] = rows
    return out


def _places(slate: Slate, targets: Rows, open_items: int) -> float:
    """AUC of a list that ends early: what it misses lies at random behind it."""
    found = np.flatnonzero(np.isin(slate.columns["row"], targets))
    n_targets = int((targets >= 0).sum())
    missed = n_targets - len(found)
    others = open_items - n_targets
    if others <= 0:
        return float("nan")
    behind = (open_items - len(slate) - missed) / 2
    wins = sum(others - (int(place) - before) for before, place in enumerate(found))
    return (wins + missed * max(behind, 0.0)) / (n_targets * others)


def _log_chance(slate: Slate, targets: Rows, open_items: int) -> float:
    """Log of the chance that the fused scores give the targets, on average, mixed with a uniform guess."""
    own = targets[targets >= 0]
    known = np.isfinite(slate.scores)
    scores = np.where(known, slate.scores, -np.inf).astype(np.float64)
    chance = np.exp(scores - scores.max()) if known.any() else np.ones(len(slate))
    place = {int(row): i for i, row in enumerate(slate.columns["row"])}
    total = chance.sum()
    given = np.array([chance[place[int(row)]] / total if int(row) in place else 0.0 for row in own])
    return float(np.log((1 - MIXED) * given + MIXED / max(open_items, 1)).mean())
