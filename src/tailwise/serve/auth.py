"""
The door: who asks, what that caller may do, and how often. Every route's scope stands in one table.

    Authorization: Bearer … ┐
    X-API-Key: …            ┴▶ KeyRing or Tokens ─▶ Caller ─▶ tenant served? ─▶ scope? ─▶ limits? ─▶ route

Without keys and tokens there is no door: whoever reaches the service may do everything.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.serve.keys import ADMIN, PREFIX, READ, WRITE, Caller, KeyRing, Limit
from tailwise.serve.limits import Limits, MemoryBuckets
from tailwise.serve.problems import HINTS, problem
from tailwise.serve.tokens import Tokens

log = logging.getLogger(__name__)

OPEN, ANY = "", "any"
"""Needs no key; needs a key of any scope, which is what unknown paths need before they are a 404."""
SCOPES = {
    "GET /": OPEN,  # the page is the same for everybody; what it shows it must ask for with a key
    "GET /docs": OPEN,
    "GET /openapi.json": OPEN,
    "GET /health": OPEN,
    "GET /ready": OPEN,
    "GET /metrics": READ,
    "GET /v1/model": READ,
    "POST /v1/model/reload": ADMIN,
    "POST /v1/model/rollback": ADMIN,
    "POST /v1/model/canary": ADMIN,
    "POST /v1/rank": READ,
    "POST /v1/recommend": READ,
    "POST /v1/rerank": READ,
    "POST /v1/explain": READ,
    "GET /v1/items": READ,
    "GET /v1/items/{item_id}/similar": READ,
    "GET /v1/insights": READ,
    "POST /v1/events": WRITE,
    "GET /v1/users/{user_id}": READ,
    "GET /v1/users/{user_id}/export": ADMIN,
    "DELETE /v1/users/{user_id}": ADMIN,
    "GET /v1/people": ADMIN,  # it lists ids
}
"""What each route needs; a route that is not here needs ``admin``, and fails a test."""
WITHOUT_TENANT = frozenset({"GET /metrics"})
"""What a key without a tenant may ask where there are tenants: the numbers of the whole process."""
STATIC = "/static/"
CALLER = "tailwise.caller"
"""Where the scope of a request holds its caller; nothing that a client sends can set it."""

FAILING = Limit(rate=1, burst=20)
"""Wrong keys of one address: twenty at once, then one a second."""
NOBODY = Caller("", scopes=frozenset({READ, WRITE, ADMIN}))
"""Whoever asks a service without keys."""
MISSING = "this needs a key; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
WRONG = "the key is wrong, has expired or was revoked; ask whoever runs this service for another"
TWICE = "two different keys came with one request; send one"
FAILED_OFTEN = "too many wrong keys came from this address; wait, then try again with the right one"
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="tailwise"'}


class RouteTable:
    """
    Which entry of ``SCOPES`` a request meets, by the same patterns and in the same order as the router.

    Cost: one dict get for a path without parameters.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        known = [route for route in routes if isinstance(route, APIRoute)]
        self._plain: dict[tuple[str, str], str] = {}
        self._patterns: list[tuple[re.Pattern[str], str, str]] = []
        for route in known:
            for method in route.methods or ():
                if "{" in route.path:
                    self._patterns.append((route.path_regex, method, f"{method} {route.path_format}"))
                else:
                    self._plain.setdefault((method, route.path), f"{method} {route.path}")
        self._plain["GET", "/openapi.json"] = "GET /openapi.json"

    def find(self, method: str, path: str) -> str | None:
        """The route as ``SCOPES`` spells it; None when nothing answers there."""
        found = self._plain.get((method, path))
        if found is not None:
            return found
        for pattern, own, name in self._patterns:
            if own == method and pattern.match(path):
                return name
        return None

    def has(self, path: str) -> bool:
        """Whether any method is answered there."""
        return any(self.find(method, path) for method in ("GET", "POST", "DELETE"))


@dataclass
class Porter:
    """
    Decides who comes in.

    Cost: some 5 µs a request with a key and a limit.
    """

    ring: KeyRing | None
    tokens: Tokens | None
    limits: Limits = field(default_factory=Limits)
    tenants: Collection[str] = ("",)
    """Those that are served; the empty one where a service has one model."""
    failures: MemoryBuckets = field(default_factory=MemoryBuckets)

    async def known(self, scope: Scope, now: float) -> Caller | Response:
        """The caller, or the answer to somebody who is none."""
        credentials = credentials_of(scope["headers"])
        if len(credentials) != 1:
            return problem(400, TWICE) if credentials else problem(401, MISSING, headers=CHALLENGE)
        token = credentials.pop()
        if self.ring is not None and token.startswith(PREFIX):
            caller = self.ring.find(token, now)
            if caller is not None:
                return caller
        address = (scope.get("client") or ("",))[0]
        # A signature costs more than a look: who failed too often does not get one.
        if self.tokens is not None and token.count(".") == 2 and self.failures.left(address, FAILING, now):
            caller = await self.tokens.find(token, now)
            if caller is not None:
                return caller
        given, wait = self.failures.take(address, FAILING, 1, now)
        if given:
            return problem(401, WRONG, headers=CHALLENGE)
        return problem(429, FAILED_OFTEN, headers={"Retry-After": str(max(1, math.ceil(wait)))})

    def forbidden(self, caller: Caller, needed: str, name: str | None) -> str | None:
        """Why the caller may not; None when it may."""
        if needed not in {ANY, *caller.scopes}:
            have = ", ".join(sorted(caller.scopes)) or "none"
            return f"this needs a key with the scope {needed!r}; this one has: {have}"
        if caller.tenant in self.tenants or (caller.tenant == "" and name in WITHOUT_TENANT):
            return None
        if caller.tenant == "":
            return "this key has no tenant, but this service serves several; use a key of one of them"
        return "this service does not serve the tenant of this key"


class Door:
    """ASGI middleware that lets callers in, or answers 401 (who?), 403 (not you), 404 or 429 (not now)."""

    def __init__(self, app: ASGIApp, porter: Porter, routes: RouteTable) -> None:
        self._app, self._porter, self._routes = app, porter, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            try:
                await self._app(scope, receive, send)
            finally:  # of the life of the service, which is a call too
                self._porter.limits.close()
            return
        method, path = scope["method"], scope["path"]
        name = self._routes.find(method, path)
        needed = ANY if name is None else SCOPES.get(name, ADMIN)
        if needed == OPEN or (needed == ANY and path.startswith(STATIC)):
            await self._app(scope, receive, send)
            return
        caller = await self._porter.known(scope, time.time())
        if isinstance(caller, Response):
            await self._refuse(caller, "nobody", scope, receive, send)
            return
        refusal = self._porter.forbidden(caller, needed, name)
        if refusal is not None:
            await self._refuse(problem(403, refusal), caller.name, scope, receive, send)
        elif name is None and not self._routes.has(path):
            await problem(404, HINTS[404])(scope, receive, send)
        else:
            scope[CALLER] = caller
            await self._limited(caller, scope, receive, send)

    async def _limited(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        verdict = await self._porter.limits.take(caller)
        if verdict is None:
            await self._app(scope, receive, send)
            return
        told = verdict.headers()

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *told]
            await send(message)

        answer = self._app if verdict.allowed else problem(429, f"{verdict.why}; wait as long as Retry-After says")
        await answer(scope, receive, telling)

    async def _refuse(self, answer: Response, who: str, scope: Scope, receive: Receive, send: Send) -> None:
        log.info("refused %s: %d %s", who, answer.status_code, scope["method"])
        await answer(scope, receive, send)


def credentials_of(headers: Iterable[tuple[bytes, bytes]]) -> set[str]:
    """
    Every different key that came with a request.

    >>> credentials_of([(b"authorization", b"bearer tw_1_a"), (b"x-api-key", b"tw_1_a"), (b"accept", b"*/*")])
    {'tw_1_a'}
    """
    found = set()
    for name, value in headers:
        if name == b"x-api-key":
            found.add(value.decode("latin-1").strip())
        elif name == b"authorization":
            kind, _, token = value.decode("latin-1").strip().partition(" ")
            found.add(token.strip() if kind.lower() == "bearer" else "")
    return found


def caller_of(scope: Scope) -> Caller:
    """Who asks; everybody is ``NOBODY`` where there is no door."""
    caller: Caller = scope.get(CALLER, NOBODY)
    return caller
