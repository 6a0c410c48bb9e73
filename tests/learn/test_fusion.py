"""Fusion weights from people whose taste is a known mixture of sources."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("scipy", reason="needs scipy: pip install 'tailwise[train]'")

from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.config import PipelineConfig, Step
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.data.load import Dataset
from tailwise.learn.fusion import LEAST_PEOPLE, TIE, _earned, _fit_weights, fit_fusion
from tailwise.learn.slates import gather
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.rank.fusion import Fusion, FusionConfig, standardised
from tailwise.types import Floats, Request, Rows, Slate

ITEMS = 40
ROUNDED = 1e-4
"""Notes have four places."""


@dataclass(frozen=True)
class Opinion:
    """A source with an opinion of every item for every person, told apart by their first item."""

    catalogue: Catalogue
    scores_of: Floats  # (U, M)

    def __call__(self, request: Request, k: int) -> Slate:
        scores = self.scores(request, np.arange(ITEMS))
        rows = np.argsort(-scores, kind="stable")
        rows = rows[~np.isin(rows, request.excluded)][:k]
        return Slate(self.catalogue.item_ids[rows], scores[rows], {"row": rows})

    def scores(self, request: Request, rows: Rows) -> Floats:
        return np.where(rows >= 0, self.scores_of[int(request.past.times[0])][rows], np.float32("nan"))


def world(
    opinions: list[Floats], mixture: list[float], *, people: int, targets: Rows | None = None
) -> tuple[Training, Engine]:
    """People who take the next item with the chance that a softmax over the mixture of opinions gives it."""
    rng = np.random.default_rng(12)
    events = pl.DataFrame(
        {
            "user_id": [f"u{p:04d}" for p in range(people)],
            "item_id": [f"i{p % ITEMS:02d}" for p in range(people)],
            "time": np.arange(people, dtype=np.float64),
            "event": "click",
            "value": None,
        },
        schema_overrides={"value": pl.Float32},
    )
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]})
    nothing = np.zeros(ITEMS, np.float32)
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=np.zeros((ITEMS, 1)), tail_cut=0.2)
    interactions = Interactions.of(Dataset.of("people", events=events).events, catalogue)
    if targets is None:
        drawn = []
        for person in range(people):
            allowed = np.delete(np.arange(ITEMS), person % ITEMS)
            logits = standardised([opinion[person][allowed] for opinion in opinions]) @ np.array(mixture)
            chance = np.exp(logits - logits.max())
            drawn.append(rng.choice(allowed, p=chance / chance.sum()))
        targets = np.array(drawn, np.int64)
    config = PipelineConfig(retrieve=tuple(Step(name=f"s{n}", k=ITEMS) for n in range(len(opinions))), stage=())
    sources = tuple(
        Bound(step.name, step, Opinion(catalogue, opinion))
        for step, opinion in zip(config.retrieve, opinions, strict=True)
    )
    training = Training(interactions, catalogue, 0, targets=targets)
    return training, Engine(config, catalogue, interactions, sources, (), {})


def noise(people: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((people, ITEMS)).astype(np.float32)


def test_it_recovers_a_known_mixture() -> None:
    opinions = [noise(1500, seed) for seed in range(3)]
    training, engine = world(opinions, [1.5, 0.75, 0.0], people=1500)

    fusion, notes = fit_fusion(FusionConfig(regularisation=0.0), training, engine)

    assert notes["decision"] == "used"
    assert fusion.weights["s0"] == pytest.approx(1.5, abs=0.12)
    assert fusion.weights["s1"] == pytest.approx(0.75, abs=0.12)
    assert fusion.weights.get("s2", 0.0) < 0.1
    assert notes["ndcg@10 fusion (cross-validated)"] > notes["ndcg@10 s0"] > notes["ndcg@10 s1"] > notes["ndcg@10 s2"]
    assert notes["target among candidates"] == 1.0


def test_a_source_that_points_the_wrong_way_is_ignored_and_never_turned_round() -> None:
    right = noise(600, 1)
    training, engine = world([right, 0.7 * right + noise(600, 2)], [1.5, -0.7], people=600)
    engine_of_one = replace(engine, sources=engine.sources[:1])

    fusion, _ = fit_fusion(FusionConfig(), training, engine)
    alone, _ = fit_fusion(FusionConfig(), training, engine_of_one)

    assert list(fusion.weights) == ["s0"]
    assert fusion.weights["s0"] == pytest.approx(alone.weights["s0"], rel=1e-3)  # as if the other were not there


@settings(max_examples=15, deadline=None)
@given(
    mixture=st.lists(st.floats(-2, 2), min_size=2, max_size=4),
    people=st.integers(LEAST_PEOPLE, 60),
    seed=st.integers(0, 99),
)
def test_weights_are_never_negative_and_the_fusion_is_used_unless_the_best_source_is_better_by_more_than_a_tie(
    mixture: list[float], people: int, seed: int
) -> None:
    training, engine = world([noise(people, seed + n) for n in range(len(mixture))], mixture, people=people)

    fusion, notes = fit_fusion(FusionConfig(), training, engine)

    alone = {name: notes[f"ndcg@10 {name}"] for name in (f"s{n}" for n in range(len(mixture)))}
    assert fusion.weights
    assert all(weight > 0 for weight in fusion.weights.values())
    fused, tie = float(notes["ndcg@10 fusion (cross-validated)"]), (1 - TIE) * max(map(float, alone.values()))
    if notes["decision"] == "used":
        assert fused >= tie - ROUNDED
    else:
        (best,) = fusion.weights
        assert fused < tie + ROUNDED
        assert alone[best] == max(alone.values())
        assert notes["decision"] == f"not used: {best} alone is better"


def test_where_weights_learned_from_some_do_not_hold_for_others_the_best_source_alone_is_used() -> None:
    opinions = [noise(20, 5), *(noise(20, 6 + n) for n in range(6))]
    first = np.array([int(np.argmax(np.delete(own, p % ITEMS))) for p, own in enumerate(opinions[0])])
    targets = first + (first >= np.arange(20) % ITEMS)  # s0 is always right, the others only by chance
    swapped = [opinions[0] * 0.01 + noise(20, 99) * 1e-4, *opinions[1:]]

    training, engine = world(swapped, [], people=20, targets=targets)
    fusion, notes = fit_fusion(FusionConfig(regularisation=10.0), training, engine)  # too stiff to trust one alone

    assert notes["ndcg@10 s0"] == 1.0
    assert notes["decision"] == "not used: s0 alone is better"
    assert fusion.weights == {"s0": 1.0}


def test_the_fusion_is_judged_on_people_that_it_did_not_learn_from() -> None:
    honest, by_heart = [], []
    for start in range(0, 160, 8):
        opinions = [noise(LEAST_PEOPLE, start + n) for n in range(8)]
        training, engine = world(opinions, [0.0] * 8, people=LEAST_PEOPLE)

        _, notes = fit_fusion(FusionConfig(regularisation=0.0), training, engine)

        examples = gather(training, engine)
        slates = [standardised([e.slate.columns[f"score_s{n}"] for n in range(8)]) for e in examples]
        honest.append(notes["ndcg@10 fusion (cross-validated)"])
        by_heart.append(_earned(slates, examples, _fit_weights(slates, examples, 0.0)))
    assert np.mean(honest) < 0.7 * np.mean(by_heart)


@pytest.mark.parametrize("people", [0, 1, 3, LEAST_PEOPLE - 1])
def test_with_too_few_people_every_source_counts_alike(people: int) -> None:
    training, engine = world([noise(12, 1), noise(12, 2)], [1.0, 1.0], people=12)
    assert training.targets is not None
    training.targets[people:] = -1

    fusion, notes = fit_fusion(FusionConfig(), training, engine)

    assert fusion.weights == {"s0": 0.5, "s1": 0.5}
    assert notes == {"decision": f"{people} people could teach it, fewer than 10: every source counts alike"}


def test_people_whose_target_no_source_finds_teach_nothing_and_count_as_missed() -> None:
    training, engine = world([noise(40, 1), noise(40, 2)], [2.0, 0.0], people=40)
    engine.sources = tuple(
        Bound(bound.key, bound.step.model_copy(update={"k": 5}), bound.run) for bound in engine.sources
    )

    _, notes = fit_fusion(FusionConfig(), training, engine)

    slates = [engine.candidates(Request("r", history=training.past(p), exclude_seen=True)) for p in range(40)]
    found = [t in slate.columns["row"] for t, slate in zip(training.targets, slates, strict=True)]
    assert 0 < sum(found) < 40  # else the test would see nothing
    assert notes["target among candidates"] == round(np.mean(found), 4)
    assert notes["ndcg@10 s0"] < np.mean(found)


def test_sources_that_find_every_item_alike_leave_one_source_and_not_none() -> None:
    training, engine = world([np.zeros((20, ITEMS), np.float32)] * 2, [1.0, 1.0], people=20)

    fusion, notes = fit_fusion(FusionConfig(), training, engine)

    assert fusion.weights == {"s0": 1.0}
    assert notes["decision"] == "not used: s0 alone is better"
    slate = engine.candidates(Request("r", history=training.past(0)))
    assert len(fusion(Request("r"), slate)) == len(slate)


def test_the_notes_are_plain_json_and_the_fusion_survives_being_saved(tmp_path: Path) -> None:
    training, engine = world([noise(30, 1), noise(30, 2)], [1.0, 1.0], people=30)

    fusion, notes = fit_fusion(FusionConfig(), training, engine)
    fusion.save(tmp_path)

    json.dumps(notes, allow_nan=False)
    assert Fusion.open(FusionConfig(), training.catalogue, tmp_path).weights == fusion.weights


def test_no_more_people_are_asked_than_the_settings_allow() -> None:
    training, engine = world([noise(50, 1), noise(50, 2)], [1.0, 1.0], people=50)
    told: list[tuple[str, int, int]] = []
    object.__setattr__(training, "report", lambda *what: told.append(what))

    fit_fusion(FusionConfig(people=15), training, engine)

    assert told[-1] == ("slates", 15, 15)
