"""The classic models around networks whose answer is known: the mean of a history, and a sum of products."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from onnx import TensorProto, helper

from tailwise.config import settings_of
from tailwise.data.catalogue import Catalogue
from tailwise.errors import ArtifactError, ConfigError
from tailwise.rank import towers as module
from tailwise.rank.towers import Acquaintances, Towers, TowersConfig, TowerScorer
from tailwise.types import Event, History, Request, ids_of

DIM = 4
READ = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0], [-1, -1, -1, 0]], np.float32)
"""Item 4 is one that nothing is known of."""
OFFERED = 2 * READ
IDS = [f"i{row}" for row in range(len(READ))]
TIMES = np.array([7.0, np.nan])
PEOPLE = Acquaintances(
    ids_of(["ann", "bob"]), np.array([[9, 0, 0, 0], [5, 5, 5, 5]], np.float32), np.array([1, -1]), TIMES
)


def graph(nodes: list[Any], inputs: dict[str, list[Any]]) -> bytes:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    taken = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    made = helper.make_graph(nodes, "known", taken, [out])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    raw: bytes = model.SerializeToString()
    return raw


MEAN = graph(
    [helper.make_node("ReduceMean", ["vectors"], ["out"], axes=[1], keepdims=0)], {"vectors": [1, "time", DIM]}
)
SQUARED = graph(  # the product's square, so that it cannot be taken for the product
    [
        helper.make_node("Transpose", ["items"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["person", "turned"], ["product"]),
        helper.make_node("Mul", ["product", "product"], ["out"]),
    ],
    {"person": [1, DIM], "items": ["items", DIM]},
)


def catalogue() -> Catalogue:
    nothing = np.zeros(len(IDS), np.float32)
    frame = pl.DataFrame({"item_id": IDS})
    return Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)


def scorer(person: str = "pooled", **more: Any) -> TowerScorer:
    settings: dict[str, Any] = {"person": person, "dim": DIM, "max_length": 3}
    return TowerScorer(TowersConfig(**settings), Towers(READ, OFFERED, MEAN, **more), ids_of(IDS))


SCORERS = {
    "pooled": scorer(),
    "dnn": scorer("dnn", comparison=SQUARED),
    "mf": scorer("mf", known_people=PEOPLE),
}


def asked(*events: int | tuple[int, str], **more: Any) -> Request:
    pairs = [(each, "view") if isinstance(each, int) else each for each in events]
    past = History.of([Event("", str(row), float(n), kind) for n, (row, kind) in enumerate(pairs)])
    return Request("r", history=past.place(np.array([row for row, _ in pairs], np.int64)), **more)


def test_a_person_is_what_the_network_makes_of_the_latest_liked_items_that_something_is_known_of() -> None:
    person = SCORERS["pooled"].person(asked(5, 0, (2, "dislike"), -1, 1, 3, 4))

    assert person == pytest.approx(READ[[0, 1, 3]].mean(axis=0))


def test_scores_are_products_with_the_items_as_offered() -> None:
    scores = SCORERS["pooled"].scores(asked(0, 1), np.array([0, 3, 2, -1, 4]))

    assert scores[:3].tolist() == pytest.approx([1.0, 1.0, 0.0])
    assert np.isnan(scores[3:]).all()
    assert scores.dtype == np.float32


def test_the_plain_network_says_what_it_makes_of_person_and_item() -> None:
    scores = SCORERS["dnn"].scores(asked(0, 1), np.array([0, 5, 4]))

    assert scores[:2].tolist() == pytest.approx([1.0, 4.0])
    assert np.isnan(scores[2])


@pytest.mark.parametrize("block", [1, 2, 5, 6, 100])
def test_a_catalogue_in_blocks_is_the_catalogue(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)

    slate = SCORERS["dnn"](asked(0, 1), 10)

    assert slate.item_ids.tolist() == ["i5", "i0", "i1", "i3", "i2"]
    assert slate.scores.tolist() == pytest.approx([4.0, 1.0, 1.0, 1.0, 0.0])


def test_the_best_come_first_without_what_is_excluded_or_unknown() -> None:
    slate = SCORERS["pooled"](asked(0, 0, 1, excluded=np.array([0, 1])), 10)

    assert slate.item_ids.tolist() == ["i3", "i2", "i5"]
    assert slate.scores.tolist() == pytest.approx([1.0, 0.0, -2.0])


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("history", [(), (-1, -1), ((1, "dislike"), (2, "skip")), (4, 4)])
def test_without_a_liked_item_that_something_is_known_of_nothing_is_known(name: str, history: tuple[int, ...]) -> None:
    request = asked(*history, user_id="ann", excluded=np.array([1, 2]))

    assert len(SCORERS[name](request, 5)) == 0
    assert np.isnan(SCORERS[name].scores(request, np.arange(6))).all()
    assert not SCORERS[name].person(request).any()


def test_the_network_runs_once_a_request() -> None:
    request = asked(0, 1)

    assert SCORERS["pooled"].person(request) is SCORERS["pooled"].person(request)


def past_of_ann(*, item: int = 1, time: float = 7.0) -> History:
    past = History.of([Event("ann", "i0", 3.0), Event("ann", f"i{item}", time)])
    return past.place(np.array([0, item], np.int64))


def test_people_with_a_vector_of_their_own_have_it_beyond_that_of_their_items() -> None:
    request = Request("r", user_id="ann", history=past_of_ann())

    person = SCORERS["mf"].person(request)

    assert person.tolist() == [9.5, 0.5, 0.0, 0.0]


@pytest.mark.parametrize(
    ("user_id", "past"),
    [
        (None, past_of_ann()),
        ("a stranger", past_of_ann()),
        ("ann", past_of_ann(time=6.0)),  # from before it was learned, or a history of its own
        ("ann", past_of_ann(item=0)),
        ("bob", past_of_ann()),  # known, but for nothing that he liked
    ],
)
def test_a_vector_of_their_own_needs_the_history_that_it_was_learned_from(user_id: str | None, past: History) -> None:
    person = SCORERS["mf"].person(Request("r", user_id=user_id, history=past))

    assert person.tolist() == READ[past.rows].mean(axis=0).tolist()


def test_what_somebody_does_later_moves_the_vector_that_their_items_give() -> None:
    later = past_of_ann().join(History.of([Event("ann", "i2", 9.0)]).place(np.array([2])))

    person = SCORERS["mf"].person(Request("r", user_id="ann", history=later))

    assert person == pytest.approx([9 + 1 / 3, 1 / 3, 1 / 3, 0.0])


def test_vectors_have_unit_length_and_zeros_stay() -> None:
    lengths = np.linalg.norm(SCORERS["pooled"].vectors, axis=1)

    assert lengths.tolist() == pytest.approx([1, 1, 1, 1, 0, 1])


@pytest.mark.parametrize("name", SCORERS)
def test_what_is_saved_opens_equal(tmp_path: Path, name: str) -> None:
    before = SCORERS[name]
    before.save(tmp_path / "towers")
    after = TowerScorer.open(before.config, catalogue(), tmp_path / "towers")

    request = Request("r", user_id="ann", history=past_of_ann())
    np.testing.assert_array_equal(after(request, 6).scores, before(replace(request, cache={}), 6).scores)
    assert after(request, 6).item_ids.tolist() == before(request, 6).item_ids.tolist()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("pooled", "person.onnx"),
        ("pooled", "towers.safetensors"),
        ("dnn", "comparison.onnx"),
        ("mf", "people.parquet"),
    ],
)
def test_a_missing_part_is_told(tmp_path: Path, name: str, file: str) -> None:
    SCORERS[name].save(tmp_path)
    (tmp_path / file).unlink()

    with pytest.raises(ArtifactError) as caught:
        TowerScorer.open(SCORERS[name].config, catalogue(), tmp_path)

    assert str(caught.value).startswith(f"{tmp_path / file} cannot be read (")


def test_a_damaged_network_is_told(tmp_path: Path) -> None:
    SCORERS["pooled"].save(tmp_path)
    (tmp_path / "person.onnx").write_bytes(b"\x01\x02")

    with pytest.raises(ArtifactError, match=r"^the network of towers cannot be run \(.+\); fit the model again$"):
        TowerScorer.open(SCORERS["pooled"].config, catalogue(), tmp_path)


def test_what_is_not_said_is_what_suits_the_kind_of_person_and_the_loss() -> None:
    plain, own = TowersConfig(person="dnn"), TowersConfig(person="dnn", negatives=7)

    assert plain.negatives < TowersConfig(person="mf").negatives
    assert own.negatives == 7
    assert TowersConfig(loss="mse").temperature == 1.0
    assert [TowersConfig(loss=loss).negative_power for loss in ("sampled_softmax", "bpr", "gbce")] == [0.75, 0.0, 0.0]
    assert TowersConfig(loss="bpr", negative_power=0.5).negative_power == 0.5
    assert TowersConfig.model_validate(own.model_dump()) == own
    assert TowersConfig.model_validate({"person": "gru", "train": {"epochs": 3}}).train.epochs == 3


def test_a_kind_that_does_not_exist_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^towers: person is 'cnn', but: Input should be 'mf', 'pooled', .+$"):
        settings_of(TowersConfig, {"person": "cnn"}, where="towers")
