"""A slate keeps its promises: order, immutability, shapes; its columns hold what they would hold if copied at once."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import ShapeError
from tailwise.slate import Columns, Slate, ids_of


def slate(scores: list[float], **columns: list[object]) -> Slate:
    ids = ids_of([f"i{n}" for n in range(len(scores))])
    return Slate(ids, np.array(scores, np.float32), {name: np.array(column) for name, column in columns.items()})


def test_ids_of_equal_length_stay_one_object_each() -> None:
    ids = ids_of(["ab", "cd", None])

    assert ids.shape == (3,)
    assert ids.dtype == object
    assert ids.tolist() == ["ab", "cd", None]


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"^year has 1 rows, but the slate has 2 items$"):
        slate([1.0, 2.0], year=[1999])


def test_scores_of_another_length_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"^scores has 1 rows, but the slate has 2 items$"):
        slate([1.0, 2.0]).score(np.array([1.0], np.float32))


@given(st.lists(st.floats(-5, 5, width=32) | st.just(float("nan")), max_size=12))
@settings(max_examples=50)
def test_score_sorts_best_first_with_ties_in_order_and_nan_last(scores: list[float]) -> None:
    before = slate([0.0] * len(scores), place=list(range(len(scores))))

    after = before.score(np.array(scores, np.float32))

    known = [n for n, score in enumerate(scores) if not math.isnan(score)]
    unknown = [n for n, score in enumerate(scores) if math.isnan(score)]
    wanted = sorted(known, key=lambda n: -scores[n]) + unknown
    assert after.item_ids.tolist() == [f"i{n}" for n in wanted]
    assert [int(place) for place in after.columns["place"]] == wanted
    assert before.item_ids.tolist() == [f"i{n}" for n in range(len(scores))]


def test_take_moves_every_column_along() -> None:
    taken = slate([3.0, 2.0, 1.0], vector=[[1, 1], [2, 2], [3, 3]]).take(np.array([2, 0]))

    assert taken.item_ids.tolist() == ["i2", "i0"]
    assert taken.scores.tolist() == [1.0, 3.0]
    assert taken.columns["vector"].tolist() == [[3, 3], [1, 1]]


def test_add_gives_a_new_slate_and_leaves_the_old_one() -> None:
    before = slate([1.0])

    after = before.add(year=np.array([1999]))

    assert "year" not in before.columns
    assert after.columns["year"].tolist() == [1999]


def test_what_is_looked_up_moves_with_its_items() -> None:
    tables = {"year": np.array([1990, 1991, 1992, 0]), "tag": np.array([[1, 0], [0, 1], [1, 1], [0, 0]])}
    known = slate([3.0, 2.0, 1.0], row=[2, -1, 0]).look_up(tables)

    turned = known.take(np.array([True, False, True])).score(np.array([1.0, 2.0], np.float32))

    assert known.columns["year"].tolist() == [1992, 0, 1990]
    assert turned.columns["year"].tolist() == [1990, 1992]
    assert turned.take(slice(1)).columns["tag"].tolist() == [[1, 0]]


def test_a_column_of_the_slates_own_counts_before_one_that_is_looked_up() -> None:
    own = slate([1.0, 0.0], row=[0, 1], year=[5, 6])

    assert own.look_up({"year": np.array([1, 2, 0])}).columns["year"].tolist() == [5, 6]
    assert own.look_up({"year": np.array([1, 2, 0])}).add(year=np.array([7, 8])).columns["year"].tolist() == [7, 8]


def test_columns_are_a_mapping_whoever_holds_them() -> None:
    columns = Columns.of({"row": np.array([1, 0])}).look_up({"row": np.array([9, 9]), "year": np.array([4, 5])}, [1, 0])

    assert sorted(columns) == ["row", "year"]
    assert len(columns) == 2
    assert "year" in columns
    assert "month" not in columns
    assert columns["row"].tolist() == [1, 0]
    assert columns.keys() - {"row"} == {"year"}
    with pytest.raises(KeyError, match=r"^'month'$"):
        columns["month"]


@given(st.lists(st.sampled_from(["reverse", "odd", "first", "add", "sort"]), max_size=8), st.integers(0, 9))
@settings(max_examples=60)
def test_columns_hold_what_copies_would(steps: list[str], n: int) -> None:
    rng = np.random.default_rng(n)
    table = rng.integers(0, 100, 12)
    rows = rng.integers(0, 12, n)
    lazy = slate(rng.normal(size=n).tolist()).add(row=rows).look_up({"fact": table})
    copied = {"fact": table[rows], "row": rows}
    for place, step in enumerate(steps):
        size = len(lazy)
        if step == "add":
            lazy, copied = lazy.add(**{f"c{place}": np.arange(size)}), {**copied, f"c{place}": np.arange(size)}
            continue
        if step == "sort":
            scores = rng.normal(size=size).astype(np.float32)
            lazy, order = lazy.score(scores), np.argsort(-scores, kind="stable")
        else:
            order = {"reverse": np.arange(size)[::-1], "odd": np.arange(size) % 2 == 1, "first": slice(3)}[step]
            lazy = lazy.take(order)
        copied = {name: column[order] for name, column in copied.items()}

    assert lazy.columns.keys() == copied.keys()
    for name, column in copied.items():
        assert lazy.columns[name].tolist() == column.tolist()
