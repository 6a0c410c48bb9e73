"""What the network reads: pasts and counts of the time, never of the time after."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.catalogue import Catalogue
from tailwise.data.episodes import DAY, TASKS, episodes_of
from tailwise.data.interactions import Interactions
from tailwise.data.load import Dataset
from tailwise.learn.lessons import ITEM_DAMPING, RECENT_DAYS, Counts, Lessons, Part, Read, has_labels, usual_of
from tailwise.rank.multitask import DAMPING, MultiTaskConfig
from tailwise.types import EVENT_KINDS

Row = tuple[str, int, float, str, float | None]
START = 1_000_000_000.0
ITEMS = 6
ROWS: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, ITEMS - 1),
        st.integers(0, 60).map(float),
        st.sampled_from(["view", "click", "rating", "dislike"]),
        st.integers(1, 5).map(float),
    ),
    min_size=2,
    max_size=30,
    unique_by=lambda row: row[:3],
)


def log_of(rows: list[Row]) -> Interactions:
    """Events of people; times in days; values of ratings and dwells only."""
    nothing = np.zeros(ITEMS, np.float32)
    ids = [f"i{row}" for row in range(ITEMS)]
    catalogue = Catalogue(
        pl.DataFrame({"item_id": ids}), popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2
    )
    events = [
        (person, f"i{item}", START + day * DAY, kind, value if kind in {"rating", "dwell"} else None)
        for person, item, day, kind, value in rows
    ]
    schema = {"user_id": pl.String, "item_id": pl.String, "time": pl.Float64, "event": pl.String, "value": pl.Float32}
    return Interactions.of(Dataset.of("x", events=pl.DataFrame(events, schema=schema, orient="row")).events, catalogue)


def lessons_of(rows: list[Row], *tasks: str, held: tuple[int, ...] = (), **config: Any) -> Lessons:
    log = log_of(rows)
    settings = MultiTaskConfig.model_validate({"shape": {"history": 4, "lately": 2}, **config})
    episodes = episodes_of(log, window_days=settings.window_days)
    learning = np.ones(len(episodes), bool)
    learning[list(held)] = False
    return Lessons.of(settings, log, episodes, tasks=tasks, learning=learning)


def read_all(lessons: Lessons) -> Read:
    (part,) = lessons.parts(np.arange(len(lessons.episodes)), np.random.default_rng(0), 1)
    return lessons.read(part)


@given(ROWS, st.integers(0, ITEMS - 1), st.floats(-5, 70))
def test_counts_are_those_of_a_plain_count_of_what_was_before(rows: list[Row], item: int, day: float) -> None:
    log, now = log_of(rows), START + day * DAY

    found = Counts.of(log).facts(np.array([item]), now)[0]

    acts = np.isin(log.kinds, [EVENT_KINDS.index("click"), EVENT_KINDS.index("rating")])
    expected = []
    for since, which in ((-np.inf, True), (now - RECENT_DAYS * DAY, True), (-np.inf, acts)):
        then = (log.times < now) & (log.times >= since) & which
        expected.append(math.log((then & (log.rows == item)).sum() + 1) - math.log(then.sum() / ITEMS + 1))
    assert found == pytest.approx(expected if len(np.unique(log.times)) > 1 else [0, 0, 0], abs=1e-5)


def test_at_the_end_everything_counts_and_recent_is_before_the_last_event() -> None:
    counts = Counts.of(
        log_of([("a", 0, 0.0, "click", None), ("a", 0, 50.0, "click", None), ("a", 1, 60.0, "view", None)])
    )

    facts = counts.facts(np.array([0, 1]), np.inf)

    logs = np.log([[3 / 1.5, 2 / (1 + 2 / 6), 3 / (1 + 2 / 6)], [2 / 1.5, 2 / (1 + 2 / 6), 1 / (1 + 2 / 6)]])
    assert facts == pytest.approx(logs.astype(np.float32))


@given(ROWS)
def test_a_past_is_the_person_s_own_and_strictly_before(rows: list[Row]) -> None:
    lessons = lessons_of(rows, "click")
    log, episodes = lessons.log, lessons.episodes

    read = read_all(lessons)

    for place in range(len(episodes)):
        before = (log.users == episodes.people[place]) & (log.times < episodes.times[place])
        if episodes.timeless:
            before = (log.users == episodes.people[place]) & (log.rows != episodes.rows[place])
        there = read.marks[place, :, 0] > 0
        expected = np.flatnonzero(before)
        if not episodes.timeless:
            expected = expected[-4:]
            assert read.past[place][there].tolist() == log.rows[expected].tolist()
            assert (read.marks[place, there, 3:].argmax(1) == log.kinds[expected]).all()
        assert set(read.past[place][there]) <= set(log.rows[before])
        assert not read.marks[place, ~there].any()


def test_what_comes_later_changes_nothing_that_is_read() -> None:
    early: list[Row] = [(p, i, float(3 * i + n), "click", None) for n, p in enumerate("ab") for i in range(4)]
    early += [("a", 4, 12.5, "view", None), ("b", 5, 12.7, "view", None)]
    later: list[Row] = [("a", 0, 40.0, "click", None), ("b", 1, 41.0, "dislike", None), ("c", 2, 42.0, "click", None)]
    first, second = lessons_of(early, "click"), lessons_of([*early, *later], "click")
    known = second.episodes.times < START + 30 * DAY

    one, two = read_all(first), read_all(second)

    assert known.sum() == len(first.episodes)
    assert np.array_equal(one.marks, two.marks[known])
    there = one.marks[..., 0] > 0
    assert np.array_equal(one.past[there], two.past[known][there])
    assert np.array_equal(one.facts, two.facts[known])
    assert np.array_equal(one.labels, two.labels[known], equal_nan=True)


def test_where_all_is_one_moment_an_item_is_never_in_its_own_past() -> None:
    rows: list[Row] = [("a", item, 0.0, "rating", float(item + 1)) for item in range(4)]

    lessons = lessons_of(rows, "rating")
    read = read_all(lessons)

    for place in range(4):
        there = read.marks[place, :, 0] > 0
        assert sorted(read.past[place][there]) == [row for row in range(4) if row != lessons.episodes.rows[place]]
    assert not read.facts[..., :3].any()


def test_ratings_are_deviations_from_the_mean_the_item_and_what_the_person_rated_before() -> None:
    rows: list[Row] = [("a", 0, 0.0, "rating", 5.0), ("a", 1, 1.0, "rating", 4.0), ("b", 0, 2.0, "rating", 1.0)]
    rows += [("c", 1, 3.0, "rating", 5.0)]
    lessons = lessons_of(rows, "rating", held=(3,))
    mean = 10 / 3

    own = lessons.labels[:, TASKS.index("rating")] * lessons.usual.rating[1]

    item = {0: [5 - mean, 1 - mean], 1: [4 - mean]}
    offset = {row: sum(above) / (len(above) + ITEM_DAMPING) for row, above in item.items()}
    alone = {0: [item[0][1] / (1 + ITEM_DAMPING), item[0][0] / (1 + ITEM_DAMPING)], 1: [0.0]}  # without itself
    person = (5 - mean - offset[0]) / (1 + DAMPING)  # of a, when the second rating came
    expected = [5 - mean - alone[0][0], 4 - mean - alone[1][0] - person, 1 - mean - alone[0][1], 5 - mean - offset[1]]
    assert own == pytest.approx(expected, abs=1e-5)
    assert lessons.usual.item_offset[:3] == pytest.approx([offset[0], offset[1], 0], abs=1e-6)


def test_dwell_is_a_deviation_of_its_logarithm() -> None:
    lessons = lessons_of([("a", 0, 0.0, "dwell", 0.0), ("a", 1, 1.0, "dwell", math.expm1(2.0))], "dwell")

    assert lessons.labels[:, TASKS.index("dwell")] == pytest.approx([-1.0, 1.0], abs=1e-5)
    assert lessons.usual.dwell == pytest.approx([1.0, 1.0, 0.0, 2.0])


def test_counter_examples_are_drawn_only_where_nothing_shows_what_was_passed_over() -> None:
    clicks: list[Row] = [("a", item, float(item), "click", None) for item in range(5)]

    alone = lessons_of(clicks, "click", negatives=3)
    shown = lessons_of([*clicks, ("b", 0, 9.0, "view", None)], "click", negatives=3)
    rated = lessons_of([("a", 0, 0.0, "rating", 3.0), ("a", 1, 1.0, "rating", 4.0)], "rating", negatives=3)

    assert [each.draws for each in (alone, shown, rated)] == [True, False, False]
    assert read_all(alone).labels.shape == (5, 4, 1)
    assert np.nanmax(read_all(alone).labels[:, 1:]) == 0
    assert read_all(shown).labels[:, :, 0].tolist() == [[1.0]] * 5 + [[0.0]]


def test_the_parts_of_a_batch_hold_all_of_it_and_count_its_labels() -> None:
    lessons = lessons_of([("a", item, float(item), "click", None) for item in range(5)], "click", negatives=2)

    parts = lessons.parts(np.array([4, 0, 3]), np.random.default_rng(1), 2)

    assert sorted(np.concatenate([part.places for part in parts])) == [0, 3, 4]
    assert sum(part.share for part in parts) == pytest.approx(1)
    labelled = sum(int(np.isfinite(lessons.read(part).labels).sum()) for part in parts)
    assert all(part.of.tolist() == [labelled] for part in parts)


def test_the_moment_is_an_empty_vector_until_somebody_knows_of_it() -> None:
    lessons = lessons_of([("a", 0, 0.0, "click", None), ("a", 1, 1.0, "click", None)], "click")

    assert read_all(lessons).context.shape == (2, 0)


@pytest.mark.parametrize(
    ("task", "labels", "drawn", "why"),
    [
        ("click", [1.0] * 20, False, "every label is 1"),
        ("click", [1.0] * 20, True, None),
        ("dislike", [1.0] * 20, True, "every label is 1"),
        ("purchase", [0.0] * 20, True, "every label is 0"),
        ("rating", [1.0] * 20, True, "every label is 1"),
        ("rating", [1.0, 2.0] * 4, True, "8 labels, fewer than 10"),
        ("favourite", [1.0] * 3 + [0.0] * 30, True, "it happened 3 times, fewer than 10"),
        ("rating", [1.0, 2.0] * 8, False, None),
    ],
)
def test_a_head_needs_labels_of_both_kinds(task: str, labels: list[float], drawn: bool, why: str | None) -> None:
    assert has_labels(task, np.array(labels, np.float32), drawn=drawn) == why


def test_without_values_what_is_usual_is_nothing() -> None:
    log = log_of([("a", 0, 0.0, "click", None), ("a", 1, 1.0, "click", None)])

    usual = usual_of(episodes_of(log, window_days=1.0), np.ones(2, bool), ITEMS)

    assert usual.rating.tolist() == usual.dwell.tolist() == [0, 1, 0, 0]
    assert not usual.item_offset.any()


def test_a_part_can_be_read_alone() -> None:
    lessons = lessons_of([("a", item, float(item), "click", None) for item in range(5)], "click")
    part = Part(np.array([0]), np.empty((1, 0), np.int64), np.ones(1, np.float32), 1.0)

    read = lessons.read(part)

    assert read.past.shape == (1, 1)  # the first act of somebody: one place, and nothing in it
    assert not read.marks.any()
