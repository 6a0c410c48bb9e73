"""Everything that can go wrong, as ``application/problem+json`` (RFC 9457): what, where, and what to do."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from tailwise.errors import RequestError, TailwiseError, UnavailableError
from tailwise.serve import wire

log = logging.getLogger(__name__)

HINTS = {
    404: "nothing is served here; GET /docs lists the routes",
    405: "this route does not answer that method; GET /docs lists the routes",
    503: "something that this needs is not available now; send it again later (the service's log says what is missing)",
    500: "something failed here that is not the request's fault; the service's log has the details",
}


def problem(status: int, detail: str, *, headers: dict[str, str] | None = None) -> Response:
    """One problem as a response."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(wire.encode(body), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""
    app.add_exception_handler(TailwiseError, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unforeseen)


def _ours(_: HttpRequest, error: Exception) -> Response:
    """
    An error of Tailwise's own tree: the caller's fault unless something is unavailable.

    What is missing, and where, is for the log: a caller could only learn places and hosts from it.
    """
    if isinstance(error, RequestError) and wire.is_malformed(error):
        return problem(400, str(error))
    if isinstance(error, UnavailableError):
        log.warning("unavailable: %s", error)
        return problem(503, HINTS[503], headers={"Retry-After": "1"})
    return problem(422, str(error))


def _http(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    ours = error.detail != HTTPStatus(error.status_code).phrase
    detail = error.detail if ours else HINTS.get(error.status_code, error.detail)
    return problem(error.status_code, detail, headers=dict(error.headers or {}))


def _parameters(_: HttpRequest, error: Exception) -> Response:
    """A path or query parameter that FastAPI refused."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    return problem(422, f"{name} is {first.get('input')!r}, but: {first['msg']}")


def _gone(_: HttpRequest, error: Exception) -> Response:  # noqa: ARG001  the form of a handler
    """The caller hung up while sending: nobody reads this, and nothing is wrong here."""
    return problem(400, "the connection ended before the body did")


def _unforeseen(_: HttpRequest, error: Exception) -> Response:  # noqa: ARG001  starlette raises it again, to be logged
    return problem(500, HINTS[500])
