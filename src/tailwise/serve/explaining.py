"""Why a list is as it is, over HTTP: contributions, what was cited, what would have to be gone; phrased when asked."""

from __future__ import annotations

import time
from collections import Counter
from weakref import WeakKeyDictionary

import msgspec
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from msgspec import UNSET
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from tailwise.data.catalogue import Catalogue
from tailwise.errors import RequestError
from tailwise.nets.questions import Backend, Question
from tailwise.pipeline import Engine
from tailwise.pipeline.explain import explain
from tailwise.pipeline.explained import Explained
from tailwise.rerank.phrases import reader_of
from tailwise.rerank.phrasing import Titles, phrase
from tailwise.rerank.reasons import Reasons
from tailwise.serve import wire
from tailwise.serve.context import context_of, json_response
from tailwise.serve.forms import ExplainedForm, ExplainForm, TraceForm
from tailwise.serve.openapi import body
from tailwise.serve.warming import speaker_of
from tailwise.types import Request

router = APIRouter()

EXPLAIN = {"request_id": "r3", "user_id": "u1", "k": 5, "item_id": "i2", "context": {"locale": "en"}}
MOST_TOKENS = 80
"""Of a phrase."""


_known: WeakKeyDictionary[Catalogue, Titles] = WeakKeyDictionary()
_forms = msgspec.json.Decoder(ExplainForm)


@router.post("/v1/explain", tags=["rank"], openapi_extra=body(ExplainForm, EXPLAIN, answer=ExplainedForm))
async def explain_list(request: HttpRequest) -> Response:
    """Say why each item of a list stands where it does, or why one item is not on it."""
    form = wire.decode(_forms, await request.body(), what="request")
    context = context_of(request)
    asked = context.hidden(wire.request_of(form, request.headers.get("accept-language")))
    served = context.models.pick(asked)  # whoever made the list says why
    told = await run_in_threadpool(explained, served.engine, form, asked)
    if form.phrase:
        context.monitor.phrased(len(told.said or {}), told.refused or {})
    return json_response(told)


def explained(engine: Engine, form: ExplainForm, request: Request) -> ExplainedForm:
    """
    The answer to one request.

    Raises:
        RequestError: It cannot be answered, or ``phrase`` is asked for and the pipeline names no model for it.

    Cost: some 40 rankings; call it beside the event loop.
    """
    stage = next((bound.run for bound in engine.stages if isinstance(bound.run, Reasons)), None)
    if form.phrase and (stage is None or stage.config.phrase is None):
        raise RequestError("phrase is true, but the stage reasons of this model names no model to phrase with")
    found = explain(engine, request, form.item_id)
    answer = found.answer
    trace = [TraceForm(t.name, t.ms, t.rows_in, t.rows_out, t.skipped or UNSET) for t in answer.trace]
    language = reader_of(request)
    items, known = list(found.items), (answer.request_id, answer.version, language)
    made = ExplainedForm(*known, items, found.gates, trace, found.rankings)
    if form.phrase and stage is not None:
        made.said, made.refused = phrased(engine.catalogue, stage, found, language)
    return made


def phrased(
    catalogue: Catalogue, stage: Reasons, found: Explained, language: str
) -> tuple[dict[str, str], dict[str, int]]:
    """Phrases by item, and how many were refused, by why; after the deadline no further one is asked for."""
    backend, titles = speaker_of(stage), _titles(catalogue)
    until = time.monotonic() + stage.config.phrase_ms / 1000
    said: dict[str, str] = {}
    refused: Counter[str] = Counter()
    for item in found.items:
        left = until - time.monotonic()
        if not item.reasons:
            continue
        if left <= 0:
            refused["late"] += 1
            continue
        line, why = phrase(item.title, item.reasons, language, model=_Speaker(backend, left), titles=titles)
        if line is None:
            refused[str(why)] += 1
        else:
            said[item.item_id] = line
    return said, dict(refused)


class _Speaker:
    """A back end as text to text."""

    def __init__(self, backend: Backend, seconds: float) -> None:
        self._backend = backend
        self._seconds = seconds

    def __call__(self, system: str, text: str) -> str:
        return self._backend.ask(Question("order", text, system, max_tokens=MOST_TOKENS), self._seconds).text


def _titles(catalogue: Catalogue) -> Titles:
    """Every name of every item, in whatever language the catalogue has them; made once, and gone with its model."""
    if catalogue not in _known:
        _known[catalogue] = _named(catalogue)
    return _known[catalogue]


def _named(catalogue: Catalogue) -> Titles:
    frame = catalogue.frame
    columns = [name for name in frame.columns if name == "title" or name.startswith("title_")]
    named = [title for name in columns for title in frame[name].drop_nulls().to_list() if isinstance(title, str)]
    return Titles([*named, *(catalogue.title(row) for row in range(len(catalogue)))])
