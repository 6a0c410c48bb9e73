"""Serving boosted trees: they say what their text says, what is behind the depth stays so, broken files are told."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("lightgbm", reason="needs LightGBM: pip install 'tailwise[boost]'")

import lightgbm

from tailwise.data.scores import inputs_of
from tailwise.errors import ArtifactError, UnavailableError
from tailwise.fakes import DictFacts
from tailwise.rank.boosted import Boosted, BoostedConfig, booster, columns_of, predicted
from tailwise.types import QUERY, Event, History, Request, Slate, ids_of

SOMEBODY = Request("r", history=History.of([Event("", "i0", 1.0)]).place(np.array([0])))
F = 3


def trees(seed: int = 1, count: int = 5) -> str:
    """Boosted trees that like signal 0 and dislike signal 2."""
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((400, 1 + F)).astype(np.float32)
    wanted = table[:, 1] - table[:, 3]
    how = {"objective": "regression", "num_leaves": 6, "learning_rate": 0.5, "num_threads": 1, "verbose": -1}
    return str(lightgbm.train(how, lightgbm.Dataset(table, wanted), count).model_to_string())


TREES = (trees(1), trees(2))


def slate(scores: list[float], seed: int = 0) -> Slate:
    signals = np.random.default_rng(seed).standard_normal((len(scores), F)).astype(np.float32)
    ids = ids_of([f"i{place}" for place in range(len(scores))])
    return Slate(ids, np.array(scores, np.float32), {"signals": signals})


def stage(depth: int = 100, texts: tuple[str, ...] = TREES) -> Boosted:
    return Boosted(BoostedConfig(depth=depth), ("a", "b", "c"), texts, (0.5, 2.0)[: len(texts)])


def walked(tree: dict[str, Any], row: list[float]) -> float:
    """What one tree says of one candidate, by walking down from its root."""
    while "leaf_value" not in tree:
        tree = tree["left_child" if row[tree["split_feature"]] <= tree["threshold"] else "right_child"]
    return float(tree["leaf_value"])


def test_a_candidate_gets_its_incoming_score_and_what_each_tree_says_on_average_over_the_members() -> None:
    before = slate([2.0, 1.5, 1.0, -3.0])

    after = stage()(SOMEBODY, before)

    signals, base = inputs_of(before)
    rows = columns_of(signals, base).tolist()
    wanted = {}
    for item_id, row in zip(before.item_ids, rows, strict=True):
        members = [
            worth * row[0]
            + sum(walked(tree["tree_structure"], row) for tree in booster(text).dump_model()["tree_info"])
            for text, worth in zip(TREES, (0.5, 2.0), strict=True)
        ]
        wanted[item_id] = sum(members) / 2
    assert after.scores == pytest.approx([wanted[item_id] for item_id in after.item_ids], abs=1e-5)
    assert after.item_ids.tolist() == sorted(wanted, key=lambda item_id: -wanted[item_id])


def test_trees_say_of_many_what_they_say_of_one() -> None:
    table = np.random.default_rng(0).standard_normal((50, 1 + F)).astype(np.float32)
    own = booster(TREES[0])

    together = predicted(own, table)

    assert together.tolist() == [float(predicted(own, row[None])[0]) for row in table]
    assert together.dtype == np.float32


@given(st.lists(st.floats(-5, 5), max_size=12), st.integers(2, 14), st.integers(0, 9))
@settings(max_examples=40)
def test_the_best_are_re_ranked_and_the_others_stay_behind_as_they_came(
    scores: list[float], depth: int, seed: int
) -> None:
    before = slate(sorted(scores, reverse=True), seed)

    after = stage(depth)(SOMEBODY, before)

    assert sorted(after.item_ids[:depth]) == sorted(before.item_ids[:depth])
    assert after.item_ids[depth:].tolist() == before.item_ids[depth:].tolist()
    assert np.all(np.diff(after.scores) <= 0)


def test_one_item_and_none_come_back_as_they_are() -> None:
    for scores in ([], [1.0]):
        before = slate(scores)

        assert stage()(SOMEBODY, before) is before


def test_without_trees_the_order_stands_and_nothing_is_needed() -> None:
    before = slate([3.0, 2.0, 1.0])

    assert stage(texts=())(SOMEBODY, before) is before
    assert stage(texts=()).needs == frozenset()
    assert stage().needs == {"signals"}


def test_of_a_slate_without_any_score_the_signals_decide() -> None:
    after = stage()(SOMEBODY, slate([float("nan")] * 4))

    assert np.isfinite(after.scores).all()


def test_many_requests_at_once_get_what_each_gets_alone() -> None:
    own, slates = stage(), [slate([3.0, 2.0, 1.0, 0.0], seed) for seed in range(60)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: own(SOMEBODY, each).scores.tolist(), slates))

    assert found == [own(SOMEBODY, each).scores.tolist() for each in slates]


@pytest.mark.parametrize("texts", [TREES, ()])
def test_what_is_saved_opens_equal(tmp_path: Path, texts: tuple[str, ...]) -> None:
    before = slate([0.5, 0.4, 0.3])

    stage(texts=texts).save(tmp_path)
    opened = Boosted.open(BoostedConfig(), DictFacts({}), tmp_path)

    assert opened(SOMEBODY, before).scores.tolist() == stage(texts=texts)(SOMEBODY, before).scores.tolist()
    assert (opened.needs, opened.names) == (stage(texts=texts).needs, ("a", "b", "c"))


@pytest.mark.parametrize("name", ["boosted.json", "trees-1.txt", "trees-2.txt"])
def test_a_missing_file_is_told(tmp_path: Path, name: str) -> None:
    stage().save(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(ArtifactError, match=r"^.*boosted\.json cannot be read \(.*\); fit the model again$"):
        Boosted.open(BoostedConfig(), DictFacts({}), tmp_path)


@pytest.mark.parametrize("text", ["", "tree", "tree\nnum_class=1\n"])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    stage().save(tmp_path)
    (tmp_path / "trees-2.txt").write_text(text)

    with pytest.raises(ArtifactError, match=r"^the boosted trees cannot be read \(.*\); fit the model again$"):
        Boosted.open(BoostedConfig(), DictFacts({}), tmp_path)


def test_without_lightgbm_a_model_with_trees_tells_the_remedy_and_one_without_opens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage().save(tmp_path / "used")
    stage(texts=()).save(tmp_path / "not used")
    monkeypatch.setitem(sys.modules, "lightgbm", None)

    with pytest.raises(UnavailableError, match=r"^boosted needs LightGBM: pip install 'tailwise\[boost\]'$"):
        Boosted.open(BoostedConfig(), DictFacts({}), tmp_path / "used")

    assert Boosted.open(BoostedConfig(), DictFacts({}), tmp_path / "not used").needs == frozenset()


@pytest.mark.parametrize("past", [(), ("nobody knows it",)])
def test_of_a_stranger_the_order_stands(past: tuple[str, ...]) -> None:
    events = History.of([Event("", item_id, 1.0) for item_id in past])
    before = slate([3.0, 2.0, 1.0])

    assert stage()(Request("r", history=events), before) is before


def test_with_a_query_the_order_stands() -> None:
    before = slate([3.0, 2.0, 1.0])
    asked = Request("r", history=SOMEBODY.history, query="boots", cache={QUERY: np.ones(2, np.float32)})

    assert stage()(asked, before) is before
    assert stage()(SOMEBODY, before) is not before  # else this would say nothing
