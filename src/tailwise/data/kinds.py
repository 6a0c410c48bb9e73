"""Columns of the items whose values many items share: a brand, an artist, a place, a level."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

MULTI_VALUED = ("genres", "tags", "categories")
CODE, AS_LABELS = "{} as a number", "{} as labels"
"""Further columns of a kind: which of its values an item has, as int32 with -1 unknown, and the most frequent of them
in the form of multi-valued columns."""
NO_KINDS = frozenset({*MULTI_VALUED, "item_id", "title", "description", "text", "image", "time", "year"})
SHARED, MOST_KINDS = 5, 8
"""Items that have a value of a kind, on average at least; kinds of a catalogue, the first ones."""


def kinds_of(frame: pl.DataFrame) -> tuple[str, ...]:
    """
    Columns of the items whose values many share, such as a brand, an artist or a place: what people steer by.

    A text column is one where a value that is there at all belongs to ``SHARED`` items on average, and not all to one.

    >>> kinds_of(pl.DataFrame({"item_id": list("abcdefghijkl"), "brand": ["x", "y"] * 6, "code": list("abcdefghijkl")}))
    ('brand',)
    """
    found = []
    for series in frame.iter_columns():
        named = series.name in NO_KINDS or series.name.startswith("title_")
        if named or not isinstance(series.dtype, pl.String | pl.Categorical | pl.Enum):
            continue
        values = _single(series).drop_nulls()
        if 2 <= values.n_unique() <= len(values) / SHARED:
            found.append(series.name)
    return tuple(found[:MOST_KINDS])


def codes_of(series: pl.Series) -> NDArray[np.int32]:
    """(M + 1,) which of its values an item has, -1 where it has none and at the end."""
    codes = _single(series).rank("dense").cast(pl.Int32).fill_null(0).to_numpy() - 1
    return np.append(codes, -1).astype(np.int32)


def single_valued(series: pl.Series) -> pl.Series:
    """A text column in the form of a multi-valued one: lists of one value."""
    return _single(series).fill_null("").to_frame().select(pl.concat_list(pl.all())).to_series()


def as_text(series: pl.Series) -> pl.Series:
    """Any column as str; a list as its values with ``|`` between."""
    if isinstance(series.dtype, pl.List | pl.Array):
        return series.cast(pl.List(pl.String)).list.join("|", ignore_nulls=True)
    return series.cast(pl.String, strict=False)


def _single(series: pl.Series) -> pl.Series:
    """A text column with blank values as null."""
    text = as_text(series).str.strip_chars()
    return text.to_frame().select(pl.when(pl.all() != "").then(pl.all())).to_series()
