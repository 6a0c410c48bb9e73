"""
The nouns that move through Tailwise and the protocols that move them. Read this file first.

    Request ─▶ Retriever ─▶ Slate ─▶ Stage ─▶ Slate ─▶ … ─▶ Slate ─▶ Impression ─▶ Event

Dimension letters, everywhere: **B** requests, **N** candidates, **H** history, **M** items of the
catalogue, **T** tokens, **D** width, **K** tasks, **A** heads, **L** layers. A *row* is an item's
position in the catalogue (0 … M-1); -1 is an item that the catalogue does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tailwise.slate import Column, Floats, Ids, Rows, Slate, ids_of

__all__ = ["Column", "Floats", "Ids", "Rows", "Slate", "ids_of"]  # of another file, and nouns like those below

EVENT_KINDS = ("view", "click", "favourite", "cart", "purchase", "rating", "dwell", "skip", "dislike")
AGAINST = frozenset({"skip", "dislike"})
"""Kinds that speak against an item: seen, but no sign of interest."""

NO_ROWS: Rows = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Event:
    """What one person did with one item; may point to the impression it answers."""

    user_id: str
    item_id: str
    time: float
    """Seconds since epoch, UTC."""
    event: str = "view"
    value: float | None = None
    """A rating, or seconds for ``dwell``."""
    request_id: str | None = None
    position: int | None = None
    """Place on the shown list, from 1."""
    propensity: float | None = None
    event_id: str | None = None
    """Makes delivery idempotent: the second event with this id changes nothing."""


@dataclass(frozen=True)
class History:
    """A person's events as columns, oldest first; what every source asks of them is worked out once."""

    item_ids: Ids  # (H,)
    times: NDArray[np.float64]  # (H,) seconds since epoch
    events: Ids  # (H,) kinds
    values: Floats  # (H,) NaN where an event carries none
    rows: Rows  # (H,) catalogue rows, -1 where unknown

    @classmethod
    def of(cls, events: Sequence[Event]) -> Self:
        """Columns of ``events``, stably sorted by time; rows are -1 until a catalogue places them."""
        ids, times, kinds = [e.item_id for e in events], [e.time for e in events], [e.event for e in events]
        return cls.of_columns(ids, times, kinds, [e.value for e in events])

    @classmethod
    def of_columns(
        cls, item_ids: Sequence[str], times: Sequence[float], events: Sequence[str], values: Sequence[float | None]
    ) -> Self:
        """The same from what ``H`` events are made of."""
        when = np.array(times, np.float64)
        worth = np.array(values, np.float32)  # None becomes NaN
        placed = cls(ids_of(item_ids), when, ids_of(events), worth, np.full(len(when), -1, np.int64))
        in_order = bool((when[1:] >= when[:-1]).all())  # as most callers send them
        return placed if in_order else placed.take(np.argsort(when, kind="stable"))

    def take(self, rows: NDArray[Any] | slice) -> Self:
        """The events that a mask, places or a slice select, in that order."""
        return type(self)(self.item_ids[rows], self.times[rows], self.events[rows], self.values[rows], self.rows[rows])

    def place(self, rows: Rows) -> Self:
        """The same events with their catalogue rows, (H,)."""
        return replace(self, rows=rows)

    def join(self, later: Self) -> Self:
        """
        Both, by time; an act of ``later`` that is here already, with the same item, time and kind, is there once.

        Cost: O(H), and a set of the acts where the two overlap in time.
        """
        if (later.times <= self.times.max(initial=-np.inf)).any():
            acts = set(zip(self.item_ids, self.times, self.events, strict=True))
            own = zip(later.item_ids, later.times, later.events, strict=True)
            later = later.take(~np.fromiter((act in acts for act in own), bool, len(later)))
        names = ("item_ids", "times", "events", "values", "rows")
        both = type(self)(*(np.concatenate([getattr(self, n), getattr(later, n)]) for n in names))
        return both.take(np.argsort(both.times, kind="stable"))

    def liked(self) -> Rows:
        """Rows of known items that the person did something *for*, oldest first, (≤ H,); not to be changed."""
        return self._liked

    @cached_property
    def _liked(self) -> Rows:
        return self.rows[self.speaks_for & (self.rows >= 0)]

    @cached_property
    def speaks_for(self) -> NDArray[np.bool_]:
        """(H,) whether an event is a sign of interest."""
        return np.array([event not in AGAINST for event in self.events.tolist()], bool)

    @cached_property
    def moments_ago(self) -> NDArray[np.int64]:
        """(H,) moments from each event to the newest; events at one time are one, so a basket is one step back."""
        later = np.zeros(len(self.times), np.int64)
        np.cumsum(self.times[1:] != self.times[:-1], out=later[1:])
        return np.asarray(later.max(initial=0) - later, np.int64)

    @cached_property
    def fading(self) -> dict[float, Floats]:
        """What each event counts, (H,), by how fast older ones fade; ``retrieve.decay`` fills it."""
        return {}

    @cached_property
    def newest(self) -> Rows:
        """Places of each distinct known item's newest event, in the order of time, (≤ H,)."""
        rows = self.rows.tolist()
        places = {row: place for place, row in enumerate(rows)}  # of several, the newest is written last
        places.pop(-1, None)
        return np.sort(np.fromiter(places.values(), np.int64, len(places)))

    def __len__(self) -> int:
        return len(self.item_ids)


NO_HISTORY = History.of(())

QUERY = "query_vector"
"""Key of ``Request.cache`` under which the engine leaves the embedded query, (D,); absent without a query."""

ADVISED = "advised"
"""The column of whether the opinion of a language model put an item higher; absent where none was asked."""

ORDER = "score"
"""The order that came in, where a blend of heads names what it mixes."""


LONGEST_ID = 512
"""Letters of an id, in data and in requests."""

MOST_WEIGHT = 1e6
"""Of a head in a blend, either way."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks, when, and what is known of the moment. Unset fields take the model's defaults."""

    request_id: str
    user_id: str | None = None
    time: float | None = None
    """Seconds since epoch, UTC; events later than this are never used."""
    k: int = 10
    candidates: tuple[str, ...] | None = None
    """None: the engine retrieves."""
    history: History | None = None
    """None: the engine looks it up."""
    context: Mapping[str, Any] = field(default_factory=dict)
    query: str | None = None
    exclude_seen: bool | None = None
    diversity: float | None = None
    """0 keeps the score order, 1 looks at novelty only."""
    tail_share: float | None = None
    """Least share of the answer from outside the most popular items, in [0, 1]."""
    blend: Mapping[str, float] | None = None
    """What each head of the stage ``multitask`` weighs in the order, by name; ``score`` is the order that comes in."""
    seed: int = 0
    excluded: Rows = field(default_factory=lambda: NO_ROWS)
    """Rows that must not be shown; filled by the engine from what was seen."""
    cache: dict[object, Column] = field(default_factory=dict, compare=False, repr=False)
    """What was computed for this request, by the component that did, so that a person's vector is made once."""

    @property
    def past(self) -> History:
        """The history, empty when there is none."""
        return NO_HISTORY if self.history is None else self.history


@dataclass(frozen=True, slots=True)
class StageTrace:
    """What one step of a pipeline did to one request."""

    name: str
    ms: float
    rows_in: int
    rows_out: int
    skipped: str | None = None
    """Why the step did not act; None when it did."""


@dataclass(frozen=True, slots=True)
class Impression:
    """What was shown, to quote in feedback and to learn from."""

    request_id: str
    user_id: str | None
    time: float
    item_ids: tuple[str, ...]
    propensities: tuple[float, ...]
    version: str
    """Of the model that answered."""


class Encoder(Protocol):
    """Gives texts meaning."""

    @property
    def dim(self) -> int: ...
    def encode(self, texts: Sequence[str]) -> Floats:
        """(N,) texts to (N, D) float32 rows of unit length; an empty text gives a zero row."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Finds candidates, and can say how it would score any others."""

    def __call__(self, request: Request, k: int) -> Slate:
        """At most ``k`` items of the catalogue, best first, none of ``request.excluded``; with the column ``row``."""
        ...

    def scores(self, request: Request, rows: Rows) -> Floats:
        """(N,) rows to (N,) scores, comparable within the request; NaN where nothing is known (row -1)."""
        ...


@runtime_checkable
class Embedded(Protocol):
    """A source that keeps a vector of every item, in a space where near means alike."""

    @property
    def vectors(self) -> Floats:
        """(M, D) rows of unit length, zeros where nothing is known."""
        ...


@runtime_checkable
class Stage(Protocol):
    """One step of a pipeline: reorder, shorten or annotate a slate, never invent items."""

    @property
    def needs(self) -> frozenset[str]:
        """Columns that must be there."""
        ...

    @property
    def gives(self) -> frozenset[str]:
        """Columns that it adds."""
        ...

    def __call__(self, request: Request, slate: Slate) -> Slate: ...


@runtime_checkable
class Patient(Protocol):
    """A stage that waits for somebody else, and can say when it has waited long enough."""

    def within(self, request: Request, slate: Slate, wait_ms: float) -> Slate:
        """
        What the stage gives; TimeoutError when it would take longer than ``wait_ms``.

        With 0 it is only asked whether it need wait: what it began goes on, and who asks again finds it.
        """
        ...


class Facts(Protocol):
    """Knows columns about items."""

    @property
    def names(self) -> frozenset[str]: ...
    @property
    def item_ids(self) -> Ids:
        """(M,) the items that it knows, by row."""
        ...

    def columns(self, item_ids: Ids, names: frozenset[str]) -> Mapping[str, Column]:
        """Each (N, …), aligned with ``item_ids``; an unknown item gets NaN, None, False or zeros."""
        ...
