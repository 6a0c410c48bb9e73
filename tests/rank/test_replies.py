"""Whatever a model writes, a permutation comes out, and what had to be mended is said."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.rank.replies import order_of


@pytest.mark.parametrize(
    ("text", "places", "said", "malformed"),
    [
        ("[2] > [3] > [1]", [1, 2, 0], 3, False),
        (" 2 > 3 > 1.\n", [1, 2, 0], 3, False),
        ("3, 1, 2", [2, 0, 1], 3, False),
        ("<think>[1] or [3]?</think>[3] > [2] > [1]", [2, 1, 0], 3, False),
        ("[2] > [2] > [1] > [3]", [1, 0, 2], 3, True),
        ("[3]", [2, 0, 1], 1, True),
        ("[9] > [0] > [2]", [1, 0, 2], 1, True),
        ("Here are 3 items: [2] > [1] > [3]", [1, 0, 2], 3, True),
        ("1. the second: 2\n2. the first", [0, 1, 2], 2, True),
        ("version 3.2 is nice", [0, 1, 2], 0, True),
        ("[99999999999999999999] > [2]", [1, 0, 2], 1, True),
        ("[２] > [1]", [0, 1, 2], 1, True),
        ("<think>[1] > [2]", [0, 1, 2], 0, True),
        ("", [0, 1, 2], 0, True),
    ],
)
def test_an_order_by_hand(text: str, places: list[int], said: int, malformed: bool) -> None:
    order = order_of(text, 3)

    assert order.places.tolist() == places
    assert (order.said, order.malformed) == (said, malformed)


@given(st.text(max_size=300) | st.from_regex(r"(\[?[0-9]{1,3}\]?[ >,.a-z\n]{0,3}){0,30}"), st.integers(1, 40))
def test_any_text_gives_a_permutation(text: str, n: int) -> None:
    order = order_of(text, n)

    assert sorted(order.places.tolist()) == list(range(n))
    assert 0 <= order.said <= n
    rest = order.places[order.said :]
    assert (np.diff(rest) > 0).all()  # what was not named keeps its order
    assert order.malformed or order.said == n


@given(st.permutations(range(1, 21)), st.sampled_from([" > ", ">", ", "]), st.booleans())
def test_a_well_formed_order_is_read_as_it_stands(numbers: list[int], between: str, brackets: bool) -> None:
    text = between.join(f"[{number}]" if brackets else str(number) for number in numbers)

    order = order_of(text, 20)

    assert (order.places + 1).tolist() == numbers
    assert not order.malformed


@given(st.text(max_size=200), st.integers(1, 12))
def test_a_plain_reading_of_brackets_agrees(text: str, n: int) -> None:
    shown = f"{text}[{n}]"
    seen: list[int] = []
    for number in re.findall(r"\[\s*([0-9]{1,4})\s*\]", re.sub(r"(?is)<think>.*?(</think>|$)", "", shown), re.ASCII):
        if 1 <= int(number) <= n and int(number) - 1 not in seen:
            seen.append(int(number) - 1)

    assert order_of(shown, n).places[: len(seen)].tolist() == seen


def test_a_reply_without_end_is_not_read_to_its_end() -> None:
    assert order_of("x" * 1_000_000 + "[1]", 2).said == 0
