"""What is read today and forgotten tomorrow is told from what is wanted for years."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from tailwise.data.baskets import Acts
from tailwise.data.catalogue import Catalogue
from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Interactions
from tailwise.data.pace import DAY, LEAST, PEOPLE, SHORTER, SPAN, USUAL, _found, newest_cases, pace_of
from tailwise.types import Rows

START = 1_700_000_000.0


@cache
def taken(life: float, *, days: int = 60, items: int = 600, events: int = 20_000) -> tuple[NDArray[np.float64], Rows]:
    """Items come one after the other; how wanted each is halves in ``life`` days. Half of the days' readers are new."""
    rng = np.random.default_rng(4)
    born, liked = np.sort(rng.uniform(-30, days, items)), rng.lognormal(0, 1, items)
    times = np.sort(rng.uniform(0, days, events))
    rows = np.empty(events, np.int64)
    for place, now in enumerate(times):
        wanted = np.cumsum(np.where(born < now, liked * 2.0 ** (-(now - born) / life), 0.0))
        rows[place] = np.searchsorted(wanted, rng.random() * wanted[-1], side="right")
    return START + times * DAY, np.minimum(rows, items - 1)


def log_of(times: NDArray[np.float64], rows: Rows, people: int = 4_000, items: int = 600) -> Interactions:
    """Readers come for a few days each, the later ones later."""
    users = (np.arange(len(times)) * people // len(times) // 5 * 5 + np.arange(len(times)) % 5) % people
    nothing = np.zeros(items, np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row:03d}" for row in range(items)]})
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    events = pl.DataFrame(
        {
            "user_id": [f"u{user:05d}" for user in users],
            "item_id": [f"i{row:03d}" for row in rows],
            "time": times,
            "event": "click",
            "value": np.full(len(times), np.nan),
        }
    )
    return Interactions.of(events, catalogue)


@pytest.mark.parametrize(("life", "least", "most"), [(0.3, 0.1, 0.5), (2.0, 0.25, 3.0)])
def test_news_has_a_half_life_of_about_its_own(life: float, least: float, most: float) -> None:
    assert least <= pace_of(*taken(life), 600) <= most


def test_what_is_wanted_for_years_keeps_the_usual_half_life() -> None:
    assert pace_of(*taken(400.0), 600) == USUAL


@pytest.mark.parametrize("seed", range(5))
def test_chance_alone_chooses_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = START + np.sort(rng.uniform(0, 60 * DAY, LEAST))

    assert pace_of(times, rng.integers(0, 900, LEAST), 900) == USUAL
    assert pace_of(np.full(LEAST, START), rng.integers(0, 900, LEAST), 900) == USUAL  # a log without times


def test_few_events_choose_nothing_and_their_order_does_not_count() -> None:
    times, rows = taken(0.3)
    mixed = np.random.default_rng(0).permutation(len(times))

    assert pace_of(times[: LEAST - 1], rows[: LEAST - 1], 600) == USUAL
    assert pace_of(times[mixed], rows[mixed], 600) == pace_of(times, rows, 600) < 1


def test_a_log_of_news_counts_what_is_popular_by_its_own_half_life() -> None:
    news, films = log_of(*taken(0.3)), log_of(*taken(400.0))

    assert news.pace < 1
    assert np.allclose(news.recent(news.pace), news.decayed(news.pace))
    assert np.allclose(films.recent(films.pace), films.decayed(30.0))


def test_of_news_only_people_who_were_here_lately_are_held_out() -> None:
    news, films = log_of(*taken(0.3)), log_of(*taken(400.0))

    (_, late), (_, any_time) = hold_out(news), hold_out(films)

    since = newest_cases(news.times, news.offsets, news.pace, news.acts)
    assert since > news.times.max() - 20 * DAY
    assert late.times.min() >= since
    assert len(np.unique(late.people)) >= 0.9 * PEOPLE  # some did too little
    assert any_time.times.min() < films.times.max() - 40 * DAY


def test_who_is_here_often_gives_no_case_of_before_and_as_many_people_are_drawn_as_are_wanted() -> None:
    times, rows = taken(0.3)
    log = log_of(times, rows)
    often = replace(log, offsets=np.arange(0, len(log) + 1, 50), user_ids=log.user_ids[:400])  # fifty events each
    order = np.random.default_rng(0).permutation(len(log)).reshape(-1, 50)
    order.sort(axis=1)  # each from all over the log, oldest first
    often = replace(often, times=times[order.ravel()], rows=rows[order.ravel()])

    _, held = hold_out(often)
    _, drawn = hold_out(log, most=100)

    assert held.times.min() >= newest_cases(often.times, often.offsets, often.pace, often.acts)
    assert len(np.unique(held.people)) < len(held) < 5 * len(np.unique(held.people))
    assert len(np.unique(drawn.people)) == 100


def test_what_nobody_took_before_is_not_found() -> None:
    times = START + np.arange(100) * 60.0

    assert not _found(times, np.repeat([0, 1], 50), 3, 50, 50).any()
    assert _found(times, np.zeros(100, np.int64), 3, 50, 50).tolist() == [1.0] * (1 + len(SHORTER))


def test_the_newest_people_are_counted_by_what_they_did_last() -> None:
    times, offsets = START + DAY * np.array([0.0, 9.0, 1.0, 2.0, 50.0]), np.array([0, 2, 4, 4, 5])  # one did nothing

    assert newest_cases(times, offsets, 0.5, Acts.LINES) == START + 2 * DAY  # fewer people than are wanted: all
    assert (
        newest_cases(np.array([START, START + 99 * DAY]), np.array([0, 1, 2]), 14.0, Acts.LINES)
        == START - (SPAN * 14 - 99) * DAY
    )
    assert newest_cases(times, offsets, USUAL, Acts.LINES) == -math.inf
    assert newest_cases(times, offsets, 0.5, Acts.SETS) == -math.inf
