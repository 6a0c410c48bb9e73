"""What people take who are new, and which popularity they choose."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.retrieve.strangers import chosen_for_strangers, popularity_for

DAY = 86400.0
ITEMS = 40


def log_of(events: list[tuple[str, int, float]], *, kind: str = "click") -> Interactions:
    """Events as (person, item, day)."""
    items = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]})
    nothing = np.zeros(ITEMS, np.float32)
    catalogue = Catalogue(items, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    frame = pl.DataFrame(
        [(user, f"i{row:02d}", day * DAY, kind, None) for user, row, day in sorted(events, key=lambda e: e[2])],
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "time": pl.Float64,
            "event": pl.String,
            "value": pl.Float64,
        },
        orient="row",
    )
    return Interactions.of(frame, catalogue)


def test_first_events_and_the_end_are_counted_by_hand() -> None:
    log = log_of([("a", 0, 0.0), ("a", 1, 1.0), ("b", 1, 1.0), ("b", 0, 2.0), ("b", 2, 3.0)])

    assert popularity_for(log, 1e9, 0)[:3].tolist() == pytest.approx([2.0, 2.0, 1.0])
    assert popularity_for(log, 1e9, 1)[:3].tolist() == pytest.approx([1.0, 1.0, 0.0])
    assert popularity_for(log, 1.0, 0, until=2.5 * DAY)[:3].tolist() == pytest.approx([1.25, 1.0, 0.0])
    assert popularity_for(log, 1.0, 0, until=0.0).tolist() == [0.0] * ITEMS


def world(people: int = 200) -> list[tuple[str, int, float]]:
    """People begin with items 0 to 9; the first three quarters of them go on with others, which get more events."""
    rng, events = np.random.default_rng(0), []
    for person in range(people):
        old = person < 0.75 * people
        start = rng.uniform(0, 100) if old else rng.uniform(200, 300)
        for step in range(40 if old else 8):
            row = int(rng.integers(0, 10)) if step < 8 else int(rng.integers(10, 20))
            events.append((f"p{person:04d}", row, start + step / 40))
    return events


def test_newcomers_choose_what_newcomers_took() -> None:
    log = log_of(world())

    half_life, first = chosen_for_strangers(log, 90.0)

    assert first in {10, 20}
    top = np.argsort(-popularity_for(log, half_life, first), kind="stable")[:10]
    assert sorted(top.tolist()) == list(range(10))


def test_what_is_out_of_fashion_is_forgotten() -> None:
    rng = np.random.default_rng(0)
    events = [
        (f"p{day:03d}{n}", int(rng.integers(0, 10)) + 10 * (day >= 200), float(day))
        for day in range(400)
        for n in (0, 1)
    ]

    half_life, _ = chosen_for_strangers(log_of(events), 90.0)

    assert half_life <= 360


def test_with_few_newcomers_nothing_is_chosen() -> None:
    assert chosen_for_strangers(log_of(world(30)), 77.0) == (77.0, 0)
    assert chosen_for_strangers(log_of([]), 77.0) == (77.0, 0)
    assert chosen_for_strangers(log_of(world(), kind="dislike"), 77.0) == (77.0, 0)
    timeless = [(user, row, 0.0) for user, row, _ in world()]
    assert chosen_for_strangers(log_of(timeless), 77.0) == (77.0, 0)
