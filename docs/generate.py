"""
Write the reference pages that say what the code says: settings, commands, routes and errors.

    python docs/generate.py

``tests/contracts/test_docs.py`` fails when a page differs from what this would write.
"""
# ruff: noqa: INP001  a script, no package

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py from the code; change the code, then run: make docs -->"
ENVIRONMENT = {"cache": "TAILWISE_CACHE", "threads": "TAILWISE_THREADS"}

Schema = dict[str, Any]


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    written = {"settings": settings(), "commands": commands(), "routes": routes(), "errors": errors()}
    return {f"{name}.md": "\n".join([NOTE, "", *lines, ""]) for name, lines in written.items()}


def settings() -> Iterator[str]:
    """Every setting of a pipeline file, of each component that it may name, and of the environment."""
    from tailwise import registry
    from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
    from tailwise.nets.settings_texts import ClassifierConfig, Pretraining

    yield "# Settings"
    yield "\nA pipeline is a TOML file. What it leaves out takes the default; a name that is not here is refused."
    yield "\n## The file"
    yield from _settings(PipelineConfig.model_json_schema(), without=("encode", "retrieve", "stage"))
    yield "\n## `[encode]`"
    yield from _settings(EncodeConfig.model_json_schema())
    yield "\n## Every `[[retrieve]]` and `[[stage]]`"
    yield "\nSettings of the component itself stand beside these."
    yield from _settings(Step.model_json_schema(), without=("settings",))
    for title, names in (("Sources", registry.SOURCES), ("Stages", registry.STAGES)):
        yield f"\n## {title}"
        if title == "Stages":
            yield "\nA source may stand among the stages too: it reorders by its score alone."
        for name in names:
            kind = registry.component(name)
            yield f"\n### `{name}`"
            yield f"\n{_plain(kind.__doc__)}"
            yield from _settings(kind.Config.model_json_schema())
    yield "\n## The classifier of texts"
    yield "\nA TOML file of its own, which `tailwise fit-classifier --config` reads."
    yield from _settings(ClassifierConfig.model_json_schema())
    yield "\n`[pretrain]`, where it is given:"
    yield from _settings(Pretraining.model_json_schema())
    yield "\n`[augment.translator]`, where it is given: as `backend` of the stage `listwise_llm`."
    yield "\n## Environment"
    schema = Settings.model_json_schema()
    rows = [(f"`{ENVIRONMENT[name]}`", _kind(field), _plain(field["description"])) for name, field in _fields(schema)]
    yield from _table(("variable", "type", "what"), rows)
    yield f"\n{_plain(Settings.from_environment.__doc__)}"


def _settings(schema: Schema, *, without: Sequence[str] = ()) -> Iterator[str]:
    """A table of settings; a table within is flattened, and each kind in a list of tables gets a table of its own."""
    shown = {name: field for name, field in _fields(schema) if name not in without}
    lists = {name: _refs(field["items"]) for name, field in shown.items() if _refs(field.get("items", {}))}
    rows = list(_rows(schema, {name: field for name, field in shown.items() if name not in lists}))
    if rows:
        yield from _table(("setting", "type", "default", "what"), rows)
    elif not lists:
        yield "\nNo settings."
    nested: dict[str, None] = {}
    for name, kinds in lists.items():
        yield f"\n`{name}`: {_plain(shown[name]['description'])} Tables of these kinds:"
        for kind in kinds:
            yield from _kind_of_table(schema, kind)
            nested |= dict.fromkeys(
                ref for _, field in _fields(_definition(schema, kind)) for ref in _refs(field.get("items", {}))
            )
    for kind in nested:
        yield from _kind_of_table(schema, kind)


def _kind_of_table(schema: Schema, kind: str) -> Iterator[str]:
    definition = _definition(schema, kind)
    yield f"\n**{kind}.** {_plain(definition['description'])}"
    yield from _table(("setting", "type", "default", "what"), _rows(schema, dict(_fields(definition))))


def _rows(schema: Schema, fields: dict[str, Schema], prefix: str = "") -> Iterator[tuple[str, ...]]:
    for name, field in fields.items():
        if "$ref" in field:
            inner = dict(_fields(_definition(schema, _refs(field)[0])))
            given = field.get("default") or {}
            inner = {key: {**own, "default": given.get(key, own.get("default"))} for key, own in inner.items()}
            yield from _rows(schema, inner, f"{prefix}{name}.")
        else:
            required = "default" not in field
            default = (
                "required" if required else "" if field["default"] is None else f"`{json.dumps(field['default'])}`"
            )
            yield f"`{prefix}{name}`", _kind(field), default, _plain(field.get("description", ""))


def _kind(field: Schema) -> str:
    """What a value must be, in words."""
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"] if one.get("type") != "null")
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "$ref" in field:
        return _refs(field)[0]
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}"
    words = {
        "integer": "whole number",
        "boolean": "true or false",
        "string": "text",
        "object": "table",
        None: "anything",
    }
    kind = field.get("type")
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[name]:,}" for name, sign in bounds.items() if name in field]
    return ", ".join([words.get(kind, str(kind)), *limits])


def commands() -> Iterator[str]:
    """Every verb with its options and its example."""
    from tailwise.cli import parser

    top = parser()
    (verbs,) = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001  argparse has no other way
    yield "# Commands"
    yield f"\n{top.description} {top.epilog}"
    yield "\nExit codes: 0 done, 1 failed (one line on stderr; `--debug` for the traceback), 2 asked wrongly."
    helps = {choice.dest: choice.help for choice in verbs._choices_actions}  # noqa: SLF001
    for name, verb in verbs.choices.items():
        example = str(verb.epilog).removeprefix("example: ")
        yield f"\n## `tailwise {name}`"
        yield f"\n{str(helps[name])[0].upper()}{str(helps[name])[1:]}."
        yield f"\n```bash\n{example}\n```"
        yield from _table(("option", "what"), _options(verb))


def _options(verb: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in verb._actions:  # noqa: SLF001  argparse has no other way
        if action.dest == "help":
            continue
        choices = " or ".join(map(str, action.choices or ()))
        value = "" if action.nargs == 0 else action.metavar or choices or action.dest.upper()
        name = " ".join(filter(None, [*action.option_strings[-1:], str(value)]))
        yield f"`{name}`{' (required)' if action.required else ''}", str(action.help).replace("%%", "%")


def routes() -> Iterator[str]:
    """Every route of the service, and the forms that it takes and gives."""
    from fastapi import FastAPI

    from tailwise.serve import app
    from tailwise.serve.openapi import describe

    service = FastAPI()
    for router in app.ROUTERS:
        service.include_router(router)
    described = describe(service)
    yield "# Routes"
    yield "\nJSON in, JSON out. `/` is the page; a running service describes itself at `/docs` and, in OpenAPI, at"
    yield "`/openapi.json`."
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            yield f"\n## `{method.upper()} {path}`"
            yield f"\n{_plain(about['description'])}"
            asked = [p for p in about.get("parameters", []) if p["in"] == "query"]
            if asked:
                rows = (
                    (f"`{p['name']}`", _kind(p["schema"]), f"`{json.dumps(p['schema']['default'])}`") for p in asked
                )
                yield from _table(("in the query", "type", "default"), rows)
            body = about.get("requestBody", {}).get("content", {}).get("application/json")
            if body:
                forms = dict.fromkeys(f"[{name}](#{name.lower()})" for name in _refs(body["schema"]))
                many = " or a list of them" if "oneOf" in body["schema"] else ""
                yield f"\nTakes {', '.join(forms)}{many}, for example:"
                yield f"\n```json\n{json.dumps(body['example'])}\n```"
            answer = _refs(about["responses"]["200"].get("content", {}).get("application/json", {}).get("schema", {}))
            if answer:
                yield f"\nGives {', '.join(f'[{name}](#{name.lower()})' for name in answer)}."
    yield "\n## Forms"
    for name, form in described["components"]["schemas"].items():
        yield f"\n### {name}"
        yield f"\n{_plain(form.get('description', ''))}"
        fields = _fields(form)
        rows = (
            (f"`{key}`", _kind(field), "required" if key in form.get("required", ()) else "") for key, field in fields
        )
        yield from _table(("field", "type", ""), rows)


def errors() -> Iterator[str]:
    """The error tree with exit codes and HTTP statuses."""
    from tailwise import errors as tree
    from tailwise.serve import auth, guard, problems

    yield "# Errors"
    yield "\nEach says in one line what is wrong, the value, the rule and the remedy."
    drawing = str(tree.__doc__).split("\n\n")[1]
    yield f"\n```text\n{drawing}\n```"
    found = [kind for kind in vars(tree).values() if isinstance(kind, type) and issubclass(kind, tree.TailwiseError)]
    yield from _table(("error", "what"), ((f"`{kind.__name__}`", _plain(kind.__doc__)) for kind in found))
    yield "\nOn the command line: one line on stderr and exit 1; `--debug` gives the traceback. Wrong usage exits 2."
    yield "\nOver HTTP: `application/problem+json` with `type`, `title`, `status` and `detail`."
    statuses = {
        400: "not JSON, the connection ended, or two different keys came",
        401: auth.MISSING,
        408: guard.TOO_SLOW,
        414: guard.TOO_LONG,
        431: guard.TOO_MANY,
        403: f"{guard.ELSEWHERE}; or the key may not do this",
        429: "the key, or its address, has asked for too much; wait as long as Retry-After says",
        413: guard.TOO_LARGE,
        422: "a field is missing, of the wrong type or out of range; the detail names it",
        503: "something outside is missing; try again",
        **problems.HINTS,
    }
    yield from _table(("status", "when"), ((str(status), text) for status, text in sorted(statuses.items())))


def _fields(schema: Schema) -> Iterable[tuple[str, Schema]]:
    fields: dict[str, Schema] = schema.get("properties", {})
    return fields.items()


def _definition(schema: Schema, name: str) -> Schema:
    definition: Schema = schema["$defs"][name]
    return definition


def _refs(schema: Schema) -> list[str]:
    """The names that a schema refers to, in order."""
    if "$ref" in schema:
        return [str(schema["$ref"]).rpartition("/")[2]]
    inner = [*schema.get("anyOf", []), *schema.get("oneOf", []), *([schema["items"]] if "items" in schema else [])]
    return list(dict.fromkeys(name for one in inner for name in _refs(one)))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield ""
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"


def _plain(text: str | None) -> str:
    """The first paragraph of a docstring, in Markdown, on one line."""
    paragraph = " ".join((text or "").strip().split("\n\n")[0].split())
    return paragraph.replace("``", "`")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
