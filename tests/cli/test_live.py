"""``serve`` and ``doctor``: a port that is taken, and what is there and what is not."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailwise.cli import live, main


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that someone listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def test_a_port_in_use_is_one_line(taken: int, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(model), "--port", str(taken)]) == 1

    assert capsys.readouterr().err == f"tailwise: port {taken} is in use; choose another with --port\n"


def test_a_demo_says_that_the_port_is_taken_before_it_begins(
    taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--port", str(taken), "--out", str(tmp_path / "demo")]) == 1

    assert capsys.readouterr().err == f"tailwise: port {taken} is in use; choose another with --port\n"
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--at-once", "0", "at_once is 0, but: Input should be greater than or equal to 1"),
        ("--canary-share", "3", "canary_share is 3.0, but: Input should be less than or equal to 1"),
        ("--drain-s", "nan", "drain_s is nan, but: Input should be greater than or equal to 0"),
    ],
)
def test_a_setting_out_of_range_is_one_line(
    option: str, value: str, said: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(model), "--port", "0", option, value]) == 2

    assert capsys.readouterr().err == f"tailwise: serve: {said}\n"


@pytest.mark.parametrize("state", ["mysql://here", "sqlite://relative", "memory"])
def test_a_state_of_no_known_form_is_refused(state: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(model), "--port", "0", "--state", state]) == 1

    said = capsys.readouterr().err
    assert said.startswith(f"tailwise: state is '{state}', but it must be memory://, sqlite:///")
    assert said.count("\n") == 1


def test_doctor_finds_everything_and_says_so(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    assert main(["doctor", str(model)]) == 0

    said = capsys.readouterr().out
    assert "OK   python 3." in said
    assert "OK   threads 1 (MKL_NUM_THREADS=1, OMP_NUM_THREADS=1" in said
    assert f"OK   {model} is whole: version " in said
    assert all(f" {package} " in said for package in ("numpy", "onnxruntime", "torch", "peft", "pyjwt"))
    assert "FAIL" not in said


def test_doctor_says_what_is_missing_and_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "wanted", lambda: {"train": ["a-package-that-nobody-made"]})

    assert main(["doctor"]) == 0  # an extra may be missing

    remedy = "WARN a-package-that-nobody-made is not installed: pip install 'tailwise[train]'"
    assert remedy in capsys.readouterr().out


def test_doctor_fails_when_something_that_is_needed_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "wanted", lambda: {"": ["a-package-that-nobody-made"]})

    assert main(["doctor"]) == 1

    assert "FAIL a-package-that-nobody-made is not installed: pip install 'tailwise'" in capsys.readouterr().out


def test_doctor_fails_on_a_damaged_model_and_names_the_file(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "pipeline.toml").write_text("")

    assert main(["doctor", str(tmp_path / "model")]) == 1

    assert f"FAIL {tmp_path / 'model' / 'pipeline.toml'} has 0 bytes, but the manifest says " in capsys.readouterr().out


def test_doctor_measures_the_cache(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path))
    (tmp_path / "big").write_bytes(bytes(3_000_000))

    main(["doctor"])

    assert f"OK   cache {tmp_path} (3 MB; safe to delete)" in capsys.readouterr().out
