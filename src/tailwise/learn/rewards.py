"""What came of the places that a bandit filled, by the events that answer them; and the bandit that knows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.pipeline import Engine
from tailwise.rerank.bandit import Bandit
from tailwise.types import NO_HISTORY, Request, Slate

REWARDED = ("click", "favourite", "cart", "purchase")
"""Kinds that say that an item was worth its place; a view or a skip alone says that it was not."""


def meetings(events: pl.DataFrame, slots: tuple[int, ...]) -> pl.DataFrame:
    """
    What stood in a bandit's slots, and whether it was taken.

    Args:
        events: With ``request_id``, ``position`` and ``propensity``, as answers told them.
        slots: Places that the bandit fills.

    Returns:
        ``user_id item_id time reward``, one row for each item of each list, oldest first.
    """
    return (
        events.filter(pl.col("request_id").is_not_null() & pl.col("propensity").is_not_null())
        .filter(pl.col("position").is_in(slots))
        .group_by("user_id", "request_id", "item_id", maintain_order=True)
        .agg(pl.col("time").min(), reward=pl.col("event").is_in(REWARDED).any().cast(pl.Float64))
        .sort("time", "user_id", "item_id")
        .select("user_id", "item_id", "time", "reward")
    )


def taught(engine: Engine, events: pl.DataFrame, people: Interactions) -> tuple[Engine, int]:
    """
    The engine whose bandits know the rewards among some events, and how many these were.

    Args:
        engine: Its catalogue is that of ``people``.
        events: New ones.
        people: All events: a person's past is what came before the meeting.

    Cost: a history and the features of one item for each meeting.
    """
    stages, count = [], 0
    for bound in engine.stages:
        bandit = bound.run
        if not isinstance(bandit, Bandit):
            stages.append(bound)
            continue
        found = meetings(events, bandit.config.slots)
        if found.height:
            features = np.concatenate([_features(bandit, row, people, engine.catalogue) for row in found.iter_rows()])
            known = engine.catalogue.rows(found["item_id"]) >= 0
            bandit = bandit.taught(features[known], found["reward"].to_numpy()[known])
            count += int(known.sum())
        stages.append(replace(bound, run=bandit))
    return replace(engine, stages=tuple(stages)), count


def _features(
    bandit: Bandit, row: tuple[str, str, float, float], people: Interactions, catalogue: Catalogue
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(1, D) of an item for a person at a time."""
    user_id, item_id, time, _ = row
    past = people.history(user_id, catalogue) or NO_HISTORY
    item = np.array([item_id], object)
    slate = Slate(item, np.zeros(1, np.float32), dict(catalogue.columns(item, bandit.needs)))
    return bandit.features(Request("reward", history=past.take(past.times < time)), slate)
