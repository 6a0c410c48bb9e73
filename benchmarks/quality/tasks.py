"""
What is to be done: a data set, a protocol, the people asked and what they did next.

    last    each person's last act is the target; the rest is training
    time    one cut in time at 80 % of the events; whatever a person did later is the target
    basket  the same cut; the target is all that a person took at the first moment after it
    sparse  of the items that a person has had eight, drawn by lot, each when it was first had; the last is the target

Order is stable everywhere (time, then person, then item, ids compared as strings). Validation lies within training:
each person's last training act, or the last training basket. Nothing here looks at the test part but to say who is
asked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

import tailwise
from tailwise.config import PipelineConfig, Settings
from tailwise.data import sources
from tailwise.data.baskets import REPEATS
from tailwise.data.catalogue import Catalogue
from tailwise.data.holdout import repeat_rate
from tailwise.data.interactions import Interactions
from tailwise.data.kinds import MULTI_VALUED
from tailwise.data.load import Dataset
from tailwise.data.split import MOMENT, Split, check_leak, split_last, split_time
from tailwise.evaluate.run import Cases, cases_of

DEPTH = 20
"""Items of a list, as many as every peer is asked for."""
PROTOCOLS = ("last", "time", "basket", "sparse")
FEW = 8
"""Items a person in a sparse log."""


@dataclass(frozen=True)
class Known:
    """What ``cases_of`` asks of an engine, before there is one."""

    catalogue: Catalogue
    config: PipelineConfig


@dataclass(frozen=True)
class Task:
    """One data set under one protocol."""

    name: str
    protocol: str
    split: Split
    catalogue: Catalogue
    """Every item that may be ranked, with popularity in training; no vectors."""
    cases: Cases
    exclude_seen: bool
    digest: str
    """Of training, targets and protocol."""
    cache: Path
    """Where lists and fits are kept."""

    @property
    def folder(self) -> Path:
        """Where everything about this task is kept."""
        return self.cache / f"{self.name}-{self.protocol}-{self.digest}"

    @property
    def people(self) -> list[str]:
        """Who is asked, in order."""
        return [request.request_id for request in self.cases.requests]

    @property
    def about(self) -> str:
        """The protocol in a sentence."""
        seen = (
            "items that a person has had are filtered" if self.exclude_seen else "what a person has had may come again"
        )
        events = self.split.train.events.height
        strangers = sum(not len(request.past) for request in self.cases.requests)
        asked = f"{len(self.people):,} people asked" + (f", {strangers:,} of them without a past" if strangers else "")
        return f"{asked}, {len(self.catalogue):,} items ranked, {events:,} training events; {self.split.note}; {seen}."


def movielens() -> Dataset:
    """ML-100K from the cache folder, fetched when it is not there."""
    folder = Settings.from_environment().cache / "data" / "ml-100k"
    if not (folder / "events.parquet").is_file():
        sources.get("ml-100k", folder, report=print)
    return tailwise.load(folder)


def task_of(name: str, data: Dataset, protocol: str, cache: Path) -> Task:
    """The task that a data set and a protocol make."""
    split = split_by(data, protocol)
    check_leak(split)
    catalogue = catalogue_of(split.train)
    past = Interactions.of(split.train.events, catalogue)
    exclude_seen = repeat_rate(past) < REPEATS
    known = Known(catalogue, PipelineConfig(exclude_seen=exclude_seen))
    cases = cases_of(known, split)  # it reads these two fields of an engine, no more
    parts = [split.train.digest(), protocol, str(exclude_seen), *(r.request_id for r in cases.requests)]
    digest = hashlib.sha256("\n".join(parts).encode() + cases.targets.tobytes()).hexdigest()[:12]
    return Task(name, protocol, split, catalogue, cases, exclude_seen, digest, cache)


def split_by(data: Dataset, protocol: str) -> Split:
    """Training and test."""
    if protocol == "last":
        return split_last(data)
    if protocol == "sparse":
        split = split_last(data.with_events(thinned(data.events)))
        return replace(split, note=f"at most {FEW} items a person, drawn by lot; {split.note}")
    split = split_time(data, share=0.8)
    if protocol == "time":
        return split
    first = split.test.filter(pl.col("time") == pl.col("time").min().over("user_id"))
    return replace(split, test=first, note=f"{split.note}; the target is each person's first basket from there on")


def thinned(events: pl.DataFrame) -> pl.DataFrame:
    """Of each person's items at most ``FEW``, drawn by lot (the same for everybody who draws), when first had."""
    first = events.unique(["user_id", "item_id"], keep="first", maintain_order=True)  # events are in order of time
    lot = pl.Series("lot", np.random.default_rng(0).random(first.height))
    drawn = first.with_columns(lot).filter(pl.col("lot").rank("ordinal").over("user_id") <= FEW)
    return drawn.drop("lot")


def catalogue_of(train: Dataset) -> Catalogue:
    """The items of the table and those that events alone name."""
    lonely = train.events.select("item_id").unique().join(train.items, on="item_id", how="anti").sort("item_id")
    items = pl.concat([train.items, lonely], how="diagonal")
    nothing, cut = np.zeros(items.height, np.float32), PipelineConfig().tail_cut
    empty = np.zeros((items.height, 1), np.float32)
    bare = Catalogue(items, popularity=nothing, recent=nothing, vectors=empty, tail_cut=cut)
    counts = Interactions.of(train.events, bare).counts()
    return Catalogue(items, popularity=counts, recent=counts, vectors=empty, tail_cut=cut)


def write_job(task: Task, path: Path) -> None:
    """
    Everything that a peer may know, as numbers: its environment needs numpy alone.

    ``user``, ``item``, ``time``, ``liked`` (E,) are the training events in the stable order; ``inner`` (E,) marks
    those that remain when validation is held out, and ``held_user``, ``held_item`` are what was. ``asked`` (B,) are
    the people to answer, -1 for a stranger. ``labels`` (M, G) says which genres, tags and categories an item has.
    """
    events = task.split.train.events
    people = {user_id: place for place, user_id in enumerate(events["user_id"].unique().sort())}
    held = held_out(task)
    inner = events.join(held, on=MOMENT, how="anti", maintain_order="left").select(MOMENT).unique()
    marks = events.select(MOMENT).join(inner.with_columns(kept=True), on=MOMENT, how="left", maintain_order="left")
    against = events["event"].is_in(["skip", "dislike"]).to_numpy()
    labels = [
        task.catalogue.at(np.arange(len(task.catalogue)), [name])[name]
        for name in MULTI_VALUED
        if name in task.catalogue.labels
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        user=places(events, people),
        item=task.catalogue.rows(events["item_id"]),
        time=events["time"].to_numpy(),
        liked=~against,
        inner=marks["kept"].fill_null(value=False).to_numpy(),
        held_user=places(held, people),
        held_item=task.catalogue.rows(held["item_id"]),
        asked=np.array([people.get(user_id, -1) for user_id in task.people], np.int64),
        labels=np.hstack([np.zeros((len(task.catalogue), 0), bool), *labels]),
        n_items=len(task.catalogue),
        exclude_seen=task.exclude_seen,
        depth=DEPTH,
    )


def held_out(task: Task) -> pl.DataFrame:
    """Validation: each person's last training act; in baskets, all of the last basket. Nobody loses a whole past."""
    if task.protocol != "basket":
        return split_last(task.split.train).test.select(MOMENT)
    events = task.split.train.events.select(MOMENT).unique(maintain_order=True)
    last = pl.col("time") == pl.col("time").max().over("user_id")
    return events.filter(last & (pl.col("time").n_unique().over("user_id") > 1))


def places(events: pl.DataFrame, people: dict[str, int]) -> NDArray[np.int64]:
    return np.array([people[user_id] for user_id in events["user_id"]], np.int64)
