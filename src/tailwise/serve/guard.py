"""What stands before every route: small bodies in time, no other sites' pages, strict browsers, so many at once."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.serve.problems import problem

MOST_BYTES = 2 * 1024 * 1024
MOST_HEADERS = 100
MOST_URL = 8 * 1024
"""Bytes of a path and its query: the longest id, each byte as a percent code, fits several times."""
BODY_S = 20.0
"""How long a body may take to arrive, in seconds."""
STRICT = {
    "Cache-Control": "no-cache",  # answers are of now; the page must not be older than the service
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
ALWAYS_TLS = "max-age=31536000"
"""``Strict-Transport-Security``, under TLS alone: elsewhere a browser ignores it, or locks itself out."""
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
TOO_LARGE = f"the body is larger than {MOST_BYTES // 1024**2} MiB; send it in parts"
TOO_SLOW = f"the body took longer than {BODY_S:g} s; send it in smaller parts"
TOO_LONG = f"the address is longer than {MOST_URL // 1024} KiB; send long texts in a body"
TOO_MANY = f"the request has more than {MOST_HEADERS} headers"
NO_LENGTH = "content-length is no whole number"
BUSY = "as many requests are being answered as this service takes at once; ask again in a moment"
ELSEWHERE = (
    "a page of another site sent this; requests that change something come from this service's own page or no page"
)

_raw = [(name.lower().encode(), value.encode()) for name, value in STRICT.items()]
_names = frozenset(name for name, _ in _raw)


class Guard:
    """
    ASGI middleware that refuses what no route should see, and adds the ``STRICT`` headers to every answer.

    Refused are bodies over ``MOST_BYTES`` (413), before they are read in, and those that take over ``BODY_S`` (408);
    endless addresses (414) and headers (431); more than ``at_once`` requests (503); and requests that change something
    and that a page of another site made a browser send (403).

    Cost: some 5 µs a request.
    """

    def __init__(self, app: ASGIApp, at_once: int = 1024) -> None:
        self._app, self._at_once = app, at_once
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        secure = scope["scheme"] == "https"

        async def strict_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [pair for pair in message["headers"] if pair[0] not in _names]
                message["headers"] = [*own, *_raw, *([(b"strict-transport-security", ALWAYS_TLS.encode())] * secure)]
            await send(message)

        refused = self._refused(scope)
        if refused is not None:
            status, why = refused
            headers = {"Retry-After": "1"} if status == 503 else None
            await problem(status, why, headers=headers)(scope, receive, strict_send)
            return
        self._running += 1
        try:
            await self._app(scope, _counting(receive), strict_send)
        finally:
            self._running -= 1

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the reason of a refusal; None when there is none."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if len(headers) > MOST_HEADERS:
            return 431, TOO_MANY
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MOST_URL:
            return 414, TOO_LONG
        changing = scope["method"] in CHANGING
        for name, value in headers:
            if name == b"content-length":
                if not value.isdigit():
                    return 400, NO_LENGTH
                if len(value) > 12 or int(value) > MOST_BYTES:
                    return 413, TOO_LARGE
            elif changing and name == b"sec-fetch-site" and value not in {b"none", b"same-origin"}:
                return 403, ELSEWHERE
        return (503, BUSY) if self._running >= self._at_once else None


def _counting(receive: Receive) -> Receive:
    """The same messages, until the body has grown too large or taken too long; it may come without its length."""
    read, ended = 0, False
    until: float | None = None

    async def counted() -> Message:
        nonlocal read, ended, until
        if ended:  # what comes now is the client's leaving, which nobody waits for in vain
            return await receive()
        if until is None:
            until = asyncio.get_running_loop().time() + BODY_S
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, TOO_SLOW) from error
        read += len(message.get("body", b""))
        ended = not message.get("more_body", False)
        if read > MOST_BYTES:
            raise HTTPException(413, TOO_LARGE)
        return message

    return counted
