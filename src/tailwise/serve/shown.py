"""What people were shown, as two shares that tell whether the long tail is: coverage and tail share."""

from __future__ import annotations

import time

import numpy as np

from tailwise.data.catalogue import Catalogue
from tailwise.types import Rows

WINDOW_S = 3600.0
"""What counts as lately; the figures are of the last one to two windows."""


class Shown:
    """
    Counts of the items in answers, by catalogue row.

    Cost: a microsecond or two an answer; two bytes-wide masks of M items.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._tail = catalogue.tail
        self._now, self._before = np.zeros((2, len(catalogue)), bool)
        self._since = time.monotonic()
        self.slots = 0
        self.tail_slots = 0

    def add(self, rows: Rows) -> None:
        """Take note of one answer: (k,) catalogue rows, -1 unknown."""
        known = rows[rows >= 0]
        self._now[known] = True
        self.slots += len(rows)
        self.tail_slots += int(self._tail[known].sum()) + len(rows) - len(known)

    def coverage(self) -> float:
        """Share of the catalogue that anybody was shown lately, in [0, 1]."""
        if time.monotonic() - self._since > WINDOW_S:
            self._now, self._before = np.zeros_like(self._now), self._now
            self._since = time.monotonic()
        return float((self._now | self._before).mean()) if len(self._now) else 0.0
