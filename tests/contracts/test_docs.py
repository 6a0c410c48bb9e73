"""Prose that nothing reads goes stale: the reference is what the code says, and every example runs or parses."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from fastapi.routing import APIRoute

from tailwise import registry
from tailwise.cli import VERBS, parser
from tailwise.config import Closed, PipelineConfig, Settings, settings_of
from tailwise.rerank.rules import RulesFile
from tailwise.serve import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.is_relative_to(ROOT / "docs"))
GENERATED = ("commands.md", "errors.md", "routes.md", "settings.md")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(language: str) -> list[Any]:
    """Every fenced block of a language, named by its page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 1
            found.append(pytest.param(match[1], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def settings_within(kind: Any) -> Iterator[type[Closed]]:
    """The settings classes in a type: itself, or what it is a list, an option or an annotation of."""
    if isinstance(kind, type) and issubclass(kind, Closed):
        yield kind
        for field in kind.model_fields.values():
            yield from settings_within(field.annotation)
    for inner in get_args(kind):
        yield from settings_within(inner)


def every_setting() -> set[str]:
    roots = [PipelineConfig, *(registry.component(name).Config for name in (*registry.SOURCES, *registry.STAGES))]
    classes = {found for root in roots for found in settings_within(root)}
    return {name for found in classes for name in found.model_fields} - {"settings"}  # what else stands in a table


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_what_the_code_says_now(name: str) -> None:
    written = generator().pages()

    assert set(written) == set(GENERATED)
    assert written[name] == (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8"), "run: make docs"


@pytest.mark.parametrize("name", sorted(every_setting()))
def test_every_setting_is_in_the_docs(name: str) -> None:
    assert re.search(rf"`\[*(\w+\.)*{name}[].`]", TEXT)  # also as a table, or as what a dot follows


def test_settings_are_found_however_deep_they_lie() -> None:
    assert {
        "whiten_dim",
        "half_life_days",
        "judge_from",
        "max_length",
        "op",
        "within",
        "deadline_ms",
    } <= every_setting()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_variable_of_the_environment_is_in_the_docs(name: str) -> None:
    assert f"`TAILWISE_{name.upper()}`" in TEXT


@pytest.mark.parametrize("name", registry.names())
def test_every_name_of_the_registry_is_in_the_docs(name: str) -> None:
    assert re.search(rf"^### `{name}`$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_is_in_the_docs(verb: str) -> None:
    assert re.search(rf"^## `tailwise {verb}`$", TEXT, re.MULTILINE)


ROUTES = [
    route
    for router in app.ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and route.include_in_schema
]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{min(route.methods)} {route.path}")
def test_every_route_is_in_the_docs(route: APIRoute) -> None:
    path = route.path.replace(":path}", "}")

    assert route.methods
    assert all(f"\n## `{method} {path}`\n" in TEXT for method in route.methods)


@pytest.mark.parametrize("block", blocks("toml"))
def test_every_toml_example_is_a_pipeline_or_a_rules_file(block: str) -> None:
    raw = tomllib.loads(block)

    if "rule" in raw:
        assert settings_of(RulesFile, raw, where="the example").rule
        return
    config = settings_of(PipelineConfig, raw, where="the example")
    for step in (*config.retrieve, *config.stage):
        assert settings_of(registry.component(step.name).Config, step.settings, where=step.name) is not None


@pytest.mark.parametrize("block", blocks("bash"))
def test_every_command_of_a_shell_example_parses(block: str) -> None:
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0].rpartition("/")[2] == "tailwise":
            assert parser().parse_args(words[1:]).verb in VERBS


@pytest.mark.parametrize("block", blocks("bash"))
def test_every_make_target_of_a_shell_example_is_there(block: str) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"^make (\w+)", block, re.MULTILINE))

    assert named <= targets


@pytest.mark.parametrize("block", blocks("python"))
def test_every_python_example_compiles(block: str) -> None:
    assert compile(block, "example", "exec").co_code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)

    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in heads}, target


def test_the_chinese_readme_shows_what_the_english_one_does() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))

    def code(text: str) -> list[str]:
        found = re.findall(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        return [re.sub(r"\s*#.*$", "", block, flags=re.MULTILINE) for block in found]

    def figures(text: str) -> list[list[str]]:
        return [re.findall(r"\d[\d.,]*\d|\d", row) for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)]

    def links(text: str) -> set[str]:
        return set(re.findall(r"\]\((docs/[^)]+)\)", text))

    assert code(chinese) == code(english)
    assert figures(chinese) == figures(english)
    assert links(english) <= links(chinese)
    assert len(re.findall(r"^## ", chinese, re.MULTILINE)) == len(re.findall(r"^## ", english, re.MULTILINE))
