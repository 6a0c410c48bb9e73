"""How well ratings can be told in advance: the damped-means baseline that every rating model has to beat."""

from __future__ import annotations

import polars as pl

from tailwise.data.split import Split
from tailwise.evaluate import accuracy

ITEM_DAMPING, USER_DAMPING = 25.0, 10.0
"""Ratings worth of the mean mixed in, after Koren (2010), so that few ratings move little."""


def rating_errors(split: Split) -> dict[str, float]:
    """
    MAE and RMSE of the mean plus the item's and the person's damped offset, on the ratings of the test part.

    Items and people without ratings in the training part have no offset.

    Returns:
        ``mae`` and ``rmse`` in units of the ratings; empty when either part has no ratings.

    Source: Koren, TKDD 2010, doi:10.1145/1644873.1644874, §2.1.
    """
    known = pl.col("event").eq("rating") & pl.col("value").is_not_null()
    train, test = split.train.events.filter(known), split.test.filter(known)
    if not train.height or not test.height:
        return {}
    mean = pl.lit(train["value"].mean())
    items = train.group_by("item_id").agg(item=(pl.col("value") - mean).sum() / (pl.len() + ITEM_DAMPING))
    joined = train.join(items, on="item_id")
    left = pl.col("value") - mean - pl.col("item")
    people = joined.group_by("user_id").agg(person=left.sum() / (pl.len() + USER_DAMPING))
    guessed = test.join(items, on="item_id", how="left").join(people, on="user_id", how="left")
    guess = guessed.select(mean + pl.col("item").fill_null(0) + pl.col("person").fill_null(0)).to_series().to_numpy()
    actual = guessed["value"].to_numpy()
    return {"mae": accuracy.mae(guess, actual), "rmse": accuracy.rmse(guess, actual)}
