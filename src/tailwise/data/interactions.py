"""What people did, as arrays: sorted by person and then by time, to learn from and to look histories up in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.data.baskets import Acts, acts_of, by_lot
from tailwise.data.catalogue import Catalogue
from tailwise.data.pace import RECENT, pace_of
from tailwise.errors import ArtifactError
from tailwise.types import AGAINST, EVENT_KINDS, Floats, History, Ids, Rows, ids_of

TYPED = "query"
"""Column of the events that says what somebody typed before they chose the item."""
AGAINST_CODES = np.array([kind in AGAINST for kind in EVENT_KINDS])
KIND_NAMES = ids_of(EVENT_KINDS)


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
    context: pl.DataFrame = field(default_factory=pl.DataFrame)
    """(E,) columns of the events that tell of the moment; none in a model folder."""
    acts: Acts = Acts.LINES
    """What times tell of the order of events; not known in a model folder."""

    @classmethod
    def of(cls, events: pl.DataFrame, catalogue: Catalogue, context: Sequence[str] = ()) -> Self:
        """
        Arrays from events in the data room's form (sorted by time, then user and item).

        Events of items that the catalogue does not know are left out; kinds that are not known count as views. Of the
        columns that ``context`` names those that are there are kept beside. Where times tell no order (``baskets``),
        a person's events are in one drawn by lot.
        """
        acts = acts_of(events)
        code = {kind: place for place, kind in enumerate(EVENT_KINDS)}
        beside = {f"context {name}": pl.col(name) for name in context if name in events.columns}
        placed = pl.DataFrame({"item_id": catalogue.item_ids.tolist(), "row": np.arange(len(catalogue))})
        frame = (
            (by_lot(events) if acts is Acts.SETS else events)
            .select("user_id", "item_id", "time", "event", "value", **beside)
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
            frame.select(pl.col(name).alias(name.removeprefix("context ")) for name in beside),
            acts=acts,
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

    @property
    def in_baskets(self) -> bool:
        """Whether people act in baskets that follow one another."""
        return self.acts is Acts.BASKETS

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
        arrays = (self.rows[mask], self.times[mask], self.kinds[mask], self.values[mask])
        context = self.context.filter(mask) if self.context.width else self.context
        return type(self)(self.user_ids, offsets, *arrays, self.n_items, context, self.acts)

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

    @cached_property
    def pace(self) -> float:
        """How fast what is wanted changes: the half-life of popularity, in days (``data.pace``)."""
        return pace_of(self.times[self.likes], self.rows[self.likes], self.n_items)

    def recent(self, pace: float) -> Floats:
        """(M,) decayed events of each item: how popular it is now, where what is wanted changes at a ``pace``."""
        return self.decayed(min(RECENT, pace))

    @cached_property
    def firsts(self) -> NDArray[np.bool_]:
        """(E,) whether it is the first that the person did with the item."""
        first = np.zeros(len(self), bool)
        first[np.unique(self.users * np.int64(self.n_items) + self.rows, return_index=True)[1]] = True
        return first

    @cached_property
    def moment_starts(self) -> Rows:
        """Where each person's each moment begins: events at one time are one moment."""
        new = (np.diff(self.times) != 0) | (np.diff(self.users) != 0)
        return np.flatnonzero(np.append(np.full(min(len(self), 1), fill_value=True), new))

    @cached_property
    def usual_gap(self) -> float:
        """Seconds from one moment of a person to the next, the median; 0 where nobody has two."""
        gaps = np.diff(self.times)[np.diff(self.users) == 0]
        return float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 0.0

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
        own = (arrays["offsets"], arrays["rows"], arrays["times"], arrays["kinds"], arrays["values"])
        return cls(ids_of(people["user_id"].to_list()), *own, n_items)

    def _stored(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in ("offsets", "rows", "times", "kinds", "values")}


@dataclass(frozen=True)
class Held:
    """Cases: what somebody did next, and all that they had done before. One person may have several."""

    whole: Interactions
    """Everything, what is held out included."""
    people: NDArray[np.int64]
    """(J,) places in ``whole.user_ids``, in order."""
    ends: NDArray[np.int64]
    """(J,) places in ``whole``: what comes before is the person's past."""
    times: NDArray[np.float64]
    """(J,) of the targets, in seconds since epoch; NaN where nothing else was done then."""
    targets: tuple[Rows, ...]
    """J lists of rows: the next liked item, or all liked items of the next basket."""

    def __len__(self) -> int:
        return len(self.people)

    def past(self, case: int, catalogue: Catalogue) -> History:
        """
        What the person of a case had done before, oldest first.

        Other acts with a target at its very moment are left out: the view that came with a purchase would tell.
        """
        places = np.arange(self.whole.offsets[self.people[case]], self.ends[case])[self.tells_nothing(case)]
        rows, kinds = self.whole.rows[places], KIND_NAMES[self.whole.kinds[places]]
        return History(catalogue.item_ids[rows], self.whole.times[places], kinds, self.whole.values[places], rows)

    def moment(self, case: int) -> tuple[float | None, dict[str, Any]]:
        """When the targets of a case were taken, None where it is not known, and what else is known of the moment."""
        time = float(self.times[case])
        if math.isnan(time) or not self.whole.context.width:
            return None if math.isnan(time) else time, {}
        return time, self.whole.context.row(int(self.ends[case]), named=True)

    def tells_nothing(self, case: int) -> NDArray[np.bool_]:
        """Which of the events before a case are no other act with a target at its very moment."""
        own = slice(self.whole.offsets[self.people[case]], self.ends[case])
        same_moment = self.whole.times[own] == self.times[case]
        return np.asarray(~(same_moment & np.isin(self.whole.rows[own], self.targets[case])), bool)

    def first(self, seed: int) -> Rows:
        """(U,) of everybody's first case one target, drawn where there are several; -1 for who has no case."""
        rng = np.random.default_rng(seed)
        out = np.full(len(self.whole.user_ids), -1, np.int64)
        people, cases = np.unique(self.people, return_index=True)
        # The last of a basket is the last by id, which is no fair draw: any item of it may be the target.
        for person, case in zip(people, cases, strict=True):
            out[person] = rng.choice(self.targets[case])
        return out


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
    held: Held | None = None
    """Every case that was held out; ``targets`` has the first one of each person."""
    before: Any = None
    """The same component, fitted while people were held out, when it is fitted again on all events."""
    folder: Path | None = None
    """Where checkpoints go; None: no checkpoints."""
    cache: Path | None = None
    """Where what a language model said is kept for the next fit; None: where the environment says."""
    memo: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was made once in this fit, and several components learn from."""
    report: Callable[[str, int, int], None] = lambda what, done, total: None  # noqa: ARG005  silent by default
    """Progress: what is being done, how far, of how much."""

    def judged(self) -> tuple[NDArray[np.int64], Rows]:
        """People with a target, (J,), and their targets, (J,)."""
        if self.targets is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        people = np.flatnonzero(self.targets >= 0)
        return people, self.targets[people]

    def cases(self) -> Held:
        """Every case that was held out; with ``targets`` alone, one of each person."""
        if self.held is not None:
            return self.held
        people, targets = self.judged()
        ends = self.interactions.offsets[people + 1]
        return Held(self.interactions, people, ends, np.full(len(people), np.nan), tuple(targets[:, None]))

    def past(self, person: int) -> History:
        """What one person did."""
        return self.interactions.events_of(person, self.catalogue)

    def seen(self, people: Rows) -> list[Rows]:
        """What must not be shown to each of some people."""
        offsets = self.interactions.offsets
        nothing = np.empty(0, np.int64)
        return [self.interactions.rows[offsets[p] : offsets[p + 1]] if self.exclude_seen else nothing for p in people]
