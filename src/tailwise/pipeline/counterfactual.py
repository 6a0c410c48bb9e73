"""What would have to be gone from a history for an item to fall: found by ranking again, never by guessing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

from tailwise.types import Ids

MOST_TOGETHER = 3
"""Items of a history that are taken away at once."""
FEW = 4
"""Of what carried an item most, these are taken away in twos and threes."""

Order = Callable[[frozenset[str]], Ids]
"""The list that is shown without some items of the history."""


class Trials:
    """
    Lists without some items of a history, each ranked once, as long as tries and time last.

    Args:
        order: Ranks again.
        tries: Rankings at most.
        seconds: After which no further one begins.
    """

    def __init__(self, order: Order, *, tries: int, seconds: float) -> None:
        self._order = order
        self._left = tries
        self._until = time.monotonic() + seconds
        self._known: dict[frozenset[str], dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def places(self, gone: frozenset[str]) -> Mapping[str, int] | None:
        """Items of the list without ``gone``, and their places from 1; None when no ranking is left."""
        if gone not in self._known:
            if not self._left or time.monotonic() > self._until:
                return None
            self._left -= 1
            self._known[gone] = {item_id: place for place, item_id in enumerate(self._order(gone), start=1)}
        return self._known[gone]


def falls(
    shown: Sequence[str], carriers: Mapping[str, Sequence[str]], trials: Trials
) -> dict[str, tuple[frozenset[str], int | None]]:
    """
    For each item of a list a smallest set of the history's items without which it stands lower.

    Single items are tried first, for all items of the list in turn, those that carried it most before others: one
    ranking tells of the whole list. Then twos and threes of the ``FEW`` that carried it most.

    Args:
        shown: The list, best first.
        carriers: Of the items to explain, what carried each, most first.
        trials: Ranks again.

    Returns:
        The sets that were found, and the place without them; an item that nothing tried moves has none.
    """
    place_of = {item_id: place for place, item_id in enumerate(shown, start=1)}
    found: dict[str, tuple[frozenset[str], int | None]] = {}
    for size in range(1, MOST_TOGETHER + 1):
        for item_id, gone in _in_turn({i: c for i, c in carriers.items() if i not in found}, size):
            if item_id in found:
                continue
            places = trials.places(gone)
            if places is None:
                return found
            for other in carriers if size == 1 else [item_id]:
                after = places.get(other)
                if other not in found and gone <= {*carriers[other]} and (after is None or after > place_of[other]):
                    found[other] = gone, after
    return found


def _in_turn(carriers: Mapping[str, Sequence[str]], size: int) -> Iterator[tuple[str, frozenset[str]]]:
    """Sets of ``size`` to take away: each item's likeliest, then each one's next."""
    sets = {
        item_id: [frozenset(own) for own in combinations(carried if size == 1 else carried[:FEW], size)]
        for item_id, carried in carriers.items()
    }
    for turn in range(max(map(len, sets.values()), default=0)):
        for item_id, own in sets.items():
            if turn < len(own):
                yield item_id, own[turn]
