"""
The HTTP service of one engine: routes, the page, and what stands in front of them.

    request ─▶ Watch (count) ─▶ Guard (size, headers) ─▶ route ─▶ wire ─▶ engine ─▶ wire ─▶ response
                                                           └─ error ─▶ problem+json
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi import Request as HttpRequest
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from tailwise.pipeline import Engine
from tailwise.serve import feedback, problems, ranking
from tailwise.serve.context import Context, context_of, json_response
from tailwise.serve.directory import Directory
from tailwise.serve.guard import Guard
from tailwise.serve.monitor import MEDIA_TYPE, Monitor, Watch, model_card
from tailwise.serve.openapi import describe
from tailwise.serve.service import Service

WEB = Path(__file__).parent / "web"

router = APIRouter(tags=["service"])


def create_app(engine: Engine, service: Service | None = None) -> FastAPI:
    """
    The application that serves ``engine``; it closes the engine's store when it shuts down.

    Two applications of one process share nothing but what their engines share. Without ``service`` all its settings are
    the defaults.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.store.close()

    app = FastAPI(
        title="Tailwise",
        summary="The short list right, for this person, now.",
        version="1",  # of the routes, as in their paths
        docs_url=None,  # the usual pages come from a CDN; ours is in web/
        redoc_url=None,
        lifespan=lifespan,
    )
    monitor = Monitor()
    app.state.context = Context(engine, monitor, Directory(engine), service or Service(model=Path()))
    app.add_middleware(Guard)
    app.add_middleware(Watch, monitor=monitor)
    problems.install(app)
    for part in (ranking.router, feedback.router, router):
        app.include_router(part)
    app.mount("/static", StaticFiles(directory=WEB), name="static")
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


@router.get("/health")
async def health() -> Response:
    """The process is alive."""
    return json_response({"status": "ok"})


@router.get("/ready")
async def ready(request: HttpRequest) -> Response:
    """The model is loaded and the store answers; 503 otherwise."""
    engine = context_of(request).engine
    await run_in_threadpool(engine.store.erased, "")
    return json_response({"status": "ready", "version": engine.version})


@router.get("/metrics")
async def metrics(request: HttpRequest) -> Response:
    """Numbers for Prometheus."""
    return Response(context_of(request).monitor.text(), headers={"Content-Type": MEDIA_TYPE})


@router.get("/v1/model")
async def model(request: HttpRequest) -> Response:
    """The model card: version, data, metrics, notes, pipeline and counts."""
    return json_response(model_card(context_of(request).engine))


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page."""
    return FileResponse(WEB / "index.html")


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The routes, readable."""
    return FileResponse(WEB / "docs.html")
