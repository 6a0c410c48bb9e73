"""Two shops that share words and nothing else: what one has learned ranks the other's shelves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.load import Dataset, load
from tailwise.data.synthetic import make_world
from tailwise.errors import ConfigError, DataError
from tailwise.learn.fit import fit
from tailwise.learn.start import Start, without_events
from tailwise.pipeline import Engine

ENCODE = EncodeConfig(model="hash", whiten_dim=24)
NETWORK = {"shape": {"dim": 16, "layers": 1, "max_length": 8}, "train": {"epochs": 15, "learning_rate": 0.01}}
PIPELINE = PipelineConfig(
    encode=ENCODE,
    retrieve=(Step(name="popular"), Step(name="text"), Step(name="sequence", settings=NETWORK)),
    stage=(Step(name="fusion"), Step(name="rules")),
)
GROUPS = 3


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset, Path, Settings]:
    """The first shop, the second one with other items and people, the first one's model, and the settings."""
    world = make_world(users=160, items=120, events_per_user=14, groups=GROUPS, requests=1, seed=3).dataset
    first, second = world.items[:60], world.items[60:]
    people = pl.col("user_id") < "u080"
    one = Dataset.of(
        "one", events=world.events.filter(people & pl.col("item_id").is_in(first["item_id"].implode())), items=first
    )
    two = Dataset.of(
        "two", events=world.events.filter(~people & pl.col("item_id").is_in(second["item_id"].implode())), items=second
    )
    folder = tmp_path_factory.mktemp("shops")
    settings = Settings(cache=folder / "cache", threads=1)
    fit(one, PIPELINE, settings=settings).save(folder / "one")
    return one, two, folder / "one", settings


def earned(engine: Engine, events: pl.DataFrame) -> float:
    """Share of the first five that are of the genre that a person has looked at most, over people."""
    genres = dict(engine.catalogue.frame.select("item_id", pl.col("genres").str.split("|").list.first()).iter_rows())
    own = []
    for _, past in events.group_by("user_id", maintain_order=True):
        liked = [genres[item] for item in past["item_id"]]
        slate = engine.rank(history=past["item_id"].to_list(), k=5)
        likeliest = max(sorted(set(liked)), key=liked.count)
        own += [genres[item] == likeliest for item in slate.item_ids]
    return float(np.mean(own))


def test_a_shop_without_events_is_ranked_from_texts_by_what_another_has_learned(
    shops: tuple[Dataset, Dataset, Path, Settings], tmp_path: Path
) -> None:
    _, two, start, settings = shops
    for name, frame in (("events", two.events.clear()), ("items", two.items)):
        frame.select([c for c in frame.columns if c != "value"]).write_csv(tmp_path / f"{name}.csv")

    engine = fit(load(tmp_path, without_events=True), PIPELINE, start=start, settings=settings)
    engine.save(tmp_path / "model")
    opened = Engine.open(tmp_path / "model")

    assert engine.manifest["choices"]["silent"] == ["popular", "fusion"]
    assert earned(engine, two.events) > 1.6 / GROUPS  # by chance it would be one in three
    assert earned(opened, two.events) == earned(engine, two.events)


def test_with_events_it_goes_on_from_there(shops: tuple[Dataset, Dataset, Path, Settings]) -> None:
    _, two, start, settings = shops

    engine = fit(two, PIPELINE, start=start, settings=settings)

    assert engine.manifest["choices"]["silent"] == []
    assert engine.manifest["start"] == Engine.open(start).version
    assert earned(engine, two.events) > 1.3 / GROUPS


def test_the_second_shop_has_the_first_ones_space(shops: tuple[Dataset, Dataset, Path, Settings]) -> None:
    one, _, start, settings = shops

    again = fit(one, PIPELINE.model_copy(update={"encode": EncodeConfig()}), start=start, settings=settings)

    np.testing.assert_array_equal(again.catalogue.vectors, Engine.open(start).catalogue.vectors)


def test_without_a_start_events_are_needed(shops: tuple[Dataset, Dataset, Path, Settings]) -> None:
    _, two, _, settings = shops

    with pytest.raises(DataError, match=r"^two has 0 events to learn from, but at least 10 are needed$"):
        fit(two.with_events(two.events.clear()), PIPELINE, settings=settings)


def test_a_model_without_a_sequence_source_starts_nothing(
    shops: tuple[Dataset, Dataset, Path, Settings], tmp_path: Path
) -> None:
    one, _, _, settings = shops
    plain = PipelineConfig(encode=ENCODE, retrieve=(Step(name="popular"),), stage=())
    fit(one, plain, settings=settings).save(tmp_path / "plain")

    with pytest.raises(ConfigError) as caught:
        Start.read(tmp_path / "plain")

    reason = "its pipeline has no sequence source; start from a model that has both"
    assert str(caught.value) == f"nothing can start from {tmp_path / 'plain'}: {reason}"


def test_without_events_something_must_be_able_to_retrieve() -> None:
    with pytest.raises(
        ConfigError, match=r"^there are no events, so that only text and sequence can retrieve; name one"
    ):
        without_events(PipelineConfig(retrieve=(Step(name="popular"),)))
