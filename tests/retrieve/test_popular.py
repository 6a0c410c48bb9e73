"""Popularity with decay: what many people did lately."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tailwise.artifacts import save_arrays
from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Training
from tailwise.retrieve.popular import Popular, PopularConfig
from tailwise.types import Event, History, Request

Trainer = Callable[[list[tuple[int, int]], int], Training]
ANYONE = Request("r", user_id="stranger")
PAIRS = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 2)]  # a day apart: the last is the newest


def test_items_come_by_how_many_people_had_them(training_of: Trainer) -> None:
    popular = Popular.fit(PopularConfig(strangers_half_life_days=1e6), training_of(PAIRS, 4))

    slate = popular(ANYONE, 10)

    assert slate.columns["row"].tolist() == [0, 1, 2, 3]
    assert slate.scores.tolist() == pytest.approx([math.log(4), math.log(3), math.log(2), 0.0], abs=1e-4)


def test_a_short_half_life_prefers_what_is_new(training_of: Trainer) -> None:
    popular = Popular.fit(PopularConfig(strangers_half_life_days=0.5), training_of(PAIRS, 4))

    assert popular(ANYONE, 2).columns["row"].tolist() == [2, 1]


def test_what_is_excluded_stays_out_and_unknown_items_have_no_score(training_of: Trainer) -> None:
    popular = Popular.fit(PopularConfig(), training_of(PAIRS, 4))

    slate = popular(Request("r", excluded=np.array([0, 2])), 10)

    assert slate.columns["row"].tolist() == [1, 3]
    scores = popular.scores(ANYONE, np.array([1, -1]))
    assert scores[0] == slate.scores[0]
    assert np.isnan(scores[1])


def test_what_is_saved_opens_equal(tmp_path: Path, training_of: Trainer) -> None:
    training = training_of(PAIRS, 4)
    before = Popular.fit(PopularConfig(), training)

    before.save(tmp_path / "popular")
    after = Popular.open(before.config, training.catalogue, tmp_path / "popular")

    assert (after(ANYONE, 4).scores == before(ANYONE, 4).scores).all()
    assert after(ANYONE, 4).item_ids.tolist() == before(ANYONE, 4).item_ids.tolist()


def test_people_with_a_past_and_strangers_each_have_their_own_popularity(training_of: Trainer) -> None:
    config = PopularConfig(half_life_days=0.5, strangers_half_life_days=1e6, strangers_first=1)
    popular = Popular.fit(config, training_of(PAIRS, 4))
    past = History.of([Event("", "i3", 0.0)]).place(np.array([3]))

    stranger, known = popular(ANYONE, 2), popular(Request("r", history=past), 2)

    assert stranger.columns["row"].tolist() == [0, 1]  # what people took first
    assert known.columns["row"].tolist() == [2, 1]  # what is new
    assert popular.scores(ANYONE, np.array([0])) == stranger.scores[0]
    assert popular.scores(Request("r", history=past), np.array([2])) == known.scores[0]


def test_a_fit_keeps_what_it_chose_for_strangers(training_of: Trainer) -> None:
    chosen = Popular.fit(PopularConfig(), training_of(PAIRS, 4)).config

    assert (chosen.strangers_half_life_days, chosen.strangers_first) == (90.0, 0)  # nobody is new who could choose
    assert chosen.half_life_days == 90.0


def test_where_what_is_wanted_changes_fast_the_log_chooses_the_half_life(training_of: Trainer) -> None:
    rng = np.random.default_rng(0)  # each day ten other items, and 40 other people who read them
    read = [(day * 40 + person, day * 10 + int(rng.integers(10))) for day in range(60) for person in range(40)]
    news = training_of(read, 600)
    log = replace(news.interactions, times=1e9 + news.interactions.rows // 10 * 86400.0 + rng.uniform(0, 9e4, 2400))

    told = Popular.fit(PopularConfig(), replace(news, interactions=log))
    given = Popular.fit(PopularConfig(half_life_days=50.0), replace(news, interactions=log))

    assert told.config.half_life_days == log.pace <= 1
    assert (told.config.strangers_half_life_days, told.config.strangers_first) == (log.pace, 0)
    assert given.config.half_life_days == 50.0


def test_newcomers_choose_by_what_is_held_out_too_and_it_is_not_counted(training_of: Trainer) -> None:
    rng = np.random.default_rng(0)
    old = [(person, int(rng.integers(0, 3))) for person in range(60) for _ in range(4)]
    new = [(person, 3) for person in range(60, 100)]  # they take the newest item alone, at their only act
    whole = training_of([*old, (0, 3), *new], 4)
    inner, held = hold_out(whole.interactions, least=1, cases=1)

    told = Popular.fit(PopularConfig(), replace(whole, interactions=inner, held=held))

    assert not (inner.rows == 3).any()  # all of the new item is held out
    assert told.config.strangers_half_life_days == Popular.fit(PopularConfig(), whole).config.strangers_half_life_days
    assert told.scores(ANYONE, np.array([3])).tolist() == [0.0]


def test_a_model_without_a_strangers_popularity_has_one_for_all(tmp_path: Path, training_of: Trainer) -> None:
    training = training_of(PAIRS, 4)
    save_arrays(tmp_path / "popular.safetensors", popularity=np.array([1, 2, 3, 0], np.float32))

    opened = Popular.open(PopularConfig(), training.catalogue, tmp_path)

    assert opened(ANYONE, 4).columns["row"].tolist() == [2, 1, 0, 3]
