"""Long work shows a bar on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

LINE_SECONDS = 10.0
"""Between two lines of the same work, where there is no terminal."""


class Progress:
    """Told ``(what, done, total)`` by long work. Use it as a context, so that the last bar is closed."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._what = ""
        self._bar: Any = None
        self._started = self._spoke = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self._begin(what, total)
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif done < total and time.monotonic() - self._spoke > LINE_SECONDS:
            self._line(f"{what}: {done} of {total}")
        if done >= total:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is being shown."""
        if self._bar is not None:
            self._bar.close()
        elif self._what:
            self._line(f"{self._what}: done in {time.monotonic() - self._started:.1f} s")
        self._what, self._bar = "", None

    def _begin(self, what: str, total: int) -> None:
        self.close()
        self._what, self._started, self._spoke = what, time.monotonic(), time.monotonic()
        if self._terminal:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, desc=what, leave=True, bar_format="{desc:<28.28} {bar:30} {n}/{total} {elapsed}"
            )

    def _line(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(text, file=sys.stderr, flush=True)  # noqa: T201  this is where the command speaks


def say(text: str) -> None:
    """One line of the command's answer."""
    print(text, flush=True)  # noqa: T201  this is where the command speaks
