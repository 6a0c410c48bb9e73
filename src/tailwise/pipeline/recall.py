"""
What people did lately, also while the store is away: fresh, else as it was last read here, else nothing.

    store answers ─▶ fresh, and remembered
    store is away ─▶ as remembered, for an hour ─▶ nothing: the list that suits everybody

Nothing is known then of who was erased meanwhile, so what the fit knew of a person is not used either.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np

from tailwise.data.baskets import Acts
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.errors import UnavailableError
from tailwise.state.store import Person, StateStore
from tailwise.types import History

log = logging.getLogger(__name__)

NEWEST = 1000
"""Events of a person that are read."""
MOST_EVENTS = 100_000
"""Remembered of everybody, some 30 MB; who was not read for longest goes first."""
OLDEST_S = 3600.0
"""How long a memory may take the place of the store, in seconds."""


@dataclass(slots=True)
class Recall:
    """Reads people from a store and remembers whom it read last."""

    _people: OrderedDict[str, tuple[float, Person]] = field(default_factory=OrderedDict)  # the latest read comes last
    _events: int = 0
    _away: bool = False
    _lock: Lock = field(default_factory=Lock)

    def read(self, store: StateStore, user_id: str) -> tuple[Person | None, str | None]:
        """
        A person, and what to put in the trace when that is not fresh; None when nothing may be used.

        Cost: a microsecond beside the store's own.
        """
        try:
            person = store.person(user_id, NEWEST)
        except UnavailableError as error:
            return self._stale(user_id, error)
        if self._away:
            self._away = False
            log.warning("the state is back")
        with self._lock:
            _, before = self._people.pop(user_id, (0.0, None))
            self._people[user_id] = (time.monotonic(), person)
            self._events += _weight(person) - (0 if before is None else _weight(before))
            while self._events > MOST_EVENTS:
                self._events -= _weight(self._people.popitem(last=False)[1][1])
        return person, None

    def erase(self, store: StateStore, user_id: str) -> int:
        """Have the store forget a person, and remember nothing; the number of events that went."""
        self.forget(user_id)
        gone = store.erase(user_id)
        self.forget(user_id)  # a request may have read it meanwhile
        return gone

    def forget(self, user_id: str) -> None:
        """Remember nothing of a person."""
        with self._lock:
            _, before = self._people.pop(user_id, (0.0, None))
            self._events -= 0 if before is None else _weight(before)

    def _stale(self, user_id: str, error: UnavailableError) -> tuple[Person | None, str]:
        if not self._away:
            self._away = True
            log.warning("the state is away, lists are made of what is remembered: %s", error)
        read, person = self._people.get(user_id, (0.0, None))
        age = time.monotonic() - read
        if person is None or age > OLDEST_S:
            return None, "no history: the state is away"  # where it is, the log says; an answer may go to anybody
        return person, f"history of {age:.0f} s ago: the state is away"


def _weight(person: Person) -> int:
    """Events, and something for who has none."""
    return len(person.events) + 1


def past_of(
    people: Interactions, catalogue: Catalogue, user_id: str, person: Person | None, until: float | None
) -> History:
    """
    All that is known of somebody, oldest first: from the fit and since, up to ``until``.

    Args:
        people: What the model was fitted on; not used of who was erased, or may have been.
        catalogue: Places the items.
        user_id: Who it is.
        person: What the store keeps; None when it cannot be read and nothing may be used.
        until: Seconds since epoch; None takes everything.
    """
    later = History.of([] if person is None else person.events)
    past = later.place(catalogue.rows(later.item_ids))
    fitted = None if person is None or person.erased else people.history(user_id, catalogue)
    past = past if fitted is None else fitted.join(past)
    return past if until is None else past.take(past.times <= until)


def in_line(past: History, people: Interactions, manifest: Mapping[str, Any]) -> History:
    """
    The history of a request, its events as far apart as events usually are where none of them has a time.

    The order in which they came tells then, as that of the log does; in a log of baskets or without times it does not.
    """
    if past.times.any() or manifest.get("choices", {}).get("people_act") != Acts.LINES.value:
        return past
    return replace(past, times=np.arange(len(past), dtype=np.float64) * people.usual_gap)
