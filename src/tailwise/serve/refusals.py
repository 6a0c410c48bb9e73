"""Models that were refused, and when to try them again: a folder may only be half written, or stay damaged for ever."""

from __future__ import annotations

import time
from pathlib import Path

LONGEST_S = 600.0
"""Between two looks at a model that was refused; the first wait is that of a look, and each doubles it."""


class Refusals:
    """When to look again at folders whose model was refused: later each time, at once when the folder changes."""

    def __init__(self, first_s: float) -> None:
        self._first_s = max(first_s, 1.0)
        self._known: dict[Path, tuple[str | None, float, float]] = {}  # what stood there, the wait, its end

    def waits(self, folder: Path, identity: str | None) -> bool:
        """Whether it is too early to try the model again."""
        known, _, until = self._known.get(folder, (None, 0.0, 0.0))
        return folder in self._known and known == identity and time.monotonic() < until

    def add(self, folder: Path, identity: str | None) -> bool:
        """Take note of a refusal; whether it is the first of this model."""
        known, wait_s, _ = self._known.get(folder, (None, 0.0, 0.0))
        again = folder in self._known and known == identity
        wait_s = min(2 * wait_s, LONGEST_S) if again else self._first_s
        self._known[folder] = (identity, wait_s, time.monotonic() + wait_s)
        return not again
