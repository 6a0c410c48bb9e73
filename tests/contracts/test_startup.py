"""What starts quickly stays light: no torch where nothing learns, and nothing at all before the verb is known."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "scipy", "matplotlib", "implicit", "sklearn", "pandas", "numba")
LATER = (*HEAVY, "numpy", "polars", "pydantic", "onnxruntime", "faiss", "fastapi", "uvicorn")
"""Not needed to print a help text."""


def loaded(code: str, *arguments: str | Path) -> set[str]:
    """Top-level modules that are loaded when ``code`` has run in a process of its own."""
    report = (
        f"{code}\nimport json, sys; sys.stderr.write(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
    )
    found = subprocess.run([sys.executable, "-c", report, *arguments], check=True, capture_output=True, text=True)
    return set(json.loads(found.stderr.splitlines()[-1]))


def test_the_check_sees_what_is_loaded() -> None:
    assert {"tailwise", "polars", "numpy"} <= loaded("import tailwise; tailwise.load")


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not set(LATER) & loaded("import tailwise")


def test_every_exported_name_is_there_without_torch_but_for_fit() -> None:
    assert not set(HEAVY) & loaded("import tailwise; tailwise.Engine, tailwise.load")


COMMAND = """
import sys
from tailwise.cli import main
try:
    main(sys.argv[2:])
except SystemExit as end:
    assert end.code == int(sys.argv[1]), end.code
"""


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["serve", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert not set(LATER) & loaded(COMMAND, "0", *arguments)


def test_a_wrong_command_is_refused_before_anything_heavy_is_loaded() -> None:
    assert not set(LATER) & loaded(COMMAND, "2", "rnak")


RANK = """
import sys, tailwise
engine = tailwise.Engine.open(sys.argv[1])
assert len(engine.rank(user_id="u00", query="de")) == 10
engine.observe(user_id="u00", item_id="i01")
assert len(engine.similar("i01")) == 10
"""


def test_opening_a_model_and_ranking_loads_no_torch(tiny_model: Path) -> None:
    found = loaded(RANK, tiny_model)

    assert not set(HEAVY) & found
    assert "onnxruntime" in found  # or this would not have run the network


def test_a_saved_model_answers_the_same_in_another_process(tiny_model: Path) -> None:
    code = "import sys, tailwise; print(*tailwise.Engine.open(sys.argv[1]).rank(user_id='u07', k=48).item_ids)"

    first, second = (
        subprocess.run(
            [sys.executable, "-c", code, tiny_model],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": s},
        ).stdout
        for s in ("1", "2")
    )

    assert first == second
    assert len(first.split()) > 30
