"""What the service writes down: one line an event, each with the id of the request that it belongs to."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.serve.masking import depersonalised, masked

log = logging.getLogger(__name__)

HEADER = "X-Request-ID"
SAID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Ids that are taken from a caller; any other could forge lines, or names of metrics."""
REQUEST: ContextVar[str | None] = ContextVar("request", default=None)
"""The id of the request that is being answered; None between requests."""

Form = Literal["text", "json"]
TOLD = ("tailwise.serve.life", "tailwise.serve.shadow")
"""Areas whose rare lines are of interest to whoever runs the service although nothing is wrong."""
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Lines(logging.Formatter):
    """
    A record as one line: JSON with ``time``, ``level``, ``area``, ``message``, ``request_id`` and its fields; or text.

    >>> record = logging.makeLogRecord({"msg": "stage skipped", "levelname": "WARNING", "name": "a", "ms": 3})
    >>> Lines("text").format(record)
    'WARNING a: stage skipped ms=3'
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        fields = depersonalised({name: value for name, value in vars(record).items() if name not in STANDARD})
        known = {} if (request := REQUEST.get()) is None else {"request_id": request}
        if record.exc_info:
            known["error"] = self.formatException(record.exc_info)
        if not self._json:
            said = "".join(f" {name}={value}" for name, value in {**fields, **known}.items())
            return masked(f"{record.levelname} {record.name}: {record.getMessage()}{said}")
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "area": record.name,
            "message": record.getMessage(),
            **known,
            **fields,
        }
        return masked(json.dumps(line, default=str, ensure_ascii=False))


def configure(form: Form, *, requests: bool) -> None:
    """
    Write warnings, and every request where ``requests`` asks for it, to stderr. Called once, at the edge.

    Args:
        form: Of the lines.
        requests: Whether each request gets a line: its route (never its path, which holds ids), status and time.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(form))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for area in TOLD:
        logging.getLogger(area).setLevel(logging.INFO)
    log.setLevel(logging.INFO if requests else logging.NOTSET)


class Label:
    """
    ASGI middleware that gives every request an id: the caller's ``X-Request-ID``, or a new one; the answer carries it.

    Cost: some 5 µs a request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(HEADER, "")
        request = asked if SAID.fullmatch(asked) else uuid.uuid4().hex
        start, status, held = time.perf_counter(), 500, REQUEST.set(request)

        async def labelled(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request
            await send(message)

        try:
            await self._app(scope, receive, labelled)
        finally:
            if log.isEnabledFor(logging.INFO):
                route = getattr(scope.get("route"), "path", "other")
                ms = round((time.perf_counter() - start) * 1000, 3)
                log.info("request", extra={"method": scope["method"], "route": route, "status": status, "ms": ms})
            REQUEST.reset(held)
