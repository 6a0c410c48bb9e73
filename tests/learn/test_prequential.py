"""A model is judged by what came next, with nothing of it in the past."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tailwise.data.interactions import Interactions
from tailwise.data.synthetic import World
from tailwise.learn.arrivals import events_of, plain_events, together
from tailwise.learn.prequential import Judged, fresh_cases, judged, part, standard_error
from tailwise.pipeline import Engine


def whole_of(engine: Engine, *rows: tuple[str, str, float, str]) -> Interactions:
    schema = {"user_id": pl.String, "item_id": pl.String, "time": pl.Float64, "event": pl.String}
    frame = pl.DataFrame(list(rows), schema=schema, orient="row").with_columns(value=pl.lit(None, pl.Float32))
    return together(events_of(engine.people, engine.catalogue), plain_events(frame), engine.catalogue)


def test_every_new_liking_is_a_case_and_its_past_ends_before_its_moment(tiny_engine: Engine, tiny_world: World) -> None:
    now = float(tiny_engine.people.times.max()) + 10
    user = str(tiny_engine.people.user_ids[0])
    whole = whole_of(
        tiny_engine, (user, "i01", now, "click"), (user, "i02", now, "click"), (user, "i03", now + 5, "dislike")
    )

    cases = fresh_cases(whole, 100, exclude_seen=False)

    assert [int(rows[0]) for rows in cases.targets] == [1, 2]
    old = len(tiny_engine.people.history(user, tiny_engine.catalogue) or ())
    assert [len(cases.past(case, tiny_engine.catalogue)) for case in (0, 1)] == [old, old]  # one moment, one past


def test_what_a_person_had_is_no_case_where_it_is_not_shown_again(tiny_engine: Engine) -> None:
    now = float(tiny_engine.people.times.max()) + 10
    user = str(tiny_engine.people.user_ids[0])
    had = tiny_engine.people.history(user, tiny_engine.catalogue)
    assert had is not None
    fresh = next(item for item in tiny_engine.catalogue.item_ids if item not in had.item_ids)
    whole = whole_of(tiny_engine, (user, str(had.item_ids[0]), now, "click"), (user, fresh, now + 1, "click"))

    assert len(fresh_cases(whole, 100, exclude_seen=False)) == 2
    (only,) = fresh_cases(whole, 100, exclude_seen=True).targets
    assert tiny_engine.catalogue.item_ids[only].tolist() == [fresh]


def test_of_too_many_the_newest_are_taken(tiny_engine: Engine) -> None:
    now = float(tiny_engine.people.times.max())
    rows = [(f"u{n:02d}", f"i{n:02d}", now + 30 - n, "click") for n in range(20)]

    cases = fresh_cases(whole_of(tiny_engine, *rows), 5, exclude_seen=False)

    assert sorted(cases.times - now) == [26, 27, 28, 29, 30]
    assert len(part(cases, cases.times > now + 28)) == 2


def test_gains_are_those_of_the_lists_that_the_engine_shows(tiny_engine: Engine) -> None:
    now = float(tiny_engine.people.times.max()) + 10
    user = str(tiny_engine.people.user_ids[3])
    shown = tiny_engine.rank(user_id=user, k=10).item_ids.tolist()
    missed = tiny_engine.rank(user_id=user, k=60).item_ids[-1]  # the bandit tries others of the best at the tenth place
    for place, item in ((0, shown[0]), (4, shown[4]), (None, missed)):
        cases = fresh_cases(whole_of(tiny_engine, (user, str(item), now, "click")), 9, exclude_seen=True)

        found = judged(tiny_engine, cases, tiny_engine.catalogue)

        if len(cases):
            assert found.mean == pytest.approx(0.0 if place is None else 1 / np.log2(place + 2))


def test_an_error_is_that_of_a_mean() -> None:
    gains = np.array([0.0, 1.0, 0.0, 1.0])

    assert Judged(gains, gains).error == pytest.approx(gains.std(ddof=1) / 2)
    assert standard_error(np.ones(1)) == 0.0
    assert Judged(np.empty(0), np.empty(0)).mean == 0.0
