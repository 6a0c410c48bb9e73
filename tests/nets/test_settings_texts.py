"""Settings of what learns from texts: what is left out suits what learns."""

from __future__ import annotations

import pytest

from tailwise.config import settings_of
from tailwise.errors import ConfigError
from tailwise.nets.settings_texts import ClassifierConfig


@pytest.mark.parametrize(
    ("method", "epochs", "rate"), [("frozen", 60, 5e-3), ("lora", 5, 1e-3), ("full", 5, 1e-4), ("top_layers", 5, 1e-4)]
)
def test_what_is_left_out_suits_what_learns(method: str, epochs: int, rate: float) -> None:
    loop = ClassifierConfig.model_validate({"tuning": {"method": method}}).loop()

    assert (loop.epochs, loop.learning_rate) == (epochs, rate)


def test_what_is_said_stands() -> None:
    loop = ClassifierConfig.model_validate({"train": {"epochs": 3, "learning_rate": 0.5}}).loop()

    assert (loop.epochs, loop.learning_rate) == (3, 0.5)


def test_heads_that_do_not_exist_have_no_weight() -> None:
    known = "sentiment, intent, topic, entities"
    with pytest.raises(
        ConfigError, match=r"^c\.toml: weights\.mood is not a setting; known: sentiment, intent, topic, entities"
    ):
        settings_of(ClassifierConfig, {"weights": {"mood": 1.0}}, where="c.toml")
    assert ", ".join(type(ClassifierConfig().weights).model_fields) == known


def test_nothing_that_did_not_help_is_on() -> None:
    config = ClassifierConfig()

    assert config.augment.ways == ()
    assert config.attack.kind == "none"
    assert config.pretrain is None
    assert config.ranking == 0
