"""The store that lives and dies with the process: for tests, demos and one-off ranking."""

from __future__ import annotations

from bisect import insort_right
from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from threading import Lock

from tailwise.types import Event

MOST_PER_PERSON = 1000
"""Events kept of one person; older ones go first. Bounds memory, and is far above what any stage reads."""


class MemoryStore:
    """
    Events of each person in a sorted list, behind one lock.

    >>> store = MemoryStore()
    >>> store.append([Event("ann", "heat", 2.0), Event("ann", "up", 1.0)])
    2
    >>> [event.item_id for event in store.history("ann", 10)]
    ['up', 'heat']
    """

    def __init__(self) -> None:
        self._people: defaultdict[str, list[Event]] = defaultdict(list)  # each oldest first
        self._known: set[str] = set()  # event ids that are kept
        self._erased: set[str] = set()
        self._lock = Lock()

    def append(self, events: Sequence[Event]) -> int:
        """Store events, ignoring kept ``event_id``s; the number that were new."""
        with self._lock:
            return sum(map(self._add, events))

    def _add(self, event: Event) -> bool:
        if event.event_id in self._known:
            return False
        if event.event_id is not None:
            self._known.add(event.event_id)
        person = self._people[event.user_id]
        insort_right(person, event, key=attrgetter("time"))  # right: on equal times the first to come stays first
        if len(person) > MOST_PER_PERSON:
            self._known.discard(person.pop(0).event_id or "")
        return True

    def history(self, user_id: str, limit: int) -> list[Event]:
        """The newest ``limit`` events of a person by (time, arrival), oldest first."""
        with self._lock:
            person = self._people.get(user_id, [])
            return person[max(len(person) - max(limit, 0), 0) :]

    def erase(self, user_id: str) -> int:
        """Forget a person; the number of events that went. Later events are kept again."""
        with self._lock:
            gone = self._people.pop(user_id, [])
            self._known.difference_update([event.event_id or "" for event in gone])
            self._erased.add(user_id)
            return len(gone)

    def erased(self, user_id: str) -> bool:
        """Whether the person was ever erased from this store."""
        with self._lock:
            return user_id in self._erased

    def size(self) -> int:
        """Events kept, of everybody."""
        with self._lock:
            return sum(map(len, self._people.values()))

    def close(self) -> None:
        """Nothing to release."""
