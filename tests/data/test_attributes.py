"""Attributes of items as numbers: the same columns whatever is added to a catalogue later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.attributes import FILE, Attributes, hats, knots_of
from tailwise.data.catalogue import Catalogue
from tailwise.errors import ArtifactError
from tailwise.fakes import DictFacts


def catalogue(**columns: list[object]) -> Catalogue:
    n = len(next(iter(columns.values())))
    frame = pl.DataFrame({"item_id": [f"i{row}" for row in range(n)], **columns})
    nothing = np.zeros(n, np.float32)
    return Catalogue(frame, popularity=nothing, recent=nothing, vectors=np.eye(n, 2, dtype=np.float32), tail_cut=0.2)


def test_a_row_is_the_text_then_labels_of_length_one_then_numbers() -> None:
    facts = catalogue(genres=["War|Drama", "Drama", ""], year=[1990, 2000, None])

    rows = Attributes.of(facts).rows(facts, facts.item_ids)

    half = np.float32(np.sqrt(0.5))
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 0, half, half, 1, 0], [0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0]]


def test_items_of_a_later_catalogue_stand_in_the_columns_of_the_first() -> None:
    first = catalogue(genres=["Drama", "Drama|War"], year=[1990, 2000])
    later = catalogue(genres=["Opera|War", "War", "War", "Drama"], year=[2026, 1995, 1990, 1990])

    rows = Attributes.of(first).rows(later, later.item_ids)

    # By hand: Drama is first, as it was; Opera is new, so nothing is known of it; 2026 is as 2000.
    assert rows[:, 2:].tolist() == [[0, 1, 0, 1], [0, 1, 0.5, 0.5], [0, 1, 1, 0], [1, 0, 1, 0]]


def test_a_number_that_all_share_and_one_that_may_be_a_code_are_left_out() -> None:
    facts = catalogue(year=[1990, 1990], code=[1, 2], price=[1.0, 5.0])

    assert dict(Attributes.of(facts).knots) == {"price": (1.0, 5.0)}


def test_items_without_any_attribute_have_rows_without_columns() -> None:
    facts = DictFacts({"title": {"a": "x", "b": "y"}})

    assert Attributes.of(facts).rows(facts, facts.item_ids).shape == (2, 0)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=30))
def test_weights_of_a_known_number_add_up_to_one_and_give_it_back_between_the_knots(values: list[float]) -> None:
    column = np.array(values, np.float32)
    knots = np.array(knots_of(column))

    weights = hats(column, knots, len(column))

    assert (weights >= 0).all()
    assert weights.sum(axis=1) == pytest.approx(np.ones(len(column)), abs=1e-5)
    assert weights.astype(float) @ knots == pytest.approx(column, rel=1e-4, abs=1e-2)


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    own = Attributes({"genres": ("Krieg", "剧情")}, {"year": (1990.0, 2000.5)})

    own.save(tmp_path)

    assert Attributes.open(tmp_path) == own


@pytest.mark.parametrize("text", ["", "[]", '{"labels": {}}', '{"labels": {}, "knots": {"year": ["x"]}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)

    with pytest.raises(ArtifactError, match=r"attributes\.json cannot be read \(.*\); fit the model again$"):
        Attributes.open(tmp_path)
