"""What may be told about many people: how many met an item or a label, and nothing about fewer than a crowd."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from tailwise.data.kinds import MULTI_VALUED
from tailwise.pipeline import Engine

MOST_ITEMS = 1000


class ReachForm(Struct):
    """How many people met an item, as of the fit."""

    item_id: str
    title: str
    people: int


class InsightsForm(Struct):
    """Numbers of people, as of the fit; what fewer than ``least_people`` did is not told."""

    least_people: int
    people: int | None
    """None when they are too few."""
    items: list[ReachForm]
    """Most people first."""
    left_out: int
    """Items that some people met, but too few."""
    labels: dict[str, dict[str, int]]
    """People by genre, tag or category."""
    version: str
    """Of the model that answered."""


class Reach:
    """
    How many different people met each item and each label.

    Cost: one sort of the events, some 100 ms a million, when it is made.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        catalogue, people = engine.catalogue, engine.people
        known = people.rows >= 0
        pairs = np.unique(people.users[known].astype(np.int64) * len(catalogue) + people.rows[known])
        self._users, rows = np.divmod(pairs, max(len(catalogue), 1))
        self._items: NDArray[np.int64] = np.bincount(rows, minlength=len(catalogue))  # (M,) people an item
        self._labels = {name: self._by_label(name, rows) for name in MULTI_VALUED if name in catalogue.labels}

    def told(self, least: int, limit: int) -> InsightsForm:
        """What may be told when nothing may be about fewer than ``least`` people."""
        catalogue = self._engine.catalogue
        order = np.argsort(-self._items, kind="stable")[:limit]
        shown = order[self._items[order] >= least].tolist()
        items = [ReachForm(str(catalogue.item_ids[row]), catalogue.title(row), int(self._items[row])) for row in shown]
        labels = {
            name: {label: count for label, count in counts.items() if count >= least}
            for name, counts in self._labels.items()
        }
        everybody = len(self._engine.people.user_ids)
        few = int(((self._items > 0) & (self._items < least)).sum())
        told = everybody if everybody >= least else None
        return InsightsForm(least, told, items, few, labels, self._engine.version)

    def _by_label(self, name: str, rows: NDArray[np.int64]) -> dict[str, int]:
        """People that met any item of each label."""
        catalogue = self._engine.catalogue
        hot = catalogue.at(np.arange(len(catalogue)), [name])[name]  # (M, labels) bool
        return {
            label: len(np.unique(self._users[hot[rows, place]])) for place, label in enumerate(catalogue.labels[name])
        }
