"""
What every store promises: the protocol, what it says of a person, and the bounds that it keeps.

    append ─▶ the newest events of each person ─▶ person, history
          └─▶ the journal, while somebody keeps a log ─▶ claim ─▶ a segment file ─▶ settle

A store keeps what ranks: the newest events of each person. What teaches goes on to the log, through the journal.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Protocol, Self
from urllib.parse import parse_qsl

from tailwise.errors import ConfigError
from tailwise.types import Event

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    How much a store keeps, as the query of its address says: ``sqlite:///x.db?most=200&keep_days=90``.

    >>> Bounds.of("keep_days=90&most=200")
    Bounds(most=200, keep_days=90.0, ids=100000)
    """

    most: int = 1000
    """Events of one person; older ones go first. Far above what any stage reads."""
    keep_days: float | None = None
    """Age at which an event goes, in days; None keeps it until newer ones take its place."""
    ids: int = 100_000
    """Event ids that are remembered at least, of everybody; in Redis and in memory at most twice as many."""

    @classmethod
    def of(cls, query: str) -> Self:
        """
        Bounds from the query of an address.

        Raises:
            ConfigError: A name is unknown, or a value is no positive number.
        """
        found: dict[str, float] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in BOUNDS:
                raise ConfigError(f"state has the setting {name!r}, but it may have: {', '.join(BOUNDS)}")
            try:
                found[name] = BOUNDS[name](value)
            except ValueError:
                found[name] = 0
            if not 0 < found[name] <= 1e9:
                kind = "whole number" if BOUNDS[name] is int else "number"
                raise ConfigError(f"state has {name}={value}, but it must be a {kind} above 0, at most 1e9")
        return cls(**found)  # type: ignore[arg-type]  # each has the type that BOUNDS gives it


BOUNDS: Mapping[str, type[int | float]] = {"most": int, "keep_days": float, "ids": int}


@dataclass(frozen=True, slots=True)
class Person:
    """What a store keeps of somebody, read at one moment."""

    events: list[Event]
    """The newest, oldest first; without their ``event_id``s, which stores remember apart, as hashes."""
    version: int
    """Grows with every change of what is stored of the person; 0 for a stranger."""
    counts: Mapping[str, int]
    """Events that were ever stored, by kind; those that made room since are counted too."""
    erased: bool
    """Whether the person was ever erased, so that older copies must not be used."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Events of the journal that go to one file of the log, and nowhere else."""

    name: str
    """Of the file. The same until it is settled, whoever asks."""
    number: int
    """Grows from segment to segment."""
    events: Sequence[Event]
    """In the order in which they were stored; those of people erased meanwhile are gone."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """Somebody whose events must go from the log."""

    person: str
    """``hash_of`` the id."""
    number: int
    """Of the newest segment that may hold events from before the erasure."""


class StateStore(Protocol):
    """Keeps what people did lately. All methods may be called from any thread, and raise UnavailableError."""

    def append(self, events: Sequence[Event]) -> int:
        """Store all events or none, ignoring known ``event_id``s; the number that were new. Durable when it returns."""
        ...

    def person(self, user_id: str, limit: int) -> Person:
        """What is kept of a person, with the newest ``limit`` events by (time, arrival). One read, one round trip."""
        ...

    def history(self, user_id: str, limit: int) -> list[Event]:
        """The newest ``limit`` events of a person, oldest first."""
        ...

    def erase(self, user_id: str) -> int:
        """Forget a person, in the journal too; the number of events that went. Later events are kept again."""
        ...

    def erased(self, user_id: str) -> bool:
        """Whether the person was ever erased."""
        ...

    def sweep(self) -> int:
        """Drop what is older than the store keeps, of everybody; the number of events that went."""
        ...

    def size(self) -> int:
        """Events kept, of everybody."""
        ...

    def close(self) -> None: ...


class Journal(Protocol):
    """What a store gives on to the log: every event once, in parts that survive a crash of whoever writes them."""

    def keep_journal(self, after: int = 0) -> None:
        """From now on, and for good, hold every new event until it is settled; segments go on ``after`` a number."""
        ...

    def waiting(self) -> int:
        """Events that the journal holds, those of a segment that is not settled yet too."""
        ...

    def claim(self, name: str, most: int) -> Segment | None:
        """The segment that is not settled yet, else a new one of about ``most`` events; None when nothing waits."""
        ...

    def settle(self, name: str) -> None:
        """The file of that segment is there for good: let go of its events. Doing so twice does no harm."""
        ...

    def erasures(self) -> list[Erasure]:
        """Those that the log has not followed yet."""
        ...

    def followed(self, erasures: Sequence[Erasure]) -> None:
        """The log no longer holds these people's earlier events."""
        ...


@dataclass(slots=True)
class Clock:
    """
    Seconds since epoch that never jump: the clock's time at the start, and what passed since.

    Retention asks it, so that a clock that is set wrong while the service runs deletes nothing.
    """

    start: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)

    def cutoff(self, keep_days: float | None) -> float:
        """The time before which events go; minus infinity when all are kept."""
        if keep_days is None:
            return -float("inf")
        return self.start + time.monotonic() - self.started - keep_days * DAY_S


def hash_of(user_id: str) -> str:
    """What stays of an erased person: enough to know the id again, not enough to read it."""
    return sha256(user_id.encode(errors="surrogatepass")).hexdigest()


def id_hash(event_id: str) -> int:
    """
    What stays of an event id: 63 bits.

    Among 200,000 remembered ids a new one is taken for known once in 50 trillion events.
    """
    return int.from_bytes(blake2b(event_id.encode(errors="surrogatepass"), digest_size=8).digest(), "big") >> 1
