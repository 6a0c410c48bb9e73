"""The list-wise re-ranker learns what a sum cannot say, and leaves an order that it cannot better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

import torch

from tailwise.data.interactions import Training
from tailwise.learn.attention import _straight, exported, fit_attention
from tailwise.learn.crossfit import Lists
from tailwise.nets.attention import SlateNet
from tailwise.nets.serving import Committee
from tailwise.nets.session import open_session
from tailwise.nets.settings import LoopConfig, SlateShape
from tailwise.pipeline import Engine
from tailwise.rerank.attention import Attention, AttentionConfig
from tailwise.types import Event, History, Request

SOMEBODY = Request("r", history=History.of([Event("", "i0", 1.0)]).place(np.array([0])))
ERROR = "standard error of the gain"
World = tuple[Training, Engine]
QUICK = AttentionConfig(
    shape=SlateShape(dim=8), train=LoopConfig(epochs=12, learning_rate=1e-2, patience=12, average=0.9), committee=2
)


def test_it_learns_what_the_order_that_comes_in_does_not_say(where_they_differ: World) -> None:
    training, engine = where_they_differ

    stage, notes = fit_attention(QUICK, training, engine)

    assert notes["decision"] == "used"
    assert notes["ndcg@10 after (cross-fitted)"] > notes["ndcg@10 before"] + 0.3
    assert training.targets is not None
    asked = [Request("r", history=training.past(person), exclude_seen=False) for person in range(40)]
    first = [stage(SOMEBODY, engine.candidates(request)).columns["row"][0] for request in asked]
    assert np.mean(first == training.targets[:40]) > 0.5


def test_a_network_starts_at_what_each_signal_tells_beside_the_order_that_comes_in() -> None:
    noise = torch.Generator().manual_seed(3)
    signals, base = torch.randn(2000, 6, 3, generator=noise), torch.randn(2000, 6, generator=noise)
    mask = torch.arange(6) < torch.randint(2, 7, (2000, 1), generator=noise)
    logits = 2.0 * base + signals @ torch.tensor([1.5, -0.7, 0.0])
    chance = logits.masked_fill(~mask, -torch.inf).softmax(1)
    labels = torch.zeros(2000, 6).scatter_(1, torch.multinomial(chance, 1, generator=noise), 1.0)
    lists = Lists(signals.masked_fill(~mask[..., None], 99.0), base, labels, mask, np.ones(2000, np.int64))
    net = SlateNet(SlateShape(dim=8), torch.zeros(3), torch.ones(3), 2.0)

    free, held = (_straight(net, lists, np.arange(2000), ridge) for ridge in (0.0, 1e3))

    assert free.tolist() == pytest.approx([1.5, -0.7, 0.0], abs=0.15)
    assert held.abs().max() < 0.01


def test_where_the_order_that_comes_in_says_all_there_is_to_say_little_is_lost(where_the_order_says_all: World) -> None:
    training, engine = where_the_order_says_all

    _, notes = fit_attention(QUICK, training, engine)

    before, after, error = (notes[n] for n in ("ndcg@10 before", "ndcg@10 after (cross-fitted)", ERROR))
    assert notes["decision"] in {"used", "used: it loses less than 3 standard errors, which may be chance"}
    assert isinstance(before, float)
    assert isinstance(after, float)
    assert isinstance(error, float)
    assert abs(after - before) < 3 * error


def test_what_loses_more_than_it_may_is_not_used(
    where_the_order_says_all: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, engine = where_the_order_says_all
    monkeypatch.setattr("tailwise.learn.attention.LEAST", 1.0)

    stage, notes = fit_attention(QUICK, training, engine)

    assert notes["decision"] == "not used: the gain is not above 1 of its standard errors"
    slate = engine.candidates(Request("r", history=training.past(7)))
    assert stage(SOMEBODY, slate) is slate
    assert stage.needs == frozenset()


def test_with_few_cases_the_order_stands(where_they_differ: World) -> None:
    training, engine = where_they_differ
    assert training.targets is not None
    training.targets[150:] = -1

    _, notes = fit_attention(QUICK, training, engine)

    assert notes == {"decision": "not used: 150 cases could teach it, fewer than 200"}


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_network_whatever_the_number_of_threads(
    where_they_differ: World, threads: int
) -> None:
    training, engine = where_they_differ
    brief = QUICK.model_copy(update={"train": LoopConfig(epochs=2)})

    first, _ = fit_attention(brief, training, engine)
    again, _ = fit_attention(brief, replace(training, threads=threads, memo={}), engine)

    slate = engine.candidates(Request("r", history=training.past(3)))
    assert first(SOMEBODY, slate).scores.tolist() == again(SOMEBODY, slate).scores.tolist()


def test_what_serves_gives_what_torch_gives() -> None:
    torch.manual_seed(2)
    committee = Committee([SlateNet(SlateShape(dim=8), torch.randn(5), torch.rand(5) + 0.5, 1.3) for _ in range(2)])
    session = open_session(exported(committee, 5), "the network")

    for n in (1, 2, 30):
        signals, base = torch.randn(1, n, 5), torch.randn(1, n)
        (found,) = session.run(None, {"signals": signals.numpy(), "base": base.numpy()})
        with torch.no_grad():
            wanted = committee(signals, base).numpy()
        assert found == pytest.approx(wanted, abs=1e-5)


def test_it_is_saved_and_opens_equal(where_they_differ: World, tmp_path: Path) -> None:
    training, engine = where_they_differ
    stage, _ = fit_attention(QUICK, training, engine)
    folder = tmp_path / "attention"
    stage.save(folder)
    opened = Attention.open(QUICK, training.catalogue, folder)

    slate = engine.candidates(Request("r", history=training.past(3)))
    assert opened(SOMEBODY, slate).scores.tolist() == stage(SOMEBODY, slate).scores.tolist()
    assert opened.names == stage.names
