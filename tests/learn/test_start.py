"""Two shops that share words and nothing else: what one has learned ranks the other's shelves."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.load import Dataset, load
from tailwise.data.synthetic import make_world
from tailwise.errors import ConfigError, DataError
from tailwise.learn.fit import fit
from tailwise.learn.start import Start, training_part, without_events
from tailwise.pipeline import Engine
from tailwise.pipeline.asking import request_of

ENCODE = EncodeConfig(model="hash", whiten_dim=24)
NETWORK: dict[str, Any] = {
    "shape": {"dim": 16, "layers": 1, "max_length": 8},
    "train": {"epochs": 15, "learning_rate": 0.01},
}
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


def test_a_shape_that_the_first_model_does_not_have_is_told(
    shops: tuple[Dataset, Dataset, Path, Settings], caplog: pytest.LogCaptureFixture
) -> None:
    _, two, start, settings = shops
    other = Step(name="sequence", settings={**NETWORK, "shape": {**NETWORK["shape"], "dim": 12}})
    pipeline = PIPELINE.model_copy(update={"retrieve": (Step(name="popular"), other)})

    with caplog.at_level(logging.WARNING, logger="tailwise"):
        fit(two, pipeline, start=start, settings=settings)

    told = [record.getMessage() for record in caplog.records if "shape" in record.getMessage()]
    assert told == ["sequence: shape.dim is not 12 but 16, as in the model that the fit starts from"]


def test_the_second_shop_has_the_first_ones_space(shops: tuple[Dataset, Dataset, Path, Settings]) -> None:
    one, _, start, settings = shops

    again = fit(one, PIPELINE.model_copy(update={"encode": EncodeConfig()}), start=start, settings=settings)

    np.testing.assert_array_equal(again.catalogue.vectors, Engine.open(start).catalogue.vectors)


def test_a_cut_that_leaves_too_few_events_is_refused(shops: tuple[Dataset, Dataset, Path, Settings]) -> None:
    _, two, _, settings = shops

    found = r"^two has 0 events to learn from, but at least 10 are needed; the first is of \S+ and the last of \S+: "
    with pytest.raises(DataError, match=found + "choose a later --until than 1970-01-01T00:00:00$"):
        fit(two, PIPELINE, until=0.0, settings=settings)
    with pytest.raises(ConfigError, match=r"^holdout is 'first', but it must be 'last'$"):
        fit(two, PIPELINE, holdout="first", settings=settings)


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


def test_begun_from_another_model_something_must_be_able_to_retrieve() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^there are no events, so that only text, words, numbers and sequence can retrieve; name one",
    ):
        without_events(PipelineConfig(retrieve=(Step(name="popular"),)), begun=True)


def test_the_first_day_keeps_what_speaks_and_adds_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    config = PipelineConfig(
        encode=EncodeConfig(columns=("title",)),
        retrieve=(Step(name="popular"), Step(name="text", k=7), Step(name="sequence")),
        stage=(
            Step(name="fusion"),
            Step(name="attention"),
            Step(name="popular"),
            Step(name="listwise_llm"),
            Step(name="listwise_llm", settings={"gate": "always"}),
            Step(name="rules"),
            Step(name="reasons"),
        ),
    )

    early, silent = without_events(config, begun=False)

    assert [(step.name, step.k) for step in early.retrieve] == [("text", 7), ("words", 200), ("numbers", 200)]
    assert early.retrieve[1].settings == {"columns": ["title"]}
    assert [step.name for step in early.stage] == ["fusion", "listwise_llm", "rules", "reasons"]
    assert early.stage[1].settings == {"gate": "always"}  # what a fit would have to learn sleeps
    assert silent == ["popular", "sequence", "attention", "popular", "listwise_llm"]
    assert caplog.messages == [
        "too few events to learn from: silent until there are more: popular, sequence, attention, popular, listwise_llm"
    ]


FEW = [("u1", "i000", 5.0), ("u1", "i003", 6.0), ("u2", "i001", 7.0)]


@pytest.fixture(scope="module", params=["no events file", "a header alone", "three events"])
def first_day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, str]:
    """The default pipeline on items alone, saved and opened, and how its events were lacking."""
    folder = tmp_path_factory.mktemp("first day")
    items = make_world(users=4, items=40, events_per_user=2, groups=GROUPS, requests=1, seed=3).dataset.items
    items.with_columns(time=pl.Series([float(row) for row in range(40)])).write_csv(folder / "items.csv")
    if request.param != "no events file":
        lines = FEW if request.param == "three events" else []
        pl.DataFrame(lines, schema=["user_id", "item_id", "time"], orient="row").write_csv(folder / "events.csv")
    settings = Settings(cache=folder / "cache", threads=1)
    data = load(folder, without_events=True)
    fit(data, PipelineConfig(encode=ENCODE), settings=settings).save(folder / "model")
    return Engine.open(folder / "model"), request.param


def genres_of(engine: Engine, item_ids: list[str]) -> list[str]:
    known = dict(engine.catalogue.frame.select("item_id", pl.col("genres").str.split("|").list.first()).iter_rows())
    return [known[item_id] for item_id in item_ids]


def test_on_the_first_day_a_few_chosen_items_bring_their_like(first_day: tuple[Engine, str]) -> None:
    engine, _ = first_day
    chosen = engine.catalogue.item_ids[[0, 3]].tolist()

    slate = engine.rank(history=chosen, k=5)

    wanted = set(genres_of(engine, chosen))
    assert len(slate) == 5
    assert not {*chosen} & {*slate.item_ids}
    assert np.mean([genre in wanted for genre in genres_of(engine, list(slate.item_ids))]) >= 0.8


def test_on_the_first_day_a_query_finds_what_it_names_and_a_label_what_bears_it(first_day: tuple[Engine, str]) -> None:
    engine, _ = first_day
    said, genre = (
        " ".join(engine.catalogue.frame.row(7, named=True)[name] for name in ("title", "description")),
        "genre 0",
    )

    assert engine.rank(query=said, k=3).item_ids[0] == engine.catalogue.item_ids[7]
    assert genres_of(engine, list(engine.rank(query=genre, k=5).item_ids)).count(genre) >= 4


def test_on_the_first_day_an_event_moves_the_list_at_once(first_day: tuple[Engine, str]) -> None:
    engine, _ = first_day
    before = engine.rank(user_id="new", k=10)

    engine.observe(user_id="new", item_id=str(engine.catalogue.item_ids[5]), event="click", time=100.0)

    after = engine.rank(user_id="new", k=10)
    assert before.item_ids.tolist() != after.item_ids.tolist()
    assert engine.catalogue.item_ids[5] not in after.item_ids
    own = genres_of(engine, [str(engine.catalogue.item_ids[5])])[0]
    assert genres_of(engine, list(after.item_ids[:3])).count(own) >= 2


@pytest.mark.parametrize("asked", [{"user_id": "stranger"}, {"history": ["gone"]}, {"history": []}])
def test_on_the_first_day_a_stranger_sees_the_newest(first_day: tuple[Engine, str], asked: dict[str, object]) -> None:
    engine, lack = first_day

    answer = engine.answer(request_of({**asked, "k": 3}))

    order = "newest" if lack != "three events" else "popular"
    assert [step.skipped for step in answer.trace if step.name == order] == ["nothing is known of what is wanted"]
    if order == "newest":
        assert answer.slate.item_ids.tolist() == engine.catalogue.item_ids[[39, 38, 37]].tolist()
    assert len(answer.slate) == 3


def test_a_model_of_the_first_day_names_what_is_silent_and_what_reads_its_texts(first_day: tuple[Engine, str]) -> None:
    engine, lack = first_day

    choices = engine.manifest["choices"]
    assert choices["silent"] == [
        "popular", "ease", "als", "item_knn", "next_item", "again", "sequence", "attention", "long_tail", "newcomers"
    ]  # fmt: skip
    assert choices["encoder"] == "hash"
    assert len(engine.people) == (3 if lack == "three events" else 0)


@pytest.mark.parametrize(("time", "odd"), [(1.7e9, False), (1.7e12, True), (-5.0, True)])
def test_times_that_can_be_no_seconds_are_told(time: float, odd: bool, caplog: pytest.LogCaptureFixture) -> None:
    events = pl.DataFrame(
        {"user_id": ["ann", "ann"], "item_id": ["a", "b"], "time": [0.0, time], "event": ["view"] * 2}
    )

    training_part(Dataset.of("clock", events=events), None, None, least=1)

    told = "times of clock lie after now or before 1970: are they in seconds? tailwise validate tells which"
    assert caplog.messages == [told] * odd
