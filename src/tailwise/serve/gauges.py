"""Numbers that are a state and not a count: the wait, what is shown, the model. Brought up to date once a second."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
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
        queues: How much waits for what, by its name.
        tenant: Whose states these are; "" where the service has one model.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        pressure: Pressure,
        *,
        queues: Mapping[str, Callable[[], int]] = MappingProxyType({}),
        tenant: str = "",
    ) -> None:
        own: dict[str, Any] = {"tenant": tenant, "registry": registry}
        self._pressure, self._queues = pressure, queues
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
        self._waiting = owned(
            Gauge,
            "tailwise_waiting",
            "What waits: requests that are being answered, events that the event log has yet to write",
            ["what"],
            **own,
            multiprocess_mode="livemax",
        )
        self._online = owned(
            Gauge,
            "tailwise_online",
            "What the newest events say of a model that learns on: accuracy, and the drift of its last round",
            ["what"],
            **own,
            multiprocess_mode="livemax",
        )
        self._refused = owned(Counter, "tailwise_refused", "Requests refused because too many ask", **own)
        self._slots = owned(Counter, "tailwise_shown_slots", "Places of answers", **own)
        self._tail = owned(Counter, "tailwise_shown_tail_slots", "Places that went to the long tail", **own)
        self._told = [0, 0, 0]
        self._judged: set[str] = set()
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
            found = judged(engine.manifest.get("online"))
            for what in self._judged | found.keys():  # a model that was fitted anew says nothing yet
                self._online.labels(what).set(found.get(what, math.nan))
            self._judged |= found.keys()
        self._lag.set(self._pressure.lag_s)
        self._coverage.set(shown.coverage())
        for what, waiting in self._queues.items():
            self._waiting.labels(what).set(waiting())
        for bound in engine.stages:
            for what, value in getattr(bound.run, "counts", {}).items():
                self._stages.labels(bound.key, what).set(value)
        now = [self._pressure.refused, shown.slots, shown.tail_slots]
        for counter, value, told in zip((self._refused, self._slots, self._tail), now, self._told, strict=True):
            counter.inc(max(value - told, 0))
        self._told = now


def judged(online: Any) -> dict[str, float]:
    """
    The numbers of what a manifest keeps of learning on; nothing of a model that was fitted once.

    >>> judged({"accuracy": 0.5, "drift": {"kinds": 0.01, "scores": None, "fell": True}, "decision": "learned"})
    {'accuracy': 0.5, 'kinds': 0.01, 'fell': 1.0}
    """
    told: dict[str, Any] = online if isinstance(online, dict) else {}
    # A round that was taken back is told apart from the generation that is served now.
    told = told["round"] if isinstance(told.get("round"), dict) else told
    drift = told.get("drift")
    found = {"accuracy": told.get("accuracy"), **(drift if isinstance(drift, dict) else {})}
    return {what: float(value) for what, value in found.items() if isinstance(value, int | float)}


async def beat(update: Callable[[], None]) -> None:
    """Update for ever."""
    while True:
        update()
        await asyncio.sleep(PULSE_S)
