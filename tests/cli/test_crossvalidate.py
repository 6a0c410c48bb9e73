"""``crossvalidate``: folds that do not leak, and figures with how much they vary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.cli import main
from tailwise.cli.crossvalidate import Folds, folds_of
from tailwise.data.load import Dataset
from tailwise.data.split import Split, check_leak
from tailwise.data.synthetic import World
from tailwise.errors import ConfigError, DataError, UnavailableError
from tailwise.evaluate.results import MethodResult, Report

MOMENT = ["user_id", "item_id", "time"]


@pytest.mark.parametrize("by", ["people", "time", "chance"])
@pytest.mark.parametrize("folds", [2, 3])
def test_no_fold_knows_what_it_is_judged_by(by: str, folds: int, world: World) -> None:
    found = folds_of(world.dataset, by=by, folds=folds, seed=0)

    assert [split.name for split in found] == [f"fold-{place + 1}" for place in range(folds)]
    for split in found:
        check_leak(split)
        assert split.test.height > 0
        assert split.train.events.height > 0
    tests = pl.concat([split.test.select(MOMENT) for split in found])
    assert tests.height == tests.unique().height  # nothing is judged twice


def test_by_people_the_last_event_of_everybody_is_judged_once(world: World) -> None:
    found = folds_of(world.dataset, by="people", folds=3, seed=0)

    last = world.dataset.events.group_by("user_id").agg(pl.col("time").max()).sort("user_id")
    judged = pl.concat([split.test for split in found]).sort("user_id")
    assert judged["user_id"].to_list() == last["user_id"].to_list()
    assert judged["time"].to_list() == last["time"].to_list()
    assert [split.test.height for split in found] == [14, 13, 13]
    for split in found:  # what the other people did last is there to learn from
        assert split.train.events.height == world.dataset.events.height - split.test.height


def test_by_time_training_grows_and_lies_before_its_test(world: World) -> None:
    found = folds_of(world.dataset, by="time", folds=3, seed=0)

    sizes = [split.train.events.height for split in found]
    assert sizes == sorted(sizes)
    for split in found:
        assert split.train.events["time"].max() < split.test["time"].min()
    assert sum(split.test.height for split in found) + sizes[0] == world.dataset.events.height


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_who_is_in_which_fold_hangs_on_the_seed_alone(seed: int) -> None:
    events = pl.DataFrame({"user_id": list("aabbccdd"), "item_id": list("xyxyxyxy"), "time": list(range(8))})
    data = Dataset.of("four", events=events)

    one, again = (folds_of(data, by="people", folds=2, seed=seed) for _ in range(2))

    assert [s.test["user_id"].to_list() for s in one] == [s.test["user_id"].to_list() for s in again]
    assert sorted(user for split in one for user in split.test["user_id"]) == list("abcd")


@pytest.mark.parametrize("by", ["people", "time", "chance"])
def test_one_fold_is_none(by: str, world: World) -> None:
    with pytest.raises(ConfigError, match=r"^folds is 1, but it must be at least 2$"):
        folds_of(world.dataset, by=by, folds=1, seed=0)


def test_more_folds_than_people_are_refused(world: World) -> None:
    rule = r"^40 people cannot fill 41 folds; use fewer folds or add people$"
    with pytest.raises(DataError, match=rule):
        folds_of(world.dataset, by="people", folds=41, seed=0)


def result(world: World, *, values: tuple[float, float]) -> Folds:
    """Two folds of two people each; what a source found is known."""

    def report(value: float, place: int) -> Report:
        per = {"ndcg@10": np.array([value, value + 0.2]), "hr@10": np.array([1.0, np.nan])}
        methods = (
            MethodResult("tailwise", per, {"coverage@10": value}, 2.0, "pipeline"),
            MethodResult("means", {}, {"mae": 0.5}, None, "baseline"),
        )
        return Report("shop", f"fold-{place}", (), ("a", "b"), 10, methods, {})

    splits = tuple(Split(f"fold-{place}", world.dataset, world.dataset.events, None, "a note") for place in (1, 2))
    return Folds("shop", "people", 3, splits, tuple(report(value, n) for n, value in enumerate(values, start=1)))


def test_figures_come_with_how_much_they_vary(world: World, tmp_path: Path) -> None:
    found = result(world, values=(0.1, 0.3))

    summary = found.summary()
    text = found.table().splitlines()
    paths = found.write(tmp_path / "report")

    assert summary["tailwise"]["ndcg@10"] == pytest.approx((0.3, np.sqrt(0.02)))  # of 0.2 and 0.4
    assert summary["tailwise"]["hr@10"] == (1.0, 0.0)
    assert summary["means"] == {"mae": (0.5, 0.0)}
    assert text[0].split() == ["method", "NDCG@10", "HR@10", "Coverage", "Seconds"]
    assert "0.3000 ± 0.1414" in text[2]
    assert [path.name for path in paths] == ["folds.json", "folds.md"]
    facts = json.loads(paths[0].read_text())
    assert facts["summary"]["tailwise"]["ndcg@10"]["mean"] == pytest.approx(0.3)
    assert facts["folds"][1]["metrics"]["tailwise"]["ndcg@10"] == pytest.approx(0.4)
    assert (facts["by"], facts["seed"], facts["folds"][0]["people"]) == ("people", 3, 2)
    page = paths[1].read_text()
    assert page.startswith("# shop, 2 folds by people\n\n| method | NDCG@10 | HR@10 |")
    assert "| tailwise | 0.3000 ± 0.1414 | 1.0000 ± 0.0000 |" in page


def test_a_folder_that_cannot_be_written_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(UnavailableError, match=rf"^{tmp_path}/file/report cannot be written: "):
        result(world, values=(0.1, 0.3)).write(tmp_path / "file" / "report")


def test_the_command_fits_and_measures_once_a_fold(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "quick.toml"
    config.write_text('encode = { model = "hash", whiten_dim = 8 }\nretrieve = [{ name = "ease", decay = 0.1 }]\n')
    config.write_text(config.read_text() + "stage = []\n")
    words: list[Any] = ["crossvalidate", shop, "--config", config, "--folds", 2, "--out", tmp_path / "report"]

    assert main([str(word) for word in words]) == 0

    said = capsys.readouterr().out
    assert said.startswith("fold-1 of 2: 20 events to be judged by\n")
    for word in ("tailwise", "ease", "Pop", "ALS", "±", f"wrote {tmp_path / 'report' / 'folds.md'}"):
        assert word in said
    facts = json.loads((tmp_path / "report" / "folds.json").read_text())
    assert [fold["training_events"] for fold in facts["folds"]] == [340, 340]
    assert all(0 < fold["people"] <= 20 for fold in facts["folds"])  # whose last item was new to them


@pytest.mark.parametrize("days", [[0.0] * 9, [0.0] * 6 + [1.0, 2.0, 3.0], [0.0, 1.0, 2.0] + [3.0] * 6])
def test_times_that_cannot_be_cut_into_folds_are_told(days: list[float]) -> None:
    events = pl.DataFrame({"user_id": [f"u{n}" for n in range(9)], "item_id": ["a"] * 9, "time": days})

    with pytest.raises(DataError, match="so many events have one time that 3 folds in time cannot be cut; use fewer"):
        folds_of(Dataset.of("days", events=events), by="time", folds=3, seed=0)
