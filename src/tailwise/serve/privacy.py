"""A person's rights: to see what is kept, to take it along, to be erased; and what may be told of all together."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from tailwise.errors import RequestError
from tailwise.pipeline import Engine
from tailwise.serve import wire
from tailwise.serve.context import context_of, json_response, reader
from tailwise.serve.insights import MOST_ITEMS
from tailwise.serve.models import forgotten
from tailwise.types import LONGEST_ID, Event

router = APIRouter(tags=["privacy"])

EVERY = 10**9
"""As many events as any store keeps."""


class RemovedForm(Struct):
    """What went when a person was erased."""

    user_id: str
    erased: bool
    events: int
    """Deleted from the state."""
    removed: dict[str, Any]
    """By place: ``state`` (events), ``caches`` (entries, by step); what becomes of copies in ``model`` and ``log``."""


# Before the route of the person: an id may hold a slash, and would take the rest of the address for itself.
@router.get("/v1/users/{user_id:path}/export")
async def export_person(request: HttpRequest, user_id: str) -> Response:
    """Everything that is kept of a person, as one JSON object: events of the model and of the state, and counters."""
    context = context_of(request)
    found = await run_in_threadpool(kept_of, context.engine, context.person(_checked(user_id)))
    return json_response({"user_id": user_id, "exported": time.time(), **found})


@router.get("/v1/users/{user_id:path}")
async def read_person(
    request: HttpRequest, user_id: str, limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000
) -> Response:
    """The newest ``limit`` events stored of a person, oldest first; none for a stranger."""
    context = context_of(request)
    engine = context.engine
    every = engine.history(context.person(_checked(user_id)))
    newest = every.take(slice(-limit, None))
    return json_response(
        {"user_id": user_id, "total": len(every), "events": wire.done(engine, newest, reader(request))}
    )


@router.delete("/v1/users/{user_id:path}")
async def erase_person(request: HttpRequest, user_id: str) -> Response:
    """Erase a person: later events are deleted, and what the model was fitted on is no longer used."""
    context = context_of(request)
    person = context.person(_checked(user_id))
    removed = await run_in_threadpool(erase, context.engine, person)
    await run_in_threadpool(context.life.forget, person)
    if context.service.log is not None:
        removed["log"] = "marked; its files are rewritten without the person, in the background"
    return json_response(RemovedForm(user_id, erased=True, events=removed["state"], removed=removed))


@router.get("/v1/insights")
def read_insights(request: HttpRequest, limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 100) -> Response:
    """How many people met which items and labels, as of the fit; nothing about too few of them."""
    context = context_of(request)
    return json_response(context.directory.reach.told(context.service.least_people, limit))


def kept_of(engine: Engine, user_id: str) -> dict[str, Any]:
    """
    What is kept of a person, by where it is kept.

    Cost: one look into the model and the store; a person's events, whole.
    """
    person = engine.store.person(user_id, EVERY)
    known = None if person.erased else engine.people.history(user_id, engine.catalogue)
    return {
        "erased_before": person.erased,
        "model": {"version": engine.version, "events": [] if known is None else wire.done(engine, known)},
        "state": {
            "version": person.version,
            "counts": dict(person.counts),
            "events": [_told(event) for event in person.events],
        },
    }


def erase(engine: Engine, user_id: str) -> dict[str, Any]:
    """Remove a person everywhere; what was removed, by place."""
    knew = engine.people.knows(user_id)
    events = engine.erase(user_id)
    caches = forgotten(engine, user_id)
    in_model = "events of the fit, no longer used; gone with the next fit" if knew else "nothing"
    return {"state": events, "caches": caches, "model": in_model}


def _told(event: Event) -> dict[str, Any]:
    fields = ("item_id", "event", "time", "value", "request_id", "position", "propensity", "event_id")
    told = {name: getattr(event, name) for name in fields}
    return {name: value for name, value in told.items() if value is not None}


def _checked(user_id: str) -> str:
    """
    A person's id from an address.

    Raises:
        RequestError: It is longer than any id.
    """
    if len(user_id) > LONGEST_ID:
        raise RequestError(f"user_id has {len(user_id)} characters, but at most {LONGEST_ID} are taken")
    return user_id
