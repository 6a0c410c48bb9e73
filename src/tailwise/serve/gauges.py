"""Numbers that are a state and not a count: the wait, what is shown, the model. Brought up to date once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from tailwise.pipeline import Engine
from tailwise.serve.monitor import Versions
from tailwise.serve.owned import owned
from tailwise.serve.pressure import Pressure
from tailwise.serve.shown import Shown

PULSE_S = 1.0


class Gauges:
    """
    The states of one application, for Prometheus; of several workers the highest, or the sum.

    Args:
        registry: Of the monitor.
        pressure: Tells the wait and what was refused.
        tenant: Whose states these are; "" where the service has one model.
    """

    def __init__(self, registry: CollectorRegistry, pressure: Pressure, *, tenant: str = "") -> None:
        own: dict[str, Any] = {"tenant": tenant, "registry": registry}
        self._pressure = pressure
        self._lag = owned(
            Gauge, "tailwise_lag_seconds", "Wait of a request that arrives now", **own, multiprocess_mode="livemax"
        )
        self._coverage = owned(
            Gauge,
            "tailwise_shown_coverage",
            "Share of the catalogue that anybody was shown within the last hour or two",
            **own,
            multiprocess_mode="livemax",
        )
        self._model = owned(
            Gauge,
            "tailwise_model_info",
            "The model that answers; always 1",
            ["version"],
            **own,
            multiprocess_mode="livemax",
        )
        self._stages = owned(
            Gauge,
            "tailwise_stage_count",
            "What a step counts of itself since it began, such as questions to a language model",
            ["stage", "what"],
            **own,
            multiprocess_mode="sum",
        )
        self._refused = owned(Counter, "tailwise_refused", "Requests refused because too many ask", **own)
        self._slots = owned(Counter, "tailwise_shown_slots", "Places of answers", **own)
        self._tail = owned(Counter, "tailwise_shown_tail_slots", "Places that went to the long tail", **own)
        self._told = [0, 0, 0]
        self._version: str | None = None
        self._versions = Versions(self._model.remove)

    def update(self, engine: Engine, shown: Shown) -> None:
        """Bring all of them up to date. The counts grow by what ``shown`` and the pressure counted since."""
        if engine.version != self._version:
            if self._version is not None:
                self._model.labels(self._version).set(0)
            self._version = engine.version
            self._versions.met(self._version)
            self._model.labels(self._version).set(1)
        self._lag.set(self._pressure.lag_s)
        self._coverage.set(shown.coverage())
        for bound in engine.stages:
            for what, value in getattr(bound.run, "counts", {}).items():
                self._stages.labels(bound.key, what).set(value)
        now = [self._pressure.refused, shown.slots, shown.tail_slots]
        for counter, value, told in zip((self._refused, self._slots, self._tail), now, self._told, strict=True):
            counter.inc(max(value - told, 0))
        self._told = now


async def beat(update: Callable[[], None]) -> None:
    """Update for ever."""
    while True:
        update()
        await asyncio.sleep(PULSE_S)
