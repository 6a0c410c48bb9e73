"""Progress of long work: plain lines where there is no terminal, a bar where there is one."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from tailwise.cli import progress
from tailwise.cli.progress import Progress, say

SCRIPT = """
from tailwise.cli.progress import Progress
with Progress() as report:
    for done in range(4):
        report("embed items", done, 3)
"""


def test_without_a_terminal_a_part_says_when_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as report:
        for what, done in (("embed", 0), ("embed", 2), ("fit", 0), ("fit", 1)):
            report(what, done, 2)

    said = capsys.readouterr()
    assert said.out == ""
    assert [re.sub(r"\d+\.\d", "N", line) for line in said.err.splitlines()] == [
        "embed: done in N s",
        "fit: done in N s",
    ]


def test_without_a_terminal_long_work_says_where_it_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)

    with Progress() as report:
        report("sequence", 0, 60)
        report("sequence", 7, 60)

    assert "sequence: 7 of 60\n" in capsys.readouterr().err


def test_short_work_says_little(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as report:
        for done in range(1000):
            report("rank", done, 999)

    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_told_nothing_said(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress():
        pass

    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))

    subprocess.run([sys.executable, "-c", SCRIPT], stderr=theirs, check=True)

    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "embed items" in shown
    assert "3/3" in shown


def test_say_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("done")

    assert capsys.readouterr() == ("done\n", "")
