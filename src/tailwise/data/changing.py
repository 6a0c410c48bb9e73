"""A small world whose truth changes at half-time: what people like, what is in fashion, and what follows what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from tailwise.data.load import Dataset
from tailwise.data.synthetic import (
    DAY,
    FOLLOW,
    START,
    Chances,
    Places,
    Truth,
    draw_acts,
    draw_truth,
    ids_like,
    item_table,
)
from tailwise.types import Event, History

Part = Literal["taste", "appeal", "sequel"]
EVERYTHING: tuple[Part, ...] = ("taste", "appeal", "sequel")


@dataclass(frozen=True, eq=False)
class ChangingWorld:
    """Acts in the order of time: everybody acts once a day, first by one truth, then by another."""

    dataset: Dataset
    """All acts; those of the first half have times before ``at``."""
    truths: tuple[Truth, Truth]
    people: Places  # (E,) who acts
    items: Places  # (E,) with what
    at: float
    """Seconds since epoch of the change."""
    user_ids: list[str]
    item_ids: list[str]

    def chances(self, act: int) -> Chances:
        """(M,) of each item to be the one of an act, given who acts and what that person did last. Exact, not drawn."""
        half = len(self.people) // 2
        truth = self.truths[int(act >= half)]
        chances = truth.choices(self.people[act : act + 1]).ravel()
        earlier = np.flatnonzero(self.people[half * int(act >= half) : act] == self.people[act])
        if len(earlier):
            last = self.items[half * int(act >= half) + earlier[-1]]
            chances = (1 - FOLLOW) * chances
            chances[truth.sequel[last]] += FOLLOW
        return chances

    def past(self, act: int) -> History:
        """What who acts did before, oldest first; rows are -1 until a catalogue places them."""
        own = np.flatnonzero(self.people[:act] == self.people[act])
        times = self.dataset.events["time"].to_numpy()
        return History.of([Event("", self.item_ids[self.items[p]], float(times[p]), "click") for p in own])

    def worth(self, act: int, item_ids: Sequence[str]) -> float:
        """Expected NDCG of a list that is shown at an act, best first."""
        rows = [self.item_ids.index(item_id) for item_id in item_ids]
        return float(self.chances(act)[rows] @ (1 / np.log2(np.arange(2, len(rows) + 2))))


def make_changing_world(
    *, users: int, items: int, days: int, groups: int, seed: int, parts: Sequence[Part] = EVERYTHING
) -> ChangingWorld:
    """
    Make a world; the same arguments give identical frames.

    Args:
        users: People, each of whom acts once a day.
        items: Items; which groups they are of never changes.
        days: In all; the change comes in the middle.
        groups: Of items.
        seed: Of everything.
        parts: What is drawn anew in the middle.
    """
    nature, second, acts, looks = np.random.default_rng(seed).spawn(4)
    first = draw_truth(users, items, groups, nature)
    drawn = draw_truth(users, items, groups, second)
    changed = replace(
        first,
        taste=drawn.taste if "taste" in parts else first.taste,
        appeal=drawn.appeal if "appeal" in parts else first.appeal,
        sequel=_sequels(first, second) if "sequel" in parts else first.sequel,
    )
    halves = [draw_acts(truth, days // 2, acts) for truth in (first, changed)]
    rows = np.concatenate(halves, axis=1)  # (U, days)
    order = np.argsort(acts.random(rows.shape[::-1]), axis=1)  # (days, U) who acts when on each day
    people = order.ravel()
    taken = rows[order, np.arange(rows.shape[1])[:, None]].ravel()
    times = START + np.arange(len(people)) * (DAY / users)
    user_ids, item_ids = ids_like("u", users), ids_like("i", items)
    events = pl.DataFrame(
        {
            "user_id": pl.Series(user_ids).gather(people),
            "item_id": pl.Series(item_ids).gather(taken),
            "time": times,
            "event": ["click"] * len(people),
        }
    )
    dataset = Dataset.of("changing", events=events, items=item_table(first, item_ids, looks, text=True))
    return ChangingWorld(dataset, (first, changed), people, taken, float(times[len(people) // 2]), user_ids, item_ids)


def _sequels(truth: Truth, rng: np.random.Generator) -> Places:
    """Other rings within the same groups."""
    sequel = np.empty_like(truth.sequel)
    for group in range(int(truth.group.max()) + 1):
        ring = rng.permutation(np.flatnonzero(truth.group == group))
        sequel[ring] = np.roll(ring, -1)
    return sequel
