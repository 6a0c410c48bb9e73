"""The store that lives and dies with the process: for tests, demos and one-off ranking."""

from __future__ import annotations

from bisect import bisect_left, insort_right
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter
from threading import Lock

from tailwise.state.journal import segment_name
from tailwise.state.packing import check_storable
from tailwise.state.store import Bounds, Clock, Erasure, Person, Segment, hash_of, id_hash
from tailwise.types import Event


@dataclass(slots=True)
class _Kept:
    """One person."""

    events: list[Event] = field(default_factory=list)  # oldest first
    counts: Counter[str] = field(default_factory=Counter)
    version: int = 0


class MemoryStore:
    """
    Events of each person in a sorted list, behind one lock.

    >>> store = MemoryStore()
    >>> store.append([Event("ann", "heat", 2.0), Event("ann", "up", 1.0)])
    2
    >>> [event.item_id for event in store.history("ann", 10)]
    ['up', 'heat']
    """

    def __init__(self, bounds: Bounds = Bounds()) -> None:  # noqa: B008  frozen
        self.bounds = bounds
        self._clock = Clock()
        self._people: dict[str, _Kept] = {}
        self._young: set[int] = set()
        self._old: set[int] = set()
        self._erased: dict[str, int] = {}  # hash of the id → version
        self._version = 0
        self._journal: deque[list[Event]] | None = None
        self._segment: Segment | None = None
        self._number = 0
        self._following: dict[str, int] = {}  # hash of the id → segment
        self._lock = Lock()

    def append(self, events: Sequence[Event]) -> int:
        """Store events, ignoring known ``event_id``s; the number that were new."""
        check_storable(events)
        with self._lock:
            new = [event for event in events if event.event_id is None or self._is_new(id_hash(event.event_id))]
            self._version += bool(new)
            for event in new:
                self._add(event)
            if new and self._journal is not None:
                self._journal.append(new)
            return len(new)

    def person(self, user_id: str, limit: int) -> Person:
        """What is kept of a person, with the newest ``limit`` events by (time, arrival)."""
        with self._lock:
            kept = self._people.get(user_id) or _Kept()
            erased = self._erased.get(hash_of(user_id))
            events = kept.events[max(len(kept.events) - max(limit, 0), 0) :]
            version, counts = max(kept.version, erased or 0), dict(kept.counts)
        oldest = bisect_left(events, self._clock.cutoff(self.bounds.keep_days), key=attrgetter("time"))
        return Person(events[oldest:], version, counts, erased is not None)

    def history(self, user_id: str, limit: int) -> list[Event]:
        """The newest ``limit`` events of a person by (time, arrival), oldest first."""
        return self.person(user_id, limit).events

    def erase(self, user_id: str) -> int:
        """Forget a person; the number of events that went. Later events are kept again."""
        with self._lock:
            gone = self._people.pop(user_id, _Kept()).events
            self._version += 1
            self._erased[hash_of(user_id)] = self._version
            if self._journal is not None:
                self._following[hash_of(user_id)] = self._number
                self._journal = deque([e for e in batch if e.user_id != user_id] for batch in self._journal)
            if self._segment is not None:
                left = [event for event in self._segment.events if event.user_id != user_id]
                self._segment = replace(self._segment, events=left)
            return len(gone)

    def erased(self, user_id: str) -> bool:
        """Whether the person was ever erased from this store."""
        with self._lock:
            return hash_of(user_id) in self._erased

    def sweep(self) -> int:
        """Drop what is older than ``keep_days``; the number of events that went."""
        cutoff, total = self._clock.cutoff(self.bounds.keep_days), 0
        with self._lock:
            for user_id, kept in list(self._people.items()):
                old = bisect_left(kept.events, cutoff, key=attrgetter("time"))
                if old:
                    self._version += 1
                    kept.version, kept.events = self._version, kept.events[old:]
                    total += old
                if not kept.events:
                    del self._people[user_id]
        return total

    def size(self) -> int:
        """Events kept, of everybody."""
        with self._lock:
            return sum(len(kept.events) for kept in self._people.values())

    def keep_journal(self, after: int = 0) -> None:
        """From now on hold every new event until it is settled."""
        with self._lock:
            self._journal = deque() if self._journal is None else self._journal
            self._number = max(self._number, after)

    def waiting(self) -> int:
        """Events that the journal holds."""
        with self._lock:
            claimed = 0 if self._segment is None else len(self._segment.events)
            return sum(map(len, self._journal or ())) + claimed

    def claim(self, token: str, most: int) -> Segment | None:
        """The segment that is not settled yet, else a new one; None when nothing waits."""
        with self._lock:
            if self._segment is None and self._journal:
                batches: list[list[Event]] = []
                while self._journal and sum(map(len, batches)) < most:
                    batches.append(self._journal.popleft())
                self._number += 1
                name = segment_name(self._number, token)
                self._segment = Segment(name, self._number, list(chain.from_iterable(batches)))
            return self._segment

    def settle(self, name: str) -> None:
        """Let go of the events of a segment whose file is there for good."""
        with self._lock:
            if self._segment is not None and self._segment.name == name:
                self._segment = None

    def erasures(self) -> list[Erasure]:
        """Those that the log has not followed yet."""
        with self._lock:
            return [Erasure(person, number) for person, number in self._following.items()]

    def followed(self, erasures: Sequence[Erasure]) -> None:
        """The log no longer holds these people's earlier events."""
        with self._lock:
            for erasure in erasures:
                if self._following.get(erasure.person) == erasure.number:
                    del self._following[erasure.person]

    def close(self) -> None:
        """Nothing to release."""

    def _is_new(self, code: int) -> bool:
        if code in self._young or code in self._old:
            return False
        self._young.add(code)
        if len(self._young) >= self.bounds.ids:
            self._old, self._young = self._young, set()
        return True

    def _add(self, event: Event) -> None:
        kept = self._people.setdefault(event.user_id, _Kept())
        kept.version = self._version
        kept.counts[event.event] += 1
        plain = event if event.event_id is None else replace(event, event_id=None)
        insort_right(kept.events, plain, key=attrgetter("time"))  # right: of equal times the first to come stays first
        if len(kept.events) > self.bounds.most:
            del kept.events[0]
