"""Rooms import downwards only, torch stays where it learns, HTTP where it serves: import-linter's contracts hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="needs import-linter: pip install 'tailwise[dev]'")

ROOT = Path(__file__).parents[2]


def linted(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_contract_is_kept() -> None:
    done = linted(ROOT)

    assert done.returncode == 0, done.stdout
    assert "Contracts: 4 kept, 0 broken." in done.stdout


def test_a_room_that_is_not_in_the_layers_would_be_seen(tmp_path: Path) -> None:
    room = tmp_path / "rooms"
    room.mkdir()
    for name in ("__init__", "upper", "lower", "nowhere"):
        (room / f"{name}.py").write_text("")
    (room / "lower.py").write_text("import rooms.upper\n")
    settings = (ROOT / "pyproject.toml").read_text().partition("[tool.importlinter]")[2].partition("layers = [")[0]
    assert "exhaustive = true" in settings
    (tmp_path / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_package = "rooms"\n\n[[tool.importlinter.contracts]]\nname = "layers"\n'
        'type = "layers"\ncontainers = ["rooms"]\nexhaustive = true\nlayers = ["upper", "lower"]\n'
    )

    done = linted(tmp_path)

    assert done.returncode == 1
    assert "rooms.nowhere" in done.stdout + done.stderr or "nowhere" in done.stdout + done.stderr
