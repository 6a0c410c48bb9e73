"""What the service says of itself: counts and times for Prometheus, liveness, readiness, the model card."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.pipeline import Engine
from tailwise.serve.owned import SHARED, Together, everything, owned
from tailwise.types import StageTrace

MILLISECONDS = tuple(ms / 1000 for ms in (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000))
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
WHYS = frozenset({"failed", "late", "load", "gate", "budget", "breaker", "busy"})
"""Why a step did not act: the word before the colon of what the trace says."""
STATE = {"history of": "stale", "no history": "no_history"}
"""The same for the step that reads the person, by how it begins, while the state is away."""
CHANGES = ("swapped", "refused", "rolled_back", "promoted", "canary_began", "canary_off")
"""What becomes of models."""
MOST_VERSIONS = 8
"""Models that have numbers of their own at once."""


class Monitor:
    """
    Counters of one application. Labels come from tables (routes, methods, steps), so callers cannot add any.

    Args:
        tenant: Whose numbers these are; "" where the service has one model.

    Cost: a few microseconds a request.
    """

    def __init__(self, tenant: str = "") -> None:
        self._tenant, self.running = tenant, 0
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"tenant": tenant, "registry": self.registry}
        self._requests = owned(Counter, "tailwise_requests", "Requests answered", ["method", "route", "status"], **own)
        self._seconds = owned(
            Histogram, "tailwise_request_seconds", "Time to answer", ["route"], buckets=MILLISECONDS, **own
        )
        self._stages = owned(
            Histogram, "tailwise_stage_seconds", "Time in a step", ["stage"], buckets=MILLISECONDS, **own
        )
        self._of_stage: dict[str, Histogram] = {}
        self._of_route: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._skipped = owned(
            Counter, "tailwise_stage_skipped", "Steps that did not act, by why", ["stage", "why"], **own
        )
        self._events = owned(Counter, "tailwise_events", "Events stored", **own)
        self._strange = owned(
            Counter, "tailwise_events_unknown", "Events that were sent of items that the model does not know", **own
        )
        self._notes_failed = owned(
            Counter, "tailwise_notes_failed", "Answers that were given, but not counted in full: see the log", **own
        )
        self._model_seconds = owned(
            Histogram,
            "tailwise_model_seconds",
            "Time of an answer in the engine, by model",
            ["version"],
            buckets=MILLISECONDS,
            **own,
        )
        self._model_faults = owned(
            Counter,
            "tailwise_model_faults",
            "Answers that a model failed to give (failed), or gave without a step that failed or was late (step)",
            ["version", "what"],
            **own,
        )
        self._changes = owned(Counter, "tailwise_model_changes", "What became of models, by what", ["what"], **own)
        for what in CHANGES:  # there from the start: Prometheus sees no increase in a number that begins with 1
            self._changes.labels(what)
        self._versions = Versions(self._drop)
        self._phrases = owned(
            Counter,
            "tailwise_phrases",
            "Reasons put into words by a language model: said, or why they were not",
            ["outcome"],
            **own,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        kind = (method if method in METHODS else "other", route, status)
        known = self._of_route.get(kind)
        if known is None:  # labels are looked up under a lock; there are as many as routes, methods and statuses
            known = self._of_route[kind] = self._requests.labels(*kind), self._seconds.labels(route)
        known[0].inc()
        known[1].observe(seconds)

    def ranked(self, trace: Iterable[StageTrace]) -> None:
        """Count what each step of an answer took."""
        for step in trace:
            stage = self._of_stage.get(step.name)
            if stage is None:  # labels are looked up under a lock; there are as many steps as the pipeline has
                stage = self._of_stage[step.name] = self._stages.labels(step.name)
            stage.observe(step.ms / 1000)
            if step.skipped:
                self._skipped.labels(step.name, why_of(step.skipped)).inc()

    def stored(self, events: int, unknown: int = 0) -> None:
        """Count events that were new, and those whose items the model does not know."""
        self._events.inc(events)
        self._strange.inc(unknown)

    def unnoted(self) -> None:
        """Count an answer of which not everything could be noted down."""
        self._notes_failed.inc()

    def modelled(self, version: str, ms: float, *, faulty: bool) -> None:
        """Count an answer of a model."""
        self._versions.met(version)
        self._model_seconds.labels(version).observe(ms / 1000)
        if faulty:
            self._model_faults.labels(version, "step").inc()

    def unanswered(self, version: str) -> None:
        """Count a request that a model could not answer, and another one could."""
        self._versions.met(version)
        self._model_faults.labels(version, "failed").inc()

    def changed(self, what: str) -> None:
        """Count a change of models, one of ``CHANGES``."""
        self._changes.labels(what).inc()

    def phrased(self, said: int, refused: Mapping[str, int]) -> None:
        """Count what became of phrases; ``refused`` by why, out of a table of ours."""
        for outcome, count in {"said": said, **refused}.items():
            self._phrases.labels(outcome).inc(count)

    def _drop(self, version: str) -> None:
        """Let go of a model's numbers, where it has any."""
        for metric, labels in (
            (self._model_seconds, ()),
            (self._model_faults, ("step",)),
            (self._model_faults, ("failed",)),
        ):
            with suppress(KeyError):
                metric.remove(version, *labels)

    def text(self) -> bytes:
        """Everything in Prometheus' text form; of all workers where they share a folder."""
        return generate_latest(Together([everything([self.registry])], self._tenant))


def why_of(skipped: str) -> str:
    """
    Why a step did not act, out of a table of ours, from what the trace says.

    >>> why_of("late: 30 ms"), why_of("history of 12 s ago: the state is away"), why_of("no lists were asked for")
    ('late', 'stale', 'other')
    """
    head = skipped.partition(":")[0]
    return head if head in WHYS else next((why for begins, why in STATE.items() if head.startswith(begins)), "other")


class Versions:
    """
    The models that have numbers: the newest few, for who learns on makes a new one again and again.

    Args:
        drop: Lets go of the numbers of a model. Where several workers share files, nothing can be let go of.
    """

    def __init__(self, drop: Callable[[str], None]) -> None:
        self._drop = drop
        self._known: dict[str, None] = {}

    def met(self, version: str) -> None:
        """Take note of a model that has numbers now; the one that has had them for longest may lose its own."""
        if version in self._known:
            return
        self._known[version] = None
        if len(self._known) > MOST_VERSIONS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            if SHARED not in os.environ:
                self._drop(oldest)


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
        self._monitor.running += 1

        def count() -> None:
            nonlocal counted
            if not counted:
                counted = True
                self._monitor.running -= 1
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
