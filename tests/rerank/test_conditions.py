from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.config import settings_of
from tailwise.errors import ConfigError
from tailwise.rerank.conditions import OPS, Condition, agrees, form_of, holds, misfit

NUMBERS = np.array([1995, np.nan, 2003.5, 0.1], np.float32)
TEXTS = np.array(["film", None, "series", ""], object)
LABELS = ("Comedy", "Drama", "Horror")
GENRES = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]], bool)


def ask(op: Any, value: Any = None) -> Condition:
    return Condition(column="c", op=op, value=value)


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("is", 1995, [1, 0, 0, 0]),
        ("is", 0.1, [0, 0, 0, 1]),  # though 0.1 of float32 is not 0.1
        ("is_not", 1995, [0, 1, 1, 1]),
        ("in", (1995, 0.1), [1, 0, 0, 1]),
        ("not_in", (1995, 0.1), [0, 1, 1, 0]),
        ("at_least", 1995, [1, 0, 1, 0]),
        ("at_most", 1995, [1, 0, 0, 1]),
        ("missing", None, [0, 1, 0, 0]),
    ],
)
def test_numbers_answer(op: str, value: Any, expected: list[int]) -> None:
    assert holds(NUMBERS, (), ask(op, value)).tolist() == list(map(bool, expected))


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("is", "film", [1, 0, 0, 0]),
        ("is_not", "film", [0, 1, 1, 1]),
        ("in", ("series", "film"), [1, 0, 1, 0]),
        ("not_in", ("series", "film"), [0, 1, 0, 1]),
        ("in", (), [0, 0, 0, 0]),
        ("missing", None, [0, 1, 0, 0]),
    ],
)
def test_texts_answer(op: str, value: Any, expected: list[int]) -> None:
    assert holds(TEXTS, (), ask(op, value)).tolist() == list(map(bool, expected))


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("contains", "Drama", [1, 0, 0, 1]),
        ("contains", "Western", [0, 0, 0, 0]),
        ("in", ("Comedy", "Horror"), [1, 0, 1, 0]),
        ("not_in", ("Comedy", "Horror"), [0, 1, 0, 1]),
        ("missing", None, [0, 1, 0, 0]),
    ],
)
def test_labels_answer(op: str, value: Any, expected: list[int]) -> None:
    assert holds(GENRES, LABELS, ask(op, value)).tolist() == list(map(bool, expected))


def test_flags_answer() -> None:
    tail = np.array([True, False])

    assert holds(tail, (), ask("is", value=True)).tolist() == [True, False]
    assert holds(tail, (), ask("is_not", value=True)).tolist() == [False, True]
    assert holds(tail, (), ask("missing")).tolist() == [False, False]


@settings(max_examples=100)
@given(
    st.lists(st.none() | st.integers(0, 3), max_size=6),
    st.sampled_from(["is", "is_not", "in", "not_in", "at_least", "at_most", "missing"]),
    st.integers(0, 3),
    st.booleans(),
)
def test_columns_answer_as_single_values_do(values: list[int | None], op: str, wanted: int, as_text: bool) -> None:
    plain: Callable[[Any], bool] = {
        "is": lambda v: v == wanted,
        "is_not": lambda v: v != wanted,
        "in": lambda v: v in (wanted, 3),
        "not_in": lambda v: v not in (wanted, 3),
        "at_least": lambda v: v is not None and v >= wanted,
        "at_most": lambda v: v is not None and v <= wanted,
        "missing": lambda v: v is None,
    }[op]
    as_text = as_text and op in OPS["text"]
    spell: Callable[[int], Any] = str if as_text else float
    value = (spell(wanted), spell(3)) if op in {"in", "not_in"} else None if op == "missing" else spell(wanted)
    column = [None if v is None else spell(v) for v in values]

    answer = holds(np.array(column, object if as_text else np.float32), (), ask(op, value))

    assert answer.tolist() == [plain(v) for v in values]
    assert [agrees(v, ask(op, value)) for v in column] == answer.tolist()


@pytest.mark.parametrize(
    ("value", "condition", "expected"),
    [
        ("phone", ask("is", "phone"), True),
        (None, ask("is", "phone"), False),
        (None, ask("is_not", "phone"), True),
        (None, ask("missing"), True),
        (18, ask("at_least", 18), True),
        (True, ask("is", value=True), True),
        (["sale", "new"], ask("contains", "sale"), True),
        (["sale", "new"], ask("in", ("old",)), False),
        ([], ask("missing"), True),
        # What does not fit is not so, and does not raise: a request may say anything.
        ("eighteen", ask("at_least", 18), False),
        ("phone", ask("contains", "phone"), False),
        (18, ask("is", "18"), False),
        (18, ask("is_not", "18"), True),
        ({"a": 1}, ask("is", "phone"), False),
    ],
)
def test_a_context_answers_whatever_it_holds(value: Any, condition: Condition, expected: bool) -> None:
    assert agrees(value, condition) is expected


@pytest.mark.parametrize(
    ("op", "value", "rule"),
    [
        ("in", "a", "in takes a list"),
        ("not_in", 1, "not_in takes a list"),
        ("at_least", "1990", "at_least takes a number"),
        ("at_most", True, "at_most takes a number"),
        ("contains", 3, "contains takes a text"),
        ("missing", "x", "missing takes no value"),
        ("is", None, "is takes a number, a text, true or false"),
        ("is_not", ["a"], "is_not takes a number, a text, true or false"),
    ],
)
def test_a_value_must_suit_the_question(op: str, value: Any, rule: str) -> None:
    raw = {"column": "year", "op": op, "value": value}
    message = f"here: {rule}"

    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        settings_of(Condition, raw, where="here")


def test_a_column_says_what_it_holds() -> None:
    forms = [form_of(column, labelled=False) for column in (NUMBERS, np.array([True]), TEXTS, np.zeros((2, 3)))]

    assert forms == ["numbers", "numbers", "text", "arrays"]
    assert form_of(GENRES, labelled=True) == "labels"


def test_a_misfit_says_what_would_fit() -> None:
    assert misfit(ask("at_least", 3), "numbers") is None
    assert misfit(ask("at_least", 3), "text") == (
        "at_least does not go with text; these do: is, is_not, in, not_in, missing"
    )
    assert misfit(ask("is", "1995"), "numbers") == "numbers cannot be compared with '1995'"
    assert misfit(ask("in", ("a", 3)), "labels") == "labels cannot be compared with ('a', 3.0)"
