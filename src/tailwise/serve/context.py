"""What every route reaches: the models, the monitor, the settings, and how to answer."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fastapi import Request as HttpRequest
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailwise.data.pseudonyms import Pseudonyms
from tailwise.errors import TailwiseError
from tailwise.pipeline import Answer, Engine
from tailwise.rerank.phrases import preferred
from tailwise.serve import wire
from tailwise.serve.canary import is_faulty
from tailwise.serve.directory import Directory
from tailwise.serve.draining import Drain
from tailwise.serve.gauges import Gauges
from tailwise.serve.life import Life
from tailwise.serve.models import Models, Served
from tailwise.serve.monitor import Monitor
from tailwise.serve.pressure import Pressure
from tailwise.serve.service import Service
from tailwise.serve.tracing import Tracer
from tailwise.types import Event, Request

T = TypeVar("T", Request, Event)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """What one application serves with."""

    models: Models
    monitor: Monitor
    service: Service
    pressure: Pressure
    gauges: Gauges
    drain: Drain
    life: Life
    tracer: Tracer | None = None
    pseudonyms: Pseudonyms | None = None

    @property
    def engine(self) -> Engine:
        """Of the main model, as of now: who needs it twice keeps what the first look gave."""
        return self.models.main.engine

    @property
    def directory(self) -> Directory:
        """Of the main model, as of now."""
        return self.models.main.directory

    def person(self, user_id: str) -> str:
        """What the engine and the store know a person as."""
        return user_id if self.pseudonyms is None else self.pseudonyms.of(user_id)

    def hidden(self, asked: T) -> T:
        """The same request or event with its person as ``person`` says."""
        if self.pseudonyms is None or asked.user_id is None:
            return asked
        return replace(asked, user_id=self.pseudonyms.of(asked.user_id))

    def pulse(self) -> None:
        """Bring the gauges up to date."""
        main = self.models.main
        self.gauges.update(main.engine, main.shown)

    async def took(self, asked: Request, served: Served, answer: Answer) -> None:
        """
        Take note of what an answer of a model cost and showed, and have the shadow give its own.

        It runs when the answer is on its way, and waits for nothing: whoever asks next finds it in the numbers.
        """
        try:
            self._note(asked, served, answer)
        except (OSError, TailwiseError):  # a disk without room for numbers, or for what was decided of the canary
            log.exception("an answer was given, but could not be noted down")
            self.monitor.unnoted()

    def _note(self, asked: Request, served: Served, answer: Answer) -> None:
        self.monitor.ranked(answer.trace)
        self.pressure.took(answer.trace)
        served.shown.add(answer.slate.columns["row"])
        ms, faulty = sum(step.ms for step in answer.trace), is_faulty(answer)
        self.monitor.modelled(answer.version, ms, faulty=faulty)
        self.models.took(served, ms, faulty=faulty)
        self.life.answered(asked, served, answer)
        if self.tracer is not None:
            self.tracer.steps(answer.trace)


class Direct(APIRoute):
    """A route whose function takes the request alone and answers itself: nothing of it is FastAPI's to work out."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the function answers; its errors are answered where those of all routes are."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response: Response = await self.endpoint(HttpRequest(scope, receive, send))
        await response(scope, receive, send)


def context_of(request: HttpRequest) -> Context:
    """The context of the application that got the request."""
    context: Context = request.app.state.context
    return context


def reader(request: HttpRequest) -> str:
    """Of our languages the one that ``Accept-Language`` of who asks likes best; empty where it likes none."""
    return preferred(request.headers.get("accept-language", "")) or ""


def json_response(value: Any) -> Response:
    """Anything of the wire as a response; bytes are JSON already."""
    return Response(value if isinstance(value, bytes) else wire.encode(value), media_type="application/json")
