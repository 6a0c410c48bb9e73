"""Items as arrays to gather from: row -1 is "not known" in every kind of column."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.catalogue import MOST_LABELS, Catalogue, tail_of
from tailwise.errors import ArtifactError, ShapeError
from tailwise.types import Column, ids_of

UNKNOWN = np.array([-1])


def catalogue(frame: pl.DataFrame, popularity: list[float] | None = None, cut: float = 0.5) -> Catalogue:
    n = frame.height
    counts = np.array(popularity if popularity is not None else range(n), np.float32)
    return Catalogue(frame, popularity=counts, recent=counts, vectors=np.eye(n, 3, dtype=np.float32), tail_cut=cut)


def films() -> Catalogue:
    frame = pl.DataFrame(
        {
            "item_id": ["heat", "up", "solaris"],
            "title": ["Heat", None, "Солярис"],
            "year": [1995, None, 1972],
            "colour": [True, None, False],
            "genres": ["Crime|Action", None, "Drama | Crime"],
            "country": pl.Series(["US", "US", None], dtype=pl.Categorical),
        }
    )
    return catalogue(frame, [5.0, 9.0, 0.0])


def column(items: Catalogue, name: str, rows: list[int]) -> Column:
    return items.at(np.array(rows), [name])[name]


def test_items_are_found_by_id() -> None:
    assert films().rows(["solaris", "alien", "heat"]).tolist() == [2, -1, 0]
    assert films().rows([]).tolist() == []


def test_columns_line_up_with_the_items_asked_for() -> None:
    found = films().columns(ids_of(["solaris", "alien", "heat"]), frozenset({"row", "title", "year"}))

    assert found["row"].tolist() == [2, -1, 0]
    assert found["title"].tolist() == ["Солярис", None, "Heat"]
    assert found["year"].tolist()[::2] == [1972, 1995]
    assert np.isnan(found["year"][1])


@pytest.mark.parametrize("name", ["popularity", "recent", "year", "colour"])
def test_row_minus_one_of_a_number_is_nan(name: str) -> None:
    (value,) = column(films(), name, [-1])

    assert np.isnan(value)
    assert column(films(), name, [0]).dtype == np.float32


def test_row_minus_one_of_everything_else_says_not_known() -> None:
    found = films().at(UNKNOWN, films().names)

    assert found["row"].tolist() == [-1]
    assert found["tail"].tolist() == [True]
    assert found["title"].tolist() == [None]
    assert found["country"].tolist() == [None]
    assert found["genres"].tolist() == [[False, False, False]]
    assert found["vector"].tolist() == [[0, 0, 0]]


def test_no_rows_give_no_values_in_every_column() -> None:
    found = films().at(np.empty(0, np.int64), films().names)

    assert {len(values) for values in found.values()} == {0}


def test_multi_valued_columns_are_marks_over_labels_most_frequent_first() -> None:
    items = films()

    assert items.labels == {"genres": ("Crime", "Action", "Drama")}
    assert column(items, "genres", [0, 1, 2]).tolist() == [
        [True, True, False],
        [False, False, False],
        [True, False, True],
    ]


def test_only_the_most_frequent_labels_are_kept() -> None:
    frame = pl.DataFrame({"item_id": ["a", "b"], "tags": ["|".join(f"t{n:03d}" for n in range(200)), "t199|t198"]})

    items = catalogue(frame)

    assert len(items.labels["tags"]) == MOST_LABELS
    assert items.labels["tags"][:3] == ("t198", "t199", "t000")
    assert column(items, "tags", [1]).sum() == 2


def test_a_multi_valued_column_without_a_value_has_no_labels() -> None:
    items = catalogue(pl.DataFrame({"item_id": ["a"], "genres": [None]}))

    assert items.labels == {"genres": ()}
    assert column(items, "genres", [0, -1]).shape == (2, 0)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pl.Series([1, 2], dtype=pl.Int8), [1.0, 2.0]),
        (pl.Series(["1.25", "2.5"]).cast(pl.Decimal(10, 2)), [1.25, 2.5]),
        (pl.Series(["2026-01-31", None]).str.to_date(), ["2026-01-31", None]),
        (pl.Series([["a", "b"], None]), ["a|b", None]),
        (pl.Series([[1.5, None], [2.0]]), ["1.5", "2.0"]),
        (pl.Series([None, None]), [None, None]),
        (pl.Series([{"x": 1}, None]), ["{1}", None]),
    ],
)
def test_every_dtype_finds_a_form(values: pl.Series, wanted: list[Any]) -> None:
    items = catalogue(pl.DataFrame({"item_id": ["a", "b"], "x": values}))

    assert column(items, "x", [0, 1]).tolist() == wanted


@pytest.mark.parametrize("name", ["row", "popularity", "recent", "tail", "vector"])
def test_a_column_called_like_one_of_ours_stays_out_of_the_way(name: str, tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": ["a", "b"], name: ["theirs", "theirs"]})

    items = catalogue(frame, [2.0, 1.0])

    ours = catalogue(frame.select("item_id"), [2.0, 1.0])
    assert (column(items, name, [0, 1, -1]) == column(ours, name, [0, 1, -1]))[:2].all()
    items.save(tmp_path)
    assert Catalogue.open(tmp_path).frame.equals(frame)


def test_a_title_is_the_id_where_there_is_none() -> None:
    assert [films().title(row) for row in range(3)] == ["Heat", "up", "Солярис"]
    assert catalogue(pl.DataFrame({"item_id": ["7"]})).title(0) == "7"
    assert (
        catalogue(pl.DataFrame({"item_id": ["7"], "title": [None]}, schema_overrides={"title": pl.Int64})).title(0)
        == "7"
    )


def test_popularity_now_is_a_quantile() -> None:
    items = catalogue(pl.DataFrame({"item_id": list("abcd")}), [3.0, 0.0, 3.0, 9.0])

    assert column(items, "recent", [0, 1, 2, 3]).tolist() == [0.25, 0.0, 0.25, 0.75]


def test_the_tail_is_what_is_not_among_the_most_popular() -> None:
    items = catalogue(pl.DataFrame({"item_id": list("abcd")}), [3.0, 0.0, 3.0, 9.0], cut=0.5)

    assert items.tail.tolist() == [False, True, True, False]


@given(st.lists(st.integers(0, 4), max_size=20), st.floats(0.01, 0.99))
@settings(max_examples=60)
def test_the_tail_equals_a_plain_count(counts: list[int], cut: float) -> None:
    head = sorted(range(len(counts)), key=lambda row: (-counts[row], row))[: round(cut * len(counts))]

    assert tail_of(np.array(counts), cut).tolist() == [row not in head for row in range(len(counts))]


def test_what_is_saved_opens_equal(tmp_path: Path) -> None:
    before = films()

    before.save(tmp_path / "catalogue")
    after = Catalogue.open(tmp_path / "catalogue")

    assert after.names == before.names
    assert after.labels == before.labels
    assert after.frame.equals(before.frame)
    assert after.item_ids.tolist() == before.item_ids.tolist()
    every = np.array([0, 1, 2, -1])
    for name, values in before.at(every, before.names).items():
        again = after.at(every, [name])[name]
        assert again.dtype == values.dtype
        assert np.array_equal(again, values, equal_nan=values.dtype == np.float32)


def test_vectors_may_be_all_zero_where_nothing_has_a_text() -> None:
    nothing = np.zeros((2, 1), np.float32)
    frame = pl.DataFrame({"item_id": ["a", "b"]})

    items = Catalogue(frame, popularity=nothing[:, 0], recent=nothing[:, 0], vectors=nothing, tail_cut=0.2)

    assert items.vectors.tolist() == [[0.0], [0.0]]
    assert items.at(UNKNOWN, ["vector"])["vector"].tolist() == [[0.0]]


def test_an_array_of_another_length_is_refused() -> None:
    one, two = np.zeros(1, np.float32), np.zeros((2, 1), np.float32)

    with pytest.raises(ShapeError, match=r"^vectors has 2 rows, but there are 1 items$"):
        Catalogue(pl.DataFrame({"item_id": ["a"]}), popularity=one, recent=one, vectors=two, tail_cut=0.2)


@pytest.mark.parametrize("name", ["items.parquet", "items.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_damaged_folder_is_told(tmp_path: Path, name: str, damage: str) -> None:
    films().save(tmp_path)
    (tmp_path / name).unlink() if damage == "missing" else (tmp_path / name).write_bytes(b"no")

    with pytest.raises(ArtifactError) as caught:
        Catalogue.open(tmp_path)

    assert str(caught.value).startswith(f"{tmp_path / name} cannot be read (")
    assert str(caught.value).endswith("; fit the model again")
    assert "\n" not in str(caught.value)


def test_other_counts_change_what_follows_from_them_and_nothing_else() -> None:
    items = films()
    before = {name: column(items, name, [0, 1, 2, -1]).copy() for name in items.names}
    assert items.tail.tolist() == [False, False, True]  # looked at, so that it is remembered

    other = items.recounted(np.array([0.0, 1.0, 8.0], np.float32), np.array([3.0, 0.0, 1.0], np.float32))

    assert other.popularity.tolist() == [0, 1, 8]
    assert other.tail.tolist() == [True, False, False]
    assert other.decayed.tolist() == [3, 0, 1]
    assert column(other, "recent", [0, 1, 2]).tolist() == pytest.approx([2 / 3, 0, 1 / 3])
    for name in items.names:
        np.testing.assert_array_equal(column(items, name, [0, 1, 2, -1]), before[name])
        if name not in ("popularity", "recent", "tail"):
            np.testing.assert_array_equal(column(other, name, [0, 1, 2, -1]), before[name])


def test_a_title_is_the_readers_then_the_usual_one_then_any_other() -> None:
    frame = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "title": ["Toy Story", None, " ", None],
            "title_de": [None, "Hitze", None, None],
            "title_zh": ["玩具总动员", "盗火线", None, None],
        }
    )
    items = catalogue(frame)
    asked = items.item_ids, np.array([0, 1, 2, -1])

    assert items.titles(*asked, "zh") == ["玩具总动员", "盗火线", "c", "d"]
    assert items.titles(*asked, "en") == items.titles(*asked) == ["Toy Story", "Hitze", "c", "d"]
