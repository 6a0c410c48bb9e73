"""Heads in small worlds whose answer is known: learned, calibrated, exported, served; and logs that teach little."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.data.catalogue import Catalogue  # noqa: E402  after the package that may be absent
from tailwise.data.episodes import DAY, TASKS, episodes_of  # noqa: E402
from tailwise.data.interactions import Interactions, Training  # noqa: E402
from tailwise.data.load import Dataset  # noqa: E402
from tailwise.learn.lessons import Lessons  # noqa: E402
from tailwise.learn.multitask import _loss, _tell, fit_multitask  # noqa: E402
from tailwise.nets.multitask import MultiTaskNet  # noqa: E402
from tailwise.rank.multitask import NO_HEADS, MultiTask, MultiTaskConfig  # noqa: E402
from tailwise.types import NO_HISTORY, Event, History, Request  # noqa: E402

ITEMS = 12
Row = tuple[str, int, float, str, float | None]
SMALL: dict[str, Any] = {
    "shape": {"dim": 8, "history": 8, "expert_dim": 16, "expert_count": 2, "tower_dim": 8, "dropout": 0.1},
    "train": {"epochs": 12, "learning_rate": 0.02, "warm_up_steps": 5, "average": 0.9, "patience": 12},
    "batch_rows": 128,
}
ENGINE: Any = None  # the heads ask nothing of it


def config(**more: Any) -> MultiTaskConfig:
    return MultiTaskConfig.model_validate({**SMALL, **more})


def catalogue(*, text: bool = True) -> Catalogue:
    """Even and odd items differ in their texts."""
    vectors = np.zeros((ITEMS, 4), np.float32)
    vectors[np.arange(ITEMS), np.arange(ITEMS) % 2] = 1
    nothing = np.zeros(ITEMS, np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]})
    return Catalogue(frame, popularity=nothing, recent=nothing, vectors=vectors * text, tail_cut=0.2)


def training_of(rows: list[Row], *, text: bool = True, **more: Any) -> Training:
    schema = {"user_id": pl.String, "item_id": pl.String, "time": pl.Float64, "event": pl.String, "value": pl.Float32}
    events = [(person, f"i{item:02d}", 1e9 + day * DAY, kind, value) for person, item, day, kind, value in rows]
    frame = pl.DataFrame(events, schema=schema, orient="row")
    known = catalogue(text=text)
    return Training(Interactions.of(Dataset.of("x", events=frame).events, known), known, 3, **more)


def shop(people: int = 60, seed: int = 0) -> list[Row]:
    """
    Each person sees items every other day, likes the even or the odd ones, and clicks those with chance 0.9, others
    with 0.1; of what was clicked, the first half of the items is bought with chance 0.8, the rest with 0.1.
    """
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for person in range(people):
        for step, item in enumerate(rng.integers(ITEMS, size=14)):
            name, day = f"u{person:03d}", 2.0 * step
            rows.append((name, int(item), day, "view", None))
            if rng.random() < (0.9 if item % 2 == person % 2 else 0.1):
                rows.append((name, int(item), day + 0.1, "click", None))
                if rng.random() < (0.8 if item < ITEMS / 2 else 0.1):
                    rows.append((name, int(item), day + 0.2, "purchase", None))
    return rows


def rated(people: int = 60, seed: int = 1) -> list[Row]:
    """Each person likes the even items and not the odd ones, or the other way round; what they like they dwell on."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for person in range(people):
        for step, item in enumerate(rng.permutation(ITEMS)):
            likes = item % 2 == person % 2
            rows.append((f"u{person:03d}", int(item), 2.0 * step, "rating", 5.0 if likes else 1.0))
            rows.append((f"u{person:03d}", int(item), 2.0 * step + 0.1, "dwell", 100.0 if likes else 5.0))
    return rows


def asked(*events: tuple[int, str, float | None]) -> Request:
    past = History.of([Event("u", f"i{row:02d}", 1e9 + n, kind, value) for n, (row, kind, value) in enumerate(events)])
    return Request("r", history=past.place(np.array([row for row, _, _ in events], np.int64)))


@pytest.fixture(scope="module")
def shop_heads() -> MultiTask:
    return fit_multitask(config(), training_of(shop()), ENGINE)[0]


def test_clicks_follow_the_person_and_purchases_the_item_too(shop_heads: MultiTask) -> None:
    told = shop_heads.predict(asked((2, "click", None), (4, "click", None), (8, "click", None)), np.arange(ITEMS))

    even = np.arange(ITEMS) % 2 == 0
    cheap = np.arange(ITEMS) < ITEMS / 2
    assert shop_heads.heads.keys() == {"click", "purchase"}
    assert told["click"][even].min() > 0.6
    assert told["click"][~even].max() < 0.4
    assert told["purchase"][even & cheap].min() > 2 * told["purchase"][~(even & cheap)].max()
    assert (told["purchase"] <= told["click"]).all()


def test_chances_mean_what_they_say(shop_heads: MultiTask) -> None:
    fresh = training_of(shop(seed=9)).interactions
    episodes = episodes_of(fresh, window_days=1.0)
    told = []
    for person, row, end in zip(episodes.people, episodes.rows, episodes.ends, strict=True):
        own = fresh.events_of(int(person), catalogue())
        past = own.take(slice(0, int(end - fresh.offsets[person])))
        told.append(float(shop_heads.predict(Request("r", history=past), np.array([row]))["purchase"][0]))

    bought = episodes.labels[:, TASKS.index("purchase")]
    assert np.mean(told) == pytest.approx(bought.mean(), abs=0.04)


@pytest.mark.parametrize("experts", ["shared", "mmoe", "ple"])
def test_ratings_and_dwell_times_are_told_in_their_own_units(experts: str) -> None:
    heads, notes = fit_multitask(config(shape={**SMALL["shape"], "experts": experts}), training_of(rated()), ENGINE)

    told = heads.predict(asked((0, "rating", 5.0), (1, "rating", 1.0), (4, "rating", 5.0)), np.array([2, 3, 6, 7, -1]))

    assert told["rating"][[0, 2]].min() > 4
    assert told["rating"][[1, 3]].max() < 2
    assert told["dwell"][[0, 2]].min() > 40
    assert told["dwell"][[1, 3]].max() < 12
    assert np.isnan(told["rating"][4])
    assert notes["rating: rmse"] < notes["rating: rmse, damped means"] / 2
    assert notes["counter-examples"] == "what the log shows"


def test_where_nothing_shows_what_was_passed_over_counter_examples_are_drawn() -> None:
    clicks = [row for row in shop() if row[3] == "click"]

    heads, notes = fit_multitask(config(negatives=2), training_of(clicks), ENGINE)
    told = heads.predict(asked((2, "click", None), (4, "click", None)), np.arange(ITEMS))["click"]

    assert heads.learned.drawn == 2
    assert notes["counter-examples"] == "2 drawn for each act"
    assert told[::2].mean() > 2 * told[1::2].mean()


def test_the_same_seed_gives_the_same_heads_bitwise_whatever_the_threads(tmp_path: Path) -> None:
    short = config(train={"epochs": 2})
    for name, threads in (("one", 1), ("two", 2)):
        fit_multitask(short, training_of(shop(20), threads=threads), ENGINE)[0].save(tmp_path / name)

    for name in ("multitask.json", "multitask.onnx", "multitask.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_is_served_equals_what_was_trained(tmp_path: Path) -> None:
    short = config(train={"epochs": 2}, calibration="none")
    training = training_of(shop(20))
    heads, _ = fit_multitask(short, training, ENGINE)
    log = training.interactions
    episodes = episodes_of(log, window_days=1.0)
    lessons = Lessons.of(short, log, episodes, tasks=heads.learned.tasks, learning=np.ones(len(episodes), bool))
    (part,) = lessons.parts(np.arange(len(episodes)), np.random.default_rng(0), 1)
    own = heads.learned
    read = lessons.read(part)

    for place in range(0, len(episodes), 37):
        there = read.marks[place, :, 0] > 0
        given = {
            "past": own.table[read.past[place][there]],
            "marks": read.marks[place][there],
            "items": own.table[read.items[place]],
            "facts": read.facts[place],
            "context": read.context[place],
        }
        (alone,) = heads._session.run(None, {name: np.asarray(a, np.float32)[None] for name, a in given.items()})
        padded = {**given, "past": own.table[read.past[place]], "marks": read.marks[place]}
        (wide,) = heads._session.run(None, {name: np.asarray(a, np.float32)[None] for name, a in padded.items()})
        assert alone == pytest.approx(wide, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("loss_weights", [{}, {"click": 2.0}])
def test_the_parts_of_a_batch_cost_together_what_the_batch_costs(loss_weights: dict[str, float]) -> None:
    settings = config(loss_weights=loss_weights, shape={**SMALL["shape"], "dropout": 0.0})
    log = training_of(shop(20)).interactions
    episodes = episodes_of(log, window_days=1.0)
    tasks = ("click", "purchase")
    lessons = Lessons.of(settings, log, episodes, tasks=tasks, learning=np.ones(len(episodes), bool))
    torch.manual_seed(0)
    net = MultiTaskNet(settings.shape, tasks, ITEMS, None)
    torch.nn.init.normal_(net.out)
    torch.nn.init.normal_(net.log_variance)
    loss, noise = _loss(net, lessons), torch.Generator()

    halves = lessons.parts(np.arange(100), np.random.default_rng(0), 2)
    (whole,) = lessons.parts(np.arange(100), np.random.default_rng(0), 1)

    together = sum(float(loss(part, noise).detach()) for part in halves)
    assert together == pytest.approx(float(loss(whole, noise).detach()), rel=1e-5)
    said, labels = _tell(net, lessons, whole, None)
    means = [
        torch.nn.functional.binary_cross_entropy_with_logits(said[..., k], labels[..., k]).item() for k in range(2)
    ]
    spread = net.log_variance.detach()
    learned = sum(mean * np.exp(-float(s)) + float(s) / 2 for mean, s in zip(means, spread, strict=True))
    assert together == pytest.approx(2 * means[0] + means[1] if loss_weights else learned, rel=1e-5)


def test_a_head_of_one_class_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    rows = [*rated(20), *((f"u{p:03d}", 3, 90.0, "dislike", None) for p in range(4))]

    with caplog.at_level(logging.WARNING):
        heads, notes = fit_multitask(config(train={"epochs": 1}), training_of(rows), ENGINE)

    assert heads.heads.keys() == {"rating", "dwell"}
    assert "head left out: head=dislike reason=" in caplog.text
    assert "click: no labels" in str(notes["left out"])


def test_without_labels_it_tells_nothing_and_warns(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    views: list[Row] = [(f"u{n % 5}", n % ITEMS, float(n), "view", None) for n in range(40)]

    with caplog.at_level(logging.WARNING):
        heads, notes = fit_multitask(config(), training_of(views), ENGINE)
    heads.save(tmp_path)

    assert heads.learned is NO_HEADS
    assert notes["decision"] == "not used: no head has labels"
    assert "multitask tells nothing: no head has labels" in caplog.text


def test_ratings_that_are_all_alike_or_missing_make_no_head() -> None:
    same: list[Row] = [(f"u{n % 9}", n % ITEMS, float(n), "rating", 3.0) for n in range(60)]
    missing: list[Row] = [(f"u{n % 9}", n % ITEMS, float(n), "rating", None) for n in range(60)]

    for rows, why in ((same, "rating: every label is 3"), (missing, "rating: no labels")):
        heads, notes = fit_multitask(config(), training_of(rows), ENGINE)

        assert not heads.heads
        assert why in str(notes["left out"])


def test_people_with_one_event_teach_what_they_can() -> None:
    rows: list[Row] = [(f"u{n:03d}", n % ITEMS, float(n), "click", None) for n in range(80)]

    heads, _ = fit_multitask(config(train={"epochs": 1}), training_of(rows), ENGINE)

    assert np.isfinite(heads.predict(Request("r", history=NO_HISTORY), np.arange(ITEMS))["click"]).all()


def test_a_log_of_one_moment_is_learned_from_without_looking_at_the_answer() -> None:
    rows = [(person, item, 0.0, kind, value) for person, item, _, kind, value in rated() if kind == "rating"]

    heads, notes = fit_multitask(config(), training_of(rows), ENGINE)
    told = heads.predict(asked((0, "rating", 5.0), (1, "rating", 1.0)), np.arange(2, ITEMS))["rating"]

    assert (told[::2] > told[1::2]).all()  # even items are liked
    assert notes["rating: rmse"] < notes["rating: rmse, damped means"]


@pytest.mark.parametrize("text", [True, False])
def test_an_item_that_nobody_touched_keeps_its_text_alone(text: bool) -> None:
    rows = [row for row in shop(20) if row[1] not in (10, 11)]

    heads, _ = fit_multitask(config(train={"epochs": 1}), training_of(rows, text=text), ENGINE)

    table = heads.learned.table
    assert table[[10, 11]].any() == text
    if text:  # the two differ in their texts, and agree with nothing else
        assert not np.allclose(table[10], table[11])


def test_an_interrupted_fit_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    training = training_of(shop(20), folder=tmp_path)
    short = config(train={"epochs": 3})
    whole, _ = fit_multitask(short, training_of(shop(20)), ENGINE)

    fit_multitask(short, training, ENGINE)
    again, _ = fit_multitask(short, training, ENGINE)  # everything is there already

    assert len(list(tmp_path.glob("multitask-*"))) == 1
    assert np.array_equal(again.learned.table, whole.learned.table)


def test_heads_that_diverge_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    wild = config(train={"optimizer": "sgd", "learning_rate": 1e6, "epochs": 3})

    with caplog.at_level(logging.WARNING, logger="tailwise"):
        stage, notes = fit_multitask(wild, training_of(shop()), ENGINE)

    assert stage.learned is NO_HEADS
    assert notes["decision"] == "not used: it diverged; lower train.learning_rate"
    assert "multitask tells nothing: it diverged" in caplog.text
