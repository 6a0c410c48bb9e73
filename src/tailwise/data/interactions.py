"""What people did, as arrays: sorted by person and then by time, to learn from and to look histories up in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.data.catalogue import Catalogue
from tailwise.errors import ArtifactError
from tailwise.types import AGAINST, EVENT_KINDS, Floats, History, Ids, Rows, ids_of

AGAINST_CODES = np.array([kind in AGAINST for kind in EVENT_KINDS])
KIND_NAMES = ids_of(EVENT_KINDS)
BASKET = 5
"""From so many events at one moment on average, a log is one of baskets. Ratings typed in one after the other have 1
to 2, a shop's invoices 20 and more."""


@dataclass(frozen=True)
class Interactions:
    """Events of U people: those of person ``u`` are ``offsets[u]:offsets[u + 1]``, oldest first."""

    user_ids: Ids  # (U,)
    offsets: NDArray[np.int64]  # (U + 1,)
    rows: Rows  # (E,) catalogue rows
    times: NDArray[np.float64]  # (E,) seconds since epoch
    kinds: NDArray[np.uint8]  # (E,) places in EVENT_KINDS
    values: Floats  # (E,) NaN where an event carries none
    n_items: int

    @classmethod
    def of(cls, events: pl.DataFrame, catalogue: Catalogue) -> Self:
        """
        Arrays from events in the data room's form (sorted by time, then user and item).

        Events of items that the catalogue does not know are left out; kinds that are not known count as views.
        """
        code = {kind: place for place, kind in enumerate(EVENT_KINDS)}
        placed = pl.DataFrame({"item_id": catalogue.item_ids.tolist(), "row": np.arange(len(catalogue))})
        frame = (
            events.select("user_id", "item_id", "time", "event", "value")
            .join(placed, on="item_id", how="inner", maintain_order="left")
            .with_columns(pl.col("event").replace_strict(code, default=code["view"], return_dtype=pl.UInt8))
            .sort("user_id", maintain_order=True)
        )
        counts = frame.group_by("user_id", maintain_order=True).len()
        return cls(
            ids_of(counts["user_id"].to_list()),
            np.concatenate([[0], np.cumsum(counts["len"].to_numpy())]).astype(np.int64),
            frame["row"].to_numpy().astype(np.int64),
            frame["time"].to_numpy(),
            frame["event"].to_numpy(),
            frame["value"].fill_null(float("nan")).to_numpy().astype(np.float32),
            len(catalogue),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def users(self) -> Rows:
        """(E,) person of each event."""
        return np.repeat(np.arange(len(self.user_ids)), np.diff(self.offsets))

    @cached_property
    def likes(self) -> NDArray[np.bool_]:
        """(E,) whether the event speaks for its item."""
        return ~AGAINST_CODES[self.kinds]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {user_id: place for place, user_id in enumerate(self.user_ids)}

    def knows(self, user_id: str) -> bool:
        """Whether the person has events here."""
        return user_id in self._index

    def history(self, user_id: str, catalogue: Catalogue) -> History | None:
        """A person's events, oldest first; None for a stranger."""
        place = self._index.get(user_id)
        return None if place is None else self.events_of(place, catalogue)

    def events_of(self, place: int, catalogue: Catalogue) -> History:
        """The events of the person at a place of ``user_ids``, oldest first."""
        own = slice(self.offsets[place], self.offsets[place + 1])
        rows = self.rows[own]
        return History(catalogue.item_ids[rows], self.times[own], KIND_NAMES[self.kinds[own]], self.values[own], rows)

    def liked_sequences(self) -> list[Rows]:
        """Per person, the rows of the events that speak for an item, oldest first."""
        kept = np.concatenate([[0], np.cumsum(self.likes)])[self.offsets]
        return np.split(self.rows[self.likes], kept[1:-1])

    def pick(self, mask: NDArray[np.bool_]) -> Self:
        """The events that ``mask`` (E,) selects, of the same people."""
        offsets = np.concatenate([[0], np.cumsum(mask)])[self.offsets].astype(np.int64)
        return type(self)(
            self.user_ids, offsets, self.rows[mask], self.times[mask], self.kinds[mask], self.values[mask], self.n_items
        )

    def newest(self, limit: int) -> Self:
        """At most ``limit`` newest events a person."""
        age = np.repeat(self.offsets[1:], np.diff(self.offsets)) - np.arange(len(self))
        return self.pick(age <= limit)

    def counts(self) -> Floats:
        """(M,) events that speak for each item."""
        return np.bincount(self.rows[self.likes], minlength=self.n_items).astype(np.float32)

    def decayed(self, half_life_days: float) -> Floats:
        """(M,) the same counts, each event worth half as much per half-life before the newest one."""
        if not len(self):
            return np.zeros(self.n_items, np.float32)
        age_days = (self.times.max() - self.times[self.likes]) / 86400
        weights = np.exp2(-age_days / half_life_days)
        return np.bincount(self.rows[self.likes], weights=weights, minlength=self.n_items).astype(np.float32)

    def repeat_rate(self) -> float:
        """
        Share of liked events that do again what the same person did with the same item before.

        Looking at an item, putting it into the cart and buying it are three things done once each.
        """
        if not self.likes.any():
            return 0.0
        acts = (self.users * np.int64(self.n_items) + self.rows) * len(EVENT_KINDS) + self.kinds
        return 1.0 - len(np.unique(acts[self.likes])) / int(self.likes.sum())

    def hold_out_last(self, *, least: int = 3, most: int = 5000, seed: int = 0) -> tuple[Self, Rows]:
        """
        Take the last liked event of people with at least ``least`` liked events out, as a target to predict.

        At most ``most`` people, drawn by ``seed``, so that a large log keeps its last events to learn from. Where
        people act in baskets, ``BASKET`` events and more at a moment, all of the last basket goes, since the rest of it
        would tell, and any item of it is the target. Somebody who has no other basket loses the last event alone.

        Returns:
            The events that remain, and (U,) target rows, -1 where a person has none. Nothing remains that the person
            did after the target, nor anything else that they did with the same item at the same moment.
        """
        places = np.flatnonzero(self.likes)
        owners = self.users[places]
        counts = np.bincount(owners, minlength=len(self.user_ids))
        chosen = np.flatnonzero(counts >= least)
        rng = np.random.default_rng(seed)
        if len(chosen) > most:
            chosen = np.sort(rng.choice(chosen, most, replace=False))
        last = places[np.cumsum(counts)[chosen] - 1]  # (people,) their last liked event
        starts = self._moment_starts
        begins = last
        if len(self) >= BASKET * len(starts):
            basket = starts[np.searchsorted(starts, last, side="right") - 1]
            begins = np.where(basket > self.offsets[chosen], basket, last)
            # The last of a basket is the last by id, which is no fair draw: any liked event of it may be the target.
            low, high = np.searchsorted(places, begins), np.searchsorted(places, last)
            last = places[rng.integers(low, high + 1)]
        targets = np.full(len(self.user_ids), -1, np.int64)
        targets[chosen] = self.rows[last]
        # What the person did after the target would tell about it, so it goes as well; so would the view that came
        # with a purchase.
        end = np.full(len(self.user_ids), len(self))
        end[chosen] = begins
        moment = np.full(len(self.user_ids), np.nan)
        moment[chosen] = self.times[last]
        same_act = (self.rows == targets[self.users]) & (self.times == moment[self.users])
        return self.pick((np.arange(len(self)) < end[self.users]) & ~same_act), targets

    @cached_property
    def _moment_starts(self) -> Rows:
        """Where each person's each moment begins: events at one time are one moment."""
        new = (np.diff(self.times) != 0) | (np.diff(self.users) != 0)
        return np.flatnonzero(np.append(np.full(min(len(self), 1), fill_value=True), new))

    def save(self, folder: Path) -> None:
        """Write the events."""
        folder.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"user_id": self.user_ids.tolist()}).write_parquet(folder / "people.parquet")
        save_arrays(folder / "events.safetensors", **self._stored(), n_items=np.array([self.n_items]))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        arrays = load_arrays(folder / "events.safetensors")
        n_items = int(arrays.pop("n_items")[0])
        try:
            people = pl.read_parquet(folder / "people.parquet")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ArtifactError(f"{folder / 'people.parquet'} cannot be read ({error}); fit the model again") from error
        return cls(ids_of(people["user_id"].to_list()), **arrays, n_items=n_items)

    def _stored(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in ("offsets", "rows", "times", "kinds", "values")}


@dataclass(frozen=True)
class Training:
    """What a component learns from. Every ``fit`` takes its settings and one of these."""

    interactions: Interactions
    catalogue: Catalogue
    seed: int
    threads: int = 1
    """Cores to use."""
    exclude_seen: bool = True
    """Whether what a person has had counts as wrong when components choose their settings."""
    targets: Rows | None = None
    """(U,) the next liked item of people held out for choosing, -1 for the others; None: nobody is held out."""
    before: Any = None
    """The same component, fitted while people were held out, when it is fitted again on all events."""
    folder: Path | None = None
    """Where checkpoints go; None: no checkpoints."""
    report: Callable[[str, int, int], None] = lambda what, done, total: None  # noqa: ARG005  silent by default
    """Progress: what is being done, how far, of how much."""

    def judged(self) -> tuple[NDArray[np.int64], Rows]:
        """People with a target, (J,), and their targets, (J,)."""
        if self.targets is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        people = np.flatnonzero(self.targets >= 0)
        return people, self.targets[people]

    def past(self, person: int) -> History:
        """What one person did."""
        return self.interactions.events_of(person, self.catalogue)

    def seen(self, people: Rows) -> list[Rows]:
        """What must not be shown to each of some people."""
        offsets = self.interactions.offsets
        nothing = np.empty(0, np.int64)
        return [self.interactions.rows[offsets[p] : offsets[p + 1]] if self.exclude_seen else nothing for p in people]
