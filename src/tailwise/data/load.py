"""
A folder of tables to one ``Dataset``: the same frames whatever the files' format and the order of their rows.

Ids become text as it is spelled, times Float64 seconds since epoch, and every table gets one order of rows. Nothing is
dropped on the way: a row that breaks a check stops the loading, and the message names it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from tailwise.data.files import SUFFIXES, find_tables, inferred, read_all
from tailwise.data.schema import (
    CHECKS,
    NUMBERS,
    REQUIRED,
    TEXTS,
    Finding,
    check_across,
    check_events,
    number,
    seconds,
    text,
)
from tailwise.errors import DataError, UnavailableError
from tailwise.types import EVENT_KINDS

NO_EVENTS = "has no events: texts and attributes alone can rank until there are some"


@dataclass(frozen=True, eq=False)
class Dataset:
    """
    What is known of people and items.

    >>> events = pl.DataFrame({"user_id": ["u", "u"], "item_id": [7, 8], "time": ["1970-01-02", "1970-01-01"]})
    >>> Dataset.of("two", events=events).events["item_id"].to_list()
    ['8', '7']
    """

    name: str
    events: pl.DataFrame
    """``user_id item_id time event value`` and whatever came with them, by time, then person, then item."""
    items: pl.DataFrame
    users: pl.DataFrame | None = None
    graph: pl.DataFrame | None = None
    social: pl.DataFrame | None = None
    folder: Path | None = None
    entities: pl.DataFrame | None = None

    @staticmethod
    def of(
        name: str,
        *,
        events: pl.DataFrame,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        graph: pl.DataFrame | None = None,
        social: pl.DataFrame | None = None,
        entities: pl.DataFrame | None = None,
    ) -> Dataset:
        """
        A data set from frames in memory, in the form of ``schema``, of any dtypes and in any order.

        Raises:
            DataError: A row breaks a check; names table, row and column.
        """
        beside = {"users": users, "graph": graph, "entities": entities, "social": social}
        given = {"events": events, "items": items, **beside}
        tables = {kind: frame for kind, frame in given.items() if frame is not None}
        _refuse([finding for kind, frame in tables.items() for finding in CHECKS[kind](frame, kind)])
        return _dataset(name, tables)

    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables that are there, by kind."""
        frames = {kind: getattr(self, kind) for kind in REQUIRED}
        return {kind: frame for kind, frame in frames.items() if frame is not None}

    def named_graph(self) -> pl.DataFrame | None:
        """The graph with entities by the names that ``entities`` gives them, items by their ids; None without one."""
        if self.graph is None or self.entities is None:
            return self.graph
        named = self.entities.join(self.items, left_on="entity", right_on="item_id", how="anti")
        names = dict(zip(named["entity"].to_list(), named["label"].to_list(), strict=True))
        return self.graph.with_columns(pl.col("head", "tail").replace(names))

    def with_events(self, events: pl.DataFrame) -> Self:
        """The same data set with other events of the same form, put in order."""
        return replace(self, events=ordered(events))

    def digest(self) -> str:
        """
        sha256 over the content, in hex: the same for any file format, order of rows and columns, and process.

        Cost: sorts every table by all columns; about 1 s for a million events.
        """
        total = hashlib.sha256()
        for kind, frame in self.tables().items():
            plain = frame.select(_plain(frame, name) for name in sorted(frame.columns))
            plain = plain.select(name for name in plain.columns if plain[name].null_count() < plain.height)
            total.update(f"{kind} {frame.height} {plain.columns}".encode())
            for series in plain.sort(plain.columns).iter_columns():
                total.update(np.packbits(series.is_null().to_numpy()).tobytes())
                if series.dtype == pl.Float64:
                    total.update(series.fill_null(0.0).to_numpy().astype("<f8").tobytes())
                else:
                    lengths = series.fill_null("").str.len_bytes().to_numpy()
                    total.update(lengths.astype("<u4").tobytes())
                    total.update("".join(series.drop_nulls()).encode())
        return total.hexdigest()


def load(folder: Path | str, *, without_events: bool = False) -> Dataset:
    """
    Read a data folder.

    Args:
        folder: Where the tables are.
        without_events: Accept items alone, with no events file or one of a header: the first day of a shop.

    Raises:
        DataError: No folder, no events, two files of one kind, a file that cannot be read, or a row that breaks a
            check. The message is the first finding of ``validate`` that fails, and how many more there are.

    Cost: about 2 s for a million events.
    """
    folder = Path(folder)
    files = find_tables(folder, without_events=without_events)
    if isinstance(files, Finding):
        raise DataError(files.text)
    tables, findings = read_all(files)
    findings += [finding for kind, frame in tables.items() for finding in CHECKS[kind](frame, files[kind].name)]
    if "events" not in files:
        tables["events"] = pl.DataFrame(schema=dict.fromkeys(REQUIRED["events"], pl.String))
    elif without_events and "items" in files:
        findings = [f for f in findings if (f.check, f.file) != ("rows", files["events"].name)]
    _refuse(findings, f"; see: tailwise validate {folder}")
    return _dataset(folder.resolve().name, tables, folder)


def validate(folder: Path | str, *, now: float | None = None) -> list[Finding]:
    """
    What is right and wrong with a data folder; never raises for bad data.

    ``now`` is in seconds since epoch, by default the clock's; events after it are a WARN.
    """
    folder = Path(folder)
    files = find_tables(folder, without_events=True)
    if isinstance(files, Finding):
        return [files]
    tables, findings = read_all(files)
    if "events" not in files:
        findings.append(Finding("WARN", "folder", str(folder), None, None, NO_EVENTS))
    names = {kind: path.name for kind, path in files.items()}
    for kind, frame in tables.items():
        if kind == "events":
            own = check_events(frame, names[kind], now=time.time() if now is None else now)
            first_day = "items" in files and not frame.height
            findings += [
                replace(f, level="WARN", message=NO_EVENTS) if first_day and f.check == "rows" else f for f in own
            ]
        else:
            findings += CHECKS[kind](frame, names[kind])
    if "items" not in files:
        message = "there is no items file; the items are those that events name"
        findings.append(Finding("WARN", "items", str(folder), None, None, message))
    return findings + check_across(tables, names)


def write(dataset: Dataset, folder: Path | str) -> None:
    """
    Write one Parquet file a table; ``load`` gives the same data set back.

    Raises:
        DataError: The folder holds a table that would get mixed up with these.
        UnavailableError: The folder cannot be written to.
    """
    folder = Path(folder)
    tables = dataset.tables()
    kept = {f"{kind}.parquet" for kind in tables}
    for name in (f"{kind}{suffix}" for kind in REQUIRED for suffix in SUFFIXES):
        if name not in kept and (folder / name).exists():
            raise DataError(f"{folder / name} is there already and is not part of this data; choose an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, frame in tables.items():
            unfinished = folder / f".{kind}.parquet"
            try:
                frame.write_parquet(unfinished)
                unfinished.replace(folder / f"{kind}.parquet")
            finally:
                unfinished.unlink(missing_ok=True)
    except (OSError, pl.exceptions.ComputeError) as error:  # polars wraps what the disk answers
        raise UnavailableError(f"{folder} cannot be written to: {getattr(error, 'strerror', error)}") from error


def ordered(events: pl.DataFrame) -> pl.DataFrame:
    """
    Events in the one order: by time, then person, then item, as text.

    What a person did with one item at one moment goes from view to purchase (the order of ``EVENT_KINDS``), then by
    value, so that the order of the rows in a file never matters.
    """
    place = pl.col("event").replace_strict(
        {kind: n for n, kind in enumerate(EVENT_KINDS)}, default=len(EVENT_KINDS), return_dtype=pl.UInt8
    )
    return events.sort("time", "user_id", "item_id", place, "event", "value", maintain_order=True)


def _refuse(findings: list[Finding], see: str = "") -> None:
    failed = [finding for finding in findings if finding.level == "FAIL"]
    if failed:
        more = sum(finding.count for finding in failed) - 1
        raise DataError(f"{failed[0].text}{f' (and {more:,} more)' if more else ''}{see}")


def _dataset(name: str, tables: Mapping[str, pl.DataFrame], folder: Path | None = None) -> Dataset:
    """Checked tables in the one form; without items, those that events name."""
    normal = {kind: _normal(kind, frame) for kind, frame in tables.items()}
    events = ordered(_filled(normal["events"]))
    items = normal.get("items", events.select("item_id").unique().sort("item_id"))
    beside = {kind: normal.get(kind) for kind in ("users", "graph", "social", "entities")}
    return Dataset(name, events, items, **beside, folder=folder)


def _normal(kind: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows with each column in its dtype, keys first and sorting."""
    keys = REQUIRED[kind]
    names = [*keys, *(name for name in frame.columns if name not in keys)]
    normal = frame.select(_column(kind, frame, name).alias(name) for name in names)
    if kind == "items":
        # Numbers spelled as text, which CSV could not tell from numbers either.
        spelled = [name for name in ("year", "price") if normal.schema.get(name) == pl.String]
        normal = normal.with_columns(inferred(normal[name]) for name in spelled)
    return normal if kind == "events" else normal.sort(keys, maintain_order=True)


def _column(kind: str, frame: pl.DataFrame, name: str) -> pl.Expr:
    dtype, column = frame.schema[name], pl.col(name)
    if name == "time" and kind in ("events", "items"):
        return seconds(frame, name)
    if name in NUMBERS.get(kind, ()):
        return number(frame, name).cast(NUMBERS[kind][name])
    if name in REQUIRED[kind]:
        return text(frame, name)
    named = name in TEXTS.get(kind, ())
    if isinstance(dtype, pl.List) and (named or dtype.inner == pl.String):
        return column.cast(pl.List(pl.String)).list.join("|").replace("", None)
    if dtype == pl.String or (named and not dtype.is_nested()):
        return column.cast(pl.String).replace("", None)
    return column.fill_nan(None) if dtype.is_float() else column


def _filled(events: pl.DataFrame) -> pl.DataFrame:
    """Events with ``event`` and ``value``, whether or not the file had them."""
    defaults = {"event": pl.lit(None, pl.String), "value": pl.lit(None, pl.Float32)}
    filled = events.with_columns(value.alias(name) for name, value in defaults.items() if name not in events.columns)
    first = [*REQUIRED["events"], "event", "value"]
    return filled.select(*first, pl.exclude(first)).with_columns(pl.col("event").fill_null("view"))


def _plain(frame: pl.DataFrame, name: str) -> pl.Expr:
    """A column as Float64 or String, so that equal content has equal bytes."""
    dtype, column = frame.schema[name], pl.col(name)
    if dtype.is_numeric() or dtype == pl.Boolean:
        return column.cast(pl.Float64).fill_nan(None) + 0.0  # -0.0 becomes 0.0
    if isinstance(dtype, pl.List | pl.Array):
        return column.cast(pl.List(pl.String)).list.join("|", ignore_nulls=True)
    return column.struct.json_encode() if isinstance(dtype, pl.Struct) else column.cast(pl.String)
