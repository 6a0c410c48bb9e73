"""Requests as people type them: made from loose fields, refused when they cannot be answered."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from tailwise.errors import RequestError
from tailwise.types import Event, History, Request

MOST_CANDIDATES = 5000
MOST_K = 1000


def request_of(fields: Mapping[str, Any]) -> Request:
    """A request from loose fields, as people type them."""
    known = {"request_id": uuid.uuid4().hex, **fields}
    if known.get("candidates") is not None:
        known["candidates"] = tuple(known["candidates"])
    if isinstance(known.get("history"), (list, tuple)):
        known["history"] = History.of([e if isinstance(e, Event) else Event(e, e, 0.0) for e in known["history"]])
    try:
        return Request(**known)
    except TypeError as error:
        fields_there = ", ".join(Request.__dataclass_fields__)
        raise RequestError(f"{error}; a request has the fields {fields_there}") from error


def check_request(request: Request) -> None:
    """
    Refuse what cannot be answered.

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
