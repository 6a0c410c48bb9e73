"""
Several tenants in one service: a folder of model folders, each with a state of its own.

    DIR/shop/          model       DIR/shop.state.sqlite      state
    DIR/library/       model       DIR/library.state.sqlite   state

    request ─▶ Guard ─▶ Door (key → tenant) ─▶ Front ─▶ the application of that tenant

Each tenant is an application of its own: engine, store, directory, numbers, caches. They share the process and nothing
else, so that there is nothing to cross. One model for all would tell each tenant's people what the others' like. Of
several workers each has all tenants.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from fastapi import FastAPI
from prometheus_client import generate_latest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailwise.serve.auth import Door, caller_of
from tailwise.serve.context import json_response
from tailwise.serve.doors import porter_of
from tailwise.serve.guard import Guard
from tailwise.serve.monitor import MEDIA_TYPE
from tailwise.serve.owned import everything
from tailwise.serve.places import services_of
from tailwise.serve.problems import problem
from tailwise.serve.service import Service

log = logging.getLogger(__name__)

UNREADY = "the model or the state of a tenant does not answer; the service's log says which"


def open_tenants(service: Service, opened: Callable[[Service], FastAPI]) -> ASGIApp:
    """
    The application of all tenants, each made by ``opened`` from settings of its own.

    Raises:
        ConfigError: A folder's name is none for a tenant, tenants would share a state, or there are no keys.
    """
    apps = {tenant: opened(own) for tenant, own in services_of(service).items()}
    porter = porter_of(service, tenants=apps)
    assert porter is not None  # running.py starts nothing without keys
    return Guard(Door(Front(apps), porter, next(iter(apps.values())).state.routes), service.at_once)


class Front:
    """
    ASGI application that hands each request to the application of its caller's tenant.

    What needs no key is the same for all and comes from any of them, but for ``/ready``: the service is ready when all
    are, and says no more. A key without a tenant gets the numbers of all, each with a label ``tenant``.
    """

    def __init__(self, apps: Mapping[str, FastAPI]) -> None:
        self._apps = dict(apps)
        self._any = next(iter(self._apps.values()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        tenant = caller_of(scope).tenant
        if scope["type"] == "http" and tenant == "" and scope["path"] == "/ready":
            await (await self._ready(scope))(scope, receive, send)
        elif scope["type"] == "http" and tenant == "" and scope["path"] == "/metrics":
            await Response(self._numbers(), headers={"Content-Type": MEDIA_TYPE})(scope, receive, send)
        else:
            await self._apps.get(tenant, self._any)(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Begin and end every application's life."""
        async with AsyncExitStack() as lives:
            await receive()
            for app in self._apps.values():
                await lives.enter_async_context(app.router.lifespan_context(app))
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _ready(self, scope: Scope) -> Response:
        """Ask each application as if it were alone."""
        for tenant, app in self._apps.items():
            statuses: list[int] = []

            async def nothing() -> Message:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def noted(message: Message, statuses: list[int] = statuses) -> None:
                statuses.append(message.get("status", 200))

            await app({**scope, "headers": []}, nothing, noted)
            if statuses[0] != 200:
                log.warning("tenant %s is not ready: %d", tenant, statuses[0])
                return problem(503, UNREADY, headers={"Retry-After": "1"})
        return json_response({"status": "ready", "tenants": len(self._apps)})

    def _numbers(self) -> bytes:
        """The numbers of all, in Prometheus' text form."""
        for app in self._apps.values():
            app.state.context.pulse()
        return generate_latest(everything(app.state.context.monitor.registry for app in self._apps.values()))
