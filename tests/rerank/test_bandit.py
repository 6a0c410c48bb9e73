"""The bandit fills its slots alone, says the exact chance, tries what it is not sure of, and finds what pays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.rerank.bandit import FEATURES, Bandit, BanditConfig
from tailwise.types import Event, History, Request, Slate

ITEMS = 40
RANDOM = np.random.default_rng(0)
VECTORS = np.eye(4, dtype=np.float32)[np.arange(ITEMS) % 4]
CATALOGUE = Catalogue(
    pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]}),
    popularity=RANDOM.integers(0, 50, ITEMS).astype(np.float32),
    recent=RANDOM.random(ITEMS).astype(np.float32),
    vectors=VECTORS,
    tail_cut=0.2,
)
NOTHING = Interactions.of(
    pl.DataFrame({"user_id": ["u"], "item_id": ["i00"], "time": [1.0], "event": ["click"], "value": [None]}).cast(
        {"value": pl.Float32}
    ),
    CATALOGUE,
)


def bandit(**fields: object) -> Bandit:
    return Bandit.fit(BanditConfig(**fields), Training(NOTHING, CATALOGUE, 0))  # type: ignore[arg-type]  # checked by pydantic


def slate(n: int = ITEMS) -> Slate:
    rows = np.arange(n)
    facts = dict(CATALOGUE.at(rows, Bandit.needs))
    return Slate(CATALOGUE.item_ids[rows], np.linspace(1, 0, n, dtype=np.float32), {"row": rows, **facts})


def asked(name: str = "r", k: int = 10, seed: int = 0) -> Request:
    past = History.of([Event("u", "i01", 1.0)]).place(np.array([1]))
    return Request(name, history=past, k=k, seed=seed)


def test_only_slots_are_filled_and_all_else_keeps_its_order() -> None:
    after = bandit(slots=(2, 5), depth=20)(asked(k=6), slate())

    rows = after.columns["row"]
    assert [int(row) for place, row in enumerate(rows[:6]) if place not in (1, 4)] == [0, 1, 2, 3]
    assert {int(rows[1]), int(rows[4])} <= set(range(4, 20))
    assert sorted(rows) == list(range(ITEMS))
    assert rows[6:].tolist() == sorted(rows[6:])


def test_what_is_not_drawn_is_sure_and_what_is_has_its_chance() -> None:
    after = bandit(slots=(3,))(asked(k=5), slate())

    chance = after.columns["propensity"]
    assert chance.dtype == np.float32
    assert np.delete(chance, 2).tolist() == [1.0] * (ITEMS - 1)
    assert 0 < chance[2] < 1


@pytest.mark.parametrize("policy", ["thompson", "linucb"])
def test_the_propensity_is_how_often_an_item_is_drawn(policy: str) -> None:
    """Told chances against frequencies over 4,000 requests: an oracle that knows nothing of how they are made."""
    stage = bandit(slots=(2,), depth=6, policy=policy, explore=0.4)
    before, taken, told = slate(), np.zeros(ITEMS), np.full(ITEMS, np.nan)
    for number in range(4_000):
        after = stage(asked(f"r{number}", k=2), before)
        row = int(after.columns["row"][1])
        taken[row] += 1
        told[row] = after.columns["propensity"][1]

    known = np.isfinite(told)
    share = taken[known] / 4_000
    assert np.nansum(told) == pytest.approx(1.0, abs=0.02)
    assert np.abs(share - told[known]).max() < 4 * np.sqrt(0.25 / 4_000)


def test_inverse_propensities_tell_what_another_policy_would_have_earned() -> None:
    """Rewards logged under Thompson sampling, weighed by 1 / propensity: the mean of a policy that draws evenly."""
    stage, worth = bandit(slots=(1,), depth=5, width=2.0), np.array([0.1, 0.9, 0.3, 0.5, 0.7])
    random, before, found = np.random.default_rng(3), slate(), []
    for number in range(6_000):
        after = stage(asked(f"r{number}", k=1), before)
        reward = float(random.random() < worth[int(after.columns["row"][0])])
        found.append(reward * 0.2 / float(after.columns["propensity"][0]))

    error = np.std(found) / np.sqrt(len(found))

    assert abs(np.mean(found) - worth.mean()) < 3 * error
    assert error < 0.05


def test_the_same_request_gets_the_same_list_and_another_may_not() -> None:
    stage = bandit(slots=(1,), depth=30)

    rows = [int(stage(asked(name, k=1), slate()).columns["row"][0]) for name in ("a", "a", "b", "c", "d", "e")]

    assert rows[0] == rows[1]
    assert len(set(rows)) > 1


@pytest.mark.parametrize("policy", ["thompson", "linucb"])
def test_it_learns_what_pays(policy: str) -> None:
    """Only items of the long tail are rewarded; after 300 rewards the slot goes to them."""
    stage, random = bandit(slots=(1,), depth=ITEMS, policy=policy, explore=0.2), np.random.default_rng(1)
    before = slate()
    tail = before.columns["tail"]
    for number in range(300):
        after = stage(asked(f"r{number}", k=1), before)
        row = int(after.columns["row"][0])
        features = stage.features(asked(), before.take(np.array([row])))
        stage = stage.taught(features, np.array([float(tail[row] and random.random() < 0.8)]))

    drawn = [int(stage(asked(f"x{number}", k=1), before).columns["row"][0]) for number in range(100)]

    assert tail[drawn].mean() > 0.9 if policy == "thompson" else tail[drawn].mean() > 0.75
    assert tail.mean() == pytest.approx(0.8)


def test_what_was_never_tried_is_tried_by_its_uncertainty() -> None:
    """Two kinds of item; one was met a thousand times with rewards of .5, of the other nothing is known."""
    stage = bandit(slots=(1,), depth=4, policy="linucb", explore=0.0, width=3.0)
    before = slate(4)
    first = stage.features(asked(), before.take(np.array([0])))
    sure = stage.taught(np.repeat(first, 1000, axis=0), np.full(1000, 0.5))

    row = int(sure(asked(k=1), before).columns["row"][0])

    assert row != 0
    assert int(replace(before).columns["row"][0]) == 0


def test_taught_at_once_is_taught_one_by_one() -> None:
    features, rewards = RANDOM.random((30, len(FEATURES))), RANDOM.random(30)
    for half_life in (None, 7.0):
        at_once = bandit(half_life=half_life).taught(features, rewards)

        one_by_one = bandit(half_life=half_life)
        for row, reward in zip(features, rewards, strict=True):
            one_by_one = one_by_one.taught(row[None], np.array([reward]))
        assert one_by_one.precision == pytest.approx(at_once.precision)
        assert one_by_one.moment == pytest.approx(at_once.moment)


def test_what_it_believes_is_the_ridge_regression_of_rewards() -> None:
    features, rewards = RANDOM.random((50, len(FEATURES))), RANDOM.random(50)

    taught = bandit(ridge=2.0).taught(features, rewards)

    expected = np.linalg.solve(features.T @ features + 2.0 * np.eye(len(FEATURES)), features.T @ rewards)
    assert taught._mean == pytest.approx(expected)
    spread = np.linalg.inv(features.T @ features + 2.0 * np.eye(len(FEATURES)))
    assert taught._root @ taught._root.T == pytest.approx(spread)


@given(
    st.integers(0, 12),
    st.integers(1, 12),
    st.lists(st.integers(1, 14), min_size=0, max_size=4),
    st.integers(1, 12),
    st.sampled_from(["thompson", "linucb"]),
)
@settings(max_examples=80)
def test_nothing_is_lost_or_invented_whatever_the_slots(
    n: int, k: int, slots: list[int], depth: int, policy: str
) -> None:
    stage = bandit(slots=tuple(slots), depth=depth, policy=policy)

    after = stage(asked(k=k), slate(n))

    assert sorted(after.columns["row"]) == list(range(n))
    assert ((after.columns["propensity"] > 0) & (after.columns["propensity"] <= 1)).all()


def test_near_is_the_cosine_to_what_was_liked_lately() -> None:
    features = bandit().features(asked(), slate(8))

    assert features[:, FEATURES.index("near")].tolist() == [0, 1, 0, 0, 0, 1, 0, 0]
    assert features[:, 0].tolist() == [1.0] * 8


def test_saved_and_opened_it_is_the_same(tmp_path: Path) -> None:
    stage = bandit(slots=(1,), seed=4).taught(RANDOM.random((9, len(FEATURES))), RANDOM.random(9))
    stage.save(tmp_path)

    again = Bandit.open(stage.config, CATALOGUE, tmp_path)

    assert again(asked(), slate()).columns["row"].tolist() == stage(asked(), slate()).columns["row"].tolist()
    assert np.array_equal(again._drawn, stage._drawn)
