"""The cross-encoder in service: opinions, what is remembered, the gate, and what its folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tailwise.errors import Abstain, ArtifactError
from tailwise.pipeline import Engine
from tailwise.rank import language
from tailwise.rank.gate import Gate
from tailwise.rank.language import CrossEncoder, CrossEncoderConfig, Memory
from tailwise.types import NO_HISTORY, QUERY, Event, History, Request, Slate, ids_of

ROWS = np.arange(48)


def past(*rows: int) -> History:
    return History.of([Event("", f"i{row:02d}", float(n)) for n, row in enumerate(rows)]).place(
        np.array(rows, np.int64)
    )


def request(*rows: int) -> Request:
    return Request("r", history=past(*rows))


def slate(rows: list[int]) -> Slate:
    columns = {"row": np.array(rows), "popularity": np.ones(len(rows), np.float32)}
    return Slate(ids_of([f"i{row:02d}" for row in rows]), np.linspace(1, 0, len(rows), dtype=np.float32), columns)


@pytest.fixture(scope="module")
def stage(tiny_engine: Engine) -> CrossEncoder:
    (run,) = (bound.run for bound in tiny_engine.stages if bound.key == "cross_encoder")
    return run


def again(stage: CrossEncoder, *, gate: Gate | None = None, **settings: Any) -> CrossEncoder:
    return CrossEncoder(stage.config.model_copy(update=settings), gate or stage.gate, stage.reading)


def test_an_opinion_of_many_is_that_of_each_alone(stage: CrossEncoder) -> None:
    together = again(stage).opinion(request(3, 7), ROWS)

    alone = [float(again(stage, threads=1).opinion(request(3, 7), ROWS[row : row + 1])[0]) for row in (0, 5, 47)]
    assert together[[0, 5, 47]] == pytest.approx(alone, abs=1e-4)
    assert len(np.unique(together)) > 40  # or all would be alike whatever is read


def test_another_history_is_another_opinion(stage: CrossEncoder) -> None:
    assert not np.array_equal(stage.opinion(request(3), ROWS), stage.opinion(request(4), ROWS))
    assert np.array_equal(stage.opinion(request(3, 7), ROWS), stage.opinion(request(3, 7, 3, 7), ROWS))


def test_what_is_not_known_has_no_opinion(stage: CrossEncoder) -> None:
    said = stage.opinion(request(3), np.array([-1, 4, -1]))

    assert np.isnan(said).tolist() == [True, False, True]


@pytest.mark.parametrize("history", [NO_HISTORY, past(-1, -1)])
def test_a_history_without_texts_keeps_the_order(stage: CrossEncoder, history: History) -> None:
    before = slate([4, 2, 9])

    after = stage(Request("r", history=history), before)

    assert np.isnan(stage.opinion(Request("r", history=history), ROWS)).all()
    assert after.item_ids.tolist() == before.item_ids.tolist()


def test_a_heavy_weight_orders_by_its_opinion_and_leaves_the_rest_behind(stage: CrossEncoder) -> None:
    loud = again(stage, gate=Gate.always(1e6, 50), depth=6)
    before = slate([4, 2, 9, 11, 30, 7, 1, 0])

    after = loud(request(3), before)

    said = loud.opinion(request(3), after.columns["row"][:6])
    assert (np.diff(said) <= 0).all()
    assert after.item_ids[6:].tolist() == ["i01", "i00"]


def test_where_the_gate_does_not_ask_nothing_is_read(stage: CrossEncoder) -> None:
    shut = again(stage, gate=Gate())

    with pytest.raises(Abstain, match=r"^gate: it did not help people with 1-5 events$"):
        shut(request(3), slate([4, 2]))

    assert len(shut._memory) == 0


def test_a_query_is_not_what_it_learned_from(stage: CrossEncoder) -> None:
    asked = request(3)
    asked.cache[QUERY] = np.ones(4, np.float32)

    with pytest.raises(Abstain, match=r"^gate: not asked where there is a query$"):
        stage(asked, slate([4, 2]))


def test_what_was_asked_is_not_asked_again(stage: CrossEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    plain = language.logits
    items = lambda rows: sum(int(part[-1]) for _, part in rows)  # noqa: E731
    monkeypatch.setattr(language, "logits", lambda s, rows, pool: asked.append(items(rows)) or plain(s, rows, pool))
    own = again(stage)

    first = own.opinion(request(3), ROWS[:20])
    second = own.opinion(request(3), ROWS[10:30][::-1])

    assert asked == [20, 10]
    assert second[::-1][:10].tolist() == first[10:].tolist()
    assert own.opinion(request(3), ROWS[:30]).tolist() == [*first, *second[::-1][10:]]


def test_memory_is_bounded_in_histories_and_in_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "MOST_OF_ONE", 3)
    memory = Memory(2)
    for key in (b"a", b"b", b"c"):
        memory.keep(key, np.array([5, 1]), np.array([0.5, 0.1], np.float32))
    memory.keep(b"c", np.array([9, 7]), np.array([0.9, 0.7], np.float32))

    assert len(memory) == 2
    assert np.isnan(memory.recall(b"a", np.array([1]))).all()
    assert memory.recall(b"c", np.array([7, 9, 1, 2])) == pytest.approx([0.7, 0.9, 0.1, np.nan], nan_ok=True)
    assert np.isnan(memory.recall(b"c", np.array([5])))  # the fourth


def test_without_memory_nothing_is_kept() -> None:
    memory = Memory(0)

    memory.keep(b"a", np.array([1]), np.array([0.5], np.float32))

    assert len(memory) == 0


def test_a_saved_stage_says_the_same(stage: CrossEncoder, tmp_path: Path) -> None:
    stage.save(tmp_path)

    other = CrossEncoder.open(stage.config, None, tmp_path)  # type: ignore[arg-type]  # facts are not needed

    assert other.opinion(request(3, 7), ROWS).tolist() == stage.opinion(request(3, 7), ROWS).tolist()
    assert other.gate == stage.gate
    assert other.reading is not None
    assert stage.reading is not None
    assert other.reading.learned == stage.reading.learned


def test_a_stage_that_does_not_help_is_the_identity_and_small(tmp_path: Path) -> None:
    CrossEncoder(CrossEncoderConfig(), Gate(), None).save(tmp_path)

    other = CrossEncoder.open(CrossEncoderConfig(), None, tmp_path)  # type: ignore[arg-type]  # facts are not needed

    assert [path.name for path in tmp_path.iterdir()] == ["cross_encoder.json"]
    assert other.needs == frozenset()
    assert other(request(3), slate([4, 2])).item_ids.tolist() == ["i04", "i02"]


@pytest.mark.parametrize("name", ["cross_encoder.json", "model.onnx", "texts.safetensors", "learned.safetensors"])
def test_a_missing_or_damaged_file_is_told(stage: CrossEncoder, tmp_path: Path, name: str) -> None:
    stage.save(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(ArtifactError, match=r"^.* cannot be read \(.*\); fit the model again$"):
        CrossEncoder.open(stage.config, None, tmp_path)  # type: ignore[arg-type]  # facts are not needed


@pytest.mark.parametrize("text", ["", "[]", '{"gate": {}}', '{"gate": {}, "frame": {"start": 1}}'])
def test_a_card_that_says_something_else_is_told(stage: CrossEncoder, tmp_path: Path, text: str) -> None:
    stage.save(tmp_path)
    (tmp_path / "cross_encoder.json").write_text(text)

    with pytest.raises(ArtifactError, match=r"fit the model again$"):
        CrossEncoder.open(stage.config, None, tmp_path)  # type: ignore[arg-type]  # facts are not needed


def test_a_graph_of_before_that_reads_pairs_is_told(stage: CrossEncoder, tmp_path: Path) -> None:
    names = ["input_ids", "attention_mask"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["t"]) for name in names]
    logits = helper.make_tensor_value_info("logits", TensorProto.INT64, ["t"])
    graph = helper.make_graph([helper.make_node("Add", names, ["logits"])], "pairs", inputs, [logits])
    older = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    stage.save(tmp_path)
    (tmp_path / "model.onnx").write_bytes(older.SerializeToString())

    with pytest.raises(ArtifactError, match=r"^the cross-encoder takes input_ids, attention_mask, not input_ids, part"):
        CrossEncoder.open(stage.config, None, tmp_path)  # type: ignore[arg-type]  # facts are not needed


def test_a_graph_that_is_none_is_told(stage: CrossEncoder, tmp_path: Path) -> None:
    stage.save(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no such thing")

    with pytest.raises(ArtifactError, match=r"^the cross-encoder cannot be run \(.*\); fit the model again$"):
        CrossEncoder.open(stage.config, None, tmp_path)  # type: ignore[arg-type]  # facts are not needed
    assert json.loads((tmp_path / "cross_encoder.json").read_text())["frame"]["history"] == 40
