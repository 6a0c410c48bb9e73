"""The verbs ``fit-classifier`` and ``classify`` as people run them, and what they are told when it goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.cli import main

REVIEWS = [
    {"text": f"{word} {thing}", "sentiment": said, "topic": [thing]}
    for word, said in (("great", "good"), ("lovely", "good"), ("awful", "bad"), ("poor", "bad"))
    for thing in ("film", "shoe", "toy", "heat", "song")
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "l.jsonl").write_text("\n".join(map(json.dumps, REVIEWS)))
    (folder / "c.toml").write_text('model = "hash"\nheld_out = 0.3\n[train]\nepochs = 20\n')
    made = str(folder / "model")
    assert main(["fit-classifier", str(folder / "l.jsonl"), "--out", made, "--config", str(folder / "c.toml")]) == 0
    return folder / "model"


def test_a_fit_prints_what_the_model_is_worth(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = model.with_name("again")

    code = main(
        [
            "fit-classifier",
            str(model.with_name("l.jsonl")),
            "--out",
            str(again),
            "--config",
            str(model.with_name("c.toml")),
        ]
    )

    said = capsys.readouterr().out
    assert code == 0
    assert "sentiment: accuracy: " in said
    assert "topic: average precision: " in said
    assert f"next: tailwise classify {again} --texts FILE --out OUT" in said
    assert (again / "heads.safetensors").read_bytes() == (model / "heads.safetensors").read_bytes()


def test_each_row_gets_an_answer_beside_what_it_held(model: Path, tmp_path: Path) -> None:
    rows = [{"text": "lovely toy", "id": 4}, {"text": " "}, {"text": "一部\ud800电影"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))

    assert main(["classify", str(model), "--texts", str(tmp_path / "t.jsonl"), "--out", str(tmp_path / "o.jsonl")]) == 0

    told = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    assert told[0]["id"] == 4
    assert told[0]["sentiment"] == "good"
    assert sum(told[0]["chances"]["sentiment"].values()) == pytest.approx(1.0, abs=1e-3)
    assert told[1] == {"text": " "}
    assert told[2]["text"] == "一部?电影"


def test_a_csv_file_is_read_too(model: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text\n7,poor shoe\n")

    assert main(["classify", str(model), "--texts", str(tmp_path / "t.csv"), "--out", str(tmp_path / "o.jsonl")]) == 0

    told = json.loads((tmp_path / "o.jsonl").read_text())
    assert (told["id"], told["sentiment"]) == ("7", "bad")


def test_answers_can_be_learned_from_again(model: Path, tmp_path: Path) -> None:
    assert (
        main(["classify", str(model), "--texts", str(model.with_name("l.jsonl")), "--out", str(tmp_path / "o.jsonl")])
        == 0
    )

    config = str(model.with_name("c.toml"))
    assert main(["fit-classifier", str(tmp_path / "o.jsonl"), "--out", str(tmp_path / "m"), "--config", config]) == 0


def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = tmp_path / "t.jsonl", tmp_path / "o.jsonl"
    bad.write_text('{"text": "a"}\n{"text": 3}\n')

    assert main(["classify", str(model), "--texts", str(bad), "--out", str(out)]) == 1
    assert capsys.readouterr().err == f"tailwise: {bad}, line 2: text is 3, but it must be a string\n"
    assert list(tmp_path.iterdir()) == [bad]
    assert main(["fit-classifier", str(bad), "--out", str(tmp_path / "m"), "--config", str(tmp_path / "c.toml")]) == 1
    assert capsys.readouterr().err == f"tailwise: {tmp_path / 'c.toml'} cannot be read: No such file or directory\n"
    assert main(["classify", str(tmp_path), "--texts", str(bad), "--out", str(out)]) == 1
    assert "is not a model folder" in capsys.readouterr().err


def test_a_setting_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.toml"
    config.write_text("mood = 1")

    assert (
        main(["fit-classifier", str(tmp_path / "l.jsonl"), "--out", str(tmp_path / "m"), "--config", str(config)]) == 1
    )

    assert capsys.readouterr().err.startswith(f"tailwise: {config}: mood is not a setting; known: model, max_tokens, ")


def test_telling_loads_no_torch(model: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "great film"}')
    ask = ["classify", str(model), "--texts", str(tmp_path / "t.jsonl"), "--out", str(tmp_path / "o.jsonl")]
    code = f"import sys; from tailwise.cli import main; assert main({ask!r}) == 0; assert 'torch' not in sys.modules"

    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
