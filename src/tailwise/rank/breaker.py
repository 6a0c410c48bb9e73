"""
A circuit breaker: who fails again and again is left alone for a while, then tried once.

    closed ── failures in a row ──▶ open ── after a rest ──▶ half open ── one probe: good ──▶ closed
                                     ▲                            └────────── bad ───────────────┘ (open again)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Annotated

from pydantic import Field

from tailwise.config import Closed
from tailwise.errors import Abstain


class BreakerConfig(Closed):
    """When a model that fails is left alone."""

    failures: Annotated[int, Field(ge=1)] = 3
    """In a row, after which nobody is asked."""
    rest_s: Annotated[float, Field(gt=0)] = 30.0
    """Until one question tries again; every failed try doubles it, up to tenfold."""


class Breaker:
    """
    Lets questions through while they are answered. Threads may share it.

    Args:
        config: When to open, and for how long.
        clock: Seconds, never going back.
    """

    def __init__(self, config: BreakerConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._lock = Lock()
        self._failed = 0
        self._until = 0.0
        self._probing = False

    @property
    def state(self) -> int:
        """0 closed, 1 half open, 2 open."""
        with self._lock:
            return self._state()

    def enter(self) -> None:
        """
        Ask to ask. Whoever was let in says afterwards how it went.

        Raises:
            Abstain: The breaker is open, or half open with a probe under way.
        """
        with self._lock:
            state = self._state()
            if state == 2 or (state == 1 and self._probing):
                left = max(0.0, self._until - self._clock())
                raise Abstain(f"breaker: open after {self._failed} failures, next try in {left:.0f} s")
            self._probing = state == 1

    def succeeded(self) -> None:
        """An answer came."""
        with self._lock:
            self._failed, self._probing = 0, False

    def failed(self) -> None:
        """None came, or one that nobody can read."""
        with self._lock:
            self._failed += 1
            self._probing = False
            over = self._failed - self._config.failures
            if over >= 0:
                self._until = self._clock() + self._config.rest_s * min(2.0**over, 10.0)

    def left(self) -> None:
        """Whoever was let in did not ask after all."""
        with self._lock:
            self._probing = False

    def _state(self) -> int:
        if self._failed < self._config.failures:
            return 0
        return 2 if self._clock() < self._until else 1
