"""Drift is seen where there is some, and not where there is none."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.learn.arrivals import FRESH
from tailwise.learn.drift import Drift, Reference, drift_of, stability_index
from tailwise.learn.prequential import Judged

ITEMS = 30
counts = st.lists(st.integers(0, 50), min_size=3, max_size=3).map(lambda each: np.array(each, np.float64))


def judged(mean: float, n: int = 400, top: float = 1.0) -> Judged:
    random = np.random.default_rng(0)
    return Judged(np.clip(random.normal(mean, 0.1, n), 0, 1), random.normal(top, 0.2, n))


def log_of(old: np.ndarray, new: np.ndarray, kinds: tuple[str, str] = ("click", "click")) -> Interactions:
    nothing = np.zeros(ITEMS, np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]})
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    rows = np.concatenate([old, new])
    events = {
        "user_id": [f"u{place % 40:02d}" for place in range(len(rows))],
        "item_id": [f"i{row:02d}" for row in rows],
        "time": 1e9 + np.arange(len(rows), dtype=np.float64),
        "event": [kinds[0]] * len(old) + [kinds[1]] * len(new),
        "value": pl.Series([None] * len(rows), dtype=pl.Float32),
        FRESH: [False] * len(old) + [True] * len(new),
    }
    return Interactions.of(pl.DataFrame(events), catalogue, (FRESH,))


def drawn(chance: np.ndarray, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(ITEMS, n, p=chance / chance.sum())


APPEAL = 1 / np.arange(1, ITEMS + 1)


@given(counts, counts)
def test_the_stability_index_is_symmetric_and_never_below_zero(first: np.ndarray, second: np.ndarray) -> None:
    found = stability_index(first, second)

    if first.sum() and second.sum():
        assert found == pytest.approx(stability_index(second, first))
        assert found >= -1e-12
    else:
        assert np.isnan(found)


def test_more_of_the_same_is_no_drift() -> None:
    whole = log_of(drawn(APPEAL, 4000, 0), drawn(APPEAL, 400, 1))
    before = Reference().with_new(judged(0.4))

    found = drift_of(whole, ITEMS, judged(0.4), before)

    assert not found.suspected
    assert not found.fell
    assert found.popularity < 0.1
    assert found.scores < 0.1
    assert found.kinds < 0.05
    assert found.lengths < 0.1
    assert found.unknown == 0


def test_another_fashion_is_a_drift_of_the_data() -> None:
    whole = log_of(drawn(APPEAL, 4000, 0), drawn(APPEAL[::-1], 400, 1))

    found = drift_of(whole, ITEMS, judged(0.4), Reference().with_new(judged(0.4)))

    assert found.popularity > 1
    assert found.suspected


def test_lists_that_earn_less_are_a_drift_whatever_the_data() -> None:
    whole = log_of(drawn(APPEAL, 4000, 0), drawn(APPEAL, 400, 1))
    before = Reference().with_new(judged(0.4))

    assert drift_of(whole, ITEMS, judged(0.2), before).fell
    assert not drift_of(whole, ITEMS, judged(0.2, n=10), before).fell  # too few to say


def test_scores_kinds_and_items_that_change_are_told() -> None:
    whole = log_of(drawn(APPEAL, 4000, 0), drawn(APPEAL, 400, 1), ("click", "view"))

    found = drift_of(whole, 20, judged(0.4, top=2.0), Reference().with_new(judged(0.4)))

    assert found.scores > 1
    assert found.kinds > 1
    assert found.unknown == pytest.approx((whole.rows[whole.context[FRESH].to_numpy()] >= 20).mean())


def test_a_wave_of_strangers_is_told_by_their_short_histories() -> None:
    whole = log_of(drawn(APPEAL, 4000, 0), drawn(APPEAL, 40, 1))
    names = whole.user_ids
    log = pl.DataFrame(
        {
            "user_id": [*names[whole.users[~whole.context[FRESH].to_numpy()]], *(f"new{place}" for place in range(40))],
            "item_id": ["i00"] * 4040,
            "time": 1e9 + np.arange(4040, dtype=np.float64),
            "event": "click",
            "value": pl.Series([None] * 4040, dtype=pl.Float32),
            FRESH: [False] * 4000 + [True] * 40,
        }
    )
    nothing = np.zeros(1, np.float32)
    one = pl.DataFrame({"item_id": ["i00"]})
    catalogue = Catalogue(one, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)

    found = drift_of(Interactions.of(log, catalogue, (FRESH,)), 1, judged(0.4), Reference())

    assert found.lengths > 1


def test_a_reference_survives_its_json_and_runs_along() -> None:
    first = Reference().with_new(judged(0.4))

    second = Reference.of(first.told()).with_new(judged(0.6))

    assert Reference.of(first.told()) == first
    assert second.accuracy == pytest.approx((judged(0.4).mean + judged(0.6).mean) / 2)
    assert len(second.spread) == 9
    assert Reference.of({}) == Reference()


def test_what_is_not_known_is_null_in_json() -> None:
    told = Drift(0.1, float("nan"), 0.0, 0.2, float("nan"), fell=False).told()

    assert told["popularity"] is None
    assert told["suspected"] is False
