"""The OpenAPI description of routes whose bodies FastAPI does not read: msgspec does, and says here what it takes."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from msgspec import Struct

from tailwise.serve.documents import RerankedForm, RerankForm
from tailwise.serve.forms import AnswerForm, DoneForm, EventForm, RequestForm


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
FORMS = (RequestForm, AnswerForm, EventForm, RerankForm, RerankedForm, DoneForm, ProblemForm)


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
        for about in (about for methods in schema["paths"].values() for about in methods.values()):
            if "422" in about["responses"]:
                about["responses"]["422"] = WRONG
        app.openapi_schema = schema
    return app.openapi_schema


def _ref(form: type[Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{form.__name__}"}
