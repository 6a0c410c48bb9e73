"""The fast scorer around a network whose answer is known: the mean of what it is given."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from onnx import NodeProto, TensorProto, helper

from tailwise.data.catalogue import Catalogue
from tailwise.errors import ArtifactError
from tailwise.nets.settings import SequenceShape
from tailwise.rank.sequence import SequenceConfig, SequenceScorer
from tailwise.types import Event, History, Request

DIM, LENGTH = 4, 3
CONFIG = SequenceConfig(shape=SequenceShape(dim=DIM, max_length=LENGTH))
TABLE = np.array(
    [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0], [-1, -1, -1, 0]], np.float32
)
"""Item 4 is one that nothing is known of."""
IDS = [f"i{row}" for row in range(len(TABLE))]


def network(node: NodeProto, width: int | str, *, timed: bool = True) -> bytes:
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [1, "time", DIM])
    times = helper.make_tensor_value_info("times", TensorProto.DOUBLE, [1, "time"])
    person = helper.make_tensor_value_info("person", TensorProto.FLOAT, [1, width])
    graph = helper.make_graph([node], "one", [vectors, times][: 1 + timed], [person])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    raw: bytes = model.SerializeToString()
    return raw


def mean_network(*, timed: bool = True) -> bytes:
    node = helper.make_node("ReduceMean", ["vectors"], ["person"], axes=[1], keepdims=0)
    return network(node, DIM, timed=timed)


def catalogue() -> Catalogue:
    nothing = np.zeros(len(IDS), np.float32)
    return Catalogue(
        pl.DataFrame({"item_id": IDS}), popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2
    )


@pytest.fixture(scope="module")
def scorer() -> SequenceScorer:
    return SequenceScorer(CONFIG, TABLE, mean_network(), catalogue().item_ids)


def asked(*events: int | tuple[int, str], excluded: tuple[int, ...] = ()) -> Request:
    pairs = [(each, "view") if isinstance(each, int) else each for each in events]
    past = History.of([Event("", str(row), float(n), kind) for n, (row, kind) in enumerate(pairs)])
    placed = past.place(np.array([row for row, _ in pairs], np.int64))
    return Request("r", history=placed, excluded=np.array(excluded, np.int64))


def test_a_person_is_what_the_network_makes_of_the_latest_liked_items(scorer: SequenceScorer) -> None:
    person = scorer.person(asked(5, 0, (2, "dislike"), -1, 1, 3))

    assert person == pytest.approx(TABLE[[0, 1, 3]].mean(axis=0))  # the newest three that are liked and known


def test_the_network_is_told_when_these_were() -> None:
    clock = network(helper.make_node("Cast", ["times"], ["person"], to=TensorProto.FLOAT), "time")
    scorer = SequenceScorer(CONFIG, TABLE, clock, catalogue().item_ids)

    assert scorer.person(asked(5, 0, (2, "dislike"), -1, 1, 3)).tolist() == [1.0, 4.0, 5.0]
    assert scorer.person(asked(2, 3)).tolist() == [0.0, 1.0]


def test_a_network_of_before_that_reads_no_times_is_told(tmp_path: Path) -> None:
    scorer = SequenceScorer(CONFIG, TABLE, mean_network(), catalogue().item_ids)
    scorer.save(tmp_path)
    (tmp_path / "sequence.onnx").write_bytes(mean_network(timed=False))

    with pytest.raises(
        ArtifactError, match=r"^the sequence network takes vectors, not vectors, times: .*; fit the model again$"
    ):
        SequenceScorer.open(CONFIG, catalogue(), tmp_path)


def test_scores_are_products_with_the_table(scorer: SequenceScorer) -> None:
    scores = scorer.scores(asked(0, 1), np.array([0, 3, 2, -1, 4]))

    assert scores[:3].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert np.isnan(scores[3:]).all()
    assert scores.dtype == np.float32


def test_the_best_come_first_without_what_is_excluded_or_unknown(scorer: SequenceScorer) -> None:
    slate = scorer(asked(0, 0, 1, excluded=(0, 1)), 10)

    assert slate.item_ids.tolist() == ["i3", "i2", "i5"]
    assert slate.scores.tolist() == pytest.approx([0.5, 0.0, -1.0])


@pytest.mark.parametrize("history", [(), (-1, -1), ((1, "dislike"), (2, "skip"))])
def test_without_a_liked_item_nothing_is_known(scorer: SequenceScorer, history: tuple[int, ...]) -> None:
    request = asked(*history, excluded=(1, 2))

    assert len(scorer(request, 5)) == 0
    assert np.isnan(scorer.scores(request, np.arange(6))).all()
    assert not scorer.person(request).any()


def test_the_network_runs_once_a_request(scorer: SequenceScorer) -> None:
    request = asked(0, 1)

    assert scorer.person(request) is scorer.person(request)


def test_what_is_saved_opens_equal(tmp_path: Path, scorer: SequenceScorer) -> None:
    scorer.save(tmp_path / "sequence")
    after = SequenceScorer.open(CONFIG, catalogue(), tmp_path / "sequence")

    assert (after(asked(0, 1), 6).scores == scorer(asked(0, 1), 6).scores).all()
    assert after(asked(0, 1), 6).item_ids.tolist() == scorer(asked(0, 1), 6).item_ids.tolist()


@pytest.mark.parametrize("name", ["sequence.onnx", "sequence.safetensors"])
def test_a_missing_part_is_told(tmp_path: Path, scorer: SequenceScorer, name: str) -> None:
    scorer.save(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(ArtifactError) as caught:
        SequenceScorer.open(CONFIG, catalogue(), tmp_path)

    assert str(caught.value).startswith(f"{tmp_path / name} cannot be read (")


def test_a_damaged_network_is_told(tmp_path: Path, scorer: SequenceScorer) -> None:
    scorer.save(tmp_path)
    (tmp_path / "sequence.onnx").write_bytes(b"\x01\x02")

    with pytest.raises(ArtifactError, match=r"^the sequence network cannot be run \(.+\); fit the model again$"):
        SequenceScorer.open(CONFIG, catalogue(), tmp_path)
