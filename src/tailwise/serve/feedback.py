"""What people did: taken in, given back, erased. The engine's store keeps it; an answer means that it is durable."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from tailwise.errors import RequestError
from tailwise.serve import wire
from tailwise.serve.context import context_of, json_response
from tailwise.serve.forms import EventForm
from tailwise.serve.openapi import body

router = APIRouter(tags=["feedback"])

EXAMPLE = {"user_id": "u1", "item_id": "i2", "event": "click", "request_id": "r1", "position": 1, "event_id": "e1"}


@router.post("/v1/events", openapi_extra=body(EventForm, EXAMPLE, many=True))
async def store_events(request: HttpRequest) -> Response:
    """Store one event, or a list of them, all or none; the next ranking knows them. Answers when they are durable."""
    events = wire.decode_events(await request.body(), now=time.time())
    # An fsync takes milliseconds: it waits in a thread, where the store commits for all who wait there together.
    new = await run_in_threadpool(context_of(request).engine.store.append, events)
    context_of(request).monitor.stored(new)
    return json_response({"accepted": len(events), "new": new})


@router.get("/v1/users/{user_id:path}")
async def read_person(
    request: HttpRequest, user_id: str, limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000
) -> Response:
    """The newest ``limit`` events stored of a person, oldest first; none for a stranger."""
    engine = context_of(request).engine
    every = engine.history(_checked(user_id))
    newest = every.take(slice(-limit, None))
    return json_response({"user_id": user_id, "total": len(every), "events": wire.done(engine, newest)})


@router.delete("/v1/users/{user_id:path}")
async def erase_person(request: HttpRequest, user_id: str) -> Response:
    """Erase a person: later events are deleted, and what the model was fitted on is no longer used."""
    gone = await run_in_threadpool(context_of(request).engine.store.erase, _checked(user_id))
    return json_response({"user_id": user_id, "erased": True, "events": gone})


def _checked(user_id: str) -> str:
    """
    A person's id from an address.

    Raises:
        RequestError: It is longer than any id.
    """
    if len(user_id) > 512:
        raise RequestError(f"user_id has {len(user_id)} characters, but at most 512 are taken")
    return user_id
