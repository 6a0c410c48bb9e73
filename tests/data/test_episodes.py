"""Events gathered into meetings: what belongs together, what it tells, and what lay strictly before."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.catalogue import Catalogue
from tailwise.data.episodes import DAY, TASKS, Episodes, against, counter_examples, episodes_of, newest
from tailwise.data.interactions import Interactions
from tailwise.data.load import Dataset
from tailwise.types import EVENT_KINDS

Row = tuple[str, str, float, str, float | None]
START = 1_000_000_000.0
ITEMS = ["i0", "i1", "i2", "i3"]
NAN = float("nan")
WINDOW = 1.0
ROWS: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob"]),
        st.sampled_from(ITEMS[:2]),
        st.integers(0, 9).map(lambda third: third / 3),
        st.sampled_from(EVENT_KINDS),
        st.sampled_from([None, 1.0, 4.0, -2.0]),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda row: row[:4],
)


def log_of(rows: list[Row]) -> Interactions:
    """Events of people; times in days."""
    nothing = np.zeros(len(ITEMS), np.float32)
    catalogue = Catalogue(
        pl.DataFrame({"item_id": ITEMS}), popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2
    )
    schema = {"user_id": pl.String, "item_id": pl.String, "time": pl.Float64, "event": pl.String, "value": pl.Float32}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    frame = frame.with_columns(pl.col("time") * DAY + START)
    return Interactions.of(Dataset.of("x", events=frame).events, catalogue)


def found(rows: list[Row]) -> Episodes:
    return episodes_of(log_of(rows), window_days=WINDOW)


def labels(episodes: Episodes, task: str) -> list[float]:
    return [round(float(value), 3) for value in episodes.labels[:, TASKS.index(task)]]


def same(first: list[float], second: list[float]) -> bool:
    return np.array_equal(first, second, equal_nan=True)


def test_a_view_a_click_and_a_purchase_are_one_meeting() -> None:
    episodes = found(
        [("u", "i0", 0, "view", None), ("u", "i0", 0.1, "click", None), ("u", "i0", 0.9, "purchase", None)]
    )

    assert len(episodes) == 1
    assert episodes.shows
    assert (labels(episodes, "click"), labels(episodes, "purchase")) == ([1.0], [1.0])


def test_a_view_that_nothing_followed_was_passed_over() -> None:
    episodes = found([("u", "i0", 0, "view", None), ("u", "i0", 2, "view", None), ("u", "i0", 2.1, "click", None)])

    assert labels(episodes, "click") == [0.0, 1.0]
    assert labels(episodes, "favourite") == pytest.approx([NAN, NAN], nan_ok=True)


def test_what_comes_after_the_window_is_another_meeting() -> None:
    episodes = found([("u", "i0", 0, "view", None), ("u", "i0", 1.5, "click", None)])

    assert labels(episodes, "click") == [0.0, 1.0]


def test_another_person_or_another_item_is_another_meeting() -> None:
    rows: list[Row] = [("u", "i0", 0, "view", None), ("u", "i1", 0.1, "click", None), ("v", "i0", 0.1, "click", None)]

    assert labels(found(rows), "click") == [0.0, 1.0, 1.0]


def test_a_rating_says_nothing_of_a_click_nor_does_a_log_without_clicks() -> None:
    both = found([("u", "i0", 0, "rating", 4.0), ("u", "i1", 1, "click", None)])
    ratings = found([("u", "i0", 0, "rating", 4.0)])

    assert same(labels(both, "click"), [NAN, 1.0])
    assert same(labels(both, "rating"), [4.0, NAN])
    assert not both.shows
    assert np.isnan(np.delete(ratings.labels, TASKS.index("rating"), axis=1)).all()


def test_the_last_value_counts_and_nonsense_does_not() -> None:
    ratings = found([("u", "i0", 0, "rating", 2.0), ("u", "i0", 0.5, "rating", 5.0), ("u", "i0", 0.6, "rating", None)])
    dwells = found([("u", "i0", 0, "dwell", -3.0), ("u", "i1", 0, "dwell", None), ("u", "i2", 0, "dwell", 0.0)])

    assert labels(ratings, "rating") == [5.0]
    assert same(labels(dwells, "dwell"), [NAN, NAN, 0.0])


def test_a_dislike_is_told_of_every_real_meeting() -> None:
    episodes = found([("u", "i0", 0, "dislike", None), ("u", "i1", 1, "purchase", None), ("u", "i2", 2, "rating", 1.0)])

    assert labels(episodes, "dislike") == [1.0, 0.0, 0.0]
    assert same(labels(episodes, "purchase"), [0.0, 1.0, NAN])


def test_the_past_ends_strictly_before_the_meeting() -> None:
    rows: list[Row] = [("u", "i0", 0, "click", None), ("u", "i1", 1, "click", None), ("u", "i2", 1, "click", None)]

    assert found(rows).ends.tolist() == [0, 1, 1]


def test_where_there_is_one_moment_only_all_of_a_person_is_the_past() -> None:
    rows: list[Row] = [("u", "i0", 0, "click", None), ("u", "i1", 0, "click", None), ("v", "i2", 0, "click", None)]

    episodes = found(rows)

    assert episodes.timeless
    assert episodes.ends.tolist() == [2, 2, 3]


@given(ROWS)
def test_meetings_equal_those_of_a_plain_loop(rows: list[Row]) -> None:
    log = log_of(rows)
    events = sorted(zip(log.users, log.rows, log.times, log.kinds, log.values, strict=True), key=lambda e: e[:4])
    plain: list[list[tuple[float, ...]]] = []
    for event in events:
        person, row, time, kind, _ = event
        last = plain[-1][-1] if plain else None
        fits = last is not None and last[:2] == (person, row) and time - last[2] <= WINDOW * DAY
        shown = EVENT_KINDS[kind] in {"view", "skip"} and last is not None and time > last[2]
        if fits and not shown:
            plain[-1].append(event)
        else:
            plain.append([event])

    episodes = episodes_of(log, window_days=WINDOW)

    places = sorted(range(len(plain)), key=lambda p: (plain[p][0][0], plain[p][0][2], plain[p][0][1]))
    assert [(e[0], e[1], e[2]) for e in (plain[p][0] for p in places)] == sorted(
        zip(episodes.people, episodes.rows, episodes.times, strict=True), key=lambda e: (e[0], e[2], e[1])
    )
    for person, time, end in zip(episodes.people, episodes.times, episodes.ends, strict=True):
        before = (log.users == person) & (log.times < time)
        assert episodes.timeless or end == log.offsets[person] + before.sum()
    kinds = {EVENT_KINDS[e[3]] for e in events}
    if "click" in kinds:
        wanted = sum(any(EVENT_KINDS[e[3]] in {"click", "cart", "purchase"} for e in meeting) for meeting in plain)
        assert (episodes.labels[:, 0] == 1).sum() == wanted


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(0, 1), st.integers(0, 5))
def test_the_newest_rows_of_each_person_are_held_out(counts: list[int], share: float, seed: int) -> None:
    people = np.repeat(np.arange(len(counts)), counts)

    held = newest(people, share, np.random.default_rng(seed))

    for person, count in enumerate(counts):
        own = held[people == person]
        assert own.sum() in (math.floor(count * share), math.ceil(count * share))
        assert (np.diff(own.astype(int)) >= 0).all()  # the newest, and none before them


def test_counter_examples_come_by_popularity() -> None:
    drawn = counter_examples(np.array([0, 1, 16], np.float32), (20_000, 2), np.random.default_rng(0))

    shares = np.bincount(drawn.ravel(), minlength=3) / drawn.size
    assert drawn.shape == (20_000, 2)
    assert shares == pytest.approx([0.0006, 0.111, 0.888], abs=0.01)  # 1 to 8


def test_counter_examples_stand_against_what_was_taken_and_never_against_itself() -> None:
    own = np.full((3, len(TASKS)), np.nan, np.float32)
    own[0, TASKS.index("click")] = 1
    own[1, TASKS.index("rating")] = 1  # one star is nothing taken
    own[2, TASKS.index("favourite")] = 1

    made = against(own, np.array([[5, 6], [5, 6], [6, 7]]), np.array([6, 0, 1]))

    assert same(made[0, 0].tolist(), [0, 0, NAN, NAN, 0, NAN])
    assert np.isnan(made[0, 1]).all()  # it is the item that was clicked
    assert np.isnan(made[1]).all()
    assert same(made[2, 1].tolist(), [0, 0, NAN, NAN, 0, NAN])


def test_a_log_without_events_has_no_meetings() -> None:
    log = log_of([("u", "i0", 0, "click", None)])

    assert len(episodes_of(log.pick(np.array([False])), window_days=WINDOW)) == 0
