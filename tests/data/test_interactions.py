"""Events as arrays: nothing is mixed up between people, and nothing that a target would tell stays behind."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.catalogue import Catalogue
from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Interactions, Training
from tailwise.data.load import Dataset
from tailwise.errors import ArtifactError
from tailwise.types import AGAINST

Row = tuple[str, str, int, str]
DAY = 86_400.0
START = 1_000_000_000.0
ITEMS = ["i0", "i1", "i2", "i3"]
ROWS: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cy"]),
        st.sampled_from(ITEMS),
        st.integers(0, 5),
        st.sampled_from(["view", "purchase", "dislike"]),
    ),
    min_size=1,
    max_size=30,
)


def catalogue(ids: list[str] = ITEMS) -> Catalogue:
    nothing = np.zeros(len(ids), np.float32)
    return Catalogue(
        pl.DataFrame({"item_id": ids}), popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2
    )


def dataset(rows: list[Row]) -> Dataset:
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "time", "event"], orient="row")
    return Dataset.of("x", events=frame.with_columns(pl.col("time") * DAY + START))


def interactions(rows: list[Row]) -> Interactions:
    return Interactions.of(dataset(rows).events, catalogue())


def events(found: Interactions) -> list[Row]:
    """The events as they were typed, person by person."""
    out = []
    for user_id in found.user_ids:
        past = found.history(user_id, catalogue())
        assert past is not None
        days = ((past.times - START) / DAY).astype(int).tolist()
        out += list(zip([user_id] * len(past), past.item_ids, days, past.events, strict=True))
    return out


EXAMPLE: list[Row] = [
    ("bob", "i1", 1, "view"),
    ("ann", "i0", 2, "purchase"),
    ("bob", "i3", 3, "dislike"),
    ("ann", "i0", 1, "view"),
    ("ann", "gone", 4, "view"),
]


def test_events_lie_person_by_person_oldest_first_without_unknown_items() -> None:
    found = interactions(EXAMPLE)

    assert found.user_ids.tolist() == ["ann", "bob"]
    assert found.offsets.tolist() == [0, 2, 4]
    assert found.rows.tolist() == [0, 0, 1, 3]
    assert found.users.tolist() == [0, 0, 1, 1]
    assert found.likes.tolist() == [True, True, True, False]
    assert np.isnan(found.values).all()


def test_a_history_is_that_of_the_person_and_none_for_a_stranger() -> None:
    found = interactions(EXAMPLE)

    past = found.history("bob", catalogue())

    assert past is not None
    assert past.item_ids.tolist() == ["i1", "i3"]
    assert past.events.tolist() == ["view", "dislike"]
    assert past.rows.tolist() == [1, 3]
    assert found.history("cy", catalogue()) is None
    assert [found.knows("bob"), found.knows("cy")] == [True, False]


def test_values_come_along() -> None:
    frame = pl.DataFrame({"user_id": "a", "item_id": "i0", "time": [START], "event": "rating", "value": [4.5]})

    assert Interactions.of(Dataset.of("x", events=frame).events, catalogue()).values.tolist() == [4.5]


def test_a_kind_that_is_not_known_counts_as_a_view() -> None:
    frame = dataset([("a", "i0", 1, "view")]).events.with_columns(event=pl.lit("wink"))

    assert events(Interactions.of(frame, catalogue())) == [("a", "i0", 1, "view")]


@given(ROWS)
@settings(max_examples=60)
def test_every_event_is_there_once(rows: list[Row]) -> None:
    found = interactions(rows)

    assert sorted(events(found)) == sorted(rows)
    for user_id in found.user_ids:
        past = found.history(user_id, catalogue())
        assert past is not None
        assert (np.diff(past.times) >= 0).all()


@given(ROWS)
@settings(max_examples=40)
def test_liked_sequences_are_the_liked_rows_of_each_person(rows: list[Row]) -> None:
    found = interactions(rows)

    sequences = found.liked_sequences()

    wanted = [[int(i[1]) for u, i, _, e in events(found) if u == user and e not in AGAINST] for user in found.user_ids]
    assert [sequence.tolist() for sequence in sequences] == wanted


@given(ROWS, st.integers(1, 4))
@settings(max_examples=40)
def test_newest_keeps_the_last_few_of_each_person(rows: list[Row], limit: int) -> None:
    found = interactions(rows)

    kept = found.newest(limit)

    assert events(kept) == [
        event for user in found.user_ids for event in [each for each in events(found) if each[0] == user][-limit:]
    ]
    assert kept.user_ids.tolist() == found.user_ids.tolist()


def test_pick_keeps_the_people_even_without_events() -> None:
    kept = interactions(EXAMPLE).pick(np.array([False, False, True, False]))

    assert kept.offsets.tolist() == [0, 0, 1]
    assert kept.history("ann", catalogue()) is not None
    assert events(kept) == [("bob", "i1", 1, "view")]


def test_counts_leave_out_what_speaks_against() -> None:
    assert interactions(EXAMPLE).counts().tolist() == [2.0, 1.0, 0.0, 0.0]


def test_a_decayed_event_is_worth_half_per_half_life_before_the_newest() -> None:
    rows: list[Row] = [
        ("a", "i0", 0, "view"),
        ("a", "i1", 10, "view"),
        ("b", "i1", 20, "view"),
        ("b", "i2", 30, "dislike"),
    ]

    decayed = interactions(rows).decayed(10.0)

    assert decayed.tolist() == pytest.approx([1 / 8, 1 / 4 + 1 / 2, 0.0, 0.0])


@given(ROWS, st.floats(0.5, 100))
@settings(max_examples=40)
def test_decayed_counts_equal_a_plain_sum(rows: list[Row], half_life: float) -> None:
    newest = max(day for _, _, day, _ in rows)
    wanted = [
        math.fsum(0.5 ** ((newest - day) / half_life) for _, i, day, e in rows if i == item and e not in AGAINST)
        for item in ITEMS
    ]

    assert interactions(rows).decayed(half_life).tolist() == pytest.approx(wanted, rel=1e-5)


def test_very_old_events_fade_without_a_warning() -> None:
    rows: list[Row] = [("a", "i0", 0, "view"), ("a", "i1", 20_000, "view")]

    assert interactions(rows).decayed(1.0).tolist() == [0.0, 1.0, 0.0, 0.0]


def test_the_usual_gap_is_the_median_between_the_moments_of_a_person() -> None:
    rows: list[Row] = [("ann", "i0", 0, "view"), ("ann", "i1", 0, "view"), ("ann", "i2", 2, "view")]

    assert interactions(rows[:2]).usual_gap == 0.0
    assert interactions([*rows, ("bob", "i0", 3, "view"), ("bob", "i1", 7, "view")]).usual_gap == 3 * DAY


def test_what_is_saved_opens_equal(tmp_path: Path) -> None:
    before = interactions(EXAMPLE)

    before.save(tmp_path / "people")
    after = Interactions.open(tmp_path / "people")

    assert events(after) == events(before)
    assert after.n_items == before.n_items
    for name in ("offsets", "rows", "times", "kinds", "values"):
        assert getattr(after, name).dtype == getattr(before, name).dtype


@pytest.mark.parametrize("name", ["people.parquet", "events.safetensors"])
def test_a_missing_part_is_told(tmp_path: Path, name: str) -> None:
    interactions(EXAMPLE).save(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(ArtifactError) as caught:
        Interactions.open(tmp_path)

    assert str(caught.value).startswith(f"{tmp_path / name} cannot be read (")


def test_training_says_who_is_judged_and_what_they_have_seen() -> None:
    rows: list[Row] = [*EXAMPLE, ("bob", "i2", 7, "view")]
    left, held = hold_out(interactions(rows), least=2)
    targets = held.first(0)
    training = Training(left, catalogue(), 0, targets=targets)

    people, judged = training.judged()

    assert people.tolist() == [0, 1]
    assert judged.tolist() == [0, 2]
    assert [rows.tolist() for rows in training.seen(people)] == [[0], [1, 3]]
    assert training.past(1).item_ids.tolist() == ["i1", "i3"]


def test_nothing_counts_as_seen_where_people_come_back() -> None:
    training = Training(interactions(EXAMPLE), catalogue(), 0, exclude_seen=False)

    assert [rows.tolist() for rows in training.seen(np.array([0, 1]))] == [[], []]
    assert [array.tolist() for array in training.judged()] == [[], []]
