"""``fit``, ``rank``, ``evaluate`` and ``compare`` on a tiny world, from folder to folder."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tailwise.cli import main
from tailwise.cli.models import seconds, tracked
from tailwise.cli.progress import Progress
from tailwise.data.catalogue import Catalogue
from tailwise.data.synthetic import World
from tailwise.errors import ConfigError
from tailwise.pipeline import Engine


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def requests_file(folder: Path, *lines: dict[str, Any] | str) -> Path:
    path = folder / "requests.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def answers(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_fit_says_what_it_found_and_leaves_no_checkpoints(
    shop: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / ".model.checkpoints" / "of another fit"
    stale.mkdir(parents=True)

    assert run("fit", shop, "--out", tmp_path / "model", "--config", config) == 0

    said = capsys.readouterr()
    assert said.out.startswith("40 people, 40 items, 360 events\n")
    assert re.search(r"^  sequence: chose .*\bmembers 3\b", said.out, re.MULTILINE)
    assert "fusion: decision" in said.out
    assert f"saved {tmp_path / 'model'} in " in said.out
    assert "sequence: done in" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_fit_keeps_the_figures_of_every_epoch_under_the_version_of_the_model(
    shop: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'tailwise[train]'")
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "cache"))
    quiet = tmp_path / "quiet.toml"
    quiet.write_text(f'track = "none"\n{config.read_text()}')

    assert run("fit", shop, "--out", tmp_path / "model", "--config", config) == 0
    said = capsys.readouterr().out
    assert run("fit", shop, "--out", tmp_path / "quiet", "--config", quiet) == 0

    version = json.loads((tmp_path / "model" / "manifest.json").read_text())["version"]
    runs = tmp_path / "cache" / "runs"
    assert f"figures of every epoch are in {runs / f'shop-{version}'}; look: tensorboard --logdir {runs}\n" in said
    assert [path.name for path in runs.iterdir()] == [f"shop-{version}"]
    assert "tensorboard" not in capsys.readouterr().out


def test_an_interrupted_fit_keeps_its_figures_too(
    shop: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'tailwise[train]'")
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "cache"))

    with Progress() as progress, suppress(KeyboardInterrupt), tracked("tensorboard", "shop", progress) as begun:
        begun.watched.epoch("sequence", 1, {"loss": 1.0})
        raise KeyboardInterrupt

    (kept,) = (tmp_path / "cache" / "runs").iterdir()
    assert re.fullmatch(r"shop-\d{8}-\d{6}", kept.name)
    assert begun.where is not None


def test_the_same_command_gives_the_same_model(shop: Path, config: Path, model: Path, tmp_path: Path) -> None:
    assert run("fit", shop, "--out", tmp_path / "again", "--config", config, "--holdout", "last") == 0

    one, other = (json.loads((folder / "manifest.json").read_text()) for folder in (model, tmp_path / "again"))
    assert one["files"] == other["files"]
    assert one["version"] == other["version"]


def test_until_takes_a_date(shop: Path, config: Path, world: World, tmp_path: Path) -> None:
    assert run("fit", shop, "--out", tmp_path / "early", "--config", config, "--until", "2021-02-01") == 0

    manifest = json.loads((tmp_path / "early" / "manifest.json").read_text())
    assert manifest["until"] == 1_612_137_600.0
    assert manifest["counts"]["events"] == (world.dataset.events["time"] < 1_612_137_600.0).sum()
    assert 0 < manifest["counts"]["events"] < 360


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0", 0.0),
        ("1700000000.5", 1_700_000_000.5),
        ("2023-11-14T22:13:20", 1_700_000_000.0),
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000.0),
    ],
)
def test_moments_are_seconds_or_iso_8601_in_utc(text: str, moment: float) -> None:
    assert seconds(text) == moment


@pytest.mark.parametrize("text", ["soon", "nan", "inf", ""])
def test_what_is_no_moment_is_refused(text: str) -> None:
    message = rf"^time is '{text}', but it must be seconds since epoch or ISO 8601, as 2026-01-31$"
    with pytest.raises(ConfigError, match=message):
        seconds(text)


def test_rank_answers_every_line_in_order(model: Path, tmp_path: Path) -> None:
    requests = requests_file(
        tmp_path,
        {"request_id": "r1", "user_id": "u03", "k": 5},
        {"request_id": "r2", "user_id": "a stranger"},
        "",
        {"request_id": "r3", "user_id": "u03", "candidates": ["i07", "nobody knows", "i21"]},
    )

    assert run("rank", model, "--requests", requests, "--out", tmp_path / "ranked.jsonl") == 0

    first, second, third = answers(tmp_path / "ranked.jsonl")
    assert [answer["request_id"] for answer in (first, second, third)] == ["r1", "r2", "r3"]
    assert len({item["item_id"] for item in first["items"]}) == 5
    assert len(second["items"]) == 10
    assert {item["item_id"] for item in third["items"]} == {"i07", "nobody knows", "i21"}
    assert {"item_id", "score", "reasons", "propensity"} <= first["items"][0].keys()
    assert first["trace"]
    assert "first_stage" not in first


def test_rank_calls_items_in_the_language_of_each_line(model: Path, tmp_path: Path) -> None:
    engine, copy = Engine.open(model), tmp_path / "model"
    own = engine.catalogue
    counts = {"popularity": own.popularity, "recent": own.decayed, "vectors": own.vectors, "tail_cut": own.tail_cut}
    titled = own.frame.with_columns(title_zh=pl.concat_str(pl.lit("片"), "item_id"))
    replace(engine, catalogue=Catalogue(titled, **counts)).save(copy)
    line = {"user_id": "u03", "candidates": ["i07"]}
    requests = requests_file(tmp_path, {**line, "context": {"locale": "zh"}}, line)

    assert run("rank", copy, "--requests", requests, "--out", tmp_path / "a.jsonl") == 0

    chinese, plain = (answer["items"][0]["title"] for answer in answers(tmp_path / "a.jsonl"))
    assert chinese == "片i07"
    assert not plain.startswith("片")


def test_rank_explains_when_asked(model: Path, tmp_path: Path) -> None:
    requests = requests_file(tmp_path, {"request_id": "r1", "user_id": "u03"})

    assert run("rank", model, "--requests", requests, "--out", tmp_path / "a.jsonl", "--explain") == 0

    (answer,) = answers(tmp_path / "a.jsonl")
    assert [one["item_id"] for one in answer["explanations"]] == [item["item_id"] for item in answer["items"]]
    for one in answer["explanations"]:
        assert sum(part["adds"] for part in one["sources"]) == pytest.approx(one["fused"], abs=1e-4)
        assert one["kinds"]
        assert one["without"] is None  # that is looked for when somebody asks the service
    assert answer["first_stage"]
    assert answer["history"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"request_id": "r2", "user_id": 7}', "user_id"),
        ("{nonsense", "not JSON"),
        ('{"request_id": "r2"}', "a request needs one of: user_id, history, candidates, query"),
        ('{"request_id": "r2", "user_id": "u03", "k": 0}', "k is 0, but it must be between 1 and 1000"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(
    bad: str, message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = requests_file(tmp_path, {"request_id": "r1", "user_id": "u03"}, bad)
    (tmp_path / "ranked.jsonl").write_text("what was there\n")

    assert run("rank", model, "--requests", requests, "--out", tmp_path / "ranked.jsonl") == 1

    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"tailwise: {requests} line 2: ")
    assert message in said
    assert (tmp_path / "ranked.jsonl").read_text() == "what was there\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ranked.jsonl", "requests.jsonl"]


def test_rank_names_a_requests_file_that_is_not_there(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rank", model, "--requests", tmp_path / "none", "--out", tmp_path / "a.jsonl") == 1

    assert capsys.readouterr().err == f"tailwise: {tmp_path / 'none'} cannot be read: No such file or directory\n"


def test_rank_names_a_place_that_cannot_be_written_to(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none" / "a.jsonl"
    requests = requests_file(tmp_path, {"request_id": "r1", "user_id": "u03"})

    assert run("rank", model, "--requests", requests, "--out", out) == 1

    assert capsys.readouterr().err == f"tailwise: {out} cannot be written: No such file or directory\n"


def harm(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["pipeline.toml", "catalogue/items.parquet", "sequence/sequence.onnx"])
@pytest.mark.parametrize("damage", [harm, Path.unlink])
def test_a_damaged_model_is_refused_with_the_file_at_fault(
    name: str, damage: Any, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, tmp_path / "model")
    damage(tmp_path / "model" / name)
    requests = requests_file(tmp_path, {"request_id": "r1", "user_id": "u03"})

    assert run("rank", tmp_path / "model", "--requests", requests, "--out", tmp_path / "a.jsonl") == 1

    said = capsys.readouterr().err
    assert said.startswith(f"tailwise: {tmp_path / 'model' / name} ")
    assert said.count("\n") == 1
    assert not (tmp_path / "a.jsonl").exists()


def test_a_model_that_is_half_written_is_none(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(model, tmp_path / "model")
    harm(tmp_path / "model" / "manifest.json")

    assert run("serve", tmp_path / "model", "--port", "0") == 1

    assert capsys.readouterr().err.startswith(f"tailwise: {tmp_path / 'model' / 'manifest.json'} is damaged (")


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("--config", "none.toml"), "none.toml cannot be read: No such file or directory", 1),
        (("--until", "soon"), "time is 'soon', but it must be seconds since epoch or ISO 8601, as 2026-01-31", 2),
    ],
)
def test_fit_says_which_option_is_wrong(
    words: tuple[str, str], message: str, code: int, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", shop, "--out", tmp_path / "model", *words) == code

    assert capsys.readouterr().err == f"tailwise: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_fit_says_before_it_learns_that_its_place_is_taken(
    shop: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", shop, "--out", shop, "--config", config) == 1

    rule = f"{shop} is there and is no model folder; choose another place, or remove it first"
    assert capsys.readouterr().err == f"tailwise: {rule}\n"


def test_fit_says_before_it_learns_that_it_cannot_write(
    shop: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", shop, "--out", "/proc/model", "--config", config) == 1

    assert capsys.readouterr().err == "tailwise: cannot write beside /proc/model: No such file or directory\n"


def test_fit_refuses_bad_data_before_it_learns_anything(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,time\nu1,i1,NaN\n")

    assert run("fit", tmp_path, "--out", tmp_path / "model", "--config", config) == 1

    said = capsys.readouterr().err
    assert said.startswith("tailwise: events.csv row 1 time: ")
    assert said.endswith(f"; see: tailwise validate {tmp_path}\n")


def test_evaluate_prints_the_table_and_compare_tests_two_reports(
    shop: Path, config: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run("fit", shop, "--out", tmp_path / "b", "--config", config, "--holdout", "last", "--seed", "1") == 0
    capsys.readouterr()

    assert run("evaluate", model, shop, "--split", "last", "--out", one) == 0
    said = capsys.readouterr()
    assert run("evaluate", tmp_path / "b", shop, "--out", two) == 0
    capsys.readouterr()
    assert run("compare", one, two) == 0

    assert {path.name for path in one.iterdir()} == {"report.json", "report.md", "report.html"}
    assert "fitting it anew" not in said.out  # it was held out for exactly this
    for name in ("tailwise", "sequence", "Pop", "EASE", "ALS", "NDCG@10", "Full ranking over all 40 items"):
        assert name in said.out
    table = capsys.readouterr().out
    assert "ndcg@10" in table
    assert str(two) in table


def test_a_model_that_saw_the_test_part_is_fitted_anew_before_it_is_judged(
    shop: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", model, shop, "--split", "time", "--people", "10", "--out", tmp_path / "report") == 0

    said = capsys.readouterr().out
    assert "the model did not learn from exactly the training part of the time split: fitting it anew" in said
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts["split"] == "time"
    assert len(facts["request_ids"]) <= 10


def test_next_judges_the_first_moment_after_the_cut_alone(
    shop: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("evaluate", model, shop, "--people", "10", "--targets", "next")

    assert run(*asked, "--split", "time", "--out", tmp_path / "report") == 0
    said = capsys.readouterr().out
    assert run(*asked, "--split", "last") == 1

    assert "each person's first moment from the cut on" in said
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts["split"] == "time-next"
    assert capsys.readouterr().err == (
        "tailwise: targets is 'next', but the last split does not divide time; take --split time, or targets 'all'\n"
    )


def test_items_that_nobody_had_are_judged_by_the_cold_split(
    shop: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", model, shop, "--split", "cold", "--people", "10") == 0

    said = capsys.readouterr().out
    assert "none of which is in training" in said
    assert "drawn by lot has Recall@50" in said


def test_compare_needs_two_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", tmp_path) == 2

    rule = "compare needs at least two reports; make one with: tailwise evaluate MODEL DIR --out REPORT"
    assert capsys.readouterr().err == f"tailwise: {rule}\n"


def test_compare_names_what_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", tmp_path, tmp_path) == 1

    missing = tmp_path / "report.json"
    said = f"{missing} cannot be read: No such file or directory; make it with: tailwise evaluate --out"
    assert capsys.readouterr().err == f"tailwise: {said}\n"
