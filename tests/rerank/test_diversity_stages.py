"""MMR and DPP as steps of a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwise.fakes import DictFacts
from tailwise.rerank.diversity import DPP, MMR
from tailwise.types import Request, Slate, ids_of

both_stages = pytest.mark.parametrize("stage", [MMR, DPP])


def slate_of(scores: list[float], vectors: list[list[float]]) -> Slate:
    names = ids_of([f"i{n}" for n in range(len(scores))])
    return Slate(names, np.array(scores, np.float32), {"vector": np.array(vectors, np.float32)})


def open_stage(stage: type[MMR | DPP], **settings: Any) -> MMR | DPP:
    return stage.open(stage.Config(**settings), DictFacts({}), Path())  # type: ignore[arg-type]  # each takes its own


TWO_TOPICS = slate_of([5.0, 4.9, 4.8, 4.7, -9.0], [[1, 0], [2, 0], [3, 0], [0, 2], [0, 0]])


@both_stages
def test_a_stage_chooses_among_all_before_the_cut(stage: type[MMR | DPP]) -> None:
    answer = open_stage(stage, trade_off=0.2, depth=1)(Request("r", k=2), TWO_TOPICS)

    assert answer.item_ids.tolist() == ["i0", "i3", "i1", "i2", "i4"]  # i3 was below the cut; the rest stays in order
    assert answer.scores.tolist() == TWO_TOPICS.scores[[0, 3, 1, 2, 4]].tolist()
    assert answer.columns["vector"].tolist() == TWO_TOPICS.columns["vector"][[0, 3, 1, 2, 4]].tolist()


@both_stages
def test_the_request_overrides_the_trade_off(stage: type[MMR | DPP]) -> None:
    plain, diverse = open_stage(stage, trade_off=1.0), open_stage(stage, trade_off=0.5)

    more = plain(Request("r", k=2, diversity=0.5), TWO_TOPICS)
    less = diverse(Request("r", k=2, diversity=0.0), TWO_TOPICS)

    assert more.item_ids.tolist()[:2] == ["i0", "i3"]
    assert less is TWO_TOPICS


def test_the_defaults_are_those_in_the_reference() -> None:
    mmr, dpp = open_stage(MMR), open_stage(DPP)

    assert mmr(Request("r"), TWO_TOPICS) is TWO_TOPICS
    assert mmr.config == MMR.Config(trade_off=1.0, depth=2)
    assert dpp.config == DPP.Config(trade_off=0.7, depth=2, window=None)
    assert mmr.needs == dpp.needs == {"vector"}


@both_stages
def test_a_trade_off_means_the_same_on_every_scale_of_scores(stage: type[MMR | DPP]) -> None:
    random = np.random.default_rng(5)
    scores, vectors = sorted(random.random(40).tolist(), reverse=True), random.normal(size=(40, 8))
    request, diversify = Request("r", k=5), open_stage(stage, trade_off=0.6)

    small = diversify(request, slate_of(scores, vectors.tolist()))
    large = diversify(request, slate_of([1000 * score - 500 for score in scores], vectors.tolist()))

    assert small.item_ids.tolist() == large.item_ids.tolist()
    assert small.item_ids.tolist() != [f"i{n}" for n in range(40)]


@both_stages
@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_short_slate_keeps_every_item(stage: type[MMR | DPP], n: int) -> None:
    slate = TWO_TOPICS.take(np.arange(n))

    answer = open_stage(stage, trade_off=0.0)(Request("r", k=10), slate)

    assert sorted(answer.item_ids) == sorted(slate.item_ids)
