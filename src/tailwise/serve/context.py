"""What every route reaches: the engine, the monitor, the directory, and how to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request as HttpRequest
from starlette.responses import Response

from tailwise.pipeline import Engine
from tailwise.serve import wire
from tailwise.serve.directory import Directory
from tailwise.serve.monitor import Monitor
from tailwise.serve.service import Service


@dataclass(frozen=True)
class Context:
    """What one application serves with."""

    engine: Engine
    monitor: Monitor
    directory: Directory
    service: Service


def context_of(request: HttpRequest) -> Context:
    """The context of the application that got the request."""
    context: Context = request.app.state.context
    return context


def json_response(value: Any) -> Response:
    """Anything of the wire as a response; bytes are JSON already."""
    return Response(value if isinstance(value, bytes) else wire.encode(value), media_type="application/json")
