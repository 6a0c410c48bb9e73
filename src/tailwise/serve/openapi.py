"""The OpenAPI description of routes whose bodies FastAPI does not read: msgspec does, and says here what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from msgspec import Struct

from tailwise.serve.auth import OPEN, SCOPES
from tailwise.serve.documents import RerankedForm, RerankForm
from tailwise.serve.forms import AnswerForm, CanaryForm, DoneForm, EventForm, ExplainedForm, ExplainForm, RequestForm


class ProblemForm(Struct):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


WRONG = {
    "description": "A field is missing, of the wrong type or out of range",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemForm"}}},
}
RANKING = (RequestForm, AnswerForm, RerankForm, RerankedForm, ExplainForm, ExplainedForm)
KEPT_OUT = {
    "401": "No key, or a wrong one",
    "403": "The key may not do this",
    "429": "The key has asked for too much; Retry-After says when to come again",
}
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, or a token of the identity provider"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
FORMS = (*RANKING, EventForm, DoneForm, CanaryForm, ProblemForm)


def body(form: type[Struct], example: Any, *, many: bool = False, answer: type[Struct] | None = None) -> dict[str, Any]:
    """
    What a route takes and gives, for its ``openapi_extra``.

    Args:
        form: Of the body.
        example: A body that works.
        many: Whether a list of them is taken too.
        answer: Of the answer; None leaves it open.
    """
    one = _ref(form)
    schema = {"oneOf": [one, {"type": "array", "items": one}]} if many else one
    taken = {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}
    content = {"application/json": {"schema": _ref(answer) if answer else {"type": "object"}}}
    return {
        "requestBody": taken,
        "responses": {
            "200": {"description": "Done", "content": content},
            "400": {**WRONG, "description": "Not JSON"},
            "422": WRONG,
        },
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of the whole application, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        _, forms = msgspec.json.schema_components(FORMS, ref_template="#/components/schemas/{name}")
        schema["components"] = {"schemas": forms}  # without FastAPI's form of a 422: ours is a problem like any other
        closed = getattr(app.state, "closed", False)
        for name, about in _operations(schema):
            if "422" in about["responses"]:
                about["responses"]["422"] = WRONG
            if closed and SCOPES.get(name) != OPEN:
                about["security"] = [{"bearer": []}, {"key": []}]
                about["responses"] |= {status: {**WRONG, "description": why} for status, why in KEPT_OUT.items()}
        if closed:
            schema["components"]["securitySchemes"] = SECURITY
        app.openapi_schema = schema
    return app.openapi_schema


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each operation, with its name in the table of scopes."""
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            yield f"{method.upper()} {path}", about


def _ref(form: type[Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{form.__name__}"}
