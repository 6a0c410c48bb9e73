"""Whether times tell in which order people act."""

from __future__ import annotations

from enum import Enum

import numpy as np
import polars as pl

BASKET, STAPLES = 5, 3
"""From so many items at one moment on average, people act at once, and from ``STAPLES`` where they come back for what
they had. Ratings typed in one after the other have 1 to 2, a weekly shopping list some, a shop's invoices 20."""
REPEATS = 0.2
"""From this share of repeated events on, people come back for what they had, and it may be shown again."""
TELLING = 200
"""So many people with two baskets tell what follows what, however many have one only."""


class Acts(Enum):
    """How the acts of a person stand to each other."""

    LINES = "one after the other"
    BASKETS = "at once, in baskets that follow one another"
    SETS = "at once, and hardly anybody twice: a log without times, or of one basket a person"


def acts_of(events: pl.DataFrame) -> Acts:
    """
    How people act in a log with ``user_id``, ``item_id`` and ``time``.

    >>> acts_of(pl.DataFrame({"user_id": ["ann"] * 6, "item_id": list("abcdef"), "time": [0.0] * 6}))
    <Acts.SETS: 'at once, and hardly anybody twice: a log without times, or of one basket a person'>
    """
    moments = events.group_by("user_id").agg(pl.col("time").n_unique())["time"]
    all_moments = max(int(moments.sum()), 1)
    if events.height < STAPLES * all_moments:
        return Acts.LINES
    acts = events.select("user_id", "item_id", "time").unique()  # an item looked at and bought at once is one
    at_once = acts.height / all_moments
    if at_once < STAPLES or (at_once < BASKET and _again(acts) < REPEATS):
        return Acts.LINES
    again = int((moments > 1).sum())
    return Acts.BASKETS if again >= min(TELLING, int((moments == 1).sum())) else Acts.SETS


def _again(acts: pl.DataFrame) -> float:
    """Share of acts with an item that the person has had at another moment."""
    return 1.0 - acts.select("user_id", "item_id").n_unique() / acts.height


def by_lot(events: pl.DataFrame) -> pl.DataFrame:
    """
    Events of one time in an order drawn anew for each person, the same for the same events.

    A set has no order. The order of ids could be learned, and says nothing of what people want.

    Args:
        events: With ``user_id``, ``item_id`` and ``time``, in the one order.
    """
    acts = events.select("user_id", "item_id", "time").unique(maintain_order=True)
    lots = acts.with_columns(lot=pl.Series(np.random.default_rng(0).permutation(acts.height)))
    drawn = events.join(lots, on=["user_id", "item_id", "time"], how="left", maintain_order="left")
    return drawn.sort("time", "user_id", "lot", maintain_order=True).drop("lot")
