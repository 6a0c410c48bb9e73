"""Whether times tell an order; and where they do not, an order by lot from which nothing can be learned."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tailwise.data.baskets import TELLING, Acts, acts_of, by_lot
from tailwise.data.catalogue import Catalogue
from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Interactions
from tailwise.data.load import Dataset
from tailwise.data.split import check_leak, split_last
from tailwise.errors import DataError

ITEMS = [f"i{n:02d}" for n in range(20)]


def log(people: int, times: list[float], kinds: tuple[str, ...] = ("view",)) -> Dataset:
    """Everybody does everything at each of some times."""
    whose = [f"u{n:03d}" for n in range(people)]
    rows = [(user_id, item, time, kind) for user_id in whose for time in times for item in ITEMS for kind in kinds]
    return Dataset.of("x", events=pl.DataFrame(rows, schema=["user_id", "item_id", "time", "event"], orient="row"))


def interactions(data: Dataset) -> Interactions:
    nothing = np.zeros(len(ITEMS), np.float32)
    frame = pl.DataFrame({"item_id": ITEMS})
    return Interactions.of(
        data.events, Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    )


def test_how_people_act() -> None:
    once = pl.col("user_id") + " once"
    enough = pl.concat([log(TELLING, [1.0, 2.0]).events, log(3 * TELLING, [1.0]).events.with_columns(once)])
    few = pl.concat([log(9, [1.0, 2.0]).events, log(10, [1.0]).events.with_columns(once)])
    apart = pl.DataFrame({"user_id": ["ann"] * 8, "time": [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]})

    assert acts_of(log(4, [0.0]).events) is Acts.SETS
    assert acts_of(log(4, [1.0, 2.0]).events) is Acts.BASKETS
    assert acts_of(enough) is Acts.BASKETS  # so many people tell what follows what
    assert acts_of(few) is Acts.SETS
    assert acts_of(apart) is Acts.LINES
    assert acts_of(apart.clear()) is Acts.LINES


def test_a_lot_keeps_people_times_and_acts_together_and_tells_nothing_of_ids() -> None:
    events = log(50, [0.0], ("view", "purchase")).events

    drawn = by_lot(events)

    assert drawn.sort(events.columns).equals(events.sort(events.columns))
    assert drawn.select("time", "user_id").equals(events.select("time", "user_id"))
    assert drawn["event"].to_list() == ["view", "purchase"] * (50 * len(ITEMS))  # of one act, as they were
    assert drawn.equals(by_lot(events))
    orders = drawn["item_id"].gather_every(2).cast(pl.Categorical).to_physical().to_numpy().reshape(50, -1)
    assert len({tuple(order) for order in orders}) == 50
    assert abs(np.mean([np.corrcoef(order, np.arange(len(ITEMS)))[0, 1] for order in orders])) < 0.1


def test_a_log_without_times_is_learned_from_in_no_order_of_ids() -> None:
    own = interactions(log(300, [0.0]))

    left, held = hold_out(own, cases=1)

    targets = np.bincount([target for target, *_ in held.targets], minlength=len(ITEMS))
    assert len(held) == 300
    assert not own.in_baskets
    assert targets.min() > 0  # the last by id would be one item for all
    assert targets.max() < 40
    assert (np.diff(left.rows[:19]) < 0).any()


def test_of_baskets_the_order_stays_as_it_is() -> None:
    own = interactions(log(3, [1.0, 2.0]))

    assert own.in_baskets
    assert own.pick(np.ones(len(own), bool)).in_baskets
    assert own.rows.tolist() == [*range(20)] * 6


def test_who_is_judged_without_times_is_judged_by_a_lot() -> None:
    data = log(300, [0.0], ("view", "purchase"))

    split = split_last(data)

    assert split.test.height == 300
    assert split.train.events.height == 300 * 2 * 19  # both of what was done with the target went
    assert split.test["item_id"].n_unique() == len(ITEMS)
    assert split.note == "an event of each person, drawn by lot, since times tell no order; the others' are in training"
    assert split.test.equals(split_last(data).test)
    check_leak(split)


def test_a_leak_is_found_without_times_too() -> None:
    split = split_last(log(30, [0.0]))

    with pytest.raises(DataError, match="is in the test too"):
        check_leak(replace(split, train=split.train.with_events(pl.concat([split.train.events, split.test]))))


@pytest.mark.parametrize(("own", "acts"), [("milk", Acts.BASKETS), ("novelty", Acts.LINES)])
def test_small_baskets_are_such_where_people_come_back(own: str, acts: Acts) -> None:
    rows = [
        (f"u{user}", f"{own} {n}" if own == "milk" else f"{own} {week} {n}", 604_800.0 * week)
        for user in range(5)
        for week in range(4)
        for n in range(3)
    ]

    assert acts_of(pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")) is acts


def test_what_is_done_with_one_item_at_once_is_one_act() -> None:
    rows = [
        (f"u{user}", f"item {day % 2}", 86_400.0 * day, kind)
        for user in range(5)
        for day in range(6)
        for kind in ("view", "click", "cart", "purchase", "favourite")
    ]

    assert acts_of(pl.DataFrame(rows, schema=["user_id", "item_id", "time", "event"], orient="row")) is Acts.LINES
