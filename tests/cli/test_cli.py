"""The command as people type it: what it answers, what it refuses, and with which exit code."""

from __future__ import annotations

import re
import resource
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tailwise.cli import VERBS, _fail, main, parser

RUN = (sys.executable, "-m", "tailwise.cli")
MAKE = "make one with: tailwise fit DATA --out MODEL"


def failed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line on stderr of a command that must fail with exit 1 and print nothing else."""
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err.rstrip("\n")


def misused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line on stderr of a command that was asked wrongly: exit 2."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err.rstrip("\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_with_an_example_that_parses(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])

    text = capsys.readouterr().out
    (example,) = re.findall(r"example: (tailwise .*)", " ".join(text.split()))
    assert stopped.value.code == 0
    assert parser().parse_args(shlex.split(example)[1:]).verb == verb
    assert "--debug" in text


def test_every_option_is_explained() -> None:
    (verbs,) = [action for action in parser()._actions if action.choices]
    assert isinstance(verbs.choices, dict)

    silent = [
        f"{name} {action.dest}" for name, verb in verbs.choices.items() for action in verb._actions if not action.help
    ]

    assert silent == []


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    text = capsys.readouterr().out
    assert [verb for verb in VERBS if not re.search(rf"^ +{verb} ", text, re.MULTILINE)] == []


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])

    assert re.fullmatch(r"tailwise \d+\.\d+\.\d+\n", capsys.readouterr().out)
    assert stopped.value.code == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the following arguments are required: COMMAND; see: tailwise --help"),
        ("fit data", "the following arguments are required: --out; see: tailwise fit --help"),
        ("serve m --port eighty", "argument --port: invalid int value: 'eighty'; see: tailwise serve --help"),
        (
            "fit d --out m --seed -1",
            "argument --seed: is -1, but it must be between 0 and 2147483647; see: tailwise fit --help",
        ),
        (
            "evaluate m d --people 0",
            "argument --people: is 0, but it must be at least 1; see: tailwise evaluate --help",
        ),
        (
            "learn m --follow d --least x",
            "argument --least: is 'x', but it must be a whole number; see: tailwise learn --help",
        ),
        ("doctor --deep", "unrecognized arguments: --deep; see: tailwise --help"),
    ],
)
def test_a_usage_error_is_one_line_and_exits_2(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert misused(capsys, *shlex.split(line)) == f"tailwise: {message}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("serve", f"serve takes a MODEL, or --tenants DIR; {MAKE}; see: tailwise serve --help"),
        ("serve m --tenants t", "serve takes a MODEL, or --tenants DIR; not both; see: tailwise serve --help"),
        ("serve m --workers 0", "workers is 0, but it must be at least 1"),
        ("serve m --port 70000", "port is 70000, but it must be between 0 and 65535"),
        (
            "data pseudonymise a b",
            "pseudonymise needs a secret: --secret FILE; make one with: openssl rand -hex 32",
        ),
    ],
)
def test_what_only_the_verb_sees_to_be_asked_wrongly_exits_2_too(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(line)) == 2

    assert capsys.readouterr().err == f"tailwise: {message}\n"


def test_an_unknown_verb_is_a_usage_error_that_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    said = misused(capsys, "recommend", "x")

    assert "invalid choice: 'recommend'" in said
    assert all(verb in said for verb in VERBS)


def test_a_failure_is_one_line_on_stderr_and_exits_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = failed(capsys, "rank", tmp_path, "--requests", "r.jsonl", "--out", "a.jsonl")

    remedy = "is not a model folder: it has no manifest.json; make one with: tailwise fit"
    assert said == f"tailwise: {tmp_path} {remedy}"


def test_a_message_of_several_lines_becomes_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert _fail("the parser says:\n\n  line 3\n") == 1

    assert capsys.readouterr().err == "tailwise: the parser says: line 3\n"


def test_debug_raises_the_error_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [*RUN, "rank", tmp_path, "--requests", "r", "--out", "a", "--debug"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert f"tailwise.errors.ArtifactError: {tmp_path} is not a model folder" in done.stderr


def test_debug_also_says_what_happens_on_the_way(shop: Path, config: Path, tmp_path: Path) -> None:
    command = [*RUN, "fit", shop, "--out", tmp_path / "model", "--config", config, "--debug"]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "INFO tailwise.learn.meaning: items embedded: 40, of them afresh: " in done.stderr


def test_the_command_by_its_own_name_says_the_same(tmp_path: Path) -> None:
    tailwise = Path(sys.executable).with_name("tailwise")
    done = subprocess.run([tailwise, "validate", tmp_path / "none"], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.startswith("FAIL ")


def test_a_reader_that_goes_away_ends_the_command_quietly(shop: Path) -> None:
    with subprocess.Popen([*RUN, "validate", shop], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()

    assert process.returncode == 1
    assert said == b""


@pytest.mark.slow
def test_help_takes_at_most_three_tenths_of_a_second_of_the_processor() -> None:
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*RUN, "--help"], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert statistics.median(taken) <= 0.3
