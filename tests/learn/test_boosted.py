"""The boosted trees learn what the incoming order does not say, and leave an order that they cannot better."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
pytest.importorskip("lightgbm", reason="needs LightGBM: pip install 'tailwise[boost]'")

from tailwise.data.interactions import Training
from tailwise.errors import UnavailableError
from tailwise.learn.boosted import fit_boosted
from tailwise.pipeline import Engine
from tailwise.rank.boosted import BoostedConfig, booster
from tailwise.types import Event, History, Request

SOMEBODY = Request("r", history=History.of([Event("", "i0", 1.0)]).place(np.array([0])))
World = tuple[Training, Engine]
QUICK = BoostedConfig(trees=40, learning_rate=0.2, least_in_leaf=20, committee=2)


def test_they_learn_what_the_order_that_comes_in_does_not_say(where_they_differ: World) -> None:
    training, engine = where_they_differ

    stage, notes = fit_boosted(QUICK, training, engine)

    assert notes["decision"] == "used"
    assert notes["ndcg@10 after (cross-fitted)"] > notes["ndcg@10 before"] + 0.3
    slate = engine.candidates(Request("r", history=training.past(7), exclude_seen=False))
    assert stage(SOMEBODY, slate).columns["row"][0] == training.targets[7]  # type: ignore[index]  # there are some


def test_where_the_order_that_comes_in_says_all_there_is_to_say_it_stands(where_the_order_says_all: World) -> None:
    training, engine = where_the_order_says_all

    stage, notes = fit_boosted(QUICK, training, engine)

    assert notes["decision"] == "not used: the gain is not above 1 of its standard errors"
    slate = engine.candidates(Request("r", history=training.past(7)))
    assert stage(SOMEBODY, slate) is slate
    assert stage.needs == frozenset()


def test_with_few_cases_the_order_stands(where_they_differ: World) -> None:
    training, engine = where_they_differ
    assert training.targets is not None
    training.targets[150:] = -1

    _, notes = fit_boosted(QUICK, training, engine)

    assert notes == {"decision": "not used: 150 cases could teach it, fewer than 200"}


def test_the_same_seed_gives_the_same_trees_whatever_the_number_of_threads(where_they_differ: World) -> None:
    training, engine = where_they_differ
    brief = QUICK.model_copy(update={"trees": 5})

    first, _ = fit_boosted(brief, training, engine)
    again, _ = fit_boosted(brief, replace(training, threads=2, memo={}), engine)
    other, _ = fit_boosted(brief, replace(training, seed=1, memo={}), engine)

    assert first.trees == again.trees
    assert first.trees != other.trees


def test_a_member_keeps_its_best_trees_and_stops_soon_after(where_they_differ: World) -> None:
    training, engine = where_they_differ
    told: list[tuple[str, int, int]] = []
    watched = replace(training, report=lambda *what: told.append(what))

    stage, _ = fit_boosted(
        QUICK.model_copy(update={"trees": 500, "patience": 5, "learning_rate": 1.0}), watched, engine
    )

    kept = [booster(text).num_trees() for text in stage.trees]
    assert max(kept) < 500 - 5
    steps = [(done, total) for what, done, total in told if what == "boosted"]
    assert steps[-1] == (1000, 1000)
    assert max(done for done, _ in steps[:-1]) == sum(kept) + 2 * 5


def test_constant_signals_and_scores_leave_the_order(where_nothing_tells: World) -> None:
    training, engine = where_nothing_tells
    (alone,) = engine.sources
    alone.run.scores_of[:] = 0.0

    stage, notes = fit_boosted(QUICK, training, engine)

    assert stage.needs == frozenset()
    assert np.isfinite(float(notes["ndcg@10 after (cross-fitted)"]))


def test_without_lightgbm_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, where_they_differ: World) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)

    with pytest.raises(UnavailableError, match=r"^boosted needs LightGBM: pip install 'tailwise\[boost\]'$"):
        fit_boosted(QUICK, *where_they_differ)
