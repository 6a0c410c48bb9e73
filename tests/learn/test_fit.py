"""A whole fit on a small world: what it learns from, what it writes, what it refuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
pytest.importorskip("implicit", reason="needs implicit: pip install 'tailwise[train]'")

from tailwise import registry
from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.interactions import Training
from tailwise.data.load import Dataset
from tailwise.data.split import split_last
from tailwise.data.synthetic import make_world
from tailwise.errors import ConfigError, DataError
from tailwise.learn.fit import LEAST_EVENTS, fit
from tailwise.learn.long_tail import fit_long_tail
from tailwise.learn.start import moment_of
from tailwise.pipeline import Engine
from tailwise.rerank.long_tail import LongTailConfig
from tailwise.types import Request

SEQUENCE = Step(
    name="sequence",
    k=30,
    settings={"shape": {"dim": 16, "layers": 1, "max_length": 10}, "train": {"epochs": 3, "patience": 3}},
)
SOURCES = tuple(SEQUENCE if step.name == "sequence" else step for step in PipelineConfig().retrieve)
CONFIG = PipelineConfig(encode=EncodeConfig(model="hash", whiten_dim=16), retrieve=SOURCES)
QUICK = CONFIG.model_copy(update={"retrieve": (Step(name="popular"), Step(name="ease"))})
"""Without what takes longest."""

Fit = Callable[..., Engine]


def answers(engine: Engine, people: int = 12) -> list[tuple[list[str], list[float]]]:
    slates = [engine.rank(user_id=f"u{person:02d}", k=8) for person in range(people)]
    return [(slate.item_ids.tolist(), np.round(slate.scores, 4).tolist()) for slate in slates]


def files(folder: Path) -> dict[str, str]:
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    return {name: facts["sha256"] for name, facts in listed.items()}


def rows_of(engine: Engine) -> pl.DataFrame:
    """The events that the engine keeps."""
    people = engine.people
    return pl.DataFrame(
        {
            "user_id": people.user_ids[people.users].tolist(),
            "item_id": engine.catalogue.item_ids[people.rows].tolist(),
            "time": people.times,
        }
    )


def test_what_is_fitted_saved_and_opened_answers_alike(data: Dataset, fitted: Fit, tmp_path: Path) -> None:
    engine = fitted(data, CONFIG)
    engine.save(tmp_path / "model")

    opened = Engine.open(tmp_path / "model")

    assert answers(opened) == answers(engine)
    assert opened.version == engine.version
    assert opened.manifest["counts"] == {"people": 40, "items": 48, "events": 400}
    assert opened.manifest["metrics"]["fusion"]["decision"]
    assert opened.manifest["choices"]["held_out"] == 40
    stages = {step.name: step.skipped for step in opened.answer(Request("r", user_id="u01")).trace}
    assert set(stages.values()) == {None}, stages


def test_the_same_seed_gives_the_same_model_bitwise_and_another_one_does_not(
    data: Dataset, fitted: Fit, tmp_path: Path
) -> None:
    for name, seed in (("one", 7), ("again", 7), ("other", 8)):
        fitted(data, CONFIG, seed=seed).save(tmp_path / name)

    one, again, other = (files(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert {name for name in one if one[name] != other[name]} >= {
        "als/als.safetensors",
        "sequence/sequence.onnx",
        "sequence/sequence.safetensors",
    }
    versions = [
        json.loads((tmp_path / name / "manifest.json").read_text())["version"] for name in ("one", "again", "other")
    ]
    assert versions[0] == versions[1] != versions[2]


def test_the_number_of_threads_changes_no_network(data: Dataset, tmp_path: Path) -> None:
    for threads in (1, 2):
        settings = Settings(cache=tmp_path / "cache", threads=threads)
        fit(data, CONFIG, seed=7, settings=settings).save(tmp_path / str(threads))

    one, two = (files(tmp_path / threads) for threads in ("1", "2"))
    assert one["sequence/sequence.onnx"] == two["sequence/sequence.onnx"]
    assert one["sequence/sequence.safetensors"] == two["sequence/sequence.safetensors"]


def test_the_order_of_rows_in_the_log_changes_nothing(data: Dataset, fitted: Fit, tmp_path: Path) -> None:
    shuffled = Dataset.of(
        data.name, events=data.events.sample(fraction=1.0, shuffle=True, seed=1), items=data.items.reverse()
    )
    plain = Dataset.of(data.name, events=data.events, items=data.items)

    fitted(plain, CONFIG).save(tmp_path / "one")
    fitted(shuffled, CONFIG).save(tmp_path / "other")

    assert files(tmp_path / "one") == files(tmp_path / "other")


def test_until_leaves_out_every_event_from_then_on(data: Dataset, fitted: Fit) -> None:
    cut = float(data.events["time"].quantile(0.7, "nearest"))

    engine = fitted(data, until=cut)

    expected = data.events.filter(pl.col("time") < cut)
    assert rows_of(engine).equals(expected.select("user_id", "item_id", "time").sort("user_id", maintain_order=True))
    assert 0 < expected.height < data.events.height
    assert engine.catalogue.popularity.sum() == expected.height
    assert engine.manifest["until"] == cut


def test_holdout_last_leaves_out_exactly_the_events_that_the_split_judges_by(data: Dataset, fitted: Fit) -> None:
    engine = fitted(data, holdout="last")

    split = split_last(data)
    kept = rows_of(engine)
    keys = ["user_id", "item_id", "time"]
    assert kept.join(split.test, on=keys, how="semi").is_empty()
    assert kept.sort(keys).equals(split.train.events.select(keys).sort(keys))
    assert engine.manifest["data_sha256"] == split.train.digest()


def test_only_last_can_be_held_out(data: Dataset, fitted: Fit) -> None:
    with pytest.raises(ConfigError, match=r"^holdout is 'first', but it must be 'last'$"):
        fitted(data, holdout="first")


def test_too_few_events_to_learn_from_fit_what_needs_none(data: Dataset, fitted: Fit) -> None:
    engine = fitted(data.with_events(data.events.head(LEAST_EVENTS - 1)))

    assert {"ease", "attention"} <= set(engine.manifest["choices"]["silent"])
    assert [step.name for step in engine.config.retrieve] == ["text", "words", "numbers"]
    assert len(engine.rank(user_id="nobody", k=5)) == 5


def test_a_time_before_all_events_is_refused(data: Dataset, fitted: Fit) -> None:
    first, last = (moment_of(time) for time in (data.events["time"].min(), data.events["time"].max()))
    when = f"the first is of {first} and the last of {last}: choose a later --until than 1970-01-01T00:00:00"
    few = "synthetic has 0 events to learn from, but at least 10 are needed"
    with pytest.raises(DataError, match=f"^{few}; {when}$"):
        fitted(data, until=0.0)


def test_a_handful_of_events_is_enough_for_the_whole_pipeline(data: Dataset, fitted: Fit, tmp_path: Path) -> None:
    few = data.with_events(data.events.filter(pl.col("user_id").is_in(["u01"])))
    assert few.events.height == LEAST_EVENTS

    engine = fitted(few, CONFIG)
    engine.save(tmp_path / "model")

    assert len(engine.rank(user_id="u01", k=10)) == 10
    assert len(engine.rank(user_id="stranger", k=10)) > 0


def test_a_log_of_dislikes_alone_is_refused(data: Dataset, fitted: Fit) -> None:
    against = data.with_events(data.events.with_columns(event=pl.lit("dislike")))

    message = r"^synthetic has no event that speaks for an item: all are skip or dislike$"
    with pytest.raises(DataError, match=message):
        fitted(against)


def test_items_that_only_events_name_are_ranked_too(data: Dataset, fitted: Fit) -> None:
    half = data.items.filter(pl.col("item_id") < "i24")
    partial = Dataset.of("partial", events=data.events, items=half)

    engine = fitted(partial, CONFIG)

    assert len(engine.catalogue) == data.events["item_id"].append(half["item_id"]).n_unique()
    slate = engine.rank(user_id="u01", candidates=["i01", "i30", "i47", "never seen"], k=4)
    assert sorted(slate.item_ids) == ["i01", "i30", "i47", "never seen"]
    assert slate.item_ids[-1] == "never seen"


def test_an_event_of_a_kind_of_its_own_counts_as_a_view(data: Dataset, fitted: Fit) -> None:
    views = data.events.with_columns(event=pl.lit("view"))
    installs = views.with_columns(event=pl.when(pl.col("user_id") == "u01").then(pl.lit("install")).otherwise("event"))

    one, other = fitted(data.with_events(views)), fitted(data.with_events(installs))

    assert answers(one) == answers(other)


@pytest.mark.parametrize("again", [False, True])
def test_people_who_come_back_for_the_same_are_shown_it_again(data: Dataset, fitted: Fit, again: bool) -> None:
    once = data.events.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    later = once.sample(fraction=0.3, seed=1).with_columns(time=pl.col("time") + 1e8)

    engine = fitted(data.with_events(pl.concat([once, later]) if again else once))

    had = set(engine.history("u01").item_ids)
    shown = set(engine.rank(user_id="u01", k=48).item_ids)
    assert engine.config.exclude_seen is not again
    assert engine.manifest["choices"]["exclude_seen"] is not again
    assert bool(had & shown) is again
    assert engine.manifest["choices"]["repeat_rate"] == pytest.approx(0.3 / 1.3 if again else 0.0, abs=0.002)


def test_what_is_looked_at_before_it_is_bought_can_be_found_on_held_out_people(data: Dataset, fitted: Fit) -> None:
    once = data.events.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    bought = once.with_columns(time=pl.col("time") + 0.5, event=pl.lit("purchase"))

    plain, both = (fitted(data.with_events(own)) for own in (once, pl.concat([once, bought])))

    found = [engine.manifest["metrics"]["fusion"]["target among candidates"] for engine in (plain, both)]
    assert both.config.exclude_seen
    assert found[1] == pytest.approx(found[0], abs=0.05)
    assert found[0] > 0.5


def test_a_setting_decides_over_what_the_log_says_about_repeats(data: Dataset, fitted: Fit) -> None:
    engine = fitted(data, QUICK.model_copy(update={"exclude_seen": False}))

    assert engine.config.exclude_seen is False


def test_without_any_text_the_rest_of_the_pipeline_works(fitted: Fit, tmp_path: Path) -> None:
    mute = make_world(users=40, items=48, events_per_user=10, groups=4, text=False, requests=1, seed=3).dataset
    mute = Dataset.of("mute", events=mute.events, items=mute.items.select("item_id", "price"))

    engine = fitted(mute, CONFIG)
    engine.save(tmp_path / "model")

    assert engine.encoder is None
    assert engine.manifest["encoder"] is None
    assert not (tmp_path / "model" / "encoder").exists()
    assert len(engine.rank(user_id="u01", k=10)) == 10
    assert len(engine.rank(query="anything", k=10)) == 10
    assert answers(Engine.open(tmp_path / "model")) == answers(engine)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"retrieve": (Step(name="fusion"),)},
            r"^fusion finds no candidates, so it cannot stand in \[\[retrieve\]\]; put it in \[\[stage\]\]$",
        ),
        (
            {"retrieve": (Step(name="mmr"),)},
            r"^mmr finds no candidates, so it cannot stand in \[\[retrieve\]\]; put it in \[\[stage\]\]$",
        ),
        (
            {"retrieve": (Step(name="popular"), Step(name="popular"))},
            r"^popular stands 2 times in \[\[retrieve\]\]; once is enough: raise its k$",
        ),
        (
            {"stage": (Step(name="ease", settings={"decay": 0.3}),)},
            r"^ease stands twice with different settings; give them once, where it is first$",
        ),
        ({"retrieve": (Step(name="eas"),)}, r"^no component is called 'eas'; did you mean ease\?$"),
        (
            {"retrieve": (Step(name="ease", settings={"decy": 1}),)},
            r"^ease: decy is not a setting; known: regularisation, decay, most_items, neighbours, text_prior$",
        ),
        (
            {"retrieve": (Step(name="ease", settings={"decay": -1}),)},
            r"^ease: decay is -1, but: Input should be greater than or equal to 0$",
        ),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused(
    changes: dict[str, Any], message: str, data: Dataset, fitted: Fit
) -> None:
    with pytest.raises(ConfigError, match=message):
        fitted(data, QUICK.model_copy(update=changes))


def test_the_settled_pipeline_says_what_the_fit_chose(data: Dataset, fitted: Fit, tmp_path: Path) -> None:
    engine = fitted(data)
    engine.save(tmp_path / "model")

    settled = PipelineConfig.read(tmp_path / "model" / "pipeline.toml")
    ease = next(step for step in settled.retrieve if step.name == "ease")
    assert ease.settings["decay"] == engine.sources[1].run.config.decay
    assert settled.exclude_seen is engine.manifest["choices"]["exclude_seen"]
    again = PipelineConfig.model_validate(engine.manifest["pipeline"])
    assert again == QUICK  # what was asked for, to fit it anew


def test_a_pipeline_may_come_from_a_file(data: Dataset, fitted: Fit, tmp_path: Path) -> None:
    QUICK.write(tmp_path / "quick.toml")

    one, other, third = fitted(data), fitted(data, tmp_path / "quick.toml"), fitted(data, str(tmp_path / "quick.toml"))

    assert answers(one) == answers(other) == answers(third)
    assert one.version == other.version == third.version


def test_the_fit_needs_no_more_of_the_environment_than_it_is_given(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "of the environment"))
    monkeypatch.setenv("TAILWISE_THREADS", "1")

    fit(data, QUICK)

    assert (tmp_path / "of the environment" / "embeddings.sqlite").is_file()


def test_progress_names_every_part_that_takes_time(data: Dataset, fitted: Fit) -> None:
    told: list[tuple[str, int, int]] = []

    fitted(data, CONFIG, report=lambda *what: told.append(what))

    assert {what for what, _, _ in told} == {
        "embed items",
        "ease",
        "als",
        "item_knn",
        "next_item",
        "sequence",
        "sequence 2",
        "sequence 3",
        "sequence finish",  # a run of its own in what is tracked: its epochs begin at one again
        "sequence 2 finish",
        "sequence 3 finish",
        "slates",
    }
    assert all(0 <= done <= total for _, done, total in told)


def test_every_source_of_the_registry_can_be_fitted(data: Dataset, fitted: Fit) -> None:
    config = CONFIG.model_copy(
        update={"retrieve": tuple(SEQUENCE if n == "sequence" else Step(name=n) for n in registry.SOURCES)}
    )

    engine = fitted(data, config)

    assert [bound.key for bound in engine.sources] == list(registry.SOURCES)


def test_counts_that_stages_learn_by_are_without_what_is_held_out(
    data: Dataset, fitted: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[Training] = []

    def watched(config: LongTailConfig, training: Training, engine: Engine) -> Any:
        met.append(training)
        return fit_long_tail(config, training, engine)

    monkeypatch.setattr("tailwise.learn.long_tail.fit_long_tail", watched)

    engine = fitted(data, QUICK)

    (learning,) = met
    assert learning.held is not None
    np.testing.assert_array_equal(learning.catalogue.popularity, learning.interactions.counts())
    targets = sum(len(own) for own in learning.held.targets)
    assert engine.catalogue.popularity.sum() - learning.catalogue.popularity.sum() >= targets > 0


def test_items_that_the_table_lacks_and_people_of_whom_nothing_can_be_held_out_are_said(
    data: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    once = replace(data, events=data.events.unique("user_id"), items=data.items.filter(pl.col("item_id") == "i00"))

    with caplog.at_level(logging.WARNING, logger="tailwise.learn.fit"):
        engine = fit(once, QUICK)

    lonely = len(engine.catalogue) - 1
    told, chosen = caplog.messages
    assert told.startswith(f"items of which nothing is told: {lonely} items of events are not among the 1 items")
    assert chosen.startswith("nothing to choose by: nobody did enough")
    assert len(engine.rank(user_id="u00", k=5)) == 5
