"""Fine-tuning a tiny cross-encoder on a world whose answer is known: people take what is called good."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.data.catalogue import Catalogue
from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Interactions, Training
from tailwise.encode.pairs import logits
from tailwise.errors import ConfigError, DataError, UnavailableError
from tailwise.learn import peft
from tailwise.learn.pairs import Lesson, list_auc
from tailwise.learn.peft import fit_cross_encoder, loop_of, reader_of, tune, until_over
from tailwise.learn.peft_export import exported_reader
from tailwise.nets import language
from tailwise.nets.adapting import adapt, load_learned
from tailwise.nets.session import open_session
from tailwise.nets.settings_language import TextLoop, Tuning
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.rank.language import CrossEncoderConfig
from tailwise.retrieve.popular import Popular, PopularConfig
from tailwise.types import Event, History, Request

ITEMS = 24


def titles(blank: bool = False) -> list[str]:
    """Even ones are good, odd ones bad."""
    return ["" if blank else f"{'good' if row % 2 == 0 else 'bad'} {chr(97 + row)}" for row in range(ITEMS)]


def training_of(names: list[str], *, people: int = 50, seed: int = 1) -> Training:
    rng = np.random.default_rng(seed)
    events = [
        {"user_id": f"u{person:02d}", "item_id": f"i{row:02d}", "time": float(n), "event": "click", "value": None}
        for person in range(people)
        for n, row in enumerate(
            [*rng.permutation(np.arange(1, ITEMS, 2))[:3], *rng.permutation(np.arange(0, ITEMS, 2))[:3]]
        )
    ]
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)], "title": names})
    nothing = np.zeros(ITEMS, np.float32)
    catalogue = Catalogue(frame, popularity=nothing + 1, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    schema = {"user_id": pl.String, "item_id": pl.String, "time": pl.Float64, "event": pl.String, "value": pl.Float32}
    whole = Interactions.of(pl.DataFrame(events, schema=schema), catalogue)
    inner, held = hold_out(whole, seed=0)
    return Training(inner, catalogue, 0, targets=held.first(0), held=held)


def engine_of(training: Training) -> Engine:
    popular = Bound("popular", Step(name="popular", k=ITEMS), Popular.fit(PopularConfig(), training))
    config = PipelineConfig(encode=EncodeConfig(model="hash"), retrieve=(popular.step,), stage=())
    return Engine(config, training.catalogue, training.interactions, (popular,), (), {})


def config_of(folder: Path, method: str = "full", **settings: Any) -> CrossEncoderConfig:
    train = TextLoop(epochs=12, learning_rate=0.01, warm_up_steps=2, average=0.5, patience=12, precision="float32")
    return CrossEncoderConfig(
        model=str(folder),
        tuning=Tuning(method=method),
        **{
            "train": train,
            "batch": 8,
            "dropout": 0.0,
            "int8": False,
            "threads": 1,
            "depth": 24,
            "lists": 0,
            **settings,
        },
    )


@pytest.fixture(scope="module")
def world() -> Training:
    return training_of(titles())


@pytest.fixture(scope="module")
def fitted(world: Training, tiny_backbone: Path) -> Any:
    return fit_cross_encoder(config_of(tiny_backbone, weight=2.0), world, engine_of(world))


def past(*rows: int) -> History:
    return History.of([Event("", f"i{row:02d}", float(n)) for n, row in enumerate(rows)]).place(np.array(rows))


def test_it_learns_what_people_take(fitted: Any) -> None:
    stage, notes = fitted

    said = stage.opinion(Request("r", history=past(1, 3)), np.arange(ITEMS))

    assert said[0::2].min() > said[1::2].max()
    assert notes["decision"] == "used for everybody at 2"
    assert notes["lists that taught"] == 30


def test_what_was_learned_and_saved_with_the_head_says_what_the_export_says(
    fitted: Any, world: Training, tiny_backbone: Path
) -> None:
    stage, _ = fitted
    from safetensors.torch import load

    reader = reader_of(stage.config, world, titles())
    load_learned(reader.net, load(stage.reading.learned))

    rows = reader.frame.rows(
        reader.frame.past(reader.titles, np.array([1, 3])), [reader.items.of(row) for row in range(ITEMS)]
    )
    with torch.no_grad():
        reader.net.eval()
        own = reader.read(rows).numpy()
    assert own == pytest.approx(stage.opinion(Request("r", history=past(1, 3)), np.arange(ITEMS)), abs=1e-4)


def test_the_same_seed_gives_the_same_weights_bitwise_whatever_the_threads(
    world: Training, tiny_backbone: Path
) -> None:
    short = TextLoop(epochs=2, warm_up_steps=2, precision="float32")
    config = config_of(tiny_backbone, "lora", weight=1.0, train=short, dropout=0.3)

    one, other = (fit_cross_encoder(config, replace(world, threads=n, memo={}), engine_of(world))[0] for n in (1, 2))

    assert one.reading is not None
    assert other.reading is not None
    assert one.reading.learned == other.reading.learned
    assert one.reading.onnx == other.reading.onnx


@pytest.mark.parametrize(("method", "together"), [("lora", True), ("prompt", False), ("prefix", False)])
def test_methods_that_put_places_before_a_text_read_one_item_a_row(
    world: Training, tiny_backbone: Path, method: str, together: bool
) -> None:
    short = TextLoop(epochs=1, warm_up_steps=2, precision="float32")
    stage, _ = fit_cross_encoder(config_of(tiny_backbone, method, weight=1.0, train=short), world, engine_of(world))

    assert stage.reading is not None
    assert stage.reading.frame.together is together
    assert len(np.unique(stage.opinion(Request("r", history=past(1, 3)), np.arange(ITEMS)))) > ITEMS // 2


def test_a_frozen_model_teaches_its_head_alone(world: Training, tiny_backbone: Path) -> None:
    short = TextLoop(epochs=1, warm_up_steps=2, precision="float32")
    stage, _ = fit_cross_encoder(config_of(tiny_backbone, "frozen", weight=1.0, train=short), world, engine_of(world))

    from safetensors.torch import load

    assert stage.reading is not None
    assert {name.partition(".")[0] for name in load(stage.reading.learned)} == {"head"}


def test_items_without_texts_leave_the_order(tiny_backbone: Path) -> None:
    blank = training_of(titles(blank=True))

    stage, notes = fit_cross_encoder(config_of(tiny_backbone), blank, engine_of(blank))

    assert notes == {"decision": "not used: no item has a text"}
    assert stage.needs == frozenset()


def test_the_log_teaches_beside_the_slates(world: Training, tiny_backbone: Path) -> None:
    short = TextLoop(epochs=1, warm_up_steps=2, precision="float32")

    config = config_of(tiny_backbone, "frozen", weight=1.0, train=short, lists=40)
    _, notes = fit_cross_encoder(config, world, engine_of(world))

    assert notes["lists that taught"] == 30 + 40


def test_steps_are_planned_by_what_the_log_can_teach(
    world: Training, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[int] = []
    monkeypatch.setattr(peft, "adapt", lambda model, _, *, seed, steps: (planned.append(steps), adapt(model, _))[1])

    config = config_of(tiny_backbone, "frozen", weight=1.0, train=TextLoop(epochs=2, minutes=1e-9), lists=10**6)
    fit_cross_encoder(config, world, engine_of(world))

    assert planned == [2 * (len(world.interactions) + 30) // 8]


def test_too_few_cases_leave_the_order(world: Training, tiny_backbone: Path) -> None:
    _, notes = fit_cross_encoder(config_of(tiny_backbone), world, engine_of(world))

    assert notes == {"decision": "not used: 30 lists could teach it, fewer than 100"}


def test_the_gate_lets_it_speak_where_people_it_never_met_say_so(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peft, "LEAST_LISTS", 20)
    many = training_of(titles(), people=150)

    stage, notes = fit_cross_encoder(config_of(tiny_backbone), many, engine_of(many))

    assert notes["auc of its opinion"] > 0.65  # half of the rest is as good: .75 is the most that can be told
    assert notes["decision"] == "asked where it helps"
    assert notes["ndcg@10 after (cross-fitted)"] > notes["ndcg@10 before"]
    assert stage.gate.query == 0.0
    assert any(stage.gate.weights)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_lessons_of_one_class_are_refused(world: Training, tiny_backbone: Path, label: float) -> None:
    config = config_of(tiny_backbone, loss="bce")
    reader = reader_of(config, world, titles())
    own = Lesson(np.array([7]), np.array([0, 1]), np.array([label, label], np.float32))

    with pytest.raises(
        DataError, match=r"^no lesson of the cross-encoder has two classes: nothing was taken, or everyth"
    ):
        tune(reader, [own] * 4, [], config=config, training=world)


@pytest.mark.parametrize("loss", ["bce", "pairwise", "listwise"])
def test_every_loss_learns(world: Training, tiny_backbone: Path, loss: Any) -> None:
    config = config_of(tiny_backbone, loss=loss)
    reader = reader_of(config, world, titles())
    rng = np.random.default_rng(0)
    lessons = [
        Lesson(reader.titles.of(int(rng.integers(ITEMS))), np.array([good, bad]), np.array([1.0, 0.0], np.float32))
        for good, bad in zip(rng.integers(0, 12, 60) * 2, rng.integers(0, 12, 60) * 2 + 1, strict=True)
    ]

    progress = tune(reader, lessons[:50], lessons[50:], config=config, training=world)

    assert progress.best_value > 0.95
    onnx = open_session(exported_reader(reader.net, "tiny", int8=False), "tiny")
    said = [logits(onnx, reader.rows([own])) for own in lessons[50:]]
    assert list_auc(said, lessons[50:]) > 0.95


def test_the_clock_ends_it(world: Training, tiny_backbone: Path) -> None:
    train = TextLoop(epochs=50, minutes=1e-9, precision="float32")

    stage, notes = fit_cross_encoder(config_of(tiny_backbone, weight=1.0, train=train), world, engine_of(world))

    assert notes["epochs"] == 0
    assert stage.reading is not None  # as it came; whoever gave a weight wants its opinion


def test_batches_end_with_the_clock_and_tell_how_far_they_are() -> None:
    told: list[tuple[str, int, int]] = []
    net = torch.nn.Linear(1, 1)
    endless = until_over(
        lambda epoch: iter([[epoch]] * 3),
        net,
        TextLoop(),
        name="it",
        total=3,
        until=time.monotonic() + 60,
        report=lambda *own: told.append(own),
    )
    over = until_over(
        lambda epoch: iter([[epoch]] * 3), net, TextLoop(), name="it", total=3, until=0.0, report=lambda *own: None
    )

    assert list(endless(1)) == [[1]] * 3
    assert told == [("it, epoch 2", 0, 3), ("it, epoch 2", 3, 3)]
    assert list(over(0)) == []


def test_arithmetic_is_what_the_processor_is_quick_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for quick, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(peft, "fast_bfloat16", lambda quick=quick: quick)
        assert loop_of(TextLoop()).precision == expected
    assert loop_of(TextLoop(precision="float32")).precision == "float32"


def test_more_tokens_than_the_model_reads_are_refused(world: Training, tiny_backbone: Path) -> None:
    config = config_of(tiny_backbone, history_tokens=110)  # and 24 of the item, and 3 marks

    with pytest.raises(
        ConfigError, match=rf"^history_tokens and item_tokens make 144, but {tiny_backbone} reads 128; lower them$"
    ):
        reader_of(config, world, titles())


def test_a_column_that_is_not_there_and_a_missing_package_are_told(
    world: Training, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"^columns names 'plot', but the items have: item_id, title$"):
        fit_cross_encoder(config_of(tiny_backbone, columns=("plot",)), world, engine_of(world))
    monkeypatch.setattr(language.util, "find_spec", lambda name: None if name == "peft" else object())
    with pytest.raises(UnavailableError, match=r"^fine-tuning a language model needs peft: pip install "):
        fit_cross_encoder(config_of(tiny_backbone, "lora"), world, engine_of(world))
