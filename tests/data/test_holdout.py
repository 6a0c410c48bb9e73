"""Cases held out: a plain walk finds the same, and nothing that a target would tell stays behind."""

import random

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tailwise.data.baskets import TELLING, Acts
from tailwise.data.catalogue import Catalogue
from tailwise.data.holdout import HEARD, hold_out, repeat_rate
from tailwise.data.interactions import Held, Interactions, Training
from tailwise.data.load import Dataset
from tailwise.types import AGAINST, Rows

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


def held_out(found: Interactions, *, least: int = 3, most: int = 5000, seed: int = 0) -> tuple[Interactions, Rows]:
    """One case a person: what is left, and its target."""
    left, held = hold_out(found, least=least, most=most, cases=1, seed=seed)
    return left, held.first(seed)


def test_where_people_act_in_baskets_all_of_the_last_one_is_held_out() -> None:
    first: list[Row] = [("ann", f"i{n % 3}", 1, "purchase") for n in range(6)]
    second: list[Row] = [("ann", f"i{n % 3}", 2, "purchase") for n in range(6)]
    only: list[Row] = [("bob", f"i{n % 3}", 1, "purchase") for n in range(6)]

    left, targets = held_out(interactions([*first, *second, *only]))

    assert (targets >= 0).tolist() == [True, False]  # one basket alone is no case
    assert left.rows[left.users == 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(left.times[left.users == 0])) == 1


def test_who_has_one_basket_is_no_case_where_enough_people_have_two() -> None:
    items = [f"i{n}" for n in range(4)]
    twice: list[Row] = [(f"u{n}", item, day, "purchase") for n in range(TELLING) for day in (1, 2) for item in items]
    more: list[Row] = [(f"u{n}", "i0", 1, "view") for n in range(TELLING)]  # five events a moment and more
    more += [(f"u{n}", "i0", 2, "view") for n in range(TELLING)]
    only: list[Row] = [("zoe", item, 1, kind) for item in items for kind in ("view", "purchase")]

    left, held = hold_out(interactions([*twice, *more, *only]), cases=1)

    assert len(held) == TELLING
    assert len(left.history("zoe", catalogue()) or ()) == len(only)


def test_nothing_of_the_target_stays_behind() -> None:
    rows: list[Row] = [
        ("ann", "i0", 1, "view"),
        ("ann", "i2", 2, "dislike"),
        ("ann", "i2", 3, "view"),  # the same act as the purchase, which is the target
        ("ann", "i2", 3, "purchase"),
        ("ann", "i3", 3, "dislike"),  # after the target
        ("ann", "i3", 4, "dislike"),
        ("bob", "i1", 1, "view"),
        ("bob", "i1", 9, "view"),
    ]

    left, targets = held_out(interactions(rows), least=3)

    assert targets.tolist() == [2, -1]
    assert events(left) == [("ann", "i0", 1, "view"), ("ann", "i2", 2, "dislike"), *rows[6:]]


@given(ROWS, st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=80)
def test_hold_out_equals_a_plain_walk_whatever_the_order_of_rows(rows: list[Row], least: int, shuffle: int) -> None:
    found = interactions(rows)
    assume(found.acts is Acts.LINES)
    left, targets = held_out(found, least=least)
    wanted_left, wanted_targets = [], []
    for user in found.user_ids:
        own = [event for event in events(found) if event[0] == user]
        liked = [place for place, event in enumerate(own) if event[3] not in AGAINST]
        if len(liked) < least:
            wanted_left += own
            wanted_targets.append(-1)
            continue
        target = own[liked[-1]]
        wanted_left += [event for event in own[: liked[-1]] if event[1:3] != target[1:3]]
        wanted_targets.append(int(target[1][1]))
    assert events(left) == wanted_left
    assert targets.tolist() == wanted_targets

    random.Random(shuffle).shuffle(rows)

    again, same = held_out(interactions(rows), least=least)
    assert events(again) == wanted_left
    assert same.tolist() == wanted_targets


def test_at_most_so_many_people_are_held_out_drawn_by_the_seed() -> None:
    rows: list[Row] = [(f"u{person:02d}", item, day, "view") for person in range(40) for day, item in enumerate(ITEMS)]
    found = interactions(rows)

    left, targets = held_out(found, most=10, seed=1)
    _, same = held_out(found, most=10, seed=1)
    _, other = held_out(found, most=10, seed=2)

    assert (targets >= 0).sum() == 10
    assert len(left) == len(found) - 10
    assert targets.tolist() == same.tolist()
    assert targets.tolist() != other.tolist()
    assert set(targets.tolist()) == {-1, 3}


# Several cases a person.


@given(ROWS, st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=60)
def test_each_case_knows_exactly_what_came_before_it(rows: list[Row], least: int, cases: int) -> None:
    found = interactions(rows)
    left, held = hold_out(found, least=least, cases=cases)
    wanted = []
    for person, user in enumerate(found.user_ids):
        own = [event for event in events(found) if event[0] == user]
        liked = [place for place, event in enumerate(own) if event[3] not in AGAINST]
        if len(liked) >= least:
            for place in liked[-max(1, min(len(liked) // 10, cases)) :]:
                past = [event for event in own[:place] if event[1:3] != own[place][1:3]]
                wanted.append((person, [event[1] for event in past], [int(own[place][1][1])]))

    got = [
        (int(held.people[case]), held.past(case, catalogue()).item_ids.tolist(), held.targets[case].tolist())
        for case in range(len(held))
    ]

    assert got == wanted
    assert len(left) <= len(found) - len(set(held.people.tolist()))


def test_people_with_many_likes_give_more_cases_and_the_log_ends_before_the_first() -> None:
    rows: list[Row] = [("ann", ITEMS[day % 4], day, "view") for day in range(30)]
    rows += [("bob", ITEMS[day % 4], day, "view") for day in range(9)]

    left, held = hold_out(interactions(rows), cases=5)

    assert held.people.tolist() == [0, 0, 0, 1]
    assert [target.tolist() for target in held.targets] == [[3], [0], [1], [0]]
    assert [len(held.past(case, catalogue())) for case in range(4)] == [27, 28, 29, 8]
    assert np.diff(left.offsets).tolist() == [27, 8]
    assert held.first(0).tolist() == [3, 0]


def test_a_basket_is_one_case_with_all_that_was_liked_in_it() -> None:
    rows: list[Row] = [("ann", f"i{n % 3}", day, "purchase") for day in range(2) for n in range(6)]
    rows += [("ann", "i3", 1, "dislike")]

    _, held = hold_out(interactions(rows))

    assert [target.tolist() for target in held.targets] == [[0, 1, 2]]
    assert held.past(0, catalogue()).item_ids.tolist() == ["i0", "i0", "i1", "i1", "i2", "i2"]
    assert {int(held.first(seed)[0]) for seed in range(20)} == {0, 1, 2}


def test_targets_alone_make_one_case_a_person() -> None:
    rows: list[Row] = [("ann", "i0", 1, "view"), ("bob", "i1", 1, "view")]
    found = interactions(rows)

    cases = Training(found, catalogue(), 0, targets=np.array([-1, 2])).cases()

    assert isinstance(cases, Held)
    assert (cases.people.tolist(), cases.targets[0].tolist()) == ([1], [2])
    assert cases.past(0, catalogue()).item_ids.tolist() == ["i1"]


@given(ROWS)
@settings(max_examples=40)
def test_the_repeat_rate_is_the_share_of_likes_that_do_the_same_again_later(rows: list[Row]) -> None:
    liked = {row for row in rows if row[3] not in AGAINST}
    acts = {(user, item, event) for user, item, _, event in liked}

    assert repeat_rate(interactions(rows)) == pytest.approx(1 - len(acts) / len(liked) if liked else 0.0)


def test_looking_and_then_buying_is_no_repeat_nor_is_the_same_row_twice() -> None:
    rows: list[Row] = [("ann", "i0", 1, "view"), ("ann", "i0", 2, "cart"), ("ann", "i0", 3, "purchase")]

    assert repeat_rate(interactions([*rows, *rows])) == 0.0
    assert repeat_rate(interactions([*rows, ("ann", "i0", 4, "purchase")])) == pytest.approx(1 / 4)


def test_one_machine_does_not_speak_for_everybody() -> None:
    people: list[Row] = [(f"u{n}", item, day, "view") for n in range(50) for day, item in enumerate(ITEMS)]
    machine: list[Row] = [("machine", "i0", day, "view") for day in range(20 * HEARD)]

    assert repeat_rate(interactions([*people, *machine])) == pytest.approx(HEARD / (HEARD + 200), abs=0.01)


def test_a_case_of_who_is_shown_new_items_alone_begins_with_the_first_look_at_one() -> None:
    steps = ("view", "cart", "purchase")
    rows: list[Row] = [("ann", f"i{n}", 3 * n + step, kind) for n in range(4) for step, kind in enumerate(steps)]

    left, held = hold_out(interactions(rows), new=True)
    spoilt, plain = hold_out(interactions(rows))

    assert [target.tolist() for target in held.targets] == [[3]]
    assert held.past(0, catalogue()).item_ids.tolist() == ["i0"] * 3 + ["i1"] * 3 + ["i2"] * 3
    assert len(left) == 9
    assert "i3" in plain.past(0, catalogue()).item_ids  # which nobody could be shown
    assert len(spoilt) == 11
