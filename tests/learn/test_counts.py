"""Counts that grew with the events are those of all events, and so is what is solved with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise import registry
from tailwise.config import settings_of
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.data.load import Dataset
from tailwise.data.synthetic import make_world
from tailwise.learn import counts
from tailwise.learn.counts import Counts, changed
from tailwise.retrieve.collaborative import GRAM, liked_matrix
from tailwise.retrieve.following import STEPS, NextItemConfig, step_sums
from tailwise.types import Event, History, Request

ITEMS = 8
CATALOGUE = Catalogue(
    pl.DataFrame({"item_id": [f"i{row}" for row in range(ITEMS)]}),
    popularity=np.zeros(ITEMS, np.float32),
    recent=np.zeros(ITEMS, np.float32),
    vectors=np.zeros((ITEMS, 1), np.float32),
    tail_cut=0.2,
)
acts = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, ITEMS - 1), st.integers(0, 9), st.sampled_from(["click", "dislike"])),
    min_size=1,
    max_size=60,
)


def log_of(rows: list[tuple[int, int, int, str]]) -> Interactions:
    columns = {"user_id": [f"u{r[0]}" for r in rows], "item_id": [f"i{r[1]}" for r in rows]}
    frame = pl.DataFrame({**columns, "time": [1e9 + r[2] for r in rows], "event": [r[3] for r in rows]})
    return Interactions.of(Dataset.of("acts", events=frame).events, CATALOGUE)


@given(acts, acts)
@settings(max_examples=60)
def test_grown_counts_equal_counts_of_all_events(
    first: list[tuple[int, int, int, str]], second: list[tuple[int, int, int, str]]
) -> None:
    grown, config, chosen = Counts(), NextItemConfig(), np.arange(ITEMS)
    for rows in (first, first + second, second):  # events come, and go
        log = log_of(rows)
        memo = grown.memo(log)

        gram, steps = memo[GRAM].toarray(), memo[STEPS](chosen, config)

        matrix = liked_matrix(log).toarray()
        assert gram.tolist() == (matrix.T @ matrix).tolist()
        for found, expected in zip(steps, step_sums(log, chosen, config), strict=True):
            assert found == pytest.approx(expected, abs=1e-5)


def test_only_people_with_other_events_are_counted_again() -> None:
    people = [(user, item, item, "click") for user in range(6) for item in range(5)]

    parts = changed(log_of(people), log_of([*people, (2, 7, 9, "click")]))

    assert parts is not None
    assert [len(part) for part in parts] == [5, 6]
    assert {int(part.users[0]) for part in parts} == {2}


def test_a_kind_or_a_time_that_changes_is_a_change() -> None:
    people = [(user, item, item, "click") for user in range(6) for item in range(5)]
    for other in ((0, 0, 0, "dislike"), (0, 0, 9, "click")):
        parts = changed(log_of(people), log_of([other, *people[1:]]))

        assert parts is not None
        assert [len(part) for part in parts] == [5, 5]


def test_when_most_people_changed_everything_is_counted_anew() -> None:
    people = [(user, item, item, "click") for user in range(6) for item in range(5)]

    assert changed(log_of(people[:3]), log_of(people)) is None


@pytest.mark.parametrize("name", ["ease", "item_knn", "next_item", "popular"])
def test_a_source_that_learned_on_is_the_source_fitted_on_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(users=60, items=30, events_per_user=12, groups=3, text=False, requests=1, seed=2)
    frame = world.dataset.items.select("item_id")
    nothing = np.zeros(30, np.float32)
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    events, grown = world.dataset.events, Counts()
    logs = [Interactions.of(events.head(n), catalogue) for n in (700, 710, 720)]
    kind = registry.component(name)
    config = settings_of(kind.Config, {} if name == "popular" else {"decay": 0.1}, where=name)
    fitter = registry.trainer(name)
    assert fitter is not None
    for log in logs[:2]:
        fitter(config, Training(log, catalogue, 0, memo=grown.memo(log)))
    monkeypatch.setattr(counts, "liked_matrix", lambda log: pytest.fail("all") if len(log) > 500 else liked_matrix(log))

    online = fitter(config, Training(logs[2], catalogue, 0, memo=grown.memo(logs[2])))

    batch = fitter(config, Training(logs[2], catalogue, 0))
    past = logs[2].events_of(3, catalogue)
    every = np.arange(30)
    found = online.scores(Request("r", history=past), every)
    assert found == pytest.approx(batch.scores(Request("r", history=past), every), rel=1e-4, abs=1e-6)


def test_folding_a_person_in_is_what_a_refit_says_of_them() -> None:
    """EASE: a person's scores are their row of X B. ALS: their vector is the half-step's for their row."""
    from implicit.cpu.als import AlternatingLeastSquares

    from tailwise.retrieve.collaborative import Ease, EaseConfig
    from tailwise.retrieve.factors import Als, AlsConfig

    world = make_world(users=50, items=24, events_per_user=8, groups=3, text=False, requests=1, seed=5)
    nothing = np.zeros(24, np.float32)
    frame = world.dataset.items.select("item_id")
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    log = Interactions.of(world.dataset.events, catalogue)
    once = log.pick(_firsts(log))
    training, every = Training(once, catalogue, 3), np.arange(24)
    matrix = liked_matrix(once).toarray().astype(np.float64)
    ease = Ease.fit(EaseConfig(regularisation=7.0, decay=0.0), training)
    als = Als.fit(AlsConfig(factors=6, decay=0.0, iterations=3), training)

    gram = np.linalg.inv(matrix.T @ matrix + 7.0 * np.eye(24))
    weights = -gram / np.diag(gram)
    np.fill_diagonal(weights, 0.0)
    again = AlternatingLeastSquares(factors=6, regularization=0.05, alpha=5.0, num_threads=1)
    again.item_factors = als.items
    for person in range(0, 50, 7):
        asked = Request("r", history=once.events_of(person, catalogue))
        refit = matrix[person] @ weights
        assert ease.scores(asked, every) == pytest.approx(refit, rel=1e-3, abs=1e-5)
        half_step = again.recalculate_user([0], liked_matrix(once)[person])
        assert als.person(replace(asked, cache={})) == pytest.approx(np.ravel(half_step), rel=1e-2, abs=1e-3)
        assert als.person(replace(asked, cache={})) == pytest.approx(
            _least_squares(als.items, matrix[person]), abs=1e-3
        )


def _firsts(log: Interactions) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Of each person's events with an item the first."""
    mask = np.zeros(len(log), bool)
    mask[np.unique(log.users * 1000 + log.rows, return_index=True)[1]] = True
    return mask


def _least_squares(items: np.ndarray, liked: np.ndarray) -> np.ndarray:
    """Hu, Koren & Volinsky, equation 4, over all items, without any shortcut."""
    confidence = np.where(liked > 0, 5.0, 1.0)
    left = (items.T * confidence) @ items + 0.05 * np.eye(items.shape[1])
    return np.linalg.solve(left, items.T @ (confidence * liked))


def test_a_stranger_who_is_folded_in_has_no_part_in_the_weights() -> None:
    past = History.of([Event("", "i1", 1e9)]).place(np.array([1]))
    from tailwise.retrieve.collaborative import Ease, EaseConfig

    source = Ease.fit(EaseConfig(decay=0.0), Training(log_of([(0, 1, 1, "click"), (0, 2, 2, "click")]), CATALOGUE, 0))
    before = source.weights.values.copy()

    source.scores(Request("r", history=past), np.arange(ITEMS))

    assert source.weights.values.tolist() == before.tolist()
