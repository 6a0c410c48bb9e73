"""Requests and events as people type them, refused when nothing can be done with them; and what an answer is."""

from __future__ import annotations

import dataclasses
import math
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, TypeVar

from tailwise.errors import RequestError
from tailwise.types import EVENT_KINDS, ORDER, Event, History, Request, Slate, StageTrace

T = TypeVar("T", Request, Event)


@dataclass(frozen=True, slots=True)
class Answer:
    """A re-ranked slate with what led to it."""

    request_id: str
    slate: Slate
    """At most ``k`` rows; columns include ``first_rank``, the place (from 1) in the first-stage order."""
    first: Slate
    """The first-stage order: merged sources, or the caller's candidates as given."""
    history: History
    trace: tuple[StageTrace, ...]
    version: str
    excluded_seen: bool


class Watch(Protocol):
    """Looks on while a request is answered."""

    def __call__(self, key: str, request: Request, slate: Slate) -> None:
        """Told of the slate after a step."""
        ...


MOST_CANDIDATES = 5000
MOST_K = 1000


def request_of(fields: Mapping[str, Any]) -> Request:
    """
    A request from loose fields; a history may be item ids or ``Event``s, oldest first.

    Raises:
        RequestError: A field is unknown or of another form.
    """
    known = {"request_id": uuid.uuid4().hex, **fields}
    candidates, history = known.get("candidates"), known.get("history")
    if isinstance(candidates, str):  # a str is a sequence too, of letters
        raise RequestError(f"candidates is {candidates!r}, but it must be a list of item ids")
    if candidates is not None:
        known["candidates"] = tuple(candidates)
    if history is not None and not isinstance(history, History):
        known["history"] = History.of([_event_in(history, entry) for entry in history])
    return _made(Request, known)


def event_of(fields: Mapping[str, Any]) -> Event:
    """
    An event from loose fields; ``time`` is now when absent.

    Raises:
        RequestError: A field is missing or unknown, or so is the event's kind.
    """
    event = _made(Event, {"time": time.time(), **fields})
    if event.event not in EVENT_KINDS:
        raise RequestError(f"event is {event.event!r}, but it must be one of: {', '.join(EVENT_KINDS)}")
    return event


def _event_in(history: object, entry: object) -> Event:
    if isinstance(entry, Event):
        return entry
    if isinstance(history, str) or not isinstance(entry, str):
        raise RequestError(f"history holds {entry!r}, but it must be a list of item ids or events")
    return Event("", entry, 0.0)


def _made(kind: type[T], fields: Mapping[str, Any]) -> T:
    """A ``kind`` of exactly its own fields."""
    try:
        return kind(**fields)
    except TypeError as error:
        name = kind.__name__.lower()
        known = ", ".join(field.name for field in dataclasses.fields(kind))
        raise RequestError(f"{name} {str(error).partition(') ')[2] or error}; its fields are {known}") from error


def check_request(request: Request, heads: Collection[str] = ()) -> None:
    """
    Refuse what cannot be answered.

    Args:
        request: What is asked.
        heads: Those that the model has, which a blend may name.

    Raises:
        RequestError: names the field, the value and the rule.
    """
    named = (request.user_id, request.history, request.candidates, request.query)
    if all(value is None for value in named):
        raise RequestError("a request needs one of: user_id, history, candidates, query")
    if not 1 <= request.k <= MOST_K:
        raise RequestError(f"k is {request.k}, but it must be between 1 and {MOST_K}")
    if request.candidates is not None and len(request.candidates) > MOST_CANDIDATES:
        raise RequestError(
            f"candidates holds {len(request.candidates)} items, but at most {MOST_CANDIDATES} are ranked at once"
        )
    for name, value in (("diversity", request.diversity), ("tail_share", request.tail_share)):
        if value is not None and not 0 <= value <= 1:
            raise RequestError(f"{name} is {value}, but it must be between 0 and 1")
    if request.blend is not None:
        _check_blend(request.blend, heads)


def _check_blend(blend: object, heads: Collection[str]) -> None:
    """Every name is a head of the model, or ``score``, and every weight a finite number."""
    if not isinstance(blend, Mapping):
        raise RequestError(f"blend is {blend!r}, but it must be a table of heads and what each weighs")
    for name, weight in blend.items():
        if not heads:
            raise RequestError(
                f"blend names {name!r}, but this model has no heads: fit a pipeline with the stage multitask on data "
                "with labels for it"
            )
        if name not in heads and name != ORDER:
            raise RequestError(f"blend names {name!r}, but the heads of this model are: {', '.join([*heads, ORDER])}")
        if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight):
            raise RequestError(f"blend gives {name} the weight {weight!r}, but it must be a finite number")
