"""
The form of a data folder: column names, dtypes and keys, and the checks that say which row breaks them.

A check looks at a table as it was read, of whatever dtypes, and answers with findings; it never raises and never
changes a row. ``text``, ``number`` and ``seconds`` say how a raw column is understood; the loader uses the same three.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import polars as pl

from tailwise.types import EVENT_KINDS, LONGEST_ID

Level = Literal["PASS", "WARN", "FAIL"]

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "events": ("user_id", "item_id", "time"),
    "items": ("item_id",),
    "users": ("user_id",),
    "graph": ("head", "relation", "tail"),
    "entities": ("entity", "label"),
    "social": ("user_id", "friend_id"),
}
"""Columns that each table must have, in the order that also sorts it. All but ``time`` are ids."""
TEXTS: Mapping[str, tuple[str, ...]] = {
    "events": ("event", "request_id"),
    "items": ("title", "description", "text", "genres", "tags", "categories", "image"),
}
"""Optional columns that are text, even where every value looks like a number."""
NUMBERS: Mapping[str, Mapping[str, type[pl.DataType]]] = {
    "events": {"value": pl.Float32, "position": pl.Int64, "propensity": pl.Float64},
    "social": {"weight": pl.Float64},
}
"""Optional columns that are numbers."""

NO_TIME = "is no time; give seconds since epoch or ISO 8601, in UTC"
SHOWN = 5  # rows that a check names before it only counts them
OLDEST = 631_152_000.0  # 1990-01-01 in UTC: an earlier event is a slip in the unit or the column


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one check says of one place.

    >>> print(Finding("FAIL", "unique", "items.csv", 12, "item_id", "'i7' is there twice; ids must be unique"))
    FAIL items.csv row 12 item_id: 'i7' is there twice; ids must be unique
    """

    level: Level
    check: str
    file: str
    row: int | None
    """In the file, the first row of data being 1; None speaks of the whole file."""
    column: str | None
    message: str
    count: int = 1
    """Rows that it stands for."""

    @property
    def text(self) -> str:
        """The line without its level."""
        row, column = f" row {self.row}" * (self.row is not None), f" {self.column}" * (self.column is not None)
        return f"{self.file}{row}{column}: {self.message}"

    def __str__(self) -> str:
        return f"{self.level} {self.text}"


class _Rule(NamedTuple):
    """One check of one column: which rows break it, what to say after the value at fault, and of a good column."""

    check: str
    column: str | None
    bad: pl.Expr
    message: str
    holds: str
    level: Level = "FAIL"


def text(frame: pl.DataFrame, column: str) -> pl.Expr:
    """
    A column as String: text as it is spelled, whole numbers in decimal; null where it holds anything else.

    Fractions have no one spelling, so that 1.0 is no id.
    """
    if (dtype := frame.schema[column]).is_integer() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return pl.col(column).cast(pl.String)
    return pl.repeat(None, pl.len(), dtype=pl.String)


def number(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A column as Float64, null where it holds nothing or no number."""
    if frame.schema[column] == pl.String:
        return pl.col(column).str.strip_chars().cast(pl.Float64, strict=False)
    if frame.schema[column].is_numeric():
        return pl.col(column).cast(pl.Float64)
    return pl.repeat(None, pl.len(), dtype=pl.Float64)


def seconds(frame: pl.DataFrame, column: str) -> pl.Expr:
    """
    A column as Float64 seconds since epoch, null where it holds nothing or no time.

    Numbers are seconds; text is a number or ISO 8601; a date, or a time without offset, is UTC.

    >>> frame = pl.DataFrame({"time": ["86400.5", "1970-01-02", "1970-01-02T01:00+01:00", "soon"]})
    >>> frame.select(seconds(frame, "time"))["time"].to_list()
    [86400.5, 86400.0, 86400.0, None]
    """
    dtype, plain = frame.schema[column], number(frame, column)
    if isinstance(dtype, pl.Date | pl.Datetime):
        return pl.col(column).cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    if dtype != pl.String or not frame.select(plain.is_null().any()).item():
        return plain
    # One canonical spelling, so that a column may mix all of them: T, seconds and offset are filled in.
    spelled = pl.col(column).str.strip_chars().str.to_uppercase()
    full = spelled.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00").str.replace(" ", "T", literal=True)
    full = full.str.replace(r"T(\d\d:\d\d)(Z|[+-][\d:]+)?$", "T${1}:00${2}").str.replace("Z$", "+00:00")
    full = full.str.replace(r"(T[\d:.]+)$", "${1}+00:00").str.replace(r"([+-]\d\d)$", "${1}:00")
    moment = full.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    return pl.coalesce(plain, moment.dt.epoch("us") / 1e6)


def check_events(frame: pl.DataFrame, file: str = "events", *, now: float | None = None) -> list[Finding]:
    """
    Findings about events, one PASS for each check that holds.

    Events later than ``now``, seconds since epoch, are a WARN. Cost: a pass a check, some 0.5 s for a million events.
    """
    rules = [*_ids("events", frame), *_numbers("events", frame)]
    whole: list[Finding] = []
    if "time" in frame.columns:
        time = pl.lit(frame.select(seconds(frame, "time")).to_series())  # read once, used by several rules
        late = time > now if now is not None else pl.lit(value=False)
        odd = time.is_finite() & ((time < OLDEST) | late) & (time.min() != time.max())
        rules += [
            _Rule("time", "time", _no(time.is_finite()), NO_TIME, "every time is readable"),
            _Rule("period", "time", odd, "is before 1990 or after now; is it in seconds?", "no odd years", "WARN"),
        ]
        whole = _whole(frame, file, "order", time.min() != time.max(), "times differ", "all times are the same")
    if "event" in frame.columns:
        kinds = text(frame, "event")
        unknown = pl.col("event").is_not_null() & _no(kinds.is_in([*EVENT_KINDS, ""]))
        message = f"is no kind of event and counts as a view; known: {', '.join(EVENT_KINDS)}"
        rules.append(_Rule("kind", "event", unknown, message, "every kind is known", "WARN"))
        value = number(frame, "value") if "value" in frame.columns else pl.lit(None, pl.Float64)
        bare = kinds.is_in(["rating", "dwell"]) & value.is_null()
        rules.append(_Rule("bare", "event", bare, "comes without a value", "every rating has a value", "WARN"))
    if frame.columns:
        again = ~pl.struct(pl.all()).is_first_distinct()
        rules.append(_Rule("again", None, again, "the same event as an earlier row", "no event is there twice", "WARN"))
    return [*_findings("events", frame, file, rules, empty="FAIL"), *whole]


def check_items(frame: pl.DataFrame, file: str = "items") -> list[Finding]:
    """Findings about items."""
    rules = [*_ids("items", frame), *_unique("item_id", frame)]
    if "time" in frame.columns:
        bad = _given(frame, "time") & _no(seconds(frame, "time").is_finite())
        rules.append(_Rule("time", "time", bad, NO_TIME, "every time is readable or empty"))
    for name in ("year", "price"):
        if name in frame.columns:
            message = "is no number, so that the whole column is read as text"
            rules.append(_Rule("number", name, _no_number(frame, name), message, "every value is a number", "WARN"))
    return _findings("items", frame, file, rules)


def check_users(frame: pl.DataFrame, file: str = "users") -> list[Finding]:
    """Findings about users."""
    return _findings("users", frame, file, [*_ids("users", frame), *_unique("user_id", frame)])


def check_graph(frame: pl.DataFrame, file: str = "graph") -> list[Finding]:
    """Findings about the graph."""
    return _findings("graph", frame, file, _ids("graph", frame))


def check_entities(frame: pl.DataFrame, file: str = "entities") -> list[Finding]:
    """Findings about the names of entities."""
    return _findings("entities", frame, file, [*_ids("entities", frame), *_unique("entity", frame)])


def check_social(frame: pl.DataFrame, file: str = "social") -> list[Finding]:
    """Findings about ties between people."""
    return _findings("social", frame, file, [*_ids("social", frame), *_numbers("social", frame)])


Check = Callable[[pl.DataFrame, str], list[Finding]]
IN_ORDER: tuple[Check, ...] = (check_events, check_items, check_users, check_graph, check_entities, check_social)
CHECKS: Mapping[str, Check] = dict(zip(REQUIRED, IN_ORDER, strict=True))


def check_across(frames: Mapping[str, pl.DataFrame], files: Mapping[str, str]) -> list[Finding]:
    """Findings about what one table says of another: all WARN, since each can be meant."""
    items, events, graph = (frames.get(kind) for kind in ("items", "events", "graph"))
    if items is None or "item_id" not in items.columns:
        return []
    known = items.select(text(items, "item_id")).to_series().implode()
    findings: list[Finding] = []
    if events is not None and "item_id" in events.columns:
        strange, holds = _no(text(events, "item_id").is_in(known)), f"every item is in {files['items']}"
        rule = _Rule("known", "item_id", strange, f"is not in {files['items']}", holds, "WARN")
        findings += _apply(events, files["events"], [rule])
    if graph is not None and {"head", "tail"} <= set(graph.columns):
        linked = (text(graph, "head").is_in(known) | text(graph, "tail").is_in(known)).any()
        failing = f"no head or tail is in {files['items']}"
        findings += _whole(graph, files["graph"], "linked", linked, f"speaks of {files['items']}", failing)
    return findings


def _findings(
    kind: str, frame: pl.DataFrame, file: str, rules: Sequence[_Rule], *, empty: Level = "WARN"
) -> list[Finding]:
    """Columns, rows, then the rules; a missing column gets the nearest name that is there as a hint."""
    plain = {name.strip().lower(): name for name in frame.columns}
    findings = []
    for name in sorted({*REQUIRED[kind]} - {*frame.columns}):
        near = difflib.get_close_matches(name, plain, n=1)
        hint = f"rename {plain[near[0]]!r}?" if near else f"there are: {', '.join(frame.columns[:10]) or 'none'}"
        findings.append(Finding("FAIL", "columns", file, None, name, f"the column is missing; {hint}"))
    if not findings:
        findings.append(Finding("PASS", "columns", file, None, None, f"has {', '.join(REQUIRED[kind])}"))
    rows = f"has {frame.height:,} rows" if frame.height else "has no rows"
    findings.append(Finding("PASS" if frame.height else empty, "rows", file, None, None, rows))
    return [*findings, *_apply(frame, file, rules)]


def _whole(frame: pl.DataFrame, file: str, check: str, good: pl.Expr, holds: str, message: str) -> list[Finding]:
    """PASS or WARN by one statement about all rows; below two rows it says nothing, so that it holds."""
    if frame.height < 2 or frame.select(good.fill_null(value=True)).item():
        return [Finding("PASS", check, file, None, None, holds)]
    return [Finding("WARN", check, file, None, None, message)]


def _no(good: pl.Expr) -> pl.Expr:
    """Where ``good`` is false or not known."""
    return ~good.fill_null(value=False)


def _given(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Where a value is neither null nor empty text."""
    return pl.col(column).fill_null("") != "" if frame.schema[column] == pl.String else pl.col(column).is_not_null()


def _ids(kind: str, frame: pl.DataFrame) -> list[_Rule]:
    message = f"is no id; ids are text or whole numbers, of 1 to {LONGEST_ID} letters"
    names = [name for name in REQUIRED[kind] if name != "time" and name in frame.columns]
    bad = {name: ~text(frame, name).fill_null("").str.len_chars().is_between(1, LONGEST_ID) for name in names}
    return [_Rule("id", name, own, message, "every id is given") for name, own in bad.items()]


def _unique(column: str, frame: pl.DataFrame) -> list[_Rule]:
    if column not in frame.columns:
        return []
    again = text(frame, column).is_not_null() & ~text(frame, column).is_first_distinct()
    return [_Rule("unique", column, again, "is there twice; ids must be unique", "every id is unique")]


def _no_number(frame: pl.DataFrame, column: str) -> pl.Expr:
    """Where something is given that is no finite number, or none in the column's range."""
    n = number(frame, column)
    good = {"position": (n >= 1) & (n == n.floor()), "propensity": (n > 0) & (n <= 1)}.get(column, pl.lit(value=True))
    return _given(frame, column) & _no(n.cast(pl.Float32).is_finite() & good)  # what is kept must be finite too


def _numbers(kind: str, frame: pl.DataFrame) -> list[_Rule]:
    ranges = {"position": "is no position; give a whole number from 1", "propensity": "is no propensity in (0, 1]"}
    plain, holds = "is no finite number; leave it empty where there is none", "every value is good or empty"
    there = (name for name in NUMBERS[kind] if name in frame.columns)
    return [_Rule("number", name, _no_number(frame, name), ranges.get(name, plain), holds) for name in there]


def _apply(frame: pl.DataFrame, file: str, rules: Sequence[_Rule]) -> list[Finding]:
    """Findings of each rule: its first rows and how many more, or one PASS."""
    masks = frame.select(rule.bad.fill_null(value=False).alias(str(n)) for n, rule in enumerate(rules))
    findings = []
    for rule, mask in zip(rules, masks, strict=True):
        rows = mask.arg_true()
        for row in rows.head(SHOWN):
            value = "" if rule.column is None else _shown(frame[rule.column].slice(row, 1).to_list()[0])
            message = f"{value} {rule.message}".lstrip()
            findings.append(Finding(rule.level, rule.check, file, row + 1, rule.column, message))
        if (more := len(rows) - SHOWN) > 0:
            message = f"{more:,} more rows like these"
            findings.append(Finding(rule.level, rule.check, file, None, rule.column, message, count=more))
        if not len(rows) and frame.height:
            findings.append(Finding("PASS", rule.check, file, None, rule.column, rule.holds))
    return findings


def _shown(value: object) -> str:
    """A value as a reader finds it in the file, cut to fit a line."""
    spelled = "null" if value is None else repr(value)
    return spelled if len(spelled) <= 80 else f"{spelled[:77]}…"
