"""Ranking documents that the caller sends along, in the ``/rerank`` form of Jina and Cohere, with a person's taste."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType

from tailwise.errors import RequestError
from tailwise.fakes import HashEncoder
from tailwise.pipeline import Engine
from tailwise.serve import wire
from tailwise.serve.forms import Id
from tailwise.types import Floats, Request, Rows

MOST_DOCUMENTS = 1000
TASTE = 0.25
"""Weight of the person's taste beside the query, when both are there: the query was typed, the taste is a guess."""
NEWEST = 32
"""Liked items, the newest, whose mean is the person's taste."""

WORDS = HashEncoder(256)


class RerankForm(Struct):
    """
    Documents to put in order for a query.

    Each is a text, or an object with ``text``, or with the ``id`` or ``item_id`` of an item that the model knows.
    ``user_id`` blends the person's taste in; ``model`` is accepted and given back.
    """

    query: Annotated[str, Meta(min_length=1, max_length=8192)]
    documents: Annotated[list[str | dict[str, Any]], Meta(max_length=MOST_DOCUMENTS)]
    model: str | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False
    user_id: Id | None = None


class PlaceForm(Struct):
    """One document of the answer: its place in the request, from 0, and how relevant it is, in [0, 1]."""

    index: int
    relevance_score: float
    document: dict[str, Any] | UnsetType = UNSET


class RerankedForm(Struct):
    """Documents, most relevant first. ``method`` says how: ``meaning`` (a language model), ``engine`` or ``words``."""

    id: str
    model: str
    method: str
    results: list[PlaceForm]
    version: str
    """Of the model that answered."""


_documents = msgspec.json.Decoder(RerankForm)


def decode_rerank(body: bytes) -> RerankForm:
    """
    A rerank request from JSON.

    Raises:
        RequestError: Not JSON, or a field of the wrong type or out of range; names the field.
    """
    return wire.decode(_documents, body, what="request")


def rerank(engine: Engine, form: RerankForm) -> RerankedForm:
    """
    Put documents in order.

    With the engine's encoder by meaning; without one, items that the model knows go through the pipeline, and any
    other documents are compared by the words they share with the query.

    Raises:
        RequestError: A document has no text and no id that the model knows; names its place, from 0.

    Cost: one pass of the encoder over documents and query; call it beside the event loop.
    """
    items = [_item_id(document) for document in form.documents]
    rows = engine.catalogue.rows(item or "" for item in items)
    texts = [_text(engine, *document) for document in zip(form.documents, rows.tolist(), range(len(rows)), strict=True)]
    if engine.encoder is None and len(rows) and (rows >= 0).all():
        method, scores = "engine", _by_pipeline(engine, form, rows)
    else:
        method = "words" if engine.encoder is None else "meaning"
        scores = _by_text(engine, form, texts)
    order = np.argsort(-scores, kind="stable")[: form.top_n]
    places = [_place(form, index, float(scores[index])) for index in order.tolist() if not np.isnan(scores[index])]
    return RerankedForm(uuid.uuid4().hex, form.model or engine.version, method, places, engine.version)


def _by_pipeline(engine: Engine, form: RerankForm, rows: Rows) -> Floats:
    """(N,) the pipeline's order as evenly spaced scores, for its own have no scale; NaN where a stage dropped one."""
    ids = tuple(engine.catalogue.item_ids[rows].tolist())
    request = Request(uuid.uuid4().hex, user_id=form.user_id, query=form.query, candidates=ids, k=MOST_DOCUMENTS)
    slate = engine.answer(request).slate
    scores = np.linspace(1, 0, len(slate) + 1)[:-1]
    score_of = dict(zip(slate.item_ids.tolist(), scores.tolist(), strict=True))
    return np.array([score_of.get(item, np.nan) for item in ids], np.float32)


def _by_text(engine: Engine, form: RerankForm, texts: list[str]) -> Floats:
    """(N,) cosine of documents and query, moved towards the person's taste, scaled to [0, 1]."""
    vectors = (engine.encoder or WORDS).encode([form.query, *texts])
    wanted, documents = vectors[0], vectors[1:]  # (D,), (N, D)
    cosine = documents @ wanted
    if form.user_id is not None:
        taste = _taste(engine, form.user_id)
        if taste.any():
            cosine = (1 - TASTE) * cosine + TASTE * (documents @ taste)
    return np.asarray(np.clip((1 + cosine) / 2, 0, 1), np.float32)


def _taste(engine: Engine, user_id: str) -> Floats:
    """(D,) of unit length: the mean of what the person liked lately; zeros for a stranger."""
    liked = engine.history(user_id).liked()[-NEWEST:]
    if engine.encoder is not None:
        vectors = engine.catalogue.vectors[liked]
    else:
        vectors = WORDS.encode([engine.catalogue.title(row) for row in liked.tolist()])
    mean = vectors.sum(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


def _item_id(document: str | dict[str, Any]) -> str | None:
    if isinstance(document, str):
        return None
    item = document.get("item_id", document.get("id"))
    return item if isinstance(item, str) else None


def _text(engine: Engine, document: str | dict[str, Any], row: int, place: int) -> str:
    """What a document says: its text, else the title of the item it names, else its texts in a row."""
    if isinstance(document, str):
        return document
    if isinstance(document.get("text"), str):
        return str(document["text"])
    if row >= 0:
        return engine.catalogue.title(row)
    said = [value for name, value in document.items() if isinstance(value, str) and name not in {"id", "item_id"}]
    if not said:
        raise RequestError(f"request.documents[{place}] has no text, and no id that the model knows; give it a text")
    return " ".join(said)


def _place(form: RerankForm, index: int, score: float) -> PlaceForm:
    if not form.return_documents:
        return PlaceForm(index, round(score, 6))
    document = form.documents[index]
    return PlaceForm(index, round(score, 6), {"text": document} if isinstance(document, str) else document)
