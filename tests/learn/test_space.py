"""What may be searched: names that mean a setting, values that it takes, and the pipeline with others."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.config import PipelineConfig, Step
from tailwise.errors import ConfigError
from tailwise.learn.space import USUAL, Dial, space_of, value_of, with_settings

CONFIG = PipelineConfig(
    retrieve=(Step(name="ease", k=50), Step(name="sequence", settings={"shape": {"dim": 16}})),
    stage=(Step(name="fusion"), Step(name="rules"), Step(name="mmr", keep=20), Step(name="rules")),
)


def searched(toml: str) -> PipelineConfig:
    return CONFIG.model_copy(update={"tune": tomllib.loads(toml)})


def test_names_with_dots_mean_settings_wherever_they_are() -> None:
    toml = """
    max_history = [50, 100]
    "ease.k" = [20, 50]
    "sequence.shape.dim" = [16, 32]
    "encode.whiten_dim" = { low = 8, high = 64 }
    "sequence.train.learning_rate" = { low = 1e-4, high = 1e-2, log = true }
    """

    assert space_of(searched(toml)) == {
        "max_history": Dial(choices=(50, 100)),
        "ease.k": Dial(choices=(20, 50)),
        "sequence.shape.dim": Dial(choices=(16, 32)),
        "encode.whiten_dim": Dial(low=8, high=64),
        "sequence.train.learning_rate": Dial(low=1e-4, high=1e-2, log=True),
    }


def test_names_without_quotes_mean_the_same() -> None:
    bare = "sequence.shape.dim = [16, 32]\nease.regularisation = { low = 1.0, high = 9.0 }"
    quoted = '"sequence.shape.dim" = [16, 32]\n"ease.regularisation" = { low = 1.0, high = 9.0 }'

    assert space_of(searched(bare)) == space_of(searched(quoted))


def test_without_a_table_the_usual_settings_of_the_steps_that_are_there_are_searched() -> None:
    found = space_of(CONFIG)

    assert set(found) == {name for name in USUAL if name.split(".")[0] in {"ease", "sequence", "fusion"}}


def test_every_usual_setting_is_one_of_the_default_pipeline() -> None:
    everything = PipelineConfig(tune=USUAL)

    assert list(space_of(everything)) == list(USUAL)
    assert all(dial.has(value_of(everything, name)) for name, dial in space_of(everything).items())


BAD = {
    '"seqence.shape.dim" = [8]': (
        "tune: seqence.shape.dim is no setting of this pipeline: nothing is called 'seqence'; did you mean sequence?"
    ),
    '"sequence.shape.dims" = [8]': (
        "tune: sequence.shape.dims is no setting of this pipeline: nothing is called 'dims'; did you mean dim?"
    ),
    '"als.factors" = [8]': (
        "tune: als.factors is no setting of this pipeline: nothing is called 'als'; there are: context, "
        "context_dropped, ease, encode, exclude_seen, fusion, max_history, mmr, rules, rules-2, sequence, tail_cut"
    ),
    '"encode.zzz" = [8]': (
        "tune: encode.zzz is no setting of this pipeline: nothing is called 'zzz'; there are: columns, int8, "
        "layers, max_tokens, model, whiten_dim"
    ),
    '"sequence.shape.dim.x" = [8]': (
        "tune: sequence.shape.dim.x is no setting of this pipeline: nothing is called 'x'; there are: none"
    ),
    '"sequence.shape" = [8]': "tune: sequence.shape is a table of settings; name one of them, as sequence.shape.…",
    "sequence = [8]": "tune: sequence is a table of settings; name one of them, as sequence.…",
    '"sequence.shape.dropout" = [0.1, 1.5]': "tune: sequence.shape.dropout is 1.5, but: Input should be less than 1",
    '"sequence.shape.dropout" = { low = 0.5, high = 2.0 }': (
        "tune: sequence.shape.dropout is 2.0, but: Input should be less than 1"
    ),
    '"sequence.train.optimizer" = ["adam", "lion"]': (
        "tune: sequence.train.optimizer is 'lion', but: Input should be 'adamw', 'adam', 'sgd' or 'adafactor'"
    ),
    '"sequence.finish" = [0.1]': (
        "tune: sequence.finish acts after the choice, so that held-out people cannot make it; set it"
    ),
    "retrieve = [8]": (
        "tune: retrieve is no setting of this pipeline: nothing is called 'retrieve'; there are: context, "
        "context_dropped, ease, encode, exclude_seen, fusion, max_history, mmr, rules, rules-2, sequence, tail_cut"
    ),
    "": "tune: the table is empty; name a setting, or leave [tune] out for the usual ones",
}


@pytest.mark.parametrize("toml", BAD)
def test_a_name_or_a_value_that_does_not_fit_is_refused_in_one_line(toml: str) -> None:
    with pytest.raises(ConfigError) as caught:
        space_of(searched(toml))

    assert str(caught.value) == BAD[toml]


RULE = "a list of values, or { low, high } with low below high, and log = true where both are above 0"


@pytest.mark.parametrize(
    "raw",
    [
        7,
        [],
        [[1]],
        {"low": 1},
        {"low": 2, "high": 1},
        {"low": 1, "high": 2, "step": 1},
        {"low": 0.0, "high": 1.0, "log": True},
        {"low": "a", "high": "b"},
        {"low": False, "high": True},
        {"low": 1, "high": 2, "log": "yes"},
    ],
)
def test_what_is_no_dial_is_refused(raw: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        space_of(CONFIG.model_copy(update={"tune": {"ease.regularisation": raw}}))

    assert str(caught.value) == f"tune: ease.regularisation is {raw!r}, but it must be {RULE}"


def test_settings_are_put_where_their_names_say() -> None:
    values = {"max_history": 9, "ease.k": 7, "sequence.shape.dim": 32, "encode.whiten_dim": 5, "rules-2.file": "x"}

    changed = with_settings(CONFIG, values | {"sequence.train.epochs": 3, "mmr.keep": 11})

    assert {name: value_of(changed, name) for name in values if name != "rules-2.file"} == {
        name: value for name, value in values.items() if name != "rules-2.file"
    }
    assert changed.retrieve[1].settings == {"shape": {"dim": 32}, "train": {"epochs": 3}}
    assert [step.settings for step in changed.stage] == [{}, {}, {}, {"file": "x"}]
    assert (changed.stage[2].keep, changed.retrieve[0].k) == (11, 7)
    assert CONFIG.retrieve[1].settings == {"shape": {"dim": 16}}  # what was given is as it was


def test_a_value_is_what_is_given_or_the_default() -> None:
    assert value_of(CONFIG, "sequence.shape.dim") == 16
    assert value_of(CONFIG, "sequence.shape.layers") == 2
    assert value_of(CONFIG, "mmr.keep") == 20
    assert value_of(CONFIG, "max_history") == 600
    assert value_of(CONFIG, "encode.max_tokens") == 64


@given(st.integers(1, 50), st.integers(1, 50), st.booleans(), st.integers(0, 99))
def test_a_dial_is_turned_to_nothing_that_it_does_not_have(low: int, more: int, log: bool, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    dials = {
        "whole": Dial(low=low, high=low + more, log=log),
        "real": Dial(low=low / 7, high=(low + more) / 7, log=log),
        "listed": Dial(choices=("a", 3, 0.5)),
    }

    for _ in range(3):
        trial = study.ask()
        turned = {name: dial.turn(trial, name) for name, dial in dials.items()}

        assert all(dial.has(turned[name]) for name, dial in dials.items())
        assert isinstance(turned["whole"], int)
        assert isinstance(turned["real"], float)


def test_a_dial_has_its_ends_and_no_more() -> None:
    assert Dial(low=1, high=3).has(3)
    assert not Dial(low=1, high=3).has(4)
    assert not Dial(low=1, high=3).has(None)
    assert not Dial(choices=(1, 2)).has(3)


def test_what_the_guide_searches_can_be_searched() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "train.md").read_text(encoding="utf-8")
    blocks = [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)]
    (own,) = [block["tune"] for block in blocks if "tune" in block]

    assert list(space_of(PipelineConfig(tune=own))) == list(own)
