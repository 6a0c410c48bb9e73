"""Read an order out of what a model wrote, whatever it wrote: always a permutation, and what is odd is counted."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tailwise.types import Rows

STRICT = re.compile(r"\s*\[?[0-9]{1,4}\]?(?:\s*[>,]\s*\[?[0-9]{1,4}\]?)*\s*\.?\s*", re.ASCII)
BRACKETED = re.compile(r"\[\s*([0-9]{1,4})\s*\]", re.ASCII)
PLAIN = re.compile(r"(?<![0-9.])([0-9]{1,4})(?![0-9]|\.[0-9])", re.ASCII)
THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
MOST = 20_000
"""Characters that are read; an order is shorter."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a model said of N items."""

    places: Rows
    """(N,) a permutation: the items' numbers from 0, best first."""
    said: int
    """How many of them it named; the others follow as they stood."""
    malformed: bool
    """Whether anything had to be mended."""


def order_of(text: str, n: int) -> Order:
    """
    The order that a text gives to items 1 to ``n``.

    Well-formed is ``[2] > [1] > [3]``, with or without brackets, or with commas, and each number once. Otherwise
    numbers in brackets are read, and where there are none all numbers; thoughts in ``<think>`` are left out, each
    number counts where it is first, and numbers of no item do not count.

    >>> order_of("[2] > [3] > [1]", 3).places.tolist()
    [1, 2, 0]
    >>> order_of("I think 3 is best, then 3 and 9.", 3)
    Order(places=array([2, 0, 1]), said=1, malformed=True)
    """
    text = THOUGHT.sub("", text[:MOST])
    named = (BRACKETED if "[" in text and BRACKETED.search(text) else PLAIN).findall(text)
    numbers = [int(number) - 1 for number in named]
    good = list(dict.fromkeys(number for number in numbers if 0 <= number < n))
    rest = sorted(set(range(n)) - set(good))
    clean = len(numbers) == len(good) == n and STRICT.fullmatch(text) is not None
    return Order(np.array([*good, *rest], np.int64), len(good), not clean)
