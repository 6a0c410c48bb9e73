"""
The HTTP service of one engine: routes, the page, and what stands in front of them.

    request ─▶ Watch (count) ─▶ Guard (size, headers) ─▶ Valve (load) ─▶ route ─▶ wire ─▶ engine ─▶ wire ─▶ response
                                                           └─ error ─▶ problem+json
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi import Request as HttpRequest
from fastapi.telemetry import TelemetryConfig
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from tailwise.data.pseudonyms import Pseudonyms
from tailwise.pipeline import Engine
from tailwise.serve import changing, explaining, feedback, privacy, problems, ranking
from tailwise.serve.auth import Door, RouteTable
from tailwise.serve.context import Context, context_of, json_response
from tailwise.serve.doors import porter_of
from tailwise.serve.draining import Drain
from tailwise.serve.feeding import Feeding
from tailwise.serve.gauges import Gauges, beat
from tailwise.serve.guard import Guard
from tailwise.serve.heap import tidy
from tailwise.serve.life import Life
from tailwise.serve.logs import Label
from tailwise.serve.models import Models, Served
from tailwise.serve.monitor import MEDIA_TYPE, Monitor, Watch, model_card
from tailwise.serve.openapi import describe
from tailwise.serve.pressure import Pressure, Valve
from tailwise.serve.service import Service
from tailwise.serve.tracing import Traced, Tracer

WEB = Path(__file__).parent / "web"

router = APIRouter(tags=["service"])
READY_S = 2.0
"""How long the store may take to say that it is there, in seconds."""
UNTOLD: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""Of FastAPI's own telemetry, which asks the environment at every request: ``Tracer`` and ``Monitor`` tell more."""
ROUTERS = (ranking.hot, ranking.router, explaining.router, feedback.router, privacy.router, changing.router, router)


def create_app(engine: Engine, service: Service | None = None) -> FastAPI:
    """
    The application that serves ``engine``; it closes the engine's store when it shuts down.

    Two applications of one process share nothing but what their engines share. Without ``service`` all its settings are
    the defaults.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        context.drain.install(asyncio.get_running_loop())
        works = (pressure.watch(), beat(context.pulse), tidy(), context.life.run())
        tasks = [asyncio.create_task(work) for work in works]
        feeding.start()
        yield
        for task in tasks:
            task.cancel()
        await context.life.stop()
        await run_in_threadpool(feeding.stop)
        if tracer is not None:
            await run_in_threadpool(tracer.close)
        store.close()

    app = FastAPI(
        title="Tailwise",
        summary="The short list right, for this person, now.",
        version="1",  # of the routes, as in their paths
        docs_url=None,  # the usual pages come from a CDN; ours is in web/
        redoc_url=None,
        lifespan=lifespan,
        # As they are: an included router is matched twice a request, and looks its routes over each time.
        routes=[route for part in ROUTERS for route in part.routes],
        telemetry=UNTOLD,
    )
    service = service or Service(model=Path(), watch_s=0)
    store = engine.store  # nothing here holds the engine: another one may take its place
    pressure = Pressure(shed_after_ms=service.shed_after_ms, refuse_after_ms=service.refuse_after_ms)
    monitor, models = Monitor(service.tenant), Models(Served.of(engine))
    feeding = Feeding(store, service, monitor.stored)
    queues = {"requests": lambda: monitor.running, "log": feeding.behind}
    tracer = None if service.traces is None else Tracer(service.traces)
    context = app.state.context = Context(
        models,
        monitor,
        service,
        pressure,
        Gauges(monitor.registry, pressure, queues=queues, tenant=service.tenant),
        Drain(service.drain_s),
        Life(models, service, monitor),
        tracer,
        None if service.pseudonymise is None else Pseudonyms.read(service.pseudonymise),
    )
    app.add_middleware(Valve, pressure=pressure)
    app.state.closed = service.keys is not None or service.jwt is not None
    app.state.routes = RouteTable(route for part in ROUTERS for route in part.routes)
    porter = None if service.tenants is not None else porter_of(service)  # tenants have one door in front of them all
    if porter is not None:
        app.add_middleware(Door, porter=porter, routes=app.state.routes)
    app.add_middleware(Guard, at_once=service.at_once)
    app.add_middleware(Watch, monitor=monitor)
    if tracer is not None:
        app.add_middleware(Traced, tracer=tracer)
    app.add_middleware(Label)
    problems.install(app)
    app.mount("/static", StaticFiles(directory=WEB), name="static")
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


@router.get("/health")
async def health() -> Response:
    """The process is alive."""
    return json_response({"status": "ok"})


@router.get("/ready")
async def ready(request: HttpRequest) -> Response:
    """The model is loaded, the store answers, and nobody ordered an end; 503 otherwise."""
    context = context_of(request)
    if context.drain.begun:
        raise HTTPException(503, "the service is about to stop; ask another one", {"Retry-After": "1"})
    try:
        await asyncio.wait_for(run_in_threadpool(context.engine.store.erased, ""), READY_S)
    except TimeoutError as error:
        late = f"the store of events does not answer within {READY_S:g} s"
        raise HTTPException(503, late, {"Retry-After": "1"}) from error
    return json_response({"status": "ready", "version": context.engine.version, "store": "ok"})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: HttpRequest) -> Response:
    """Numbers for Prometheus."""
    context_of(request).pulse()
    return Response(context_of(request).monitor.text(), headers={"Content-Type": MEDIA_TYPE})


@router.get("/v1/model")
async def model(request: HttpRequest) -> Response:
    """The model card: version, data, metrics, notes, pipeline and counts; and what is tried beside it."""
    context = context_of(request)
    return json_response({**model_card(context.engine), **context.life.told()})


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page."""
    return FileResponse(WEB / "index.html")


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The routes, readable."""
    return FileResponse(WEB / "docs.html")
