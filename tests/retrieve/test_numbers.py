"""Items as old and as dear as what was liked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.catalogue import Catalogue
from tailwise.errors import ConfigError
from tailwise.retrieve.numbers import Numbers, NumbersConfig, mean_distance, quantiles
from tailwise.types import Request

Asked = Callable[..., Request]
YEARS = [1960.0, 1970.0, 1990.0, 2000.0, 2010.0, None]


@pytest.fixture(scope="module")
def items() -> Catalogue:
    frame = pl.DataFrame(
        {"item_id": list("abcdef"), "year": YEARS, "price": [None, 1.0, 2.0, None, 9.0, None], "kind": list("xyzxyz")}
    )
    nothing = np.zeros(6, np.float32)
    return Catalogue(frame, popularity=nothing, recent=nothing, vectors=np.zeros((6, 1)), tail_cut=0.2)


def test_the_nearest_in_the_order_of_the_catalogue_come_first(items: Catalogue, asked: Asked) -> None:
    years = Numbers(NumbersConfig(columns=("year",)), items)

    slate = years(asked(0, excluded=(0,)), 10)

    assert list(slate.item_ids) == ["b", "c", "d", "e"]  # f has no year: nothing is said of it
    assert slate.scores.tolist() == pytest.approx([-0.2, -0.4, -0.6, -0.8])


def test_two_numbers_count_alike_and_a_missing_one_not_at_all(items: Catalogue, asked: Asked) -> None:
    both = Numbers(NumbersConfig(), items)

    scores = both.scores(asked(1), np.arange(6))

    # b: year place .3, price place 1/6. c is .2 and 1/3 away, d only .4 in year.
    assert scores[:5].tolist() == pytest.approx([-0.2, 0.0, -(0.2 + 1 / 3) / 2, -0.4, -(0.6 + 2 / 3) / 2])
    assert np.isnan(scores[5])


@pytest.mark.parametrize("past", [(), ((0, "dislike"),), (5,)])
def test_without_a_liked_number_it_is_silent(items: Catalogue, asked: Asked, past: tuple[object, ...]) -> None:
    both = Numbers(NumbersConfig(), items)

    assert len(both(asked(*past), 10)) == 0
    assert np.isnan(both.scores(asked(*past, query="old films"), np.arange(6))).all()


def test_items_without_numbers_are_no_error(asked: Asked) -> None:
    frame = pl.DataFrame({"item_id": ["a", "b"], "year": ["old", "new"]})
    plain = Catalogue(frame, popularity=np.zeros(2), recent=np.zeros(2), vectors=np.zeros((2, 1)), tail_cut=0.2)

    assert len(Numbers.open(NumbersConfig(), plain, Path())(asked(0), 5)) == 0


def test_a_column_that_is_not_there_or_holds_no_numbers_is_named(items: Catalogue) -> None:
    with pytest.raises(ConfigError, match=r"^numbers: columns names weight, but the items have no such column$"):
        Numbers(NumbersConfig(columns=("weight",)), items)
    with pytest.raises(ConfigError, match=r"^numbers: columns names kind, but it holds no numbers$"):
        Numbers(NumbersConfig(columns=("kind",)), items)


@given(
    st.lists(st.floats(0, 1, width=32) | st.just(float("nan")), min_size=1, max_size=9),
    st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0.125, 3, width=32)), min_size=1, max_size=6),
)
def test_the_mean_distance_is_the_one_worked_out_one_by_one(
    places: list[float], liked: list[tuple[float, float]]
) -> None:
    own, weights = (np.array(column, np.float32) for column in zip(*liked, strict=True))

    found = mean_distance(np.array(places, np.float32), own, weights)

    expected = [sum(w * abs(p - o) for o, w in liked) / sum(w for _, w in liked) for p in places]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12))
def test_quantiles_keep_the_order_and_ties(values: list[int]) -> None:
    numbers = np.array(values, np.float32)

    places = quantiles(numbers)

    assert ((places > 0) & (places < 1)).all()
    assert ((places[:, None] < places) == (numbers[:, None] < numbers)).all()
