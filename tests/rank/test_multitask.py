"""The stage of several heads, around a network whose answer is known: item vectors times fixed weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from tailwise.config import settings_of
from tailwise.data.catalogue import Catalogue
from tailwise.errors import ArtifactError, ConfigError
from tailwise.rank.calibration import Curve
from tailwise.rank.multitask import CONTEXT, NO_HEADS, Heads, MultiTask, MultiTaskConfig, Usual, marks_of, times_had
from tailwise.types import EVENT_KINDS, Event, History, Request, Slate, ids_of

TASKS = ("click", "purchase", "rating", "dwell", "dislike")
TABLE = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32)
SAYS = np.array([[2, 1, 0, 0, -2], [-2, -3, 1, 0, 2], [0, 0, -1, 1, 0]], np.float32)
"""What each head says of a vector's three directions."""
USUAL = Usual(
    np.array([3.5, 2.0, 1.0, 5.0], np.float32),
    np.array([np.log(11), 1.0, 0.0, np.log(101)], np.float32),
    np.array([0.5, 0.0, -0.5, 0.0], np.float32),
)
LOGISTIC = {odds: 1 / (1 + np.exp(-odds)) for odds in (-3, -2, 0, 1, 2)}


def network() -> bytes:
    """``items @ SAYS``, and the sum of the context beside it."""
    shapes: dict[str, list[int | str]] = {
        "past": [1, "time", 3],
        "marks": [1, "time", 12],
        "items": [1, "n", 3],
        "facts": [1, "n", 4],
        "context": [1, 2],
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    told = helper.make_tensor_value_info("told", TensorProto.FLOAT, [1, "n", len(TASKS)])
    nodes = [
        helper.make_node("MatMul", ["items", "says"], ["plain"]),
        helper.make_node("ReduceSum", ["context"], ["moment"], keepdims=1),
        helper.make_node("Add", ["plain", "moment"], ["told"]),
    ]
    graph = helper.make_graph(nodes, "known", inputs, [told], [numpy_helper.from_array(SAYS, "says")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    raw: bytes = model.SerializeToString()
    return raw


HEADS = Heads(TASKS, network(), TABLE, np.zeros((4, 3), np.float32), USUAL, (Curve.line(),) * len(TASKS), 2, 4)


def stage(**config: Any) -> MultiTask:
    return MultiTask(MultiTaskConfig(**config), HEADS)


def slate(*rows: int, scores: tuple[float, ...] = ()) -> Slate:
    given = scores or tuple(range(len(rows), 0, -1))
    return Slate(ids_of([f"i{row}" for row in rows]), np.array(given, np.float32), {"row": np.array(rows, np.int64)})


def past(*events: tuple[int, str, float | None]) -> History:
    made = History.of([Event("", f"i{row}", float(n), kind, value) for n, (row, kind, value) in enumerate(events)])
    return made.place(np.array([row for row, _, _ in events], np.int64))


def ask(history: History | None = None, **fields: Any) -> Request:
    return Request("r", history=past() if history is None else history, **fields)


def test_every_head_speaks_in_its_own_unit() -> None:
    after = stage()(ask(), slate(0, 1, 2))

    assert after.columns["p_click"] == pytest.approx([LOGISTIC[2], LOGISTIC[-2], LOGISTIC[0]])
    assert after.columns["p_dislike"] == pytest.approx([LOGISTIC[-2], LOGISTIC[2], LOGISTIC[0]])
    assert after.columns["rating"] == pytest.approx([4.0, 5.0, 1.0])  # 3.5 + item + 2 · said, within 1 to 5
    assert after.columns["dwell"] == pytest.approx([10.0, 10.0, 11 * np.e - 1], rel=1e-5)
    assert all(after.columns[name].dtype == np.float32 for name in stage().gives)


def test_a_purchase_is_never_likelier_than_a_click() -> None:
    steep = replace(HEADS, curves=(Curve.line(), Curve.line(3.0), *HEADS.curves[2:]))

    after = MultiTask(MultiTaskConfig(), steep)(ask(), slate(0, 1))

    assert after.columns["p_purchase"] == pytest.approx([LOGISTIC[2], 1 / (1 + np.exp(9))])


def test_a_curve_says_what_the_network_means() -> None:
    halved = replace(HEADS, curves=(Curve.line(0.5), *HEADS.curves[1:]))

    assert MultiTask(MultiTaskConfig(), halved).predict(ask(), np.array([0]))["click"] == pytest.approx([LOGISTIC[1]])


def test_a_person_who_rates_high_is_told_higher_ratings() -> None:
    generous = past((3, "rating", 5.0), (0, "rating", 5.0), (1, "click", None), (1, "rating", None))

    rating = stage().predict(ask(generous), np.array([0]))["rating"]

    assert rating == pytest.approx([4.0 + (1.5 + 1.0) / (2 + 10)])


def test_an_unknown_item_is_told_nothing_of() -> None:
    after = stage()(ask(), slate(0, -1))

    assert all(np.isnan(after.columns[name]).tolist() == [False, True] for name in stage().gives)


def test_without_a_blend_the_order_stands() -> None:
    before = slate(1, 0, 2, scores=(5.0, np.nan, 1.0))

    after = stage()(ask(), before)

    assert after.item_ids.tolist() == ["i1", "i0", "i2"]
    assert np.array_equal(after.scores, before.scores, equal_nan=True)


def test_a_blend_mixes_standardised_heads_with_the_order_that_came() -> None:
    after = stage(blend={"click": 1.0})(ask(), slate(1, 0))  # both standardise to ±1, and cancel

    assert after.scores.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert after.item_ids.tolist() == ["i1", "i0"]


@pytest.mark.parametrize(
    ("blend", "first"),
    [({"click": 1.1}, "i0"), ({"click": 0.9}, "i1"), ({"score": 0, "rating": 1}, "i1"), ({"dislike": -2.0}, "i0")],
)
def test_a_request_s_blend_decides(blend: dict[str, float], first: str) -> None:
    after = stage(blend={"click": -9.0})(ask(blend=blend), slate(1, 0))

    assert after.item_ids[0] == first


def test_an_empty_blend_of_a_request_leaves_the_order_whatever_the_pipeline_says() -> None:
    assert stage(blend={"click": 9.0})(ask(blend={}), slate(1, 0)).item_ids.tolist() == ["i1", "i0"]


@pytest.mark.parametrize("blend", [{"dislike": -1.0, "score": 0}, {"click": 1.0, "score": 0}])
def test_an_unknown_item_is_worst_in_every_head_even_one_that_speaks_against(blend: dict[str, float]) -> None:
    after = stage()(ask(blend=blend), slate(-1, 1, 0))

    assert after.item_ids.tolist()[0] == "i0"
    assert after.item_ids.tolist().index("i-1") >= 1
    assert after.scores[list(after.item_ids).index("i-1")] == after.scores.min()


def test_a_head_of_the_pipeline_s_blend_that_the_model_lacks_is_left_out() -> None:
    after = stage(blend={"favourite": 1.0})(ask(), slate(1, 0))

    assert after.item_ids.tolist() == ["i1", "i0"]


def test_what_is_known_of_the_moment_reaches_the_network() -> None:
    request = ask()
    request.cache[CONTEXT] = np.array([0.5, 0.5], np.float32)

    assert stage().predict(request, np.array([1]))["click"] == pytest.approx([1 / (1 + np.e)])


def test_without_heads_nothing_is_told_and_the_order_stands(tmp_path: Path) -> None:
    MultiTask(MultiTaskConfig()).save(tmp_path)
    silent = MultiTask.open(MultiTaskConfig(blend={"click": 1.0}), catalogue(), tmp_path)

    after = silent(ask(), slate(1, 0))

    assert silent.learned is NO_HEADS
    assert silent.gives == frozenset()
    assert after.columns.keys() == {"row"}
    assert after.item_ids.tolist() == ["i1", "i0"]


def test_an_empty_slate_gets_its_columns_too() -> None:
    after = stage(blend={"click": 1.0})(ask(), slate())

    assert {name: len(after.columns[name]) for name in stage().gives} == dict.fromkeys(stage().gives, 0)


def catalogue() -> Catalogue:
    nothing = np.zeros(4, np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row}" for row in range(4)]})
    return Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)


def test_what_is_saved_opens_equal(tmp_path: Path) -> None:
    stage().save(tmp_path / "multitask")

    opened = MultiTask.open(MultiTaskConfig(), catalogue(), tmp_path / "multitask")

    history = past((0, "rating", 2.0), (1, "view", None))
    for task, values in stage().predict(ask(history), np.arange(4)).items():
        assert np.array_equal(opened.predict(ask(history), np.arange(4))[task], values)
    assert (opened.learned.drawn, opened.learned.context) == (4, 2)


@pytest.mark.parametrize("name", ["multitask.json", "multitask.onnx", "multitask.safetensors"])
def test_a_missing_part_is_told(tmp_path: Path, name: str) -> None:
    stage().save(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(ArtifactError, match=rf"^{tmp_path}/multitask.* cannot be read \(.+\); fit the model again$"):
        MultiTask.open(MultiTaskConfig(), catalogue(), tmp_path)


def test_a_damaged_network_is_told(tmp_path: Path) -> None:
    stage().save(tmp_path)
    (tmp_path / "multitask.onnx").write_bytes(b"\x01\x02")

    with pytest.raises(ArtifactError, match=r"^the multi-task network cannot be run \(.+\); fit the model again$"):
        MultiTask.open(MultiTaskConfig(), catalogue(), tmp_path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {"loss_weights": {"score": 1}},
            "m: loss_weights is {'score': 1}, but: Value error, score is no head; heads: ",
        ),
        ({"blend": {"buy": 1}}, "m: blend is {'buy': 1}, but: Value error, buy is no head; heads: click, purchase, "),
        ({"loss_weights": {"score": -1}}, "m: loss_weights.score is -1, but: Input should be greater than or equal to"),
        ({"blend": {"click": float("nan")}}, "m: blend.click is nan, but: Input should be a finite number"),
        ({"calibration": "platt"}, "m: calibration is 'platt', but: Input should be 'temperature', 'isotonic' or "),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(MultiTaskConfig, raw, where="m")

    assert str(caught.value).startswith(message)


def test_marks_tell_what_is_there_what_is_new_and_of_which_kind() -> None:
    marks = marks_of(np.array([0, 5, 5]), np.array([0.0, 2.0, -1.0]), np.array([False, True, True]), 1)

    assert not marks[0].any()
    assert marks[1:, :3].tolist() == [[1, 0, 2], [1, 1, -1]]
    assert marks[1:, 3:].argmax(1).tolist() == [5, 5]


def test_times_had_counts_only_what_is_there() -> None:
    had = times_had(np.array([[4, 4, 7]]), np.array([[False, True, True]]), np.array([[4, 7, 9]]))

    assert had.tolist() == [pytest.approx([np.log(2), np.log(2), 0])]


def test_a_value_that_is_missing_or_absurd_says_nothing_too_loud() -> None:
    kinds = np.array([EVENT_KINDS.index(kind) for kind in ("rating", "rating", "dwell", "dwell", "click")])
    values = np.array([4.0, np.nan, 1e30, -5.0, 9.0], np.float32)

    more = USUAL.surplus(kinds, np.array([0, 0, 1, 1, 1]), values)

    assert more.tolist() == pytest.approx([0.0, 0.0, 30.0, -np.log(11), 0.0])
