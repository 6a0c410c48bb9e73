"""
The items that a model knows: their ids, columns, popularity and vectors, as arrays to gather from.

Every array has one row more than there are items: the last one stands for "not known", so that row -1 gathers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property, lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.data.kinds import AS_LABELS, CODE, MULTI_VALUED, as_text, codes_of, kinds_of, single_valued
from tailwise.errors import ArtifactError, ShapeError
from tailwise.types import Column, Floats, Ids, Rows, ids_of

MOST_LABELS = 128
"""Labels kept of a multi-valued column, the most frequent first; the rest is too rare to steer by."""
OWN = frozenset({"row", "popularity", "recent", "tail", "vector"})
"""Columns that are not of the items file."""


@lru_cache(64)
def title_columns(names: frozenset[str], language: str) -> tuple[str, ...]:
    """
    Columns that hold titles, by how much a reader prefers them: the reader's, the usual one, any other.

    >>> title_columns(frozenset({"title_de", "title_zh", "title", "year"}), "zh")
    ('title_zh', 'title', 'title_de')
    """
    others = sorted(name for name in names if name.startswith("title_"))
    return tuple(dict.fromkeys(name for name in (f"title_{language}", "title", *others) if name in names))


class Catalogue:
    """
    Facts about M items (``types.Facts``).

    Columns: ``row`` int64; ``popularity`` float32 events in training; ``recent`` float32 quantile of popularity
    now, in [0, 1]; ``tail`` bool, outside the most popular; ``vector`` (D,) float32 of unit length, zeros where an
    item has no text; and every other column of the items file: numbers as float32 (NaN unknown), multi-valued ones as
    bool over ``labels[name]``, everything else as str (None unknown); of ``kinds`` there are numbers and labels as
    well. A column of the items file that is called like one of the first five is kept in ``frame`` and nowhere else.

    Args:
        frame: One row an item with unique ``item_id``; other columns as they come.
        popularity: (M,) events in training.
        recent: (M,) the same, decayed with age.
        vectors: (M, D) unit rows, zeros where there is no text.
        tail_cut: Share of items, by popularity, outside the long tail.
        kinds: Columns whose values many items share; None looks for them.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        *,
        popularity: Floats,
        recent: Floats,
        vectors: Floats,
        tail_cut: float,
        kinds: tuple[str, ...] | None = None,
    ) -> None:
        for name, array in (("popularity", popularity), ("recent", recent), ("vectors", vectors)):
            if len(array) != frame.height:
                raise ShapeError(f"{name} has {len(array)} rows, but there are {frame.height} items")
        self.frame = frame
        self.item_ids: Ids = ids_of(frame["item_id"].to_list())
        self.tail_cut = tail_cut
        self._index: dict[str, int] = {item_id: row for row, item_id in enumerate(self.item_ids)}
        self._arrays: dict[str, Column] = {
            "row": np.append(np.arange(len(self), dtype=np.int64), -1),
            **_counts(popularity, recent, tail_cut),
            "vector": np.vstack([vectors, np.zeros((1, vectors.shape[1]), np.float32)]).astype(np.float32),
        }
        self._decayed = recent
        self.labels: dict[str, tuple[str, ...]] = {}
        for series in frame.drop("item_id").iter_columns():
            if series.name not in self._arrays:
                self._arrays[series.name] = self._column(series)
        self.kinds = tuple(name for name in (kinds_of(frame) if kinds is None else kinds) if name in frame.columns)
        for name in self.kinds:
            self._arrays[CODE.format(name)] = codes_of(frame[name])
            self._arrays[AS_LABELS.format(name)] = self._hot(AS_LABELS.format(name), single_valued(frame[name]))

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def names(self) -> frozenset[str]:
        """Columns that can be asked for."""
        return frozenset(self._arrays)

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """Number columns of the items file, by name."""
        own = sorted(self._arrays.keys() - OWN)
        return tuple(name for name in own if self._arrays[name].ndim == 1 and self._arrays[name].dtype.kind == "f")

    def rows(self, item_ids: Iterable[str]) -> Rows:
        """Catalogue rows of items, -1 where unknown, (N,)."""
        return np.fromiter(map(self._index.get, item_ids, repeat(-1)), np.int64)

    def columns(self, item_ids: Ids, names: frozenset[str]) -> Mapping[str, Column]:
        """Columns of any items, each (N, …)."""
        return self.at(self.rows(item_ids), names)

    def at(self, rows: Rows, names: Iterable[str]) -> Mapping[str, Column]:
        """Columns by row; -1 gives each column's "not known"."""
        return {name: self._arrays[name].take(rows, axis=0) for name in names}

    def tables(self, names: Iterable[str]) -> Mapping[str, Column]:
        """Whole columns, (M + 1, …): the last row is each one's "not known"."""
        return {name: self._arrays[name] for name in names}

    @cached_property
    def popularity(self) -> Floats:
        """(M,) events in training."""
        return np.asarray(self._arrays["popularity"][:-1], np.float32)

    @property
    def decayed(self) -> Floats:
        """(M,) the same, decayed with age."""
        return np.asarray(self._decayed, np.float32)

    @cached_property
    def tail(self) -> NDArray[np.bool_]:
        """(M,) outside the most popular items."""
        return np.asarray(self._arrays["tail"][:-1], bool)

    @cached_property
    def vectors(self) -> Floats:
        """(M, D) unit rows, zeros where an item has no text."""
        return np.asarray(self._arrays["vector"][:-1], np.float32)

    def title(self, row: int, language: str = "") -> str:
        """
        What people call the item: its title, else its id.

        Args:
            row: Of the catalogue.
            language: Whose title is preferred, as ``zh`` for ``title_zh``; then ``title`` counts, then any other.
        """
        for name in title_columns(self._titles, language):
            own = self._arrays[name][row]
            if isinstance(own, str) and own.strip():
                return own
        return str(self.item_ids[row])

    def titles(self, item_ids: Ids, rows: Rows, language: str = "") -> list[str]:
        """What people call items; the id of one that the catalogue does not know, whose row is -1."""
        both = zip(item_ids.tolist(), rows.tolist(), strict=True)
        return [self.title(row, language) if row >= 0 else item_id for item_id, row in both]

    @cached_property
    def _titles(self) -> frozenset[str]:
        return frozenset(name for name in self._arrays if name.startswith("title"))

    def recounted(self, popularity: Floats, recent: Floats) -> Self:
        """The same items with other counts, (M,) each; everything else is shared."""
        other = copy(self)
        for cached in ("popularity", "tail"):
            other.__dict__.pop(cached, None)
        other._arrays = {**self._arrays, **_counts(popularity, recent, self.tail_cut)}  # noqa: SLF001  a copy of itself
        other._decayed = recent  # noqa: SLF001
        return other

    def save(self, folder: Path) -> None:
        """Write the items and their arrays."""
        folder.mkdir(parents=True, exist_ok=True)
        self.frame.write_parquet(folder / "items.parquet")
        save_arrays(
            folder / "items.safetensors",
            popularity=self.popularity,
            recent=self.decayed,
            vectors=self.vectors,
            tail_cut=np.array([self.tail_cut]),
            kinds=np.array([name in self.kinds for name in self.frame.columns]),
        )

    @classmethod
    def open(cls, folder: Path) -> Self:
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        try:
            frame = pl.read_parquet(folder / "items.parquet")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ArtifactError(f"{folder / 'items.parquet'} cannot be read ({error}); fit the model again") from error
        arrays = load_arrays(folder / "items.safetensors")
        are = arrays.get("kinds", np.zeros(frame.width, bool))  # a model of before has learned without
        return cls(
            frame,
            popularity=arrays["popularity"],
            recent=arrays["recent"],
            vectors=arrays["vectors"],
            tail_cut=float(arrays["tail_cut"][0]),
            kinds=tuple(name for name, is_one in zip(frame.columns, are.tolist(), strict=True) if is_one),
        )

    def _column(self, series: pl.Series) -> Column:
        """One column of the items file in the form that steps expect, with the row for "not known"."""
        if series.name in MULTI_VALUED:
            lists = as_text(series).fill_null("").str.split("|").list.eval(pl.element().str.strip_chars())
            return self._hot(series.name, lists)
        if series.dtype.is_numeric() or series.dtype == pl.Boolean:
            return np.append(series.cast(pl.Float32).fill_null(float("nan")).to_numpy(), np.float32("nan"))
        return ids_of([*as_text(series).to_list(), None])

    def _hot(self, name: str, lists: pl.Series) -> NDArray[np.bool_]:
        """(M + 1, L) which of the most frequent labels an item has; they are kept under ``name``."""
        self.labels[name] = _most_frequent(lists)
        hot = np.zeros((len(lists) + 1, len(self.labels[name])), bool)
        column_of = {label: column for column, label in enumerate(self.labels[name])}
        pairs = [(r, column_of[v]) for r, values in enumerate(lists.to_list()) for v in values if v in column_of]
        if pairs:
            hot[tuple(np.array(pairs).T)] = True
        return hot


def tail_of(popularity: NDArray[Any], cut: float) -> NDArray[np.bool_]:
    """
    Which items lie outside the most popular ``cut`` of the catalogue, (M,).

    Ties go to the earlier row.

    >>> tail_of(np.array([5, 9, 1, 1, 0]), 0.4).tolist()
    [False, False, True, True, True]
    """
    tail = np.ones(len(popularity), bool)
    tail[np.argsort(-popularity, kind="stable")[: round(cut * len(popularity))]] = False
    return tail


def _counts(popularity: Floats, recent: Floats, tail_cut: float) -> dict[str, Column]:
    """The columns that follow from events, (M + 1,) each."""
    return {
        "popularity": np.append(popularity, np.nan).astype(np.float32),
        "recent": np.append(_quantiles(recent), np.nan).astype(np.float32),
        "tail": np.append(tail_of(popularity, tail_cut), True),
    }


def _quantiles(values: Floats) -> Floats:
    """Share of items with a smaller value, (M,) in [0, 1)."""
    return (np.searchsorted(np.sort(values), values) / max(len(values), 1)).astype(np.float32)


def _most_frequent(lists: pl.Series) -> tuple[str, ...]:
    counts = lists.explode().value_counts(sort=True)
    ordered: Sequence[str] = counts.sort(["count", counts.columns[0]], descending=[True, False])[
        counts.columns[0]
    ].to_list()
    return tuple(label for label in ordered if label)[:MOST_LABELS]
