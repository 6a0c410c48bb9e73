"""A search on a tiny world: it goes on where it was, ends what is behind or late, and keeps the best pipeline."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("implicit", reason="needs implicit: pip install 'tailwise[train]'")

from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.data.load import Dataset
from tailwise.errors import ConfigError, UnavailableError
from tailwise.learn import tune
from tailwise.learn.fit import fit
from tailwise.learn.search import Found, found
from tailwise.learn.tune import run, save_best, validation_value
from tailwise.retrieve.collaborative import EaseConfig

QUICK = PipelineConfig(
    encode=EncodeConfig(model="hash", whiten_dim=8),
    retrieve=(Step(name="popular"), Step(name="ease", settings={"decay": 0.1})),
    stage=(Step(name="fusion"),),
    tune={"ease.regularisation": {"low": 1.0, "high": 500.0, "log": True}, "popular.half_life_days": [30, 90]},
)
NET = QUICK.model_copy(
    update={
        "retrieve": (
            Step(name="popular"),
            Step(
                name="sequence",
                settings={
                    "shape": {"dim": 8, "layers": 1, "max_length": 10},
                    "train": {"epochs": 6, "patience": 6, "judge_from": 1},
                },
            ),
        ),
        "tune": {"sequence.shape.heads": [1, 2, 3], "sequence.train.learning_rate": [1e-3, 2e-3, 1e-2]},
    }
)


def values(result: Found) -> list[tuple[int, float | None]]:
    return [(trial.number, trial.value) for trial in result.trials]


def test_the_first_trial_is_the_pipeline_as_it_is_and_the_best_one_is_written(search: Any) -> None:
    own = search()

    run(own, 5)

    result = found(own)
    assert [trial.number for trial in result.trials] == list(range(5))
    assert {trial.state for trial in result.trials} == {"complete"}
    assert result.trials[0].settings == {"ease.regularisation": 200.0, "popular.half_life_days": 90}
    assert result.best is not None
    assert result.best.value == max(trial.value for trial in result.trials if trial.value is not None)
    best = PipelineConfig.read(own.out)
    written = EaseConfig(**best.retrieve[1].settings)  # what is as it was need not be named
    assert written == EaseConfig(decay=0.1, regularisation=result.best.settings["ease.regularisation"])
    assert (best.tune, best.stage, best.encode) == (QUICK.tune, QUICK.stage, QUICK.encode)
    assert sum(result.mattered.values()) == pytest.approx(1.0, abs=1e-3)
    assert set(result.mattered) == set(own.space)


def test_what_a_fit_chooses_by_itself_is_what_the_first_trial_is_known_by(search: Any) -> None:
    open_ease = (Step(name="popular"), Step(name="ease"))
    space = {"ease.decay": {"low": 0.0, "high": 9.0}, "popular.half_life_days": [30]}
    own = search(QUICK.model_copy(update={"retrieve": open_ease, "tune": space}))

    run(own, 1)

    (only,) = found(own).trials
    decay = only.settings["ease.decay"]
    same = own.config.model_copy(update={"retrieve": (open_ease[0], Step(name="ease", settings={"decay": decay}))})
    again = fit(own.data, same, seed=own.seed, settings=own.settings)
    assert set(only.settings) == {"ease.decay"}  # 90 days are none that may be proposed
    assert only.seconds > 0
    assert only.value == validation_value(again.manifest["metrics"])
    assert PipelineConfig.read(own.out).retrieve == open_ease


def test_the_same_search_run_again_goes_on(search: Any) -> None:
    whole, parted = search(), replace(search(), storage=search().storage.with_name("other.sqlite"))
    run(whole, 4)

    run(parted, 2)
    first = found(parted)
    run(parted, 2)

    assert values(found(parted))[:2] == values(first) == values(found(whole))[:2]
    assert len(found(parted).trials) == 4
    others = [trial.settings for trial in found(parted).trials]
    assert len({repr(each) for each in others}) > 2  # what was proposed before is not all that is proposed


def test_settings_that_were_tried_are_not_fitted_again(search: Any) -> None:
    own = search(QUICK.model_copy(update={"tune": {"popular.half_life_days": [90]}}))
    run(own, 1)
    lost = replace(own, data=Dataset(own.data.name, own.data.events.head(0), own.data.items))
    vars(lost)["name"] = own.name  # the same search, in which no fit could come to its end

    run(lost, 2)

    (first, *again) = found(own).trials
    assert first.value is not None
    assert [trial.value for trial in again] == [first.value] * 2


def test_settings_that_do_not_go_together_cost_a_trial_and_no_more(search: Any) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    own = search(NET)
    study = own.study()
    study.enqueue_trial({"sequence.shape.heads": 2, "sequence.train.learning_rate": 2e-3})
    study.enqueue_trial({"sequence.shape.heads": 3, "sequence.train.learning_rate": 2e-3})

    run(own, 3)

    good, bad, _ = found(own).trials  # what was proposed before has the first numbers
    assert (good.state, bad.state) == ("complete", "failed")
    assert "heads is 3, which does not divide dim, 8" in bad.why
    assert found(own).mattered == {}  # of one trial nothing can be said


def test_a_pipeline_that_cannot_be_fitted_as_it_is_ends_the_search(search: Any) -> None:
    wrong = search(QUICK.model_copy(update={"retrieve": (*QUICK.retrieve, Step(name="mmr"))}))

    with pytest.raises(ConfigError, match=r"^mmr finds no candidates, so it cannot stand in \[\[retrieve\]\]"):
        run(wrong, 3)

    (only,) = found(wrong).trials
    assert (only.state, only.value) == ("failed", None)
    assert found(wrong).best is None
    assert not wrong.out.exists()


def test_what_is_behind_the_others_at_the_same_epoch_ends_early(search: Any) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    own = search(NET)
    study = own.study()
    for number in range(5):  # five that were perfect from the first epoch on
        trial = study.ask()
        for name, dial in own.space.items():
            dial.turn(trial, name)
        for epoch in range(1, 7):
            trial.report(0.99, epoch)
        study.tell(trial, 0.9 + number / 100)

    study.enqueue_trial({"sequence.shape.heads": 1, "sequence.train.learning_rate": 1e-2})

    told: list[tuple[str, int, int]] = []
    run(own, 1, worker=1, report=lambda *what: told.append(what))

    last = found(own).trials[-1]
    assert (last.state, last.value) == ("pruned", None)
    reached = own.study().trials[-1].intermediate_values
    assert list(reached) == [1, 2, 3]  # the first two are left alone
    assert told == [("tune", 0, 1), ("tune", 1, 1)]


@pytest.mark.parametrize(("config", "trials"), [(QUICK, 0), (NET, 1)])
def test_when_the_time_is_up_no_trial_begins_and_one_that_trains_ends(
    config: PipelineConfig, trials: int, search: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    clock = iter([0.0, *([0.0] * trials), *[100.0] * 99])
    monkeypatch.setattr(tune.time, "monotonic", lambda: next(clock))

    run(search(config), 3, seconds=10.0)

    monkeypatch.undo()
    result = found(search(config))
    assert [(trial.state, trial.why) for trial in result.trials] == [("failed", "the time was up")] * trials
    assert result.best is None


class Stopping(Dataset):
    """Somebody presses ctrl-c in the middle of its fit."""

    def digest(self) -> str:
        raise KeyboardInterrupt


def test_an_interrupted_trial_counts_as_failed_and_the_best_so_far_is_there(search: Any) -> None:
    own = search()
    run(own, 1)
    best = own.out.read_text()
    stopped = replace(own, data=Stopping(own.data.name, own.data.events, own.data.items))
    vars(stopped)["name"] = own.name  # the same search

    with pytest.raises(KeyboardInterrupt):
        run(stopped, 2)

    assert own.out.read_text() == best
    assert [(trial.state, trial.why) for trial in found(own).trials] == [
        ("complete", ""),
        ("failed", "KeyboardInterrupt"),
    ]


def test_what_is_asked_to_stop_stops_in_the_middle_of_a_fit(search: Any) -> None:
    own = search()
    looks = iter([False, False, False])  # before the trial, and where its fit first tells how far it is

    with pytest.raises(KeyboardInterrupt):
        run(own, 2, asked=lambda: next(looks, True))

    assert [trial.state for trial in found(own).trials] == ["failed"]


@pytest.mark.parametrize(
    ("notes", "value"),
    [
        ({"fusion": {"ndcg@10 ease": 0.1, "ndcg@10 fusion (cross-validated)": 0.2, "decision": "used"}}, 0.2),
        ({"fusion": {"ndcg@10 ease": 0.3, "ndcg@10 fusion (cross-validated)": 0.2}}, 0.3),
        ({"fusion": {"ndcg@10 ease": 0.3}, "judge": {"ndcg@10 given": 0.31, "ndcg@10 after": 0.35}}, 0.35),
        ({"fusion": {"ndcg@10 ease": 0.3}, "tasks": {"ece click": 0.9}}, 0.3),
    ],
)
def test_the_last_stage_that_was_judged_says_what_a_pipeline_is_worth(notes: Any, value: float) -> None:
    assert validation_value(notes) == value


@pytest.mark.parametrize("notes", [{}, {"fusion": {"decision": "too few people"}}, {"x": {"ndcg@10 a": "none"}}])
def test_a_pipeline_that_nobody_judged_cannot_be_searched(notes: Any) -> None:
    rule = r"^the fit judged nothing on held-out people; the pipeline needs a stage that learns, as fusion$"
    with pytest.raises(ConfigError, match=rule):
        validation_value(notes)


def test_files_that_a_pipeline_names_are_found_from_wherever_the_best_one_is(search: Any, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("")
    own = search(
        QUICK.model_copy(update={"stage": (Step(name="fusion"), Step(name="rules", settings={"file": str(rules)}))})
    )
    elsewhere = replace(own, out=tmp_path / "far" / "away" / "best.toml")

    save_best(elsewhere, {"ease.regularisation": 3.0})

    assert tomllib.loads(elsewhere.out.read_text())["stage"][1] == {"name": "rules", "file": str(rules)}
    assert PipelineConfig.read(elsewhere.out).stage[1].settings == {"file": str(rules)}


def test_a_place_that_cannot_be_written_to_is_named(search: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    own = replace(search(), out=tmp_path / "file" / "best.toml")

    with pytest.raises(UnavailableError, match=rf"^{own.out} cannot be written: "):
        save_best(own, {})
