"""What speaks against a pipeline is said before anything is fitted."""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from tailwise import registry
from tailwise.config import PipelineConfig, Settings, Step
from tailwise.data.synthetic import World
from tailwise.errors import ConfigError, TailwiseError, UnavailableError
from tailwise.learn import ready
from tailwise.learn.fit import fit
from tailwise.learn.ready import check_pipeline, sources_of

LATE = {"kind": "transformers", "model": "SmolLM2-135M-Instruct"}


def pipeline(stage: str, **settings: Any) -> PipelineConfig:
    """Popular items, and one stage behind them."""
    return PipelineConfig(retrieve=(Step(name="popular"),), stage=(Step(name=stage, settings=settings),))


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where a package is not installed."""
    there = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == package else there(name))
    monkeypatch.setattr(ready, "find_spec", util.find_spec)
    monkeypatch.setattr("tailwise.rank.llama.find_spec", util.find_spec)
    monkeypatch.setitem(__import__("sys").modules, package, None)  # what is imported is gone too


def test_the_default_pipeline_can_be_fitted() -> None:
    check_pipeline(PipelineConfig())


@pytest.mark.parametrize(
    ("package", "config", "message"),
    [
        (
            "peft",
            pipeline("cross_encoder"),
            "fine-tuning a language model needs peft: pip install 'tailwise[finetune]'",
        ),
        (
            "peft",
            pipeline("distilled", teacher="cross_encoder", of_teacher={"tuning": {"method": "adalora"}}),
            "fine-tuning a language model needs peft: pip install 'tailwise[finetune]'",
        ),
        (
            "peft",
            PipelineConfig(retrieve=(Step(name="popular"), Step(name="language_towers"))),
            "fine-tuning a language model needs peft: pip install 'tailwise[finetune]'",
        ),
        (
            "transformers",
            pipeline("cross_encoder", tuning={"method": "frozen"}),
            "fine-tuning a language model needs transformers: pip install 'tailwise[finetune]'",
        ),
        ("onnx", pipeline("cross_encoder"), "exporting a model needs onnx: pip install 'tailwise[train]'"),
        ("lightgbm", pipeline("boosted"), "boosted needs LightGBM: pip install 'tailwise[boost]'"),
        (
            "transformers",
            pipeline("listwise_llm", backend=LATE),
            "fine-tuning a language model needs transformers: pip install 'tailwise[finetune]'",
        ),
        (
            "llama_cpp",
            pipeline("listwise_llm", gate="always", backend={**LATE, "kind": "llama_cpp"}),
            "llama_cpp needs llama-cpp-python: pip install 'tailwise[llama]'",
        ),
        (
            "sklearn",
            pipeline("multitask", calibration="isotonic"),
            "isotonic calibration needs sklearn: pip install 'tailwise[train]'",
        ),
        (
            "implicit",
            PipelineConfig(retrieve=(Step(name="als"),)),
            "als needs implicit: pip install 'tailwise[train]'",
        ),
        (
            "implicit",
            PipelineConfig(retrieve=(Step(name="item_knn"),)),
            "item_knn needs implicit: pip install 'tailwise[train]'",
        ),
    ],
)
def test_a_package_that_is_missing_is_said_with_the_extra_that_brings_it(
    package: str, config: PipelineConfig, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(package, monkeypatch)

    with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
        check_pipeline(config)


@pytest.mark.parametrize("method", ["full", "top_layers", "adapter", "frozen"])
def test_what_needs_no_peft_asks_for_none(method: str, monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path) -> None:
    without("peft", monkeypatch)

    check_pipeline(pipeline("cross_encoder", model=str(tiny_backbone), tuning={"method": method}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (pipeline("mmr", trade=0.5), "mmr: trade is not a setting; known: trade_off, depth"),
        (
            pipeline("distilled", teacher="mmr"),
            "distilled: the teacher is 'mmr', but it must be another stage that learns",
        ),
        (
            pipeline("listwise_llm", template="$history"),
            "the template lacks $items, without which first_token tells the model nothing",
        ),
        (
            pipeline("listwise_llm", mode="rerank", backend=LATE),
            "back end transformers cannot be asked 'relevance' questions, but only: choose, continue, order; see mode",
        ),
        (pipeline("listwise_llm", backend={"kind": "gpt"}), "no back end is called 'gpt'; known: "),
    ],
)
def test_a_setting_that_cannot_be_is_said(config: PipelineConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        check_pipeline(config)


def test_a_model_that_is_nowhere_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    folder.mkdir()
    message = f"^{re.escape(str(folder))} holds no model that transformers can read: "

    with pytest.raises(UnavailableError, match=message):
        check_pipeline(pipeline("cross_encoder", model=str(folder)))


def test_nothing_is_fitted_before_the_check(tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without("peft", monkeypatch)
    begun: list[str] = []

    with pytest.raises(TailwiseError, match="needs peft"):
        fit(
            tiny_world.dataset,
            pipeline("cross_encoder"),
            settings=Settings(cache=tmp_path, threads=1),
            report=lambda what, done, total: begun.append(what),
        )

    assert begun == []


def test_without_events_what_would_learn_needs_nothing(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("peft", monkeypatch)
    data = tiny_world.dataset
    nothing = type(data)(**{**vars(data), "events": data.events.clear()})

    engine = fit(nothing, pipeline("cross_encoder"), settings=Settings(cache=tmp_path, threads=1))

    assert engine.manifest["choices"]["silent"] == ["popular", "cross_encoder"]


def test_sources_are_those_that_retrieve_and_then_those_among_the_stages() -> None:
    config = PipelineConfig(retrieve=(Step(name="popular"),), stage=(Step(name="fusion"), Step(name="ease")))

    names = [step.name for step in sources_of(config)]

    assert names == ["popular", "ease"]


def test_every_check_is_of_a_component_that_there_is() -> None:
    assert set(ready.CHECKS) <= {*registry.SOURCES, *registry.STAGES}
