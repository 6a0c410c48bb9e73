"""``tune`` from folder to file: alone, in several processes, again, and wrongly asked."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tailwise.cli import main
from tailwise.cli.tune import table
from tailwise.config import PipelineConfig
from tailwise.learn.search import Found, Tried

CONFIG = """
[encode]
model = "hash"
whiten_dim = 8

[tune]
"ease.regularisation" = { low = 1.0, high = 500.0, log = true }

[[retrieve]]
name = "popular"

[[retrieve]]
name = "ease"
decay = 0.1

[[stage]]
name = "fusion"
"""


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "quick.toml"
    path.write_text(CONFIG)
    return path


def run(*words: str | Path | int) -> int:
    return main([str(word) for word in words])


def test_tune_prints_its_trials_and_leaves_a_pipeline_that_fit_takes(
    shop: Path, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = tmp_path / "best.toml"

    assert run("tune", shop, "--config", quick, "--trials", 2, "--out", best) == 0

    said = capsys.readouterr().out
    assert said.splitlines()[0] == "trial  NDCG@10  seconds  ease.regularisation"
    assert f"wrote {best}; next: tailwise fit {shop} --out MODEL --config {best}" in said
    assert set(tmp_path.iterdir()) == {quick, best, tmp_path / "best.sqlite"}
    proposed = "best: trial 0" not in said  # which is the pipeline as it is
    written = {"decay", "regularisation"} if proposed else {"decay"}
    assert PipelineConfig.read(best).retrieve[1].settings.keys() == written

    assert run("tune", shop, "--config", quick, "--trials", 3, "--out", best) == 0

    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'best.sqlite'} has 2 trials of this search: 1 are left\n")
    assert run("fit", shop, "--out", tmp_path / "model", "--config", best) == 0


def test_several_processes_share_the_trials(
    shop: Path, quick: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("tune", shop, "--config", quick, "--trials", 3, "--jobs", 2, "--out", tmp_path / "best.toml") == 0

    said = capfd.readouterr()
    numbers = {line.split()[0] for line in said.out.splitlines() if line.split()[0].isdigit()}
    assert numbers == {"0", "1", "2"}
    assert "Traceback" not in said.err


def test_what_fails_in_another_process_is_said_in_one_line(
    shop: Path, quick: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quick.write_text("stage = []\n" + CONFIG.replace('[[stage]]\nname = "fusion"', ""))

    assert run("tune", shop, "--config", quick, "--trials", 2, "--jobs", 2, "--out", tmp_path / "best.toml") == 1

    lines = capfd.readouterr().err.splitlines()
    rule = "the fit judged nothing on held-out people; the pipeline needs a stage that learns, as fusion"
    assert f"tailwise: {rule}" in lines
    assert lines[-1] == "tailwise: a process of the search failed; its message is above"
    assert not any("Traceback" in line for line in lines)


@pytest.fixture
def running(shop: Path, quick: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A long search in two processes."""
    command = ["tune", shop, "--config", quick, "--trials", 10_000, "--jobs", 2, "--out", tmp_path / "best.toml"]
    words = [sys.executable, "-m", "tailwise.cli", *map(str, command)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_ctrl_c_leaves_the_best_so_far_and_no_process(running: subprocess.Popen[str], tmp_path: Path) -> None:
    while not (tmp_path / "best.toml").is_file() and running.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            running.wait(0.05)

    running.send_signal(signal.SIGINT)
    said, complaints = running.communicate(timeout=120)

    assert running.returncode == 1
    assert "interrupted: the same command goes on from here" in said
    assert PipelineConfig.read(tmp_path / "best.toml").retrieve[1].name == "ease"
    assert "Traceback" not in complaints


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--trials", 0), "trials is 0, but it must be at least 1"),
        (("--trials", 1, "--jobs", 0), "jobs is 0, but it must be at least 1"),
        (("--trials", 1, "--timeout", -5), "timeout is -5, but it must be above 0 seconds"),
    ],
)
def test_what_is_asked_wrongly_is_refused(
    words: tuple[Any, ...], message: str, shop: Path, quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tune", shop, "--config", quick, *words) == 2

    assert capsys.readouterr().err == f"tailwise: {message}\n"


def test_a_space_that_names_no_setting_is_refused_before_anything_is_fitted(
    shop: Path, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick.write_text(CONFIG.replace("ease.regularisation", "ease.regularization"))

    assert run("tune", shop, "--config", quick, "--trials", 1, "--out", tmp_path / "best.toml") == 1

    rule = "nothing is called 'regularization'; did you mean regularisation?"
    said = f"tailwise: tune: ease.regularization is no setting of this pipeline: {rule}\n"
    assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == [quick]


def tried(number: int, state: str, value: float | None, why: str = "", **settings: Any) -> Tried:
    return Tried(number, state, value, 1.25, settings, why)


def test_the_table_has_the_best_trial_first_and_says_what_failed_and_what_mattered() -> None:
    trials = (
        tried(0, "complete", 0.1, dim=8, rate=0.001234567),
        tried(1, "pruned", None, dim=16, rate=0.5),
        tried(2, "failed", None, "heads is 3", dim=9, rate=0.5),
        tried(3, "complete", 0.2, dim=32, rate=2.0),
    )

    lines = table(Found(trials, trials[3], {"dim": 0.75, "rate": 0.25})).splitlines()

    assert [line.split() for line in lines[2:6]] == [
        ["3", "0.2000", "1.2", "32", "2"],
        ["0", "0.1000", "1.2", "8", "0.001235"],
        ["1", "pruned", "1.2", "16", "0.5"],
        ["2", "failed", "1.2", "9", "0.5"],
    ]
    assert lines[6:] == ["trial 2 failed: heads is 3", "what moved the value: dim 75%, rate 25%"]
