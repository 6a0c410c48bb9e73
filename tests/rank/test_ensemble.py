"""An ensemble of two models whose answers are known: each item's opinions on one scale, averaged."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from onnx import TensorProto, helper

from tailwise.data.catalogue import Catalogue
from tailwise.errors import ArtifactError
from tailwise.nets.settings import SequenceShape
from tailwise.rank.ensemble import Ensemble, EnsembleConfig
from tailwise.rank.sequence import SequenceConfig, SequenceScorer
from tailwise.types import Event, History, Request

MEMBER = SequenceConfig(shape=SequenceShape(dim=4, max_length=3))
ONE = np.array([[1, 0, 0, 0], [3, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]], np.float32)
OTHER = np.array([[1, 0, 0, 0], [300, 0, 0, 0], [500, 0, 0, 0], [0, 0, 0, 0]], np.float32)
"""Item 3 is one that nothing is known of; the other model speaks a hundred times as loud."""
IDS = [f"i{row}" for row in range(len(ONE))]


def first_network() -> bytes:
    """A network that answers the same for everybody: a person is the first axis."""
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [1, "time", 4])
    person = helper.make_tensor_value_info("person", TensorProto.FLOAT, [1, 4])
    nothing = helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0])
    axis = helper.make_tensor("axis", TensorProto.FLOAT, [1, 4], [1.0, 0.0, 0.0, 0.0])
    nodes = [
        helper.make_node("ReduceMean", ["vectors"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["none"]),
        helper.make_node("Add", ["none", "axis"], ["person"]),
    ]
    graph = helper.make_graph(nodes, "first", [vectors], [person], initializer=[nothing, axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    raw: bytes = model.SerializeToString()
    return raw


def catalogue() -> Catalogue:
    nothing = np.zeros(len(IDS), np.float32)
    return Catalogue(
        pl.DataFrame({"item_id": IDS}), popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2
    )


def scorer(table: np.ndarray) -> SequenceScorer:
    return SequenceScorer(MEMBER, table, first_network(), catalogue().item_ids)


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    config = EnsembleConfig(seeds=2, member=MEMBER)
    return Ensemble(config, [scorer(ONE), scorer(OTHER)], catalogue().item_ids)


def asked(*rows: int) -> Request:
    past = History.of([Event("", f"i{row}", float(step)) for step, row in enumerate(rows)])
    return Request("r", history=past.place(np.array(rows, np.int64)))


def by_hand(column: list[float]) -> np.ndarray:
    values = np.array([*column, min(column)])  # what is not known counts as the lowest
    return (values - values.mean()) / values.std()


def test_opinions_are_put_on_one_scale_and_averaged(ensemble: Ensemble) -> None:
    scores = ensemble.scores(asked(0), np.arange(4))

    expected = (by_hand([1, 3, 2]) + by_hand([1, 300, 500])) / 2
    assert scores[:3] == pytest.approx(expected[:3], rel=1e-5)
    assert np.isnan(scores[3])


def test_the_loudest_model_does_not_decide_alone(ensemble: Ensemble) -> None:
    found = ensemble(asked(0), 3)

    assert found.item_ids.tolist() == ["i1", "i2", "i0"]  # by the sum of what they say, i2 would be first
    assert scorer(OTHER)(asked(0), 1).item_ids.tolist() == ["i2"]


def test_an_ensemble_of_one_orders_as_that_one() -> None:
    alone = Ensemble(EnsembleConfig(seeds=1, member=MEMBER), [scorer(OTHER)], catalogue().item_ids)

    assert alone(asked(1), 4).item_ids.tolist() == scorer(OTHER)(asked(1), 4).item_ids.tolist()


def test_of_somebody_without_a_history_it_knows_nothing(ensemble: Ensemble) -> None:
    assert np.isnan(ensemble.scores(asked(), np.arange(4))).all()
    assert len(ensemble(asked(), 3)) == 0


def test_unknown_rows_are_unknown(ensemble: Ensemble) -> None:
    scores = ensemble.scores(asked(0), np.array([-1, 2, -1]))

    assert np.isnan(scores[[0, 2]]).all()
    assert scores[1] == ensemble.scores(asked(0), np.arange(4))[2]


def test_what_is_saved_comes_back(ensemble: Ensemble, tmp_path: Path) -> None:
    ensemble.save(tmp_path)

    again = Ensemble.open(ensemble.config, catalogue(), tmp_path)

    assert len(again.members) == 2
    np.testing.assert_array_equal(again.scores(asked(0, 2), np.arange(4)), ensemble.scores(asked(0, 2), np.arange(4)))


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    message = rf"^{tmp_path}/0/sequence\.onnx cannot be read \(No such file or directory\); fit the model again$"
    with pytest.raises(ArtifactError, match=message):
        Ensemble.open(EnsembleConfig(), catalogue(), tmp_path)
