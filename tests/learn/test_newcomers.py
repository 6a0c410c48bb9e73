"""New items get a row, a vector by the model's own encoder, and a place in what was learned; nothing else moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.load import Dataset
from tailwise.data.synthetic import World
from tailwise.learn.fit import fit
from tailwise.learn.newcomers import frozen, grown_catalogue, may_grow, new_items
from tailwise.learn.online import Learner
from tailwise.pipeline import Engine
from tailwise.rank.sequence import SequenceScorer

QUICK = {
    "shape": {"dim": 16, "layers": 1, "heads": 2, "max_length": 12, "dropout": 0.1},
    "train": {"epochs": 2, "warm_up_steps": 2},
}
PIPELINE = PipelineConfig(
    encode=EncodeConfig(model="hash", whiten_dim=16),
    retrieve=(
        Step(name="popular", k=20),
        Step(name="ease", k=20),
        Step(name="als", k=20, settings={"factors": 8}),
        Step(name="text", k=20),
        Step(name="sequence", k=20, settings=QUICK),
    ),
    stage=(Step(name="fusion"), Step(name="mmr"), Step(name="exposure"), Step(name="reasons")),
    exclude_seen=True,
)


@pytest.fixture(scope="module")
def model(tiny_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newcomers")
    settings = Settings(cache=folder / "cache", threads=1)
    engine = fit(tiny_world.dataset, PIPELINE, seed=1, settings=settings)
    engine.save(folder / "model")
    return folder / "model"


def listed(world: World) -> pl.DataFrame:
    """The items file with one more, which has the texts of i05."""
    twin = world.dataset.items.filter(pl.col("item_id") == "i05").with_columns(item_id=pl.lit("twin of i05"))
    return pl.concat([world.dataset.items, twin])


def test_new_items_are_those_of_the_file_and_those_that_events_name(model: Path, tiny_world: World) -> None:
    engine = Engine.open(model)

    rows = new_items(engine, ["i01", "zzz", "twin of i05"], listed(tiny_world))

    assert rows["item_id"].to_list() == ["twin of i05", "zzz"]
    assert rows.schema == engine.catalogue.frame.schema
    assert rows["title"][1] is None


def test_a_new_item_stands_where_its_text_says_and_old_rows_stay(model: Path, tiny_world: World) -> None:
    engine = Engine.open(model)

    grown = grown_catalogue(engine, new_items(engine, ["zzz"], listed(tiny_world)))

    old = engine.catalogue
    assert grown.item_ids[:48].tolist() == old.item_ids.tolist()
    assert grown.vectors[:48].tolist() == old.vectors.tolist()
    assert grown.vectors[48] == pytest.approx(old.vectors[5], abs=1e-5)
    assert not grown.vectors[49].any()
    assert grown.popularity[48:].tolist() == [0.0, 0.0]
    assert grown.recounted(grown.popularity + 1, grown.decayed).popularity[48:].tolist() == [1.0, 1.0]


def test_after_a_round_every_source_knows_the_new_items_and_the_network_is_the_same(
    model: Path, tiny_world: World, tmp_path: Path
) -> None:
    engine = Engine.open(model)
    learner = Learner(engine, model, seed=2)
    now = float(engine.people.times.max())
    people = engine.people.user_ids.tolist()
    rows = [(user, "twin of i05", now + 100 + n, "click") for n, user in enumerate(people)]
    rows += [(user, "i06", now + 10 + n, "click") for n, user in enumerate(people)]
    schema = {"user_id": pl.String, "item_id": pl.String, "time": pl.Float64, "event": pl.String}
    events = Dataset.of("more", events=pl.DataFrame(rows, schema=schema, orient="row")).events
    learner.take(events, listed(tiny_world))

    found = learner.round()

    assert found.told["new_items"] == 1
    assert found.told["items_waiting"] == 0
    assert found.told["drift"]["unknown"] == pytest.approx(0.5)
    if found.decision == "refused":  # then nothing of it may be there
        assert len(learner.engine.catalogue) == 48
        return
    made = learner.engine
    assert made.catalogue.popularity[48] == len(people)
    old, new = (next(b.run for b in e.sources if b.step.name == "sequence") for e in (engine, made))
    assert isinstance(old, SequenceScorer)
    assert isinstance(new, SequenceScorer)
    assert new.table[:48].tolist() == old.table.tolist()
    cosine = new.vectors[48] @ new.vectors[:48].T
    assert int(cosine.argmax()) == 5
    made.save(tmp_path / "model")
    again = Engine.open(tmp_path / "model")
    stranger = again.rank(history=["i06"], k=5, candidates=["twin of i05", "i07"])
    assert set(stranger.item_ids) == {"twin of i05", "i07"}
    assert "twin of i05" in again.similar("i05", 3).item_ids.tolist()


def test_items_wait_for_a_fit_where_a_network_cannot_take_them(tiny_engine: Engine, tiny_model: Path) -> None:
    assert not may_grow(tiny_engine.sources)  # two towers among them
    assert may_grow([b for b in tiny_engine.sources if b.step.name in {"ease", "sequence", "text"}])
    assert [b.step.name for b in tiny_engine.sources if frozen(b)] == [
        *("sequence", "towers", "language_towers"),
    ]
    learner = Learner(replace(tiny_engine), tiny_model)
    schema = {"user_id": pl.String, "item_id": pl.String, "time": pl.Float64}
    frame = pl.DataFrame([("u00", "zzz", 2e9)], schema=schema, orient="row")
    learner.take(Dataset.of("more", events=frame).events)

    found = learner.round()

    assert found.decision == "waiting"
    assert found.told["items_waiting"] == 1
