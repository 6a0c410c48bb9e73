"""
A slate, and its columns, which are gathered when they are read.

A slate is put in order a dozen times, and most of what it knows of its items is read of ten of them, or never.

    parts   (tables, rows) ─▶ one column = tables[name][rows]       take ─▶ the same tables, other rows
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import ShapeError

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Ids = NDArray[np.object_]
Column = NDArray[Any]
Part = tuple[Mapping[str, Column], Rows | None]
"""Tables by name, and which of their rows are meant; None: all of them, as they stand."""


class Columns(Mapping[str, Column]):
    """
    A read-only mapping of names to columns of N rows.

    Args:
        parts: Of a name that is there twice, the last counts. Tables are not copied and must not change.

    Cost: to read a column is one gather, the first time; to take rows is O(N) a part, whatever the columns hold.
    """

    __slots__ = ("_parts", "_read")

    def __init__(self, parts: tuple[Part, ...] = ()) -> None:
        self._parts = parts
        self._read: dict[str, Column] = {}

    @classmethod
    def of(cls, columns: Mapping[str, Column]) -> Self:
        """Columns as they stand; what is of this class already comes back as it is."""
        if isinstance(columns, cls):
            return columns
        return cls(((columns, None),) if columns else ())

    def __getitem__(self, name: str) -> Column:
        column = self._read.get(name)
        if column is None:
            column = self._read[name] = self._gathered(name)
        return column

    def __contains__(self, name: object) -> bool:
        return any(name in tables for tables, _ in self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for tables, _ in self._parts for name in tables))

    def __len__(self) -> int:
        return len(set().union(*(tables for tables, _ in self._parts)))

    def take(self, order: NDArray[Any] | slice) -> Self:
        """The rows that a mask, places or a slice select, in that order."""
        return type(self)(tuple(_taken(tables, rows, order) for tables, rows in self._parts))

    def add(self, columns: Mapping[str, Column]) -> Self:
        """The same and further columns as they stand, (N, …) each."""
        *before, last = self._parts or (({}, None),)
        if last[1] is None:
            return type(self)((*before, ({**last[0], **columns}, None)))
        return type(self)((*self._parts, (columns, None)))

    def look_up(self, tables: Mapping[str, Column], rows: Rows) -> Self:
        """
        The same and, under those that are there, what tables of any length hold at N rows of theirs.

        >>> columns = Columns.of({"row": np.array([2, -1])})
        >>> columns.look_up({"year": np.array([1990, 1991, 1992, 0])}, columns["row"])["year"].tolist()
        [1992, 0]
        """
        return type(self)(((tables, rows), *self._parts))

    def _gathered(self, name: str) -> Column:
        for tables, rows in reversed(self._parts):
            if name in tables:
                return tables[name] if rows is None else tables[name].take(rows, axis=0)
        raise KeyError(name)


def _taken(tables: Mapping[str, Column], rows: Rows | None, order: NDArray[Any] | slice) -> Part:
    if rows is not None:
        return tables, rows[order]
    if isinstance(order, slice):  # views, which cost less than places to gather from later
        return {name: table[order] for name, table in tables.items()}, None
    return tables, np.flatnonzero(order) if order.dtype == bool else order


def checked(columns: Mapping[str, Column], n: int) -> Mapping[str, Column]:
    """
    The same columns.

    Raises:
        ShapeError: One has not ``n`` rows.
    """
    for name, column in columns.items():
        if len(column) != n:
            raise ShapeError(f"{name} has {len(column)} rows, but the slate has {n} items")
    return columns


def ids_of(values: Sequence[str | None]) -> Ids:
    """Ids as an (N,) object array of str, whatever their lengths."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


@dataclass(frozen=True, slots=True)
class Slate:
    """Candidates for one request, best first. Immutable: every verb returns a new slate."""

    item_ids: Ids  # (N,)
    scores: Floats  # (N,) higher is better
    columns: Mapping[str, Column] = field(default_factory=dict)  # each (N, …)

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.item_ids):
            checked({"scores": self.scores}, len(self.item_ids))
        if not isinstance(self.columns, Columns):
            object.__setattr__(self, "columns", Columns.of(checked(self.columns, len(self.item_ids))))

    def take(self, order: NDArray[Any] | slice) -> Self:
        """The rows that ``order`` names, in that order; shorter drops, never invents."""
        return type(self)(self.item_ids[order], self.scores[order], Columns.of(self.columns).take(order))

    def score(self, scores: Floats) -> Self:
        """The same items with new scores, sorted best first; ties keep their order; NaN goes last."""
        scores = checked({"scores": np.asarray(scores, np.float32)}, len(self))["scores"]
        order = np.argsort(-scores, kind="stable")
        return type(self)(self.item_ids[order], scores[order], Columns.of(self.columns).take(order))

    def add(self, **columns: Column) -> Self:
        """The same slate with further columns."""
        return type(self)(self.item_ids, self.scores, Columns.of(self.columns).add(checked(columns, len(self))))

    def look_up(self, tables: Mapping[str, Column]) -> Self:
        """The same with what tables, a row an item of the catalogue and one for row -1, hold of the items."""
        return type(self)(self.item_ids, self.scores, Columns.of(self.columns).look_up(tables, self.columns["row"]))

    def __len__(self) -> int:
        return len(self.item_ids)
