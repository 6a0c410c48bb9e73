"""What stands before every route: bodies stay small, other sites' pages stay out, browsers are told to be strict."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.serve.problems import problem

MOST_BYTES = 2 * 1024 * 1024
STRICT = {
    "Cache-Control": "no-cache",  # answers are of now; the page must not be older than the service
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
TOO_LARGE = f"the body is larger than {MOST_BYTES // 1024**2} MiB; send it in parts"
ELSEWHERE = (
    "a page of another site sent this; requests that change something come from this service's own page or no page"
)


class Guard:
    """
    ASGI middleware that refuses what no route should see, and adds the ``STRICT`` headers to every answer.

    Refused are bodies over ``MOST_BYTES`` (413), before they are read in, and requests that change something and that
    a page of another site made a browser send (403).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def strict_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(STRICT)
            await send(message)

        headers = Headers(scope=scope)
        if int(headers.get("content-length", 0)) > MOST_BYTES:
            await problem(413, TOO_LARGE)(scope, receive, strict_send)
        elif scope["method"] in CHANGING and headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            await problem(403, ELSEWHERE)(scope, receive, strict_send)
        else:
            await self._app(scope, _counting(receive), strict_send)


def _counting(receive: Receive) -> Receive:
    """The same messages, until the body has grown too large: a body may come in parts, without its length."""
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BYTES:
            raise HTTPException(413, TOO_LARGE)
        return message

    return counted
