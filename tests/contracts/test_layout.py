"""The tree stays small and easy to find one's way in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tailwise"
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
WEB = sorted(
    path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.suffix in {".js", ".css", ".html"} and path.is_file()
)
MOST_LINES = 300

TESTED_ELSEWHERE = {
    "cli/__main__.py": "tests/cli/test_cli.py runs it",
    "pipeline/stored.py": "tests/pipeline/test_engine_models.py, by writing and reading whole models",
    "cli/options.py": "tests/cli/test_live.py and test_docs.py, through the command",
    "serve/changing.py": "tests/serve/test_life.py, through the routes",
    "serve/context.py": "tests/serve/test_app.py, through the routes",
    "serve/directory.py": "tests/serve/test_app.py, through the routes",
    "serve/forms.py": "tests/serve/test_wire.py, with what decodes and encodes them",
    "serve/openapi.py": "tests/serve/test_app.py, through the description",
    "serve/problems.py": "tests/serve/test_app.py, through the routes",
    "serve/ranking.py": "tests/serve/test_app.py, through the routes",
    "serve/service.py": "tests/serve/test_running.py and tests/cli, by what is started with it",
    "state/commits.py": "tests/state/test_sqlite.py, through the store",
    "state/connecting.py": "tests/state/test_redis.py, with a real server",
    "state/ingest.py": "tests/state/test_streams.py, with a real queue",
    "state/journal.py": "tests/state/test_log.py, through the log",
    "state/memory.py": "tests/state/test_state_contract.py, with every other store",
    "state/scripts.py": "tests/state/test_redis.py, on a real server",
    "state/segments.py": "tests/state/test_state_contract.py, with every other journal",
    "state/store.py": "tests/state/test_state_contract.py, and its bounds in test_opening.py",
    "state/tables.py": "tests/state/test_sqlite.py, through the store",
}


@pytest.mark.parametrize("path", [*MODULES, *WEB], ids=str)
def test_a_file_has_at_most_three_hundred_lines(path: Path) -> None:
    lines = len((SOURCE / path).read_text(encoding="utf-8").splitlines())

    assert lines <= MOST_LINES


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_room_has_rooms_of_its_own(path: Path) -> None:
    assert len(path.parts) <= 2


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py"], ids=str)
def test_every_file_has_its_tests_where_one_looks_for_them(path: Path) -> None:
    mirror = ROOT / "tests" / path.with_name(f"test_{path.name}")

    assert mirror.is_file() or str(path) in TESTED_ELSEWHERE


def test_the_exceptions_are_still_needed() -> None:
    gone = [name for name in TESTED_ELSEWHERE if not (SOURCE / name).is_file()]
    mirrored = [
        name
        for name in TESTED_ELSEWHERE
        if (ROOT / "tests" / Path(name).with_name(f"test_{Path(name).name}")).is_file()
    ]

    assert gone + mirrored == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_nothing_is_pickled(path: Path) -> None:
    tree = ast.parse((SOURCE / path).read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "torch.load",
            "torch.save",
            "np.load",
            "np.save",
        }:
            imported.add(ast.unparse(node.func))

    assert not imported & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "torch.load", "torch.save", "np.load"}


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py"], ids=str)
def test_every_file_opens_by_saying_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse((SOURCE / path).read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_note_to_do_later_is_left(path: Path) -> None:
    text = (SOURCE / path).read_text(encoding="utf-8")

    assert not [word for word in ("TODO", "FIXME", "XXX", "NotImplementedError") if word in text]
