"""OpenTelemetry traces: a span a request, joined to the caller's by ``traceparent``, and one a step of the answer."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.errors import UnavailableError
from tailwise.types import StageTrace

SERVER_ERROR = 500


class Tracer:
    """
    Sends spans to an OTLP/HTTP collector, in batches, beside the event loop.

    A collector that is away costs nothing but its spans.

    Args:
        endpoint: As ``http://collector:4318/v1/traces``.

    Raises:
        UnavailableError: OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise UnavailableError("traces need OpenTelemetry: pip install 'tailwise[ops]'") from error
        self._provider = TracerProvider(resource=Resource.create({"service.name": "tailwise"}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=5)))
        self._tracer: Any = self._provider.get_tracer("tailwise")

    def request(self, headers: Headers) -> Any:
        """A span for a request, as a context manager; a child of the caller's where it names one."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(dict(headers))
        return self._tracer.start_as_current_span("request", context=parent, kind=SpanKind.SERVER)

    def steps(self, trace: Iterable[StageTrace]) -> None:
        """
        Spans for the steps of an answer that was just given, one after another, under the current request.

        The steps tell how long they took, not when: they are laid end to end, the last one ending now.
        """
        known = list(trace)
        start = time.time_ns() - int(sum(step.ms for step in known) * 1e6)
        for step in known:
            end = start + int(step.ms * 1e6)
            facts: dict[str, str | int] = {"rows.in": step.rows_in, "rows.out": step.rows_out}
            if step.skipped:
                facts["skipped"] = step.skipped
            self._tracer.start_span(step.name, start_time=start, attributes=facts).end(end)
            start = end

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class Traced:
    """ASGI middleware that puts every request into a span. Paths, which hold people's ids, are never in it."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = SERVER_ERROR

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._tracer.request(Headers(scope=scope)) as span:
            try:
                await self._app(scope, receive, watched)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                span.update_name(f"{scope['method']} {route}")
                span.set_attributes({"http.route": route, "http.response.status_code": status})
