"""Serving the list-wise re-ranker: what is behind its depth stays behind, and broken files are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch to make a network: pip install 'tailwise[train]'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.scores import inputs_of
from tailwise.errors import ArtifactError
from tailwise.fakes import DictFacts
from tailwise.learn.attention import exported
from tailwise.nets.attention import SlateNet
from tailwise.nets.serving import Committee
from tailwise.nets.settings import SlateShape
from tailwise.rerank.attention import Attention, AttentionConfig
from tailwise.types import QUERY, Event, History, Request, Slate, ids_of

SOMEBODY = Request("r", history=History.of([Event("", "i0", 1.0)]).place(np.array([0])))
F = 3


def network(seed: int = 1) -> bytes:
    torch.manual_seed(seed)
    return exported(Committee([SlateNet(SlateShape(dim=8, gate=1.0), torch.zeros(F), torch.ones(F), 1.0)]), F)


NETWORK = network()


def slate(scores: list[float], seed: int = 0) -> Slate:
    signals = np.random.default_rng(seed).standard_normal((len(scores), F)).astype(np.float32)
    ids = ids_of([f"i{place}" for place in range(len(scores))])
    return Slate(ids, np.array(scores, np.float32), {"signals": signals})


def stage(depth: int = 100, onnx: bytes | None = NETWORK) -> Attention:
    return Attention(AttentionConfig(depth=depth), ("a", "b", "c"), onnx)


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


def test_items_without_a_score_are_as_good_as_the_worst() -> None:
    _, base = inputs_of(slate([3.0, 1.0, float("nan")]))

    assert base.tolist() == [0.0, -2.0, -2.0]


def test_of_a_slate_without_any_score_the_signals_decide() -> None:
    after = stage()(SOMEBODY, slate([float("nan")] * 4))

    assert np.isfinite(after.scores).all()


@pytest.mark.parametrize("onnx", [NETWORK, None])
def test_what_is_saved_opens_equal(tmp_path: Path, onnx: bytes | None) -> None:
    before = slate([0.5, 0.4, 0.3])

    stage(onnx=onnx).save(tmp_path)
    opened = Attention.open(AttentionConfig(), DictFacts({}), tmp_path)

    assert opened(SOMEBODY, before).item_ids.tolist() == stage(onnx=onnx)(SOMEBODY, before).item_ids.tolist()
    assert opened.needs == stage(onnx=onnx).needs


@pytest.mark.parametrize("name", ["attention.json", "attention.onnx"])
def test_a_missing_file_is_told(tmp_path: Path, name: str) -> None:
    stage().save(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(ArtifactError, match=r"^.*attention\.json cannot be read \(.*\); fit the model again$"):
        Attention.open(AttentionConfig(), DictFacts({}), tmp_path)


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
