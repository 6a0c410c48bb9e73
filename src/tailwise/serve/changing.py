"""Changing the model by call: look now, go back, try another one. No path comes from the network."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from starlette.responses import Response

from tailwise.errors import RequestError
from tailwise.serve import wire
from tailwise.serve.context import Context, context_of, json_response
from tailwise.serve.forms import CanaryForm
from tailwise.serve.openapi import body

router = APIRouter(tags=["model"])

EXAMPLE = {"share": 0.1}
_forms = msgspec.json.Decoder(CanaryForm)


@router.post("/v1/model/reload")
async def reload_model(request: HttpRequest) -> Response:
    """Look now whether the model's folder holds another model, and serve it; a refused one is tried again."""
    context = context_of(request)
    before = context.engine.version
    await context.life.look(asked=True)
    return _told(context, before)


@router.post("/v1/model/rollback")
async def roll_back_model(request: HttpRequest) -> Response:
    """Serve the model before this one, until a newer one is written or this is called again."""
    context = context_of(request)
    before = context.engine.version
    await context.life.roll_back()
    return _told(context, before)


@router.post("/v1/model/canary", openapi_extra=body(CanaryForm, EXAMPLE))
async def try_model(request: HttpRequest) -> Response:
    """Give the canary another ``share`` of the people, 0 to end the trial; or ``promote`` it to serve everybody."""
    context = context_of(request)
    form = wire.decode(_forms, await request.body(), what="request")
    if form.promote == (form.share is not None):
        raise RequestError("give one of: share, promote")
    before = context.engine.version
    if form.share is None:
        await context.life.promote()
    else:
        await context.life.try_on(form.share)
    return _told(context, before)


def _told(context: Context, before: str) -> Response:
    version = context.engine.version
    return json_response({"version": version, "before": before, **context.life.told()})
