"""
When more is asked than can be answered: first do without what costs most, then say so, and when to come again.

    lag of the event loop ─▶ over ``shed_after_ms``: costly stages are spared ─▶ over ``refuse_after_ms``: 429

The engine ranks in the event loop, so what waits is not counted anywhere but felt: a timer that should have run comes
late by as much as a request that arrives now would wait.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Rescore
from tailwise.serve.problems import problem
from tailwise.types import StageTrace

BEAT_S = 0.02
"""Between two looks at the lag."""
FADE = 0.7
"""Of the last lag that is still believed at the next look, so that one idle moment does not end the shedding."""
NEWEST = 0.1
"""What the newest time of a stage counts in its mean."""
COSTLY = 0.05
"""Share of an answer's time from which a stage is worth sparing."""
PROMISES = frozenset({"fusion", "rules", "exposure"})
"""Stages that are never spared: the first judge of all, and what the shop promised."""
RANKING = frozenset({"/v1/rank", "/v1/recommend", "/v1/rerank", "/v1/explain"})
"""Routes that may be refused; events, health and metrics never are."""


class Pressure:
    """
    How far behind the service is, and what to do without.

    Args:
        shed_after_ms: Wait from which costly stages are spared.
        refuse_after_ms: Wait from which ranking is refused.
    """

    def __init__(self, *, shed_after_ms: float, refuse_after_ms: float) -> None:
        self._shed_s, self._refuse_s = shed_after_ms / 1000, refuse_after_ms / 1000
        self._ms: dict[str, float] = {}  # of each step of an answer, a moving mean
        self._felt_s = 0.0
        self._due: float | None = None  # when the timer should run next; None before anybody watches
        self.refused = 0

    async def watch(self) -> None:
        """Look at the lag for ever."""
        while True:
            self._due = time.perf_counter() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self.felt(time.perf_counter() - self._due)

    def felt(self, late_s: float) -> None:
        """Take note of how late a timer came."""
        self._felt_s = max(late_s, 0.0, FADE * self._felt_s)

    @property
    def lag_s(self) -> float:
        """How long what arrives now waits, in seconds; while the timer is overdue, by how much it already is."""
        overdue = 0.0 if self._due is None else time.perf_counter() - self._due
        return max(self._felt_s, overdue)

    def took(self, trace: Iterable[StageTrace]) -> None:
        """Take note of what the steps of an answer cost; spared ones keep what is known of them."""
        for step in trace:
            if step.skipped is None:
                self._ms[step.name] = (1 - NEWEST) * self._ms.get(step.name, step.ms) + NEWEST * step.ms

    def spare(self, engine: Engine) -> frozenset[str]:
        """Stages to do without now; none when there is no need."""
        if self.lag_s < self._shed_s:
            return frozenset()
        worth = COSTLY * sum(self._ms.values())
        return frozenset(
            bound.key
            for bound in engine.stages
            if bound.step.name not in PROMISES
            and not isinstance(bound.run, Rescore)
            and self._ms.get(bound.key, 0.0) > worth
        )

    def retry_after(self) -> int | None:
        """Seconds after which to ask again, at least 1; None when there is room."""
        lag_s = self.lag_s
        return max(1, math.ceil(lag_s)) if lag_s >= self._refuse_s else None


class Valve:
    """ASGI middleware that refuses to rank while the service is too far behind (429, ``Retry-After``)."""

    def __init__(self, app: ASGIApp, pressure: Pressure) -> None:
        self._app = app
        self._pressure = pressure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wait = self._pressure.retry_after() if scope["type"] == "http" and scope["path"] in RANKING else None
        if wait is None:
            await self._app(scope, receive, send)
            return
        self._pressure.refused += 1
        why = f"more is asked than can be answered; ask again in {wait} s"
        await problem(429, why, headers={"Retry-After": str(wait)})(scope, receive, send)
