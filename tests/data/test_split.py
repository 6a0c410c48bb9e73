"""Splits that do not leak, whatever the order of rows, and a leak check that finds what is planted."""

import random
from dataclasses import replace
from itertools import takewhile

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tailwise.data.baskets import Acts, acts_of
from tailwise.data.load import Dataset
from tailwise.data.split import Split, check_leak, k_fold, next_moment, split_cold, split_last, split_time
from tailwise.errors import ConfigError, DataError

Row = tuple[str, str, float, str]
START = 1_000_000_000.0


def dataset(rows: list[Row]) -> Dataset:
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "time", "event"], orient="row")
    return Dataset.of("x", events=frame.with_columns(pl.col("time") + START))


def pairs(frame: pl.DataFrame) -> list[tuple[str, str]]:
    return frame.select("user_id", "item_id").rows()


SMALL = [
    ("u", "a", 1, "view"),
    ("u", "b", 2, "view"),
    ("v", "a", 3, "view"),
    ("u", "c", 4, "view"),
    ("v", "c", 5, "view"),
]
ROWS = st.lists(
    st.tuples(
        st.sampled_from("uvw"),
        st.sampled_from(["1", "10", "2", "3"]),
        st.integers(0, 3),
        st.sampled_from(["view", "cart"]),
    ),
    min_size=4,
    max_size=25,
)


def test_last_takes_each_persons_newest_event() -> None:
    split = split_last(dataset([*SMALL, ("once", "a", 9, "view")]))

    assert pairs(split.test) == [("u", "c"), ("v", "c")]
    assert pairs(split.train.events) == [("u", "a"), ("u", "b"), ("v", "a"), ("once", "a")]
    assert (split.name, split.until) == ("last", None)


def test_last_breaks_ties_in_time_by_item_id_as_text() -> None:
    split = split_last(dataset([("u", "9", 1, "view"), ("u", "10", 1, "view")]))

    assert pairs(split.test) == [("u", "9")]


def test_last_takes_all_that_a_person_did_with_the_target_at_that_moment() -> None:
    rows = [("u", "a", 1, "view"), ("u", "b", 2, "purchase"), ("u", "b", 2, "view"), ("u", "b", 2, "purchase")]

    split = split_last(dataset(rows))

    assert split.test["event"].to_list() == ["purchase"]
    assert pairs(split.train.events) == [("u", "a")]


def test_two_rows_of_one_moment_are_one_act_and_leave_no_past() -> None:
    with pytest.raises(DataError, match=r"^nobody has 2 events, so that nobody has a last one to predict; add events$"):
        split_last(dataset([("u", "a", 1, "view"), ("u", "a", 1, "cart")]))


def test_last_wants_a_past() -> None:
    with pytest.raises(ConfigError, match=r"^least is 1, but it must be at least 2, so that a past remains$"):
        split_last(dataset(SMALL), least=1)


def test_time_cuts_once_for_all_and_puts_ties_in_the_test() -> None:
    rows = [("u", "a", 1, "view"), ("v", "b", 2, "view"), ("u", "c", 2, "view"), ("v", "d", 3, "view")]

    by_share, by_time = split_time(dataset(rows), share=0.5), split_time(dataset(rows), at=START + 2)

    for split in (by_share, by_time):
        assert pairs(split.train.events) == [("u", "a")]
        assert pairs(split.test) == [("u", "c"), ("v", "b"), ("v", "d")]
        assert split.until == START + 2


def test_time_refuses_a_cut_with_an_empty_side() -> None:
    with pytest.raises(
        DataError,
        match=r"^no event lies before 1000000001, the cut; events span 1000000001 to 1000000005: cut between$",
    ):
        split_time(dataset(SMALL), at=START + 1)
    with pytest.raises(DataError, match=r"^no event lies from 1000000009, the cut; events span"):
        split_time(dataset(SMALL), at=START + 9)


BASKETS = [
    ("u", "a", 1, "view"),
    ("v", "a", 1, "view"),
    ("u", "z", 4, "skip"),
    ("u", "b", 5, "purchase"),
    ("u", "c", 5, "view"),
    ("u", "d", 5, "dislike"),
    ("v", "b", 6, "view"),
    ("u", "e", 7, "view"),
]


def test_next_is_all_that_a_person_did_for_an_item_at_their_first_such_moment() -> None:
    split = next_moment(split_time(dataset(BASKETS), at=START + 2))

    assert pairs(split.test) == [("u", "b"), ("u", "c"), ("v", "b")]
    assert pairs(split.train.events) == [("u", "a"), ("v", "a")]
    assert split.name == "time-next"
    assert split.note.endswith(
        "; each person's first moment from the cut on, all of it; what they did later counts neither way"
    )
    check_leak(split)


def test_next_wants_a_split_in_time_and_somebody_who_liked_something() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^targets is 'next', but the last split does not divide time; take --split time, or targets 'all'$",
    ):
        next_moment(split_last(dataset(SMALL)))
    against = [*SMALL, ("u", "z", 9, "skip"), ("v", "z", 9, "dislike")]
    with pytest.raises(DataError, match=r"^no test event speaks for an item: all are skip or dislike; cut elsewhere$"):
        next_moment(split_time(dataset(against), at=START + 9))


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_shares_lie_between_0_and_1(share: float) -> None:
    with pytest.raises(ConfigError, match=rf"^share is {share}, but it must be between 0 and 1$"):
        split_time(dataset(SMALL), share=share)
    with pytest.raises(ConfigError, match=rf"^share is {share}, but it must be between 0 and 1$"):
        split_cold(dataset(SMALL), share=share, seed=0)


def test_cold_items_lose_all_their_events_and_stay_in_the_table() -> None:
    data = dataset(SMALL)

    split = split_cold(data, share=0.34, seed=3)

    assert split.test["item_id"].n_unique() == 1
    assert set(split.test["item_id"]) & set(split.train.events["item_id"]) == set()
    assert split.train.items is data.items
    assert split.train.events.height + split.test.height == len(SMALL)


def test_cold_items_depend_on_the_seed() -> None:
    data = dataset([("u", str(n), n, "view") for n in range(40)])

    drawn = [split_cold(data, seed=seed).test for seed in (1, 1, 2)]

    assert drawn[0].equals(drawn[1])
    assert not drawn[0].equals(drawn[2])
    assert drawn[0].height == 4


def test_cold_needs_a_second_item() -> None:
    with pytest.raises(
        DataError, match=r"^only one item has events, so that none can be held out; add events of other "
    ):
        split_cold(dataset([("u", "a", 1, "view")]), seed=0)


def test_folds_are_disjoint_and_together_everything() -> None:
    data = dataset([*SMALL, ("u", "a", 1, "cart")])

    folds = k_fold(data, folds=3, seed=0)

    assert sorted(pairs(pl.concat(fold.test for fold in folds))) == sorted(pairs(data.events))
    assert sorted(fold.test.select("user_id", "item_id", "time").n_unique() for fold in folds) == [1, 2, 2]
    assert [fold.name for fold in folds] == ["fold-1", "fold-2", "fold-3"]
    for fold in folds:
        check_leak(fold)
        assert fold.train.events.height + fold.test.height == data.events.height


def test_folds_need_enough_events() -> None:
    with pytest.raises(ConfigError, match=r"^folds is 1, but it must be at least 2$"):
        k_fold(dataset(SMALL), folds=1, seed=0)
    with pytest.raises(DataError, match=r"^5 events cannot fill 6 folds; use fewer folds or add events$"):
        k_fold(dataset(SMALL), folds=6, seed=0)


def slow_last(rows: list[Row]) -> dict[str, Row]:
    """The oracle: each person's last act, one row at a time."""
    kinds = ["view", "cart"]
    acts: dict[str, dict[tuple[str, float], str]] = {}
    for user, item, time, kind in rows:
        own = acts.setdefault(user, {})
        own[item, time] = max(own.get((item, time), kind), kind, key=kinds.index)
    last = {}
    for user, own in acts.items():
        acts_in_order = sorted(own, key=lambda act: (act[1], act[0]))
        item, time = acts_in_order[-1]
        run = [own[act] for act in takewhile(lambda act, item=item: act[0] == item, reversed(acts_in_order))]
        held = run if len(set(run)) > 1 else run[:1]
        if len(own) > len(held):
            last[user] = (user, item, START + time, own[item, time])
    return last


@given(ROWS)
@settings(max_examples=60)
def test_last_equals_the_slow_way(rows: list[Row]) -> None:
    expected = slow_last(rows)
    assume(acts_of(dataset(rows).events) is not Acts.SETS)

    try:
        test = split_last(dataset(rows)).test
    except DataError:
        assert not expected
    else:
        assert {row[0]: row for row in test.select("user_id", "item_id", "time", "event").rows()} == expected


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_every_split_is_the_same_for_any_order_of_rows_and_does_not_leak(rows: list[Row], rng: random.Random) -> None:
    shuffled = rng.sample(rows, len(rows))
    ways = [
        split_last,
        split_time,
        lambda data: split_cold(data, share=0.3, seed=1),
        lambda data: k_fold(data, folds=2, seed=1)[0],
    ]
    for way in ways:
        try:
            one, two = way(dataset(rows)), way(dataset(shuffled))
        except DataError:
            continue

        assert one.test.equals(two.test)
        assert one.train.events.equals(two.train.events)
        assert one.train.events.height > 0
        check_leak(one)


def plant(split: Split, row: Row) -> Split:
    """The split with one more training event."""
    more = dataset([row]).events
    return replace(split, train=split.train.with_events(pl.concat([split.train.events, more])))


def test_the_leak_check_finds_a_test_event_in_training() -> None:
    split = plant(k_fold(dataset(SMALL), folds=5, seed=0)[0], SMALL[0])
    tested = split.test.row(0, named=True)
    split = plant(split, (tested["user_id"], tested["item_id"], tested["time"] - START, "cart"))

    with pytest.raises(
        DataError,
        match=r"^the fold-1 split leaks: training event '.' with '.' at 100000000\d is in the test too \(1 of \d\)$",
    ):
        check_leak(split)


@pytest.mark.parametrize(
    ("split", "row", "what"),
    [
        (
            split_time(dataset(SMALL)),
            ("w", "z", 5, "view"),
            "'w' with 'z' at 1000000005 is not before the cut at 1000000005",
        ),
        (
            split_last(dataset(SMALL)),
            ("u", "z", 7, "view"),
            "'u' with 'z' at 1000000007 comes after the person's target",
        ),
        (
            split_last(dataset(SMALL)),
            ("u", "d", 4, "view"),
            "'u' with 'd' at 1000000004 comes after the person's target",
        ),
    ],
)
def test_the_leak_check_finds_a_planted_event(split: Split, row: Row, what: str) -> None:
    with pytest.raises(DataError, match=rf"^the {split.name} split leaks: training event {what} \(1 of 1\)$"):
        check_leak(plant(split, row))


def test_the_leak_check_finds_a_held_out_item() -> None:
    split = split_cold(dataset(SMALL), seed=0)
    cold = split.test["item_id"][0]

    with pytest.raises(
        DataError,
        match=rf"^the cold split leaks: training event 'w' with '{cold}' at 1000000000 is of an item that is held out",
    ):
        check_leak(plant(split, ("w", cold, 0, "view")))


def test_an_event_before_the_target_at_the_same_time_is_no_leak() -> None:
    check_leak(plant(split_last(dataset(SMALL)), ("u", "b", 4, "view")))


def test_looking_and_then_buying_is_one_act_and_buying_twice_is_two() -> None:
    steps = ("view", "cart", "purchase")
    rows: list[tuple[str, str, int, str]] = [
        ("u", item, 3 * n + step, kind) for n, item in enumerate("abc") for step, kind in enumerate(steps)
    ]
    again = [("u", item, n, "purchase") for n, item in enumerate("abcc")]

    funnel, twice = split_last(dataset(rows)), split_last(dataset(again))

    assert funnel.test.select("item_id", "event").rows() == [("c", "purchase")]
    assert set(funnel.train.events["item_id"]) == {"a", "b"}
    assert twice.train.events["item_id"].to_list() == ["a", "b", "c"]
    check_leak(funnel)


def test_who_has_done_one_thing_alone_in_several_steps_has_no_last_one_to_predict() -> None:
    rows = [("u", "a", 0, "view"), ("u", "a", 1, "purchase"), ("v", "a", 0, "view"), ("v", "b", 1, "view")]

    assert split_last(dataset(rows)).test["user_id"].to_list() == ["v"]
