"""Sums over people that item-to-item sources solve with, kept up to date as events come in: exact, not approximate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Interactions
from tailwise.retrieve.collaborative import GRAM, liked_matrix
from tailwise.retrieve.following import STEPS, NextItemConfig, Sums, step_sums
from tailwise.types import Rows

MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
"""Odd numbers that spread bits."""


@dataclass
class Counts:
    """
    The Gram matrix of who liked what, and the sums over what followed what.

    Both are sums over people, so only those whose events changed are counted: theirs are taken out as they were and
    put in as they are.
    """

    log: Interactions | None = None
    _gram: Any = None  # (M, M) sparse, whole numbers
    _sums: dict[Any, tuple[Interactions, NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)

    def memo(self, log: Interactions) -> dict[object, Any]:
        """
        What a fit on ``log`` need not count, for ``Training.memo``.

        Cost: O(E) to see who changed, then as a fit of these people alone.
        """
        if self.log is not log:
            self._gram = self._counted(log)
            self.log = log
        return {GRAM: self._gram, STEPS: lambda chosen, config: self._stepped(log, chosen, config)}

    def _counted(self, log: Interactions) -> Any:
        before = self.log
        if before is None or (parts := changed(before, log)) is None:
            matrix = liked_matrix(log)
            return matrix.T @ matrix
        old, new = (liked_matrix(part) for part in parts)
        gram = self._gram.copy()
        gram.resize((log.n_items, log.n_items))
        old.resize((old.shape[0], log.n_items))
        return gram + new.T @ new - old.T @ old

    def _stepped(self, log: Interactions, chosen: Rows, config: NextItemConfig) -> Sums:
        key = (chosen.tobytes(), config.memory, config.window)  # each step's weight depends on who takes part
        before = self._sums.get(key)
        parts = None if before is None else changed(before[0], log)
        if before is None or parts is None:
            gram, ahead = (part.astype(np.float64) for part in step_sums(log, chosen, config))
        else:
            old, new = (step_sums(part, chosen, config) for part in parts)
            gram, ahead = (b + n - o for b, n, o in zip(before[1:], new, old, strict=True))
        self._sums = {key: (log, gram, ahead)}
        return gram.astype(np.float32), ahead.astype(np.float32)


def changed(before: Interactions, after: Interactions) -> tuple[Interactions, Interactions] | None:
    """
    The events, then and now, of people whose events are not the same; None when counting all anew is less work.

    Rows must mean the same items in both: items may only have come in behind the others.
    """
    marks = tuple(_marks(log) for log in (before, after))
    moved = [np.array([there.get(u) != mark for u, mark in own.items()], bool) for own, there in (marks, marks[::-1])]
    old, new = (log.pick(mask[log.users]) for log, mask in zip((before, after), moved, strict=True))
    return None if 2 * (len(old) + len(new)) > len(after) else (old, new)


def _marks(log: Interactions) -> Mapping[str, int]:
    """A number for each person with events, which is another when any of them changes."""
    parts = (log.rows.astype(np.uint64), np.ascontiguousarray(log.times).view(np.uint64), log.kinds.astype(np.uint64))
    with np.errstate(over="ignore"):
        each = np.ones(len(log), np.uint64)
        for part in parts:
            each = (each ^ part) * MIX[0]
            each = (each ^ (each >> np.uint64(29))) * MIX[1]
        totals = np.concatenate([[np.uint64(0)], np.cumsum(each, dtype=np.uint64)])[log.offsets]
        marks = totals[1:] - totals[:-1]
    return {user: int(mark) for user, mark in zip(log.user_ids, marks, strict=True)}
