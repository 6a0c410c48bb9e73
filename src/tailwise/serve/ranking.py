"""The routes that rank: candidates, everything, documents, neighbours of an item; and those that look things up."""

from __future__ import annotations

import logging
import time
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tailwise.errors import RequestError
from tailwise.pipeline import Answer, Engine
from tailwise.pipeline.binding import WAITS, hurried, waiting_since, waits
from tailwise.rerank.phrases import reader_of
from tailwise.serve import wire
from tailwise.serve.context import Context, Direct, context_of, json_response, reader
from tailwise.serve.documents import RerankedForm, RerankForm, decode_rerank, rerank
from tailwise.serve.forms import AnswerForm, FirstForm, RequestForm
from tailwise.serve.models import Served
from tailwise.serve.openapi import body
from tailwise.types import Request

router = APIRouter()
hot = APIRouter(route_class=Direct)
log = logging.getLogger(__name__)

RANK = {"request_id": "r1", "user_id": "u1", "candidates": ["i1", "i2", "i3"], "k": 2}
RECOMMEND = {"request_id": "r2", "user_id": "u1", "k": 10, "diversity": 0.3, "explain": True}
RERANK = {"query": "space war", "documents": ["A love story in Paris", "Rebels fight an empire in space"], "top_n": 1}

Limit = Annotated[int, Query(ge=1, le=1000)]
Search = Annotated[str, Query(max_length=512)]


@hot.post("/v1/rank", tags=["rank"], openapi_extra=body(RequestForm, RANK, answer=AnswerForm))
async def rank(request: HttpRequest) -> Response:
    """Put candidates in order for a person; without candidates, find them as well."""
    return await _answer(request, wire.decode_form(await request.body()))


@hot.post("/v1/recommend", tags=["rank"], openapi_extra=body(RequestForm, RECOMMEND, answer=AnswerForm))
async def recommend(request: HttpRequest) -> Response:
    """Find and order items for a person."""
    form = wire.decode_form(await request.body())
    if form.candidates is not None:
        raise RequestError("recommend finds the candidates itself; send yours to POST /v1/rank")
    return await _answer(request, form)


@router.post("/v1/rerank", tags=["rank"], openapi_extra=body(RerankForm, RERANK, answer=RerankedForm))
async def rerank_documents(request: HttpRequest) -> Response:
    """Put documents in order for a query, in the form of Jina and Cohere; ``user_id`` blends the person's taste in."""
    form = decode_rerank(await request.body())
    context = context_of(request)
    if form.user_id is not None:
        form.user_id = context.person(form.user_id)
    return json_response(await run_in_threadpool(rerank, context.engine, form))


@router.get("/v1/items/{item_id:path}/similar", tags=["look up"])
async def similar(request: HttpRequest, item_id: str, k: Limit = 10) -> Response:
    """The nearest items, with scores; ``version`` is of the model that answered."""
    engine = context_of(request).engine
    if engine.catalogue.rows([item_id])[0] < 0:
        raise HTTPException(404, f"item {item_id[:80]!r} is unknown to the model; GET /v1/items?search= finds items")
    near = engine.similar(item_id, k)
    names = engine.catalogue.titles(near.item_ids, near.columns["row"], reader(request))
    places = zip(near.item_ids.tolist(), names, near.scores.tolist(), strict=True)
    found = [FirstForm(*place) for place in places]
    return json_response({"item_id": item_id, "items": found, "version": engine.version})


@router.get("/v1/items", tags=["look up"])
def find_items(request: HttpRequest, search: Search = "", limit: Limit = 20) -> Response:
    """Items by a part of their title or their id; the most popular ones when nothing is searched."""
    served = context_of(request).models.main
    return json_response({"items": served.directory.items(search, limit, reader(request)), "version": served.version})


@router.get("/v1/people", tags=["look up"])
def find_people(request: HttpRequest, search: Search = "", limit: Limit = 20) -> Response:
    """
    People of the model by a part of their id; the most active ones when nothing is searched.

    None where ids are pseudonymised: a pseudonym is no id that could be asked for.
    """
    context = context_of(request)
    served = context.models.main
    found = served.directory.people(search, limit) if context.pseudonyms is None else []
    return json_response({"people": found, "version": served.version})


async def _answer(request: HttpRequest, form: RequestForm) -> Response:
    context = context_of(request)
    asked = context.hidden(wire.request_of(form, request.headers.get("accept-language")))
    served, main = context.models.pick(asked), context.models.main
    if served is not main:
        served, answer = await _tried(context, served, main, asked)
    else:
        answer = await _answered(context, main.engine, asked)
    response = json_response(wire.encode_answer(served.engine, answer, explain=form.explain, language=reader_of(asked)))
    response.background = BackgroundTask(context.took, asked, served, answer)
    return response


async def _tried(context: Context, trial: Served, main: Served, asked: Request) -> tuple[Served, Answer]:
    """What a model on trial answers, or, where it fails, the main one in its place; and which of them did."""
    try:
        return trial, await _answered(context, trial.engine, asked)
    except Exception:  # a trial may bring anybody's code, which raises what it likes: its caller gets the main's answer
        # Stages and sources that raise are skipped within an answer; what still comes here counts against the trial.
        # Where the request is at fault, the main model raises as well, and tells its caller.
        answer = await _answered(context, main.engine, asked)
        log.exception("the model on trial could not answer, the main one did: version=%s", trial.version)
        context.life.failed(trial)
        return main, answer


async def _answered(context: Context, engine: Engine, asked: Request) -> Answer:
    spare = context.pressure.spare(engine)
    start, beside = time.perf_counter(), waits(engine.stages)
    if not beside:  # in the event loop: it takes a few milliseconds, less than handing it to a thread under load
        with hurried():
            answer = engine.answer(asked, spare=spare)
        beside = any(step.skipped == WAITS for step in answer.trace)
    if beside:  # beside the event loop, so that nobody else waits for who is late
        with waiting_since(start):
            answer = await run_in_threadpool(engine.answer, asked, spare=spare)
    return answer
