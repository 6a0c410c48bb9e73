"""What people did, taken in. The engine's store keeps it; an answer means that it is durable."""

from __future__ import annotations

import time

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from tailwise.serve import wire
from tailwise.serve.context import context_of, json_response
from tailwise.serve.forms import EventForm
from tailwise.serve.openapi import body

router = APIRouter(tags=["feedback"])

EXAMPLE = {"user_id": "u1", "item_id": "i2", "event": "click", "request_id": "r1", "position": 1, "event_id": "e1"}


@router.post("/v1/events", openapi_extra=body(EventForm, EXAMPLE, many=True))
async def store_events(request: HttpRequest) -> Response:
    """Store one event, or a list of them, all or none; the next ranking knows them. Answers when they are durable."""
    context = context_of(request)
    now = int(time.time() * 1000) / 1000  # a state keeps whole milliseconds in half the bytes
    events = [context.hidden(event) for event in wire.decode_events(await request.body(), now=now)]
    # An fsync takes milliseconds: it waits in a thread, where the store commits for all who wait there together.
    new = await run_in_threadpool(context.engine.store.append, events)
    unknown = context.engine.catalogue.rows(event.item_id for event in events) < 0  # (N,)
    context.monitor.stored(new, int(unknown.sum()))
    return json_response({"accepted": len(events), "new": new})
