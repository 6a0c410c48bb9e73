"""``tailwise validate`` and ``tailwise data``: one line a check, and the exit code that scripts go by."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tailwise.cli import main


def test_a_sound_folder_passes_every_check(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(shop)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert all(line.startswith("PASS ") for line in lines)


def test_a_row_at_fault_is_named_and_the_exit_code_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,time\nu1,i1,100\nu2,i2,soon\n")

    assert main(["validate", str(tmp_path)]) == 1

    said = capsys.readouterr()
    (wrong,) = [line for line in said.out.splitlines() if line.startswith("FAIL ")]
    assert re.match(r"^FAIL events\.csv row 2 time: .*'soon'", wrong)
    assert said.err == ""


def test_a_warning_alone_does_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,time\nu1,i1,100\n")  # no items file

    assert main(["validate", str(tmp_path)]) == 0

    assert "WARN " in capsys.readouterr().out


def test_an_empty_folder_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tmp_path)]) == 1

    assert capsys.readouterr().out.startswith("FAIL ")


def test_an_unknown_data_set_is_refused_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "movies", str(tmp_path)]) == 1

    assert capsys.readouterr().err == "tailwise: no data set is called 'movies'; known: ml-100k\n"
    assert list(tmp_path.iterdir()) == []
