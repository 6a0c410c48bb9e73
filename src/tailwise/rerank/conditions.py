"""Questions about columns, as data: what a rule asks of items and of a request's context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, model_validator

from tailwise.config import Closed
from tailwise.types import Column

Mask = NDArray[np.bool_]

Form = Literal["numbers", "text", "labels", "arrays"]
OPS: dict[Form, tuple[str, ...]] = {
    "numbers": ("is", "is_not", "in", "not_in", "at_least", "at_most", "missing"),
    "text": ("is", "is_not", "in", "not_in", "missing"),
    "labels": ("contains", "in", "not_in", "missing"),
    "arrays": (),
}
"""What can be asked of a column that holds a number, a text, several labels or an array for each item."""


class Condition(Closed):
    """A question about a column. Where the value is missing, only ``is_not``, ``not_in`` and ``missing`` hold."""

    column: str
    """Of the items; in ``when``, a key of the request's context."""
    op: Literal["is", "is_not", "in", "not_in", "at_least", "at_most", "contains", "missing"]
    """``contains`` looks for one label among several, ``in`` for any of a list."""
    value: bool | FiniteFloat | str | tuple[FiniteFloat | str, ...] | None = None
    """A list for ``in`` and ``not_in``, a number for ``at_least`` and ``at_most``, none for ``missing``."""

    @model_validator(mode="after")
    def _check_value(self) -> Self:
        form, wanted = {
            "in": (tuple, "a list"),
            "not_in": (tuple, "a list"),
            "at_least": (float, "a number"),
            "at_most": (float, "a number"),
            "contains": (str, "a text"),
            "missing": (type(None), "no value"),
        }.get(self.op, (bool | float | str, "a number, a text, true or false"))
        if not isinstance(self.value, form):
            raise ValueError(f"{self.op} takes {wanted}")  # noqa: TRY004  pydantic reports ValueErrors
        return self

    @property
    def values(self) -> tuple[bool | float | str, ...]:
        """What is compared with, always as a tuple."""
        if isinstance(self.value, tuple):
            return self.value
        return () if self.value is None else (self.value,)


def form_of(column: Column, *, labelled: bool) -> Form:
    """What a column holds; ``labelled`` when its second axis stands for labels with names."""
    if labelled:
        return "labels"
    if column.ndim != 1:
        return "arrays"
    return "text" if column.dtype.kind in "OU" else "numbers"


def misfit(condition: Condition, form: Form) -> str | None:
    """Why a column of this form cannot answer; None when it can."""
    if condition.op not in OPS[form]:
        return f"{condition.op} does not go with {form}; these do: {', '.join(OPS[form]) or 'none'}"
    if any(isinstance(value, str) == (form == "numbers") for value in condition.values):
        return f"{form} cannot be compared with {condition.value!r}"
    return None


def missing(column: Column) -> Mask:
    """(N,) or (N, G) to (N,): where there is no value: NaN, None, or no label at all."""
    if column.ndim == 2:
        return np.logical_not(column.any(axis=1))
    absent: Mask = (
        column == np.array(None) if column.dtype == object else np.not_equal(column, column)
    )  # NaN is not NaN
    return absent


def holds(column: Column, labels: Sequence[str], condition: Condition) -> Mask:
    """
    (N,) for which rows a condition holds.

    Args:
        column: (N,) numbers, or text as object; or (N, G) bool, which labels each item has.
        labels: (G,) their names; a label that none has matches nothing.
        condition: One that fits the column's form.

    Cost: O(N) for text, however long a list it is looked up in; O(N G) for labels.

    >>> years = np.array([1995, np.nan, 2003], np.float32)
    >>> holds(years, (), Condition(column="year", op="at_least", value=2000)).tolist()
    [False, False, True]
    """
    op, values = condition.op, condition.values
    if op == "missing":
        return missing(column)
    found: Mask
    if op in {"at_least", "at_most"}:
        found = (np.greater_equal if op == "at_least" else np.less_equal)(column, np.asarray(values[0], column.dtype))
    elif column.ndim == 2:
        found = column @ np.isin(labels, values)  # (N, G) @ (G,): or over and
    elif column.dtype.kind in "OU":
        found = np.asarray(np.frompyfunc(frozenset(values).__contains__, 1, 1)(column), bool)
    else:
        found = np.asarray(np.isin(column, np.array(values, column.dtype)), bool)  # values as float32, like the column
    return np.logical_not(found) if op in {"is_not", "not_in"} else found


def agrees(value: Any, condition: Condition) -> bool:
    """Whether a condition holds for one value of a request's context, whatever it is; None is missing."""
    column: Column
    labels: tuple[str, ...] = ()
    if isinstance(value, bool | float | int):
        column = np.array([value], np.float64)
    elif isinstance(value, list | tuple):
        column, labels = np.ones((1, len(value)), bool), tuple(map(str, value))
    else:
        column = np.array([value if value is None else str(value)], object)
    if misfit(condition, form_of(column, labelled=column.ndim == 2)):
        return condition.op in {"is_not", "not_in"}
    return bool(holds(column, labels, condition)[0])
