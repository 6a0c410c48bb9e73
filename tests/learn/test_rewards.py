"""Events that answer a bandit's places become rewards; all others say nothing to it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tailwise.learn.arrivals import plain_events
from tailwise.learn.rewards import meetings, taught
from tailwise.pipeline import Engine
from tailwise.rerank.bandit import Bandit


def events(*rows: tuple[str, str, float, str, str | None, int | None, float | None]) -> pl.DataFrame:
    names = {"user_id": pl.String, "item_id": pl.String, "time": pl.Float64, "event": pl.String}
    more = {"request_id": pl.String, "position": pl.Int64, "propensity": pl.Float64}
    frame = pl.DataFrame(list(rows), schema={**names, **more}, orient="row")
    return plain_events(frame.with_columns(value=pl.lit(None, pl.Float32)))


SHOWN = (
    ("u00", "i01", 2e9, "view", "r1", 10, 0.5),
    ("u00", "i01", 2e9 + 1, "click", "r1", 10, 0.5),
    ("u01", "i02", 2e9 + 2, "view", "r2", 10, 0.2),
    ("u01", "i03", 2e9 + 3, "click", "r2", 1, 1.0),
    ("u02", "i04", 2e9 + 4, "click", None, None, None),
    ("u02", "i05", 2e9 + 5, "skip", "r3", 10, 0.1),
)


def test_a_meeting_is_rewarded_when_any_act_says_so() -> None:
    found = meetings(events(*SHOWN), (10,))

    assert found.rows() == [("u00", "i01", 2e9, 1.0), ("u01", "i02", 2e9 + 2, 0.0), ("u02", "i05", 2e9 + 5, 0.0)]


def bandit_of(engine: Engine) -> Bandit:
    (found,) = (bound.run for bound in engine.stages if isinstance(bound.run, Bandit))
    return found


def test_a_bandit_is_taught_by_what_it_saw_at_the_time(tiny_engine: Engine) -> None:
    people = tiny_engine.people

    engine, count = taught(tiny_engine, events(*SHOWN), people)

    assert count == 3
    before, after = bandit_of(tiny_engine), bandit_of(engine)
    assert not before.precision.any()
    assert after.precision[0, 0] == 3  # the constant's
    assert after.moment[0] == 1
    facts = tiny_engine.catalogue.columns(np.array(["i01"], object), frozenset({"recent"}))
    assert after.moment[1] == pytest.approx(facts["recent"][0])


def test_items_that_the_model_does_not_know_teach_nothing(tiny_engine: Engine) -> None:
    strange = (("u00", "zzz", 2e9, "click", "r1", 10, 0.5),)

    _, count = taught(tiny_engine, events(*strange), tiny_engine.people)

    assert count == 0


def test_without_rewards_nothing_changes(tiny_engine: Engine) -> None:
    engine, count = taught(tiny_engine, events(SHOWN[4]), tiny_engine.people)

    assert count == 0
    assert bandit_of(engine) is bandit_of(tiny_engine)
