"""Damped means beside plain sums."""

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.load import Dataset
from tailwise.data.split import Split
from tailwise.evaluate.ratings import ITEM_DAMPING, USER_DAMPING, rating_errors

Row = tuple[str, str, float]
ROWS = st.lists(
    st.tuples(st.sampled_from("uvw"), st.sampled_from("abc"), st.integers(1, 5).map(float)), min_size=1, max_size=12
)


def frame(rows: list[Row], kind: str = "rating") -> pl.DataFrame:
    columns = {"user_id": pl.String, "item_id": pl.String, "value": pl.Float32}
    return pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        time=1e9 + pl.int_range(pl.len()).cast(pl.Float64), event=pl.lit(kind)
    )


def split(train: list[Row], test: list[Row]) -> Split:
    return Split("last", Dataset.of("x", events=frame(train)), frame(test), None, "")


def plain_errors(train: list[Row], test: list[Row]) -> dict[str, float]:
    """Koren's damped offsets, one rating at a time."""
    mean = sum(value for _, _, value in train) / len(train)
    item: dict[str, float] = {}
    for name in {item_id for _, item_id, _ in train}:
        left = [value - mean for _, item_id, value in train if item_id == name]
        item[name] = sum(left) / (len(left) + ITEM_DAMPING)
    person: dict[str, float] = {}
    for name in {user_id for user_id, _, _ in train}:
        left = [value - mean - item[item_id] for user_id, item_id, value in train if user_id == name]
        person[name] = sum(left) / (len(left) + USER_DAMPING)
    wrong = [value - mean - item.get(item_id, 0) - person.get(user_id, 0) for user_id, item_id, value in test]
    return {
        "mae": sum(map(abs, wrong)) / len(wrong),
        "rmse": math.sqrt(sum(error**2 for error in wrong) / len(wrong)),
    }


@given(ROWS, ROWS)
@settings(max_examples=40)
def test_errors_equal_plain_sums(train: list[Row], test: list[Row]) -> None:
    assert rating_errors(split(train, test)) == pytest.approx(plain_errors(train, test), rel=1e-4, abs=1e-5)


def test_strangers_and_new_items_get_the_mean() -> None:
    assert rating_errors(split([("u", "a", 4.0), ("v", "a", 2.0)], [("new", "new", 5.0)])) == {"mae": 2.0, "rmse": 2.0}


def test_without_ratings_there_are_no_errors() -> None:
    clicks = frame([("u", "a", 1.0)], "click")

    no_test = Split("last", Dataset.of("x", events=frame([("u", "a", 4.0)])), clicks, None, "")
    no_train = Split("last", Dataset.of("x", events=clicks), frame([("u", "a", 4.0)]), None, "")

    assert rating_errors(no_test) == {}
    assert rating_errors(no_train) == {}
