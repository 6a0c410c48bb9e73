"""What is shown when nothing is known."""

import numpy as np
import polars as pl
import pytest

from tailwise.data.catalogue import Catalogue
from tailwise.retrieve.unasked import unasked_order

TIMES = {"time": [5.0, None, 9.0, 1.0]}


def catalogue(columns: dict[str, list[float | None]], popularity: list[float]) -> Catalogue:
    frame = pl.DataFrame({"item_id": list("abcd"), **columns})
    return Catalogue(frame, popularity=np.array(popularity), recent=np.zeros(4), vectors=np.zeros((4, 1)), tail_cut=0.2)


@pytest.mark.parametrize(
    ("columns", "popularity", "order", "name"),
    [
        ({}, [0, 0, 0, 0], [0, 1, 2, 3], "item order"),
        (TIMES, [0, 0, 0, 0], [2, 0, 3, 1], "newest"),
        ({"time": [None] * 4}, [0, 0, 0, 0], [0, 1, 2, 3], "item order"),
        ({}, [1, 3, 1, 0], [1, 0, 2, 3], "popular"),
        (TIMES, [1, 3, 1, 0], [1, 2, 0, 3], "popular"),
    ],
)
def test_popular_before_newest_before_as_they_stand(
    columns: dict[str, list[float | None]], popularity: list[float], order: list[int], name: str
) -> None:
    rows, found = unasked_order(catalogue(columns, popularity), np.array([], np.int64), 10)

    assert (rows.tolist(), found) == (order, name)


def test_what_must_not_be_shown_is_left_out_before_it_is_cut() -> None:
    rows, _ = unasked_order(catalogue(TIMES, [0, 0, 0, 0]), np.array([2]), 2)

    assert rows.tolist() == [0, 3]
