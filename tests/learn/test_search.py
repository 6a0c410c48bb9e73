"""Where trials are kept, and what they say."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import optuna
import pytest

pytest.importorskip("implicit", reason="needs implicit: pip install 'tailwise[train]'")

from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.data.load import Dataset
from tailwise.errors import UnavailableError
from tailwise.learn.search import Tried, found
from tailwise.learn.tune import run

QUICK = PipelineConfig(
    encode=EncodeConfig(model="hash", whiten_dim=8),
    retrieve=(Step(name="popular"), Step(name="ease", settings={"decay": 0.1})),
    stage=(Step(name="fusion"),),
    tune={"ease.regularisation": {"low": 1.0, "high": 500.0, "log": True}},
)


def test_another_search_in_the_same_file_has_trials_of_its_own(search: Any, data: Dataset) -> None:
    one = search()
    run(one, 1)

    others = [
        replace(one, seed=1),
        replace(one, data=data.with_events(data.events.head(-5))),
        search(QUICK.model_copy(update={"tune": {"ease.regularisation": [1.0, 2.0]}})),
    ]

    assert [len(found(other).trials) for other in (one, *others)] == [1, 0, 0, 0]
    assert len({other.name for other in (one, *others)}) == 4


def test_a_file_that_is_no_database_is_named(search: Any) -> None:
    own = search()
    own.storage.parent.mkdir()
    own.storage.write_text("no database, but long enough to look like one " * 100)

    with pytest.raises(UnavailableError, match=rf"^{own.storage} cannot hold the trials: "):
        own.study()


def test_trials_of_several_processes_do_not_propose_the_same(search: Any) -> None:
    own = search()
    proposals = []

    for worker in (0, 1, 2):
        trial = own.study(worker).ask()
        proposals.append({name: dial.turn(trial, name) for name, dial in own.space.items()}["ease.regularisation"])

    assert len(set(proposals)) == 3
    assert all(math.isfinite(each) for each in proposals)


def test_a_trial_is_told_with_its_settings_and_time(search: Any) -> None:
    own = search()
    run(own, 1)

    (trial,) = found(own).trials

    assert isinstance(trial, Tried)
    assert trial.seconds > 0
    assert trial.why == ""
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR


@pytest.mark.filterwarnings("ignore:Some regimes for parameter")  # a dozen trials are few
def test_what_mattered_names_a_setting_whose_value_was_none_of_those_searched(search: Any) -> None:
    space = {"ease.regularisation": {"low": 1.0, "high": 100.0}, "popular.half_life_days": {"low": 1.0, "high": 30.0}}
    own = search(QUICK.model_copy(update={"tune": space}))

    run(own, 12)

    result = found(own)
    assert result.trials[0].settings == {}  # it has 200 and 90
    assert result.mattered.keys() == space.keys()
