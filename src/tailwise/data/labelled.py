"""
Texts that people labelled: one JSON object a line, any of four heads in each.

    {"text": "…", "sentiment": "positive", "topic": ["comedy", "war"], "intent": "browse_topic",
     "entities": [{"start": 0, "end": 4, "label": "film"}]}

What a line leaves out is not known, and teaches nothing; an empty list says that there is none.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from tailwise.errors import DataError
from tailwise.types import Rows

log = logging.getLogger(__name__)

ONE = ("sentiment", "intent")
"""Heads of which exactly one label is true."""
SEVERAL = ("topic",)
"""Heads of which any number of labels is true."""
SPANS = "entities"
"""The head that marks parts of a text."""
HEADS = (*ONE, *SEVERAL, SPANS)
LONGEST_LABEL = 200


@dataclass(frozen=True, order=True)
class Span:
    """A part of a text, in characters: from ``start`` up to and without ``end``."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Labelled:
    """N texts with what is known of each; None where nothing is."""

    texts: tuple[str, ...]
    labels: dict[str, tuple[tuple[str, ...] | None, ...]]
    """Of the heads with labels, by name, (N,); of a head in ``ONE`` each has one."""
    spans: tuple[tuple[Span, ...] | None, ...]

    @property
    def heads(self) -> tuple[str, ...]:
        """Those that something is known of, in the order of ``HEADS``."""
        known = {name for name, own in self.labels.items() if any(one is not None for one in own)}
        if any(one is not None for one in self.spans):
            known.add(SPANS)
        return tuple(name for name in HEADS if name in known)

    def names(self, head: str) -> tuple[str, ...]:
        """Every label of a head, sorted."""
        if head == SPANS:
            return tuple(sorted({span.label for own in self.spans for span in own or ()}))
        return tuple(sorted({label for own in self.labels[head] for label in own or ()}))

    def take(self, rows: Rows) -> Self:
        """The texts that ``rows`` name, in that order."""
        return type(self)(
            tuple(self.texts[row] for row in rows),
            {name: tuple(own[row] for row in rows) for name, own in self.labels.items()},
            tuple(self.spans[row] for row in rows),
        )

    def with_copies(self, copies: list[tuple[int, str]]) -> Self:
        """The same and further texts with the labels of the rows that they copy; spans do not carry over."""
        rows = [row for row, _ in copies]
        more = {name: own + tuple(own[row] for row in rows) for name, own in self.labels.items()}
        return replace(
            self,
            texts=self.texts + tuple(text for _, text in copies),
            labels=more,
            spans=self.spans + (None,) * len(copies),
        )

    def __len__(self) -> int:
        return len(self.texts)


def read_labelled(path: Path) -> Labelled:
    """
    Labelled texts from a file: JSON Lines, or CSV where a cell of several labels is divided by ``|``.

    Raises:
        DataError: The file cannot be read, has no line, or a line does not have the form above; says file, line and
            value.
    """
    texts: list[str] = []
    labels: dict[str, list[tuple[str, ...] | None]] = {name: [] for name in (*ONE, *SEVERAL)}
    spans: list[tuple[Span, ...] | None] = []
    blank: list[str] = []
    for where, row in read_rows(path):
        if not row["text"].strip():
            blank.append(where)
            continue
        texts.append(row["text"])
        for name, own in labels.items():
            own.append(_labels(row.get(name), where, name))
        spans.append(_spans(row.get(SPANS), where, row["text"]))
    if blank:
        log.warning("%d blank texts say nothing and are left out, first: %s", len(blank), blank[0])
    found = Labelled(tuple(texts), {name: tuple(own) for name, own in labels.items()}, tuple(spans))
    if not found.heads:
        raise DataError(f"{path} has no text with a label: each line may have {', '.join(HEADS)}")
    return found


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Each object of a file of texts, with where it stands; what it holds beside ``text`` is left as it is.

    Raises:
        DataError: As ``read_labelled``.
    """
    try:
        raw = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8, at byte {error.start}; save it as UTF-8") from error
    if path.suffix not in {".jsonl", ".csv"}:
        raise DataError(f"{path} ends in {path.suffix or 'nothing'}, but texts are read from .jsonl or .csv")
    empty = True
    for where, row in _csv_rows(path, raw) if path.suffix == ".csv" else _json_rows(path, raw):
        text = row.get("text")
        if not isinstance(text, str):
            raise DataError(f"{where}: text is {_shown(text)}, but it must be a string")
        empty = False
        yield where, row
    if empty:
        raise DataError(f"{path} has no line; each must be an object with a text")


def _json_rows(path: Path, raw: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(raw.split("\n"), 1):  # not splitlines: U+2028 may stand inside a text
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{where} is {_shown(row)}, but it must be an object with a text")
        yield where, row


def _csv_rows(path: Path, raw: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Cells as strings; an empty one is not there, and ``topic`` is divided."""
    table = csv.DictReader(io.StringIO(raw, newline=""))
    if "text" not in (table.fieldnames or []):
        raise DataError(f"{path} has no column text; it has: {', '.join(table.fieldnames or ['none'])}")
    try:
        for row in table:
            cells: dict[str, Any] = {str(name): cell for name, cell in row.items() if cell or name == "text"}
            for name in SEVERAL:
                if name in cells:
                    cells[name] = [label.strip() for label in cells[name].split("|")]
            yield f"{path}, line {table.line_num}", cells
    except csv.Error as error:
        raise DataError(f"{path}, line {table.line_num} is not CSV: {error}") from error


def _labels(given: Any, where: str, head: str) -> tuple[str, ...] | None:
    """What a line says of a head."""
    if given is None:
        return None
    one = head in ONE
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list) or (one and not isinstance(given, str)):
        raise DataError(
            f"{where}: {head} is {_shown(given)}, but it must be {'a label' if one else 'a list of labels'}"
        )
    for label in found:
        if not isinstance(label, str) or not 0 < len(label.strip()) <= LONGEST_LABEL:
            raise DataError(f"{where}: {head} has {_shown(label)}, but a label is 1 to {LONGEST_LABEL} characters")
    return tuple(sorted({label.strip() for label in found}))


def _spans(given: Any, where: str, text: str) -> tuple[Span, ...] | None:
    """The parts that a line marks, in the order of the text."""
    if given is None:
        return None
    if isinstance(given, str):  # a cell of a CSV file
        try:
            given = json.loads(given)
        except ValueError as error:
            raise DataError(f"{where}: {SPANS} is {_shown(given)}, but it must be a JSON list of spans") from error
    if not isinstance(given, list):
        raise DataError(f"{where}: {SPANS} is {_shown(given)}, but it must be a list of spans")
    found = sorted(_span(one, where, text) for one in given)
    for before, after in pairwise(found):
        if after.start < before.end:
            raise DataError(f"{where}: the spans at {before.start} and {after.start} overlap; keep one of them")
    return tuple(found)


def _span(given: Any, where: str, text: str) -> Span:
    parts = given if isinstance(given, dict) else {}
    start, end, label = parts.get("start"), parts.get("end"), parts.get("label")
    if type(start) is not int or type(end) is not int or not isinstance(label, str) or not label.strip():
        raise DataError(f"{where}: {SPANS} has {_shown(given)}, but a span is an object with start, end and label")
    if not 0 <= start < end <= len(text):
        raise DataError(f"{where}: a span from {start} to {end} is not within the text's {len(text)} characters")
    return Span(start, end, label.strip())


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
