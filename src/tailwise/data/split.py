"""
What to learn from and what to be judged by: splits of a data set that do not leak.

Every split is made on the one order of events (``load.ordered``), so that equal times and the order of rows in a file
change nothing. What a person did with one item at one moment (a click and a purchase, say) stays together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from tailwise.data.baskets import Acts, acts_of, by_lot
from tailwise.data.load import Dataset
from tailwise.errors import ConfigError, DataError
from tailwise.types import AGAINST

MOMENT = ("user_id", "item_id", "time")
"""Events that agree in these are one act, and never stand on both sides."""


@dataclass(frozen=True, eq=False)
class Split:
    """A data set to learn from and the events to be judged by."""

    name: str
    train: Dataset
    test: pl.DataFrame
    until: float | None
    """Seconds since epoch: all of ``train`` is earlier. None where time does not divide."""
    note: str
    """What a reader of the results should know."""


def split_last(dataset: Dataset, *, least: int = 2) -> Split:
    """
    Each person's last act is the target; people with fewer than ``least`` acts stay in training.

    Where times tell no order (``baskets``) it is an act drawn by lot: which id comes last would tell.

    Raises:
        ConfigError: ``least`` is below 2, which would leave people without a past.
        DataError: Nobody has ``least`` acts.
    """
    if least < 2:
        raise ConfigError(f"least is {least}, but it must be at least 2, so that a past remains")
    sets = acts_of(dataset.events) is Acts.SETS
    events = by_lot(dataset.events) if sets else dataset.events
    acts = events.unique(MOMENT, keep="last", maintain_order=True)
    acts = acts.with_columns(last=pl.col("user_id").is_last_distinct()) if sets else _runs(acts)
    enough = (~pl.col("last")).sum().over("user_id") >= least - 1
    held = acts.filter(enough & pl.col("last"))
    test = held.filter(pl.col("user_id").is_last_distinct()).drop("last")
    if test.is_empty():
        raise DataError(f"nobody has {least} events, so that nobody has a last one to predict; add events")
    train = dataset.events.join(held, on=MOMENT, how="anti", maintain_order="left")
    note = "each person's last event; what other people did later is in training"
    if sets:
        note = "an event of each person, drawn by lot, since times tell no order; the others' are in training"
    return Split("last", dataset.with_events(train), test, None, note)


def _runs(acts: pl.DataFrame) -> pl.DataFrame:
    """
    Acts with a column ``last``: whether they are their person's last.

    Who looks at an item, puts it into the cart and buys it, with nothing in between, acts once: else what is held out
    would be known. Acts of one kind in a row are done again.
    """
    same = (pl.col("item_id") == pl.col("item_id").shift(1).over("user_id")).fill_null(value=False)
    acts = acts.with_columns(run=(~same).cum_sum().over("user_id"))
    newest = pl.col("run") == pl.col("run").max().over("user_id")
    kinds = pl.col("event").n_unique().over("user_id", "run")
    return acts.with_columns(last=pl.col("user_id").is_last_distinct() | (newest & (kinds > 1))).drop("run")


def split_time(dataset: Dataset, *, at: float | None = None, share: float = 0.8) -> Split:
    """
    One cut in time for all: training is before it, the test is from it on.

    Args:
        dataset: What to split.
        at: The cut, in seconds since epoch; None takes the time of the event after ``share`` of all.
        share: Of events, in (0, 1). Events at the cut itself go to the test, so that training can be less.

    Raises:
        ConfigError: ``share`` is out of range.
        DataError: One side would be empty.
    """
    if not 0 < share < 1:
        raise ConfigError(f"share is {share}, but it must be between 0 and 1")
    times = dataset.events["time"].to_numpy()
    cut = float(times[int(share * len(times))]) if at is None else at
    before = pl.col("time") < cut
    train, test = dataset.events.filter(before), dataset.events.filter(~before)
    if train.is_empty() or test.is_empty():
        side = "before" if train.is_empty() else "from"
        raise DataError(
            f"no event lies {side} {cut:.15g}, the cut; events span {times[0]:.15g} to {times[-1]:.15g}: cut between"
        )
    return Split("time", dataset.with_events(train), test, cut, f"events from {cut:.15g} on; training is before")


def next_moment(split: Split) -> Split:
    """
    The same split judged by what each person did next: their first moment of the test part with a sign of interest.

    All that was done at that moment is the target, so where people act in baskets it is the next basket.

    Raises:
        ConfigError: The split is not one in time, so that nothing says what came next.
        DataError: No test event speaks for an item.
    """
    if split.until is None:
        raise ConfigError(
            f"targets is 'next', but the {split.name} split does not divide time; take --split time, or targets 'all'"
        )
    test = split.test.filter(~pl.col("event").is_in(list(AGAINST)))
    test = test.filter(pl.col("time") == pl.col("time").min().over("user_id"))
    if test.is_empty():
        raise DataError("no test event speaks for an item: all are skip or dislike; cut elsewhere")
    note = "each person's first moment from the cut on, all of it; what they did later counts neither way"
    return replace(split, name=f"{split.name}-next", test=test, note=f"{split.note}; {note}")


def split_cold(dataset: Dataset, *, share: float = 0.1, seed: int) -> Split:
    """
    Items that nobody had: all events of a random ``share`` of the items are the test; the items stay in the table.

    Raises:
        ConfigError: ``share`` is out of range.
        DataError: There are fewer than two items with events.
    """
    if not 0 < share < 1:
        raise ConfigError(f"share is {share}, but it must be between 0 and 1")
    used = dataset.events["item_id"].unique().sort()
    if len(used) < 2:
        raise DataError("only one item has events, so that none can be held out; add events of other items")
    count = min(max(1, round(share * len(used))), len(used) - 1)
    cold = used.gather(np.random.default_rng(seed).choice(len(used), count, replace=False))
    held_out = pl.col("item_id").is_in(cold.implode())
    train, test = dataset.events.filter(~held_out), dataset.events.filter(held_out)
    note = f"all events of {count} of {len(used)} items, none of which is in training"
    return Split("cold", dataset.with_events(train), test, None, note)


def k_fold(dataset: Dataset, *, folds: int, seed: int) -> list[Split]:
    """
    ``folds`` splits whose tests are disjoint, of nearly equal size and together are all events.

    Raises:
        ConfigError: ``folds`` is below 2.
        DataError: There are fewer acts than folds.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}, but it must be at least 2")
    acts = dataset.events.select(MOMENT).unique(maintain_order=True)
    if acts.height < folds:
        raise DataError(f"{acts.height} events cannot fill {folds} folds; use fewer folds or add events")
    places = np.random.default_rng(seed).permutation(acts.height) % folds
    fold_of = acts.with_columns(fold=pl.Series(places))
    events = dataset.events.join(fold_of, on=MOMENT, how="left", maintain_order="left")
    splits = []
    for fold in range(folds):
        train = dataset.with_events(events.filter(pl.col("fold") != fold).drop("fold"))
        test = events.filter(pl.col("fold") == fold).drop("fold")
        note = f"fold {fold + 1} of {folds}, by chance; training has later events than the test"
        splits.append(Split(f"fold-{fold + 1}", train, test, None, note))
    return splits


def check_leak(split: Split) -> None:
    """
    Make sure that training does not know the answers.

    Raises:
        DataError: A test event is in training; or training is not before the cut (time), has something that a
            person did after the target (last), or knows a held-out item (cold). Says how many, and shows one.
    """
    train, test = split.train.events, split.test
    _none(split, train.join(test, on=MOMENT, how="semi"), "is in the test too")
    if split.until is not None:
        _none(split, train.filter(pl.col("time") >= split.until), f"is not before the cut at {split.until:.15g}")
    if split.name == "last":
        target = test.select("user_id", last_time="time", last_item="item_id")
        later = pl.col("time") > pl.col("last_time")
        if acts_of(pl.concat([frame.select(MOMENT) for frame in (train, test)])) is not Acts.SETS:
            later |= (pl.col("time") == pl.col("last_time")) & (pl.col("item_id") > pl.col("last_item"))
        _none(split, train.join(target, on="user_id").filter(later), "comes after the person's target")
    if split.name == "cold":
        _none(split, train.join(test, on="item_id", how="semi"), "is of an item that is held out")


def _none(split: Split, leaks: pl.DataFrame, what: str) -> None:
    if leaks.height:
        user_id, item_id, time = leaks.select(MOMENT).row(0)
        event = f"{user_id!r} with {item_id!r} at {time:.15g}"
        raise DataError(f"the {split.name} split leaks: training event {event} {what} (1 of {leaks.height:,})")
