"""What each part earns, what re-ranking adds to lists that are given, and how items that nobody has had yet fare."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from quality.measure import K, Result
from quality.ours import NAME, WHOLE, Variant, answers, asked, fitted, opened, our_results, source_lists, without
from quality.tasks import Known, Task, catalogue_of

from tailwise import registry
from tailwise.config import PipelineConfig
from tailwise.data.catalogue import Catalogue
from tailwise.data.kinds import MULTI_VALUED
from tailwise.data.split import check_leak, split_cold
from tailwise.evaluate import accuracy
from tailwise.evaluate.compare import paired
from tailwise.evaluate.run import cases_of
from tailwise.pipeline import Engine
from tailwise.types import Rows

Say = Callable[[str], None]
GIVEN, COLD_DEPTH = 100, 50
PARTS = {
    "EASE": ("ease",),
    "the sequence model": ("sequence",),
    "the list-wise stage": ("attention",),
    "the boosted trees": ("boosted",),
    "fusion": ("fusion",),
    "diversity and exposure": ("mmr", "dpp", "exposure"),
}
"""What an ablation takes out, by the names of its components; those that the pipeline has not are skipped."""
LOSSES = {"alignment": ("sequence", "align", 0.1), "self-distillation": ("sequence", "self_distil", 0.1)}
"""What a component may learn from beside the rest: its setting, turned off where it is on and tried where it is off."""


@dataclass(frozen=True)
class Given:
    """Lists of one source, before and after the stages; each figure is a person's mean over the seeds."""

    source: str
    before: NDArray[np.float64]  # (B,) NDCG@10
    after: NDArray[np.float64]
    p_value: float

    @property
    def ratio(self) -> float:
        return float(self.after.mean() / self.before.mean()) if self.before.mean() else float("nan")


@dataclass(frozen=True)
class Cold:
    """Recall@50 of items that nobody had in training, by method, one value a seed."""

    recalls: dict[str, list[float]]
    items: int
    people: list[int]


WITHOUT_TEXT = Variant("without text", WHOLE.config, text=False)


def variants(config: PipelineConfig) -> Iterator[Variant]:
    """The pipeline less one part at a time, as far as it has them, or with one more that it could have."""
    yield WITHOUT_TEXT
    names = {step.name for step in (*config.retrieve, *config.stage)}
    for title, parts in PARTS.items():
        if names & set(parts):
            yield Variant(f"without {title}", without(config, *parts))
    for title, (name, setting, weight) in LOSSES.items():
        own = next((step for step in config.retrieve if step.name == name), None)
        if own is not None:
            used = own.settings.get(setting, registry.component(name).Config.model_fields[setting].default)
            changed = own.model_copy(update={"settings": own.settings | {setting: 0.0 if used else weight}})
            retrieve = tuple(changed if step is own else step for step in config.retrieve)
            yield Variant(f"{'without' if used else 'with'} {title}", config.model_copy(update={"retrieve": retrieve}))


def ablation(task: Task, seeds: Sequence[int], say: Say, *, every: bool) -> list[Result]:
    """
    The whole pipeline first; a variant that cannot be fitted is said and left out.

    Not ``every`` part: text alone, which the goal for the long tail compares with.
    """
    found = [replace(our_results(task, WHOLE, seeds, say)[0], method="whole")]
    for variant in variants(WHOLE.config) if every else (WITHOUT_TEXT,):
        try:
            whole = our_results(task, variant, seeds, say)[0]
        except Exception as error:  # noqa: BLE001  one variant must not end a run of hours
            say(f"{variant.name} is left out: {type(error).__name__}: {error}")
            continue
        found.append(replace(whole, method=variant.name))
    return found


def reranking(task: Task, seeds: Sequence[int], say: Say) -> list[Given]:
    """Each source's best 100 in its order, handed to the pipeline as candidates."""
    collected: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    for seed in seeds:
        for name, pair in reranked(task, seed, say).items():
            collected.setdefault(name, []).append((np.array(pair[0]), np.array(pair[1])))
    found = []
    for name, pairs in collected.items():
        before, after = (np.mean([pair[side] for pair in pairs], axis=0) for side in (0, 1))
        found.append(Given(name, before, after, paired(before, after, seed=0).p_value))
    return sorted(found, key=lambda one: -float(one.before.mean()))


def reranked(task: Task, seed: int, say: Say) -> dict[str, tuple[list[float], list[float]]]:
    """By source, each person's NDCG@10 before and after; kept beside the fit."""
    kept = fitted(task, WHOLE, seed, say) / "given.json"
    if not kept.is_file():
        say(f"re-ranking of given lists, seed {seed}")
        engine = opened(task, WHOLE, seed, say)
        found = {b.step.name: before_and_after(task, engine, b.step.name) for b in engine.sources}
        kept.write_text(json.dumps(found), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def before_and_after(task: Task, engine: Engine, source: str) -> tuple[list[float], list[float]]:
    given = source_lists(task, engine, source, k=GIVEN)
    after = []
    for request, own in zip(task.cases.requests, given, strict=True):
        # What was seen is out already where it must be.
        one = replace(asked(task, request), candidates=tuple(own), exclude_seen=False, k=K)
        after.append(engine.answer(one).slate.item_ids.tolist() if own else [])
    return ndcg_of(task, given), ndcg_of(task, after)


def ndcg_of(task: Task, lists: Sequence[Sequence[str]]) -> list[float]:
    marks = accuracy.hits(rows_of(task.catalogue, lists, K), task.cases.targets)
    return [float(value) for value in accuracy.ndcg(marks, accuracy.count_relevant(task.cases.targets), K)]


def rows_of(catalogue: Catalogue, lists: Sequence[Sequence[str]], k: int) -> Rows:
    out = np.full((len(lists), k), -1, np.int64)
    for place, own in enumerate(lists):
        rows = catalogue.rows(own[:k])
        out[place, : len(rows)] = rows
    return out


def cold(task: Task, seeds: Sequence[int], say: Say) -> Cold:
    """A tenth of the items held out of training altogether: recall@50 among all items, over who had them."""
    recalls: dict[str, list[float]] = {}
    people, held = [], 0
    for seed in seeds:
        whole = task.split.train.with_events(all_events(task))
        split = split_cold(whole, seed=seed)
        check_leak(split)
        catalogue = catalogue_of(split.train)
        cases = cases_of(Known(catalogue, PipelineConfig(exclude_seen=task.exclude_seen)), split)
        own = Task(f"{task.name}-cold", f"{seed}", split, catalogue, cases, task.exclude_seen, task.digest, task.cache)
        own.folder.mkdir(parents=True, exist_ok=True)
        engine = opened(own, WHOLE, seed, say)
        lists = {NAME: answers(own, engine, k=COLD_DEPTH)}
        for name in ("text", "sequence"):
            if any(bound.step.name == name for bound in engine.sources):
                lists[f"{name} alone"] = source_lists(own, engine, name, k=COLD_DEPTH)
        n = accuracy.count_relevant(cases.targets)
        for name, shown in lists.items():
            marks = accuracy.hits(rows_of(catalogue, shown, COLD_DEPTH), cases.targets)
            recalls.setdefault(name, []).append(float(np.nanmean(accuracy.recall(marks, n, COLD_DEPTH))))
        for name, value in plain_cold(own).items():
            recalls.setdefault(name, []).append(value)
        people.append(len(own.people))
        held = split.test["item_id"].n_unique()
    return Cold(recalls, held, people)


def all_events(task: Task) -> pl.DataFrame:
    """Training and test together: the cold split is one of its own."""
    return pl.concat([task.split.train.events, task.split.test], how="diagonal")


def plain_cold(task: Task) -> dict[str, float]:
    """What chance finds, and what the popularity of an item's genres, tags or categories finds."""
    every = len(task.catalogue)
    seen = [np.unique(r.past.rows) if task.exclude_seen else np.empty(0, np.int64) for r in task.cases.requests]
    found = {"random": float(np.mean([min(1.0, COLD_DEPTH / max(every - len(own), 1)) for own in seen]))}
    names = [name for name in MULTI_VALUED if name in task.catalogue.labels]
    if not names:
        return found
    labels = np.hstack([task.catalogue.at(np.arange(every), [name])[name] for name in names]).astype(np.float64)
    liked = labels.T @ task.catalogue.popularity / np.maximum(labels.sum(0), 1)  # events an item, by label
    scores = labels @ liked / np.maximum(labels.sum(1), 1)
    ranked = np.full((len(seen), COLD_DEPTH), -1, np.int64)
    for place, own in enumerate(seen):
        open_scores = scores.copy()
        open_scores[own] = -np.inf
        ranked[place] = np.argsort(-open_scores, kind="stable")[:COLD_DEPTH]
    n = accuracy.count_relevant(task.cases.targets)
    recall = accuracy.recall(accuracy.hits(ranked, task.cases.targets), n, COLD_DEPTH)
    return found | {"popularity of its genre": float(np.nanmean(recall))}
