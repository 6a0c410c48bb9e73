"""
One file to one table as it stands there, or the finding that says which row cannot be read.

Reading never repairs: no row is skipped, cut or guessed, and ids keep their spelling.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import polars as pl

from tailwise.data.schema import REQUIRED, TEXTS, Finding

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".jsonl")
SEGMENTS = "events-*.parquet"
"""What a log of events is made of: any number of files, read as one table, after ``events.parquet`` if it is there."""
BROKEN = (OSError, EOFError, zlib.error, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What reading a damaged file can raise."""
INTEGER = r"^-?(0|[1-9]\d{0,17})$"
"""No leading zero: 07030 is a code, not a number."""
DECIMAL = r"^-?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?\d+)?$"
"""No more digits than Float64 can hold."""


def find_tables(folder: Path, *, without_events: bool = False) -> dict[str, Path] | Finding:
    """The one file of each kind, or why they are no data; ``without_events``, items alone are data too."""
    if not folder.is_dir():
        return Finding("FAIL", "folder", str(folder), None, None, "is no folder; give one that holds an events file")
    files: dict[str, Path] = {}
    for kind in REQUIRED:
        there = [path for suffix in SUFFIXES if (path := folder / f"{kind}{suffix}").is_file()]
        if len(there) > 1:
            names = " and ".join(path.name for path in there)
            return Finding("FAIL", "folder", str(folder), None, None, f"has {names}; keep one file of {kind}")
        if there:
            files[kind] = there[0]
    if any(folder.glob(SEGMENTS)):
        base = files.setdefault("events", folder / SEGMENTS)
        if base.suffix != ".parquet":
            why = f"has {base.name} and {SEGMENTS}; write {base.name} as events.parquet, to go before them"
            return Finding("FAIL", "folder", str(folder), None, None, why)
    if "events" not in files and not (without_events and "items" in files):
        names = ", ".join([*(f"events{suffix}" for suffix in SUFFIXES), SEGMENTS])
        return Finding("FAIL", "folder", str(folder), None, None, f"has no events; add one of {names}")
    return files


def read_all(files: Mapping[str, Path]) -> tuple[dict[str, pl.DataFrame], list[Finding]]:
    """Tables by kind, and a finding for each file that cannot be read."""
    read = {kind: read_table(path, kind) for kind, path in files.items()}
    tables = {kind: frame for kind, frame in read.items() if isinstance(frame, pl.DataFrame)}
    return tables, [finding for finding in read.values() if isinstance(finding, Finding)]


def read_table(path: Path, kind: str) -> pl.DataFrame | Finding:
    """
    A table of one ``kind`` as the file spells it, or the finding that says where it is broken.

    In CSV, the columns that ``schema`` does not name get a number dtype when all their values are numbers.
    """
    data = b""
    lines = path.suffix == ".jsonl"
    try:
        if path.suffix == ".parquet":
            return _with_segments(path) if kind == "events" else pl.read_parquet(path)
        raw = path.read_bytes()
        data = (gzip.decompress(raw) if path.suffix == ".gz" else raw).removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
        data.decode()
        if not data:
            return Finding("FAIL", "file", path.name, None, None, "is empty")
        if lines:
            return pl.read_ndjson(data, infer_schema_length=None)
        frame = pl.read_csv(data, infer_schema=False)
        for name in frame.columns:  # the reader would call the second of two alike event_duplicated_0
            first = name.rpartition("_duplicated_")[0]
            if first in frame.columns:
                return Finding("FAIL", "file", path.name, None, first, "is there twice; keep one of the columns")
        known = {*REQUIRED[kind], *TEXTS.get(kind, ())}
        return frame.with_columns(inferred(frame[name]) for name in frame.columns if name not in known)
    except UnicodeDecodeError as error:
        row: int | None = data[: error.start].count(b"\n") + lines  # the header of a CSV file is row 0
        why = f"is not UTF-8 (byte 0x{data[error.start]:02x}); save it as UTF-8"
    except BROKEN as error:
        row, why = (_json_fault(data) if lines else _csv_fault(data)) if data else (None, "")
        why = why or f"cannot be read ({str(error).splitlines()[0][:120]}); write it again"
    return Finding("FAIL", "file", path.name, row, None, why)


def _with_segments(path: Path) -> pl.DataFrame | Finding:
    """The events of a file, when it is there, and of all segments of a log beside it, as one table."""
    frames: list[pl.DataFrame] = []
    for part in [path] * path.is_file() + sorted(path.parent.glob(SEGMENTS)):
        try:
            frames.append(pl.read_parquet(part))
        except BROKEN as error:
            why = f"cannot be read ({str(error).splitlines()[0][:120]}); write it again"
            return Finding("FAIL", "file", part.name, None, None, why)
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")


def inferred(texts: pl.Series) -> pl.Series:
    """
    Text as Int64 or Float64 when every value is spelled as such a number, else as it is.

    >>> inferred(pl.Series(["1", None, "20"])).to_list()
    [1, None, 20]
    >>> inferred(pl.Series(["1", "07"])).to_list()
    ['1', '07']
    """
    given = texts.filter(texts != "")
    for pattern, dtype in ((INTEGER, pl.Int64), (DECIMAL, pl.Float64)):
        if len(given) and given.str.contains(pattern).all():
            return texts.replace("", None).cast(dtype)
    return texts


def _csv_fault(data: bytes) -> tuple[int | None, str]:
    """The first row that is no row of the header's width, and what is wrong with it."""
    records = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    row = 0
    try:
        header = next(records)
        for row, fields in enumerate(records, start=1):
            if len(fields) > len(header):
                return row, f"has {len(fields)} fields, but the header has {len(header)}"
    except csv.Error as error:
        return row + 1, f"cannot be read ({error}); is a quote missing?"
    return None, ""


def _json_fault(data: bytes) -> tuple[int | None, str]:
    """The first line that is no JSON object, and what is wrong with it."""
    for row, line in enumerate((line for line in data.splitlines() if line.strip()), start=1):
        try:
            if not isinstance(msgspec.json.decode(line), dict):
                return row, "is no JSON object; give one object a line"
        except msgspec.DecodeError as error:
            return row, f"is no JSON ({error})"
    return None, ""
