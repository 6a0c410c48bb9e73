"""A quantised copy of a model, made by the command."""

from __future__ import annotations

import json
from importlib import util
from pathlib import Path

import numpy as np
import onnx
import pytest

from tailwise.artifacts import check
from tailwise.cli import main
from tailwise.cli.export import mark_int8
from tailwise.pipeline import Engine


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def test_the_copy_is_whole_smaller_and_ranks_much_the_same(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copy"

    assert run("export", tiny_model, "--int8", "--out", out) == 0

    said = capsys.readouterr().out
    assert f"saved {out}; next: tailwise serve {out}" in said
    manifest = check(out)
    assert manifest["int8"]["sequence/sequence.onnx"] > 0
    assert (out / "sequence" / "sequence.onnx").read_bytes() != (tiny_model / "sequence" / "sequence.onnx").read_bytes()
    before, after = Engine.open(tiny_model), Engine.open(out)
    shared = [
        len({*before.rank(user_id=user, k=10).item_ids} & {*after.rank(user_id=user, k=10).item_ids})
        for user in before.people.user_ids[:10]
    ]
    assert np.mean(shared) >= 8


def test_a_second_export_finds_nothing_left_to_do(tiny_model: Path, tmp_path: Path) -> None:
    run("export", tiny_model, "--int8", "--out", tmp_path / "once")

    assert run("export", tmp_path / "once", "--int8") == 0

    assert set(check(tmp_path / "once-int8")["int8"].values()) == {0}


def test_the_copy_never_replaces_the_model(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", tiny_model, "--int8", "--out", tiny_model) == 2

    assert capsys.readouterr().err == (
        f"tailwise: --out is {tiny_model}, which is the model itself; choose another folder\n"
    )


def test_without_int8_there_is_nothing_to_export(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("export", tiny_model)

    assert caught.value.code == 2
    assert "--int8" in capsys.readouterr().err


def test_without_onnx_it_says_what_to_install(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "onnx" else find(name))

    assert run("export", tiny_model, "--int8") == 1

    assert capsys.readouterr().err == "tailwise: exporting a model needs onnx: pip install 'tailwise[train]'\n"


def test_an_encoder_says_that_it_is_quantised_and_other_networks_have_no_card(tmp_path: Path) -> None:
    card = {"kind": "tailwise-encoder", "format": 1, "source": "s", "dim": 4, "max_tokens": 6, "pooling": "mean"}
    card |= {"int8": False, "pad_id": 0, "weights_sha256": "00"}
    for name, text in {"config.json": json.dumps(card), "model.onnx": "", "tokenizer.json": "{}"}.items():
        (tmp_path / name).write_text(text)

    mark_int8(tmp_path / "config.json")
    mark_int8(tmp_path / "nowhere" / "config.json")

    changed = json.loads((tmp_path / "config.json").read_text())
    assert changed == {**card, "int8": True, "format": 2}
    assert onnx.__name__  # what the command needs is here
