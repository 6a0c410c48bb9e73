"""Heads measured on a test part whose answers are known, around a network that says of an item what its table says."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from onnx import TensorProto, helper

from tailwise.config import PipelineConfig, Step
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.data.load import Dataset
from tailwise.data.split import Split
from tailwise.evaluate.calibration import head_results
from tailwise.evaluate.run import evaluate
from tailwise.fakes import FixedRetriever
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.rank.calibration import Curve
from tailwise.rank.multitask import Heads, MultiTask, MultiTaskConfig, Usual

ITEMS = ("a", "b", "c", "d")
TASKS = ("click", "rating")
ODDS = {0.8: math.log(4), 0.2: -math.log(4)}
TABLE = np.array([[ODDS[0.8], 1.0], [ODDS[0.2], -1.0], [ODDS[0.8], 0.0], [ODDS[0.2], 0.0]], np.float32)
"""What is said of each item: the log-odds of a click, and stars above the mean."""
Row = tuple[str, str, str, float | None]
TRAIN: list[Row] = [("u", "c", "click", None), ("v", "d", "click", None), ("w", "d", "view", None)]


def network() -> bytes:
    shapes: dict[str, list[int | str]] = {
        "past": [1, "time", 2],
        "marks": [1, "time", 12],
        "items": [1, "n", 2],
        "facts": [1, "n", 4],
        "context": [1, 0],
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    told = helper.make_tensor_value_info("told", TensorProto.FLOAT, [1, "n", 2])
    graph = helper.make_graph([helper.make_node("Identity", ["items"], ["told"])], "known", inputs, [told])
    raw: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return raw


def heads(drawn: int = 0) -> MultiTask:
    usual = Usual(np.array([3, 1, 1, 5], np.float32), np.array([0, 1, 0, 1], np.float32), np.zeros(4, np.float32))
    lines = (Curve.line(), Curve.line())
    return MultiTask(
        MultiTaskConfig(), Heads(TASKS, network(), TABLE, np.zeros((4, 3), np.float32), usual, lines, 0, drawn)
    )


def split(test: list[Row], train: list[Row] = TRAIN) -> Split:
    schema = {"user_id": pl.String, "item_id": pl.String, "event": pl.String, "value": pl.Float32}

    def frame(rows: list[Row], start: float) -> pl.DataFrame:
        plain = pl.DataFrame(rows, schema=schema, orient="row")
        return plain.with_columns(time=start + 1e5 * pl.int_range(pl.len()).cast(pl.Float64))

    return Split("time", Dataset.of("shop", events=frame(train, 1e9)), frame(test, 2e9), None, "made up")


def engine(known: Split, *stages: MultiTask) -> Engine:
    nothing = np.ones(4, np.float32)
    catalogue = Catalogue(
        pl.DataFrame({"item_id": ITEMS}),
        popularity=nothing,
        recent=nothing,
        vectors=np.eye(4, dtype=np.float32),
        tail_cut=0.2,
    )
    people = Interactions.of(known.train.events, catalogue)
    source = Bound("fixed", Step(name="popular"), FixedRetriever(ITEMS))
    bound = tuple(Bound("multitask", Step(name="multitask"), stage) for stage in stages)
    return Engine(PipelineConfig(), catalogue, people, (source,), bound, {"seconds": 1.0})


def measured(known: Split, stage: MultiTask) -> dict[str, dict[str, float]]:
    return {result.name: result.overall for result in head_results(engine(known, stage), known, seed=0)}


def test_chances_are_measured_by_order_loss_and_calibration() -> None:
    known = split(
        [("u", "a", "click", None), ("u", "b", "view", None), ("v", "a", "view", None), ("x", "b", "view", None)]
    )

    found = measured(known, heads())["multitask: click"]

    assert found["auc"] == 5 / 6
    assert found["log_loss"] == pytest.approx(-(math.log(0.8) + 3 * math.log(0.8) - math.log(0.8) + math.log(0.2)) / 4)
    assert found["ece"] == pytest.approx((0.2 + 0.2 + 0.8 + 0.2) / 4, abs=1e-6)  # each row its own bin


def test_ratings_are_measured_in_their_scale() -> None:
    known = split([("u", "a", "rating", 5.0), ("v", "b", "rating", 2.0), ("v", "nobody knows it", "rating", 1.0)])

    found = measured(known, heads())

    assert found == {"multitask: rating": {"mae": 0.5, "rmse": pytest.approx(math.sqrt(0.5))}}


def test_counter_examples_are_drawn_where_the_fit_drew_them() -> None:
    known = split([("u", "a", "click", None), ("v", "a", "click", None)], [row for row in TRAIN if row[2] == "click"])

    alone, drawn = (measured(known, heads(count))["multitask: click"] for count in (0, 50))

    assert math.isnan(alone["auc"])  # everything that the test part tells was clicked
    assert 0.5 < drawn["auc"] < 1
    assert drawn == measured(known, heads(50))["multitask: click"]


def test_without_heads_or_labels_nothing_is_measured() -> None:
    known = split([("u", "a", "rating", None), ("v", "b", "rating", None)])

    assert head_results(engine(known), known, seed=0) == []
    assert head_results(engine(known, MultiTask(MultiTaskConfig())), known, seed=0) == []
    assert head_results(engine(known, heads()), known, seed=0) == []


def test_an_evaluation_shows_the_heads_beside_the_damped_means() -> None:
    train: list[Row] = [("u", "c", "rating", 3.0), ("v", "d", "rating", 3.0)]
    known = split([("u", "a", "rating", 4.0), ("v", "b", "rating", 2.0)], train)

    report = evaluate(engine(known, heads()), known)

    by_name = {method.name: method.overall for method in report.methods}
    assert by_name["multitask: rating"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert by_name["damped means (ratings)"]["rmse"] == pytest.approx(1.0)
