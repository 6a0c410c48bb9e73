"""The long tail's due: as much as held-out people pay little for, and what is set stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.config import PipelineConfig, Step
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.data.load import Dataset
from tailwise.learn.long_tail import DEPTH, LIFTS, PENALTIES, ROUNDS, STEP, _Cases, _Choice, _Worth, fit_long_tail
from tailwise.learn.slates import earned, gather
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.rerank.long_tail import LongTail, LongTailConfig
from tailwise.types import Floats, Request, Rows, Slate

ITEMS, PEOPLE = 40, 400
IDS = [f"i{row:02d}" for row in range(ITEMS)]
POPULAR = np.exp(-np.arange(ITEMS) / 6).astype(np.float32) * 500


@dataclass(frozen=True)
class Opinion:
    """A source with an opinion of every item for every person, told apart by the time of their only event."""

    ids: Any
    scores_of: Floats  # (U, M)

    def __call__(self, request: Request, k: int) -> Slate:
        scores = self.scores(request, np.arange(ITEMS))
        rows = np.argsort(-scores, kind="stable")[:k]
        return Slate(self.ids[rows], scores[rows], {"row": rows})

    def scores(self, request: Request, rows: Rows) -> Floats:
        return np.where(rows >= 0, self.scores_of[int(request.past.times[0])][rows], np.float32("nan"))


@dataclass(frozen=True)
class ByOpinion:
    """A stage whose scores are the opinion itself."""

    source: Opinion
    needs: frozenset[str] = frozenset({"row"})
    gives: frozenset[str] = frozenset()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return slate.score(self.source.scores(request, slate.columns["row"]))


def world(*, biased: float, people: int = PEOPLE) -> tuple[Training, Engine]:
    """People take by taste alone; the source adds so much of each item's log popularity to it."""
    random = np.random.default_rng(4)
    taste = random.gumbel(size=(PEOPLE, ITEMS)) + 2 * random.standard_normal((PEOPLE, ITEMS))
    opinion = (taste + random.standard_normal(taste.shape) + biased * np.log1p(POPULAR)).astype(np.float32)
    events = pl.DataFrame(
        {"user_id": [f"u{p:03d}" for p in range(PEOPLE)], "item_id": IDS[-1], "time": np.arange(PEOPLE, dtype=float)}
    )
    catalogue = Catalogue(
        pl.DataFrame({"item_id": IDS}), popularity=POPULAR, recent=POPULAR, vectors=np.zeros((ITEMS, 1)), tail_cut=0.5
    )
    interactions = Interactions.of(Dataset.of("people", events=events).events, catalogue)
    config = PipelineConfig(retrieve=(Step(name="own", k=ITEMS),), stage=())
    source = Opinion(catalogue.item_ids, opinion)
    targets = taste.argmax(1)
    targets[people:] = -1
    stage = Bound("by", Step(name="by"), ByOpinion(source))
    training = Training(interactions, catalogue, 0, exclude_seen=False, targets=targets)
    return training, Engine(config, catalogue, interactions, (Bound("own", config.retrieve[0], source),), (stage,), {})


def test_where_the_order_leans_to_what_is_popular_that_is_taken_out() -> None:
    stage, notes = fit_long_tail(LongTailConfig(penalty=0.0), *world(biased=0.5))

    assert stage.config.rounds
    assert len(stage.prices) == ITEMS
    assert np.corrcoef(stage.prices, np.log1p(POPULAR))[0, 1] > 0.8
    assert notes["ndcg@10 with"] > notes["ndcg@10 without"]
    assert notes["coverage with"] >= notes["coverage without"]
    said = f"a penalty of 0, a lift of {stage.config.lift:g} and prices of {stage.config.rounds} rounds"
    assert notes["decision"] == said


def test_where_it_would_cost_accuracy_there_is_none() -> None:
    _, notes = fit_long_tail(LongTailConfig(cost=0.0), *world(biased=0.0))

    assert notes["ndcg@10 with"] >= notes["ndcg@10 without"]


def test_what_it_may_cost_is_a_setting() -> None:
    training, engine = world(biased=0.5)
    cases = _Cases.of(gather(training, engine, depth=DEPTH), training)
    worth = [
        found
        for penalty in PENALTIES
        for lift in LIFTS
        for found in cases.auction([_Choice(penalty, lift, n) for n in range(ROUNDS + 1)])
    ]
    gains = [found.earned - worth[0].earned for found in worth]
    errors = [gain.std(ddof=1) / np.sqrt(len(gain)) for gain in gains]
    sure = [found.shown for found, gain, error in zip(worth, gains, errors, strict=True) if gain.mean() - error >= 0]

    _, free = fit_long_tail(LongTailConfig(cost=1.0), training, engine)
    _, dear = fit_long_tail(LongTailConfig(cost=0.0), training, engine)

    assert free["coverage with"] == pytest.approx(max(found.shown for found in worth) / ITEMS, abs=1e-4)
    assert dear["coverage with"] == pytest.approx(max(sure) / ITEMS, abs=1e-4)
    assert dear["ndcg@10 with"] >= dear["ndcg@10 without"]


def test_a_choice_that_looks_harmless_by_chance_is_not_taken() -> None:
    plain = np.full(100, 0.5)
    swings = np.where(np.arange(100) % 2, 0.1, -0.1)  # a standard error of 0.01, of 0.5

    assert _Worth(plain, 1).keeps(plain, 0.0)
    assert _Worth(plain - 0.004, 1).keeps(plain, 0.01)
    assert not _Worth(plain - 0.006, 1).keeps(plain, 0.01)
    assert not _Worth(plain + swings, 1).keeps(plain, 0.01)
    assert _Worth(plain + swings, 1).keeps(plain, 0.03)


def test_where_all_is_set_nothing_is_chosen() -> None:
    stage, notes = fit_long_tail(LongTailConfig(penalty=0.4, lift=0.1, rounds=0), *world(biased=0.0))

    assert stage.config == LongTailConfig(penalty=0.4, lift=0.1, rounds=0)
    assert not len(stage.prices)
    assert notes == {"decision": "a penalty of 0.4, a lift of 0.1 and prices of 0 rounds, as set"}


@pytest.mark.parametrize(("name", "value"), [("penalty", 0.3), ("lift", 0.3), ("rounds", 2), ("rounds", 0)])
def test_what_is_set_stays_while_the_rest_is_chosen(name: str, value: float) -> None:
    stage, notes = fit_long_tail(LongTailConfig.model_validate({name: value}), *world(biased=0.5))

    assert getattr(stage.config, name) == value
    assert None not in (stage.config.penalty, stage.config.lift, stage.config.rounds)
    assert notes["ndcg@10 with"] > notes["ndcg@10 without"]


def test_with_few_cases_there_is_none() -> None:
    stage, notes = fit_long_tail(LongTailConfig(), *world(biased=0.5, people=20))

    assert (stage.config.penalty, stage.config.lift, stage.config.rounds) == (0.0, 0.0, 0)
    said = "a penalty of 0, a lift of 0 and prices of 0 rounds: 20 cases, 200 could choose"
    assert notes == {"decision": said}


def test_what_stands_in_more_lists_is_dearer_and_what_stands_in_none_is_free() -> None:
    training, engine = world(biased=0.5)
    cases = _Cases.of(gather(training, engine, depth=DEPTH), training)
    ranked = np.take_along_axis(cases.rows, np.argsort(-cases.scores, axis=1, kind="stable"), axis=1)
    lists = np.bincount(ranked[:, :10].ravel(), minlength=ITEMS)

    prices = cases.prices(_Choice(0.0, 0.0, 1))

    np.testing.assert_allclose(prices, STEP * np.log1p(lists * 1_000 / len(ranked)), rtol=1e-5)
    assert (prices[lists == 0] == 0).all()


def test_what_is_worth_choosing_is_what_the_stage_then_does() -> None:
    training, engine = world(biased=0.5)
    examples = gather(training, engine, depth=DEPTH)
    cases = _Cases.of(examples, training)

    for penalty, lift, rounds in ((0.0, 0.0, 0), (0.3, 0.6, 0), (0.0, 0.0, 3), (0.2, 0.4, 2)):
        *_, worth = cases.auction([_Choice(penalty, lift, n) for n in range(rounds + 1)])
        # Each half of the people pays the prices that the other half's lists made.
        other = [_Cases.of(examples[start::2], training).prices(_Choice(penalty, lift, rounds)) for start in (1, 0)]
        stages = [LongTail(LongTailConfig(penalty=penalty, lift=lift), prices) for prices in other]
        total, shown = 0.0, set[int]()
        for place, example in enumerate(examples):
            stage = stages[place % 2]
            after = stage(example.request, example.slate.look_up(training.catalogue.tables(stage.needs)))
            hit = np.isin(after.columns["row"], example.slate.columns["row"][example.relevant])
            total += earned(after.scores, hit, example.targets)
            shown.update(after.columns["row"][:10].tolist())

        assert (worth.earned.mean(), worth.shown) == pytest.approx((total / len(examples), len(shown)))
