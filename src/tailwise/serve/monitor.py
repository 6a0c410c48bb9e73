"""What the service says of itself: counts and times for Prometheus, liveness, readiness, the model card."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.pipeline import Engine
from tailwise.types import StageTrace

MILLISECONDS = tuple(ms / 1000 for ms in (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000))
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where several workers put their numbers together; ``running`` sets it."""


class Monitor:
    """
    Counters of one application. Labels come from tables (routes, methods, steps), so callers cannot add any.

    Cost: a few microseconds a request.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tailwise_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "tailwise_request_seconds", "Time to answer", ["route"], buckets=MILLISECONDS, registry=self.registry
        )
        self._stages = Histogram(
            "tailwise_stage_seconds", "Time in a step", ["stage"], buckets=MILLISECONDS, registry=self.registry
        )
        self._skipped = Counter(
            "tailwise_stage_skipped", "Steps that failed or were late", ["stage"], registry=self.registry
        )
        self._events = Counter("tailwise_events", "Events stored", registry=self.registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method if method in METHODS else "other", route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def ranked(self, trace: Iterable[StageTrace]) -> None:
        """Count what each step of an answer took."""
        for step in trace:
            self._stages.labels(step.name).observe(step.ms / 1000)
            if step.skipped:
                self._skipped.labels(step.name).inc()

    def stored(self, events: int) -> None:
        """Count events that were new."""
        self._events.inc(events)

    def text(self) -> bytes:
        """Everything in Prometheus' text form; of all workers where they share a folder."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # untyped in prometheus_client
        return generate_latest(together)


MEDIA_TYPE = CONTENT_TYPE_LATEST


class Watch:
    """ASGI middleware that counts every request."""

    def __init__(self, app: ASGIApp, monitor: Monitor) -> None:
        self._app = app
        self._monitor = monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start, counted = 500, time.perf_counter(), False

        def count() -> None:
            nonlocal counted
            if not counted:
                counted = True
                route = getattr(scope.get("route"), "path", "other")
                self._monitor.answered(scope["method"], route, status, time.perf_counter() - start)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body", False):
                count()  # before the client has its answer, so that whoever then reads the numbers finds it there
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            count()


def model_card(engine: Engine) -> dict[str, Any]:
    """What the model is: the manifest without its list of files, the pipeline, and how much it knows."""
    card = {name: value for name, value in engine.manifest.items() if name != "files"}
    counts = {"items": len(engine.catalogue), "people": len(engine.people.user_ids), "events": len(engine.people)}
    pipeline = engine.config.model_dump(mode="json", exclude_none=True)
    return {**card, "version": engine.version, "counts": counts, "pipeline": pipeline}
