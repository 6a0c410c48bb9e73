"""
What an item is like, as one row of numbers, whether or not anybody has had it: meaning, labels, age and price.

    (N, F) =  the vector of its text
            | its labels (genres, tags, categories), each row of length 1
            | its numbers (year, price, time), each as its nearness to a few values that the catalogue has
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import ArtifactError
from tailwise.types import Column, Facts, Floats, Ids

NUMBERS = ("year", "price", "time")
"""Columns that are looked at where the items have them: any other number may be a code."""
KNOTS = 8
"""Values of a number that others are compared with, so that what is between two of them is a bit like both."""
FILE = "attributes.json"


@dataclass(frozen=True)
class Attributes:
    """Which labels and numbers tell of an item, in which order, so that later items are told in the same columns."""

    labels: Mapping[str, tuple[str, ...]]
    knots: Mapping[str, tuple[float, ...]]
    """Of each number, ascending."""

    @classmethod
    def of(cls, facts: Facts) -> Self:
        """What some items have: every label that the facts know, and numbers that are not all the same."""
        found = facts.columns(facts.item_ids, frozenset(NUMBERS) & facts.names)
        knots = {name: knots_of(found[name]) for name in NUMBERS if name in found and found[name].dtype.kind == "f"}
        labels: Mapping[str, tuple[str, ...]] = getattr(facts, "labels", {})
        kept = {name: own for name, own in knots.items() if len(own) > 1}
        return cls({name: own for name, own in sorted(labels.items()) if own}, kept)

    def rows(self, facts: Facts, item_ids: Ids) -> Floats:
        """
        (N, F) of some items; what is not known of one is 0.

        The width of a text's vector is that of the facts, which must be the same for items that are to be compared.
        """
        now: Mapping[str, tuple[str, ...]] = getattr(facts, "labels", {})
        there = frozenset({"vector", *self.labels, *self.knots}) & facts.names
        found = facts.columns(item_ids, there)
        parts: list[Floats] = [found["vector"]] if "vector" in found else []
        parts += [
            _labelled(found.get(name), now.get(name, ()), own, len(item_ids)) for name, own in self.labels.items()
        ]
        parts += [hats(found.get(name), np.array(own), len(item_ids)) for name, own in self.knots.items()]
        return np.concatenate([np.zeros((len(item_ids), 0), np.float32), *parts], axis=1, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write the names and the knots."""
        text = json.dumps({"labels": self.labels, "knots": self.knots}, ensure_ascii=False)
        (folder / FILE).write_text(text, encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> Self:
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: The file is missing or damaged.
        """
        path = folder / FILE
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            labels = {str(name): tuple(str(label) for label in own) for name, own in told["labels"].items()}
            knots = {str(name): tuple(float(knot) for knot in own) for name, own in told["knots"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        return cls(labels, knots)


def knots_of(values: Column) -> tuple[float, ...]:
    """
    Distinct quantiles of what is known, ``KNOTS`` at most.

    >>> knots_of(np.array([1995.0, np.nan, 1997.0, 1995.0], np.float32))
    (1995.0, 1997.0)
    """
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return ()
    return tuple(np.unique(np.quantile(known, np.linspace(0, 1, KNOTS), method="nearest")).tolist())


def hats(values: Column | None, knots: NDArray[np.float64], n: int) -> Floats:
    """
    Each number as weights of the two knots around it, (N, len(knots)); zeros where it is not known.

    A number outside the knots is as the last of them.

    >>> hats(np.array([1995.5, 2030.0, np.nan]), np.array([1995.0, 1997.0]), 3).tolist()
    [[0.75, 0.25], [0.0, 1.0], [0.0, 0.0]]
    """
    out = np.zeros((n, len(knots)), np.float32)
    if values is not None:
        known = np.isfinite(values)
        for place, corner in enumerate(np.eye(len(knots))):
            out[known, place] = np.interp(values[known], knots, corner)
    return out


def _labelled(hot: Column | None, now: tuple[str, ...], own: tuple[str, ...], n: int) -> Floats:
    """(N, len(own)) labels in the order of ``own``, whatever order the facts have them in; each row of length 1."""
    out = np.zeros((n, len(own)), np.float32)
    if hot is not None:
        place_of = {label: place for place, label in enumerate(now)}
        pairs = [(place, place_of[label]) for place, label in enumerate(own) if label in place_of]
        if pairs:
            to, come = np.array(pairs).T
            out[:, to] = hot[:, come]
    length: Floats = np.sqrt(np.maximum(out.sum(axis=1, keepdims=True), 1))
    return np.divide(out, length, out=out)
