"""The moment of a request as numbers: hour, weekday, how long ago, columns of the events; and what is taken then."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import ValidationError

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.interactions import Interactions
from tailwise.data.schema import REQUIRED
from tailwise.errors import ArtifactError, ConfigError, RequestError
from tailwise.types import Floats, Request, Rows

MOMENTS = ("hour", "weekday", "recency")
"""Names that are read off a request's time; any other is a column of the events, and a key of a request's context."""
SPINE = frozenset({*REQUIRED["events"], "event", "value"})
"""Columns that say what was done, not where and when."""
MOST_VALUES = 12
"""Of a category: the most frequent."""
PRIOR = 10.0
"""Events as usual that every item gets beside its own, so that a few do not look like a habit."""
HOURS = 4
"""In a part of the day, by which items are counted."""
Value = str | float | None
"""Of one feature in one request; None where it is not known."""


class Feature(Closed):
    """One thing that is known of a moment, as the fit saw it."""

    name: str
    kind: Literal["hour", "weekday", "recency", "category", "number"]
    values: tuple[str, ...] = ()
    """Of a category: the most frequent first."""
    mean: float = 0.0
    spread: float = 1.0
    edges: tuple[float, ...] = ()
    """Between the fifths of a number."""

    @property
    def buckets(self) -> int:
        """Parts of it by which items are counted; 0: none."""
        own = {"hour": 24 // HOURS, "weekday": 7, "category": len(self.values), "number": len(self.edges) + 1}
        return own.get(self.kind, 0)

    @property
    def signals(self) -> tuple[str, ...]:
        """What each number of ``numbers`` is."""
        own = {"hour": ("sin", "cos"), "weekday": ("sin", "cos"), "category": self.values}.get(self.kind, ("value",))
        return tuple(f"{self.name} {each}" for each in ("known", *own))

    def numbers(self, value: Value) -> list[float]:
        """The value as (1 + …,) numbers, of which the first says that it is known; zeros where it is not."""
        if value is None:
            return [0.0] * len(self.signals)
        if isinstance(value, str):
            return [1.0, *(float(value == each) for each in self.values)]
        if self.kind in {"hour", "weekday"}:
            angle = 2 * math.pi * value / (24 if self.kind == "hour" else 7)
            return [1.0, math.sin(angle), math.cos(angle)]
        return [1.0, min(max((value - self.mean) / self.spread, -5.0), 5.0)]

    def bucket(self, value: Value) -> int:
        """The part that the value is in; -1 where it is not known."""
        if value is None or not self.buckets:
            return -1
        if isinstance(value, str):
            return self.values.index(value)
        if self.kind == "number":
            return int(np.searchsorted(self.edges, value, side="right"))
        return int(value) // (HOURS if self.kind == "hour" else 1)

    def of(self, request: Request) -> Value:
        """
        The value in a request; None when it has none, or one that the fit hardly saw.

        Raises:
            RequestError: The context gives something of another form.
        """
        if self.kind not in MOMENTS:
            return self._read(request.context.get(self.name))
        time = request.time
        if time is None or not math.isfinite(time):
            return None
        if self.kind == "recency":
            newest = request.past.times[-1] if len(request.past) else 0.0
            return math.log1p(max(time - newest, 0.0)) if newest > 0 else None  # bare items have no times
        return time / 3600 % 24 if self.kind == "hour" else float((time // 86400 + 3) % 7)

    def _read(self, given: object) -> Value:
        """What a request's context gives."""
        if given is None or (isinstance(given, float) and not math.isfinite(given)):
            return None
        if self.kind == "number":
            if isinstance(given, bool) or not isinstance(given, Real):
                raise RequestError(f"context gives {self.name} the value {given!r}, but it must be a number")
            try:
                return float(given)
            except OverflowError as error:
                raise RequestError(f"context gives {self.name} a number of more than 308 digits") from error
        if not isinstance(given, str | bool | Real):
            raise RequestError(f"context gives {self.name} the value {given!r}, but it must be a text")
        text = str(given).lower() if isinstance(given, bool) else str(given)
        return text if text in self.values else None

    def buckets_of(self, interactions: Interactions) -> Rows:
        """(E,) the part that each event's value is in, -1 where it is not known."""
        times = interactions.times
        if self.kind == "hour":
            return (times // 3600 % 24 // HOURS).astype(np.int64)
        if self.kind == "weekday":
            return ((times // 86400 + 3) % 7).astype(np.int64)
        column = interactions.context[self.name]
        if self.kind == "number":
            values = _numbers(column)
            return np.where(np.isfinite(values), np.searchsorted(self.edges, values, side="right"), -1)
        codes = {value: place for place, value in enumerate(self.values)}
        placed = column.cast(pl.String).replace_strict(codes, default=-1, return_dtype=pl.Int64)
        return placed.fill_null(-1).to_numpy()


@dataclass(frozen=True)
class Contexts:
    """What a model knows of moments, and which items are taken in them."""

    features: tuple[Feature, ...] = ()
    lifts: tuple[Floats, ...] = ()
    """Of each feature (buckets, M): the log of how much more often than usual an item is taken."""

    @classmethod
    def of(cls, names: Sequence[str], interactions: Interactions) -> Self:
        """
        Look at what people did, and when.

        Args:
            names: ``MOMENTS``, and columns of the events.
            interactions: With those columns; what is held out must not be among them.

        Raises:
            ConfigError: The events have no such column.

        Cost: O(E + buckets · M) a name.
        """
        features = tuple(_feature(name, interactions) for name in dict.fromkeys(names))
        return cls(features, tuple(_lifts(feature, interactions) for feature in features))

    def recounted(self, interactions: Interactions) -> Self:
        """The same features, with items counted in other events."""
        return type(self)(self.features, tuple(_lifts(feature, interactions) for feature in self.features))

    @property
    def names(self) -> tuple[str, ...]:
        """What each of the signals is, in order."""
        numbers = [f"context {name}" for feature in self.features for name in feature.signals]
        return (*numbers, *(f"taken by {feature.name}" for feature in self.features if feature.buckets))

    def signals(self, request: Request, rows: Rows) -> Floats:
        """
        What the moment says of each candidate.

        Returns:
            (N, F) float32: of each feature its numbers, alike for all candidates, and then of each how much more often
            than usual a candidate is taken in such a moment; zeros where the request does not say.
        """
        if not self.features:
            return np.zeros((len(rows), 0), np.float32)
        values = [(feature, feature.of(request)) for feature in self.features]
        numbers = [number for feature, value in values for number in feature.numbers(value)]
        taken = []
        for (feature, value), lifts in zip(values, self.lifts, strict=True):
            bucket = feature.bucket(value)
            if feature.buckets:
                taken.append(np.where(rows >= 0, lifts[bucket][rows] if bucket >= 0 else 0.0, 0.0))
        return np.stack([*(np.full(len(rows), n) for n in numbers), *taken], axis=1).astype(np.float32)

    def check(self, request: Request) -> None:
        """
        Refuse a context that cannot be read.

        Raises:
            RequestError: names the key, the value and the rule.
        """
        for feature in self.features:
            feature.of(request)

    def save(self, folder: Path) -> None:
        """Write what is known of moments; nothing when that is nothing."""
        if not self.features:
            return
        folder.mkdir(parents=True, exist_ok=True)
        known = [feature.model_dump(mode="json") for feature in self.features]
        (folder / "context.json").write_text(json.dumps(known, indent=2, ensure_ascii=False), encoding="utf-8")
        save_arrays(folder / "lifts.safetensors", **{f"{n:03d}": lifts for n, lifts in enumerate(self.lifts)})

    @classmethod
    def open(cls, folder: Path) -> Self:
        """
        Read what ``save`` wrote; without a folder nothing is known of moments.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        if not folder.is_dir():
            return cls()
        path = folder / "context.json"
        try:
            features = tuple(Feature.model_validate(own) for own in json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, ValidationError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        arrays = load_arrays(folder / "lifts.safetensors")
        return cls(features, tuple(arrays[name] for name in sorted(arrays)))


NO_CONTEXTS = Contexts()


def check_context(names: Sequence[str], columns: Sequence[str]) -> None:
    """
    See that events with such columns tell of every name.

    Raises:
        ConfigError: They have no such column.
    """
    there = ", ".join([*MOMENTS, *(own for own in columns if own not in SPINE)])
    for name in names:
        if name in SPINE:
            raise ConfigError(
                f"context names {name!r}, which is what is to be told, not the moment; there are: {there}"
            )
        if name not in MOMENTS and name not in columns:
            raise ConfigError(f"context names {name!r}, but the events have no such column; there are: {there}")


def _feature(name: str, interactions: Interactions) -> Feature:
    """What the events say of one name."""
    if name == "recency":
        gaps = np.diff(interactions.times)[np.diff(interactions.users) == 0]
        mean, spread = _scale(np.log1p(np.maximum(gaps, 0.0)))
        return Feature(name=name, kind="recency", mean=mean, spread=spread)
    if name in MOMENTS:
        return Feature(name=name, kind="hour" if name == "hour" else "weekday")
    check_context([name], interactions.context.columns)
    column = interactions.context[name]
    if column.dtype.is_numeric():
        values = _numbers(column)
        values = values[np.isfinite(values)]
        edges = np.unique(np.quantile(values, [0.2, 0.4, 0.6, 0.8])) if len(values) else np.empty(0)
        mean, spread = _scale(values)
        return Feature(name=name, kind="number", edges=tuple(map(float, edges)), mean=mean, spread=spread)
    counts = column.cast(pl.String).drop_nulls().value_counts()
    frequent = counts.sort(["count", name], descending=[True, False])[name].head(MOST_VALUES)
    return Feature(name=name, kind="category", values=tuple(frequent))


def _lifts(feature: Feature, interactions: Interactions) -> Floats:
    """(buckets, M) the log of how much more often than usual each item is taken in each part."""
    shape = (feature.buckets, interactions.n_items)
    if not feature.buckets:
        return np.zeros(shape, np.float32)
    buckets = feature.buckets_of(interactions)
    counted = interactions.likes & (buckets >= 0)
    places = buckets[counted] * shape[1] + interactions.rows[counted]
    counts = np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)
    share = counts.sum(1, keepdims=True) / max(counts.sum(), 1)  # (buckets, 1)
    expected = counts.sum(0) * share  # (buckets, M)
    known = share > 0
    lifts = np.log(np.where(known, counts + PRIOR * share, 1.0) / np.where(known, expected + PRIOR * share, 1.0))
    return lifts.astype(np.float32)


def _numbers(column: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _scale(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """Mean and spread, such that what never varies is 0."""
    return (float(values.mean()), float(values.std()) or 1.0) if len(values) else (0.0, 1.0)
