"""
The forms of requests, events and answers as JSON, for the service and for ``tailwise rank``. Knows no HTTP.

    bytes ─▶ decode_form ─▶ RequestForm ─▶ Request ─▶ engine ─▶ Answer ─▶ encode_answer ─▶ bytes
    bytes ─▶ decode_events ─▶ Event …

What the forms do not name is ignored, so that a caller may be newer than the service. NaN is null.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET

from tailwise.data.kinds import MULTI_VALUED
from tailwise.errors import RequestError
from tailwise.pipeline import Answer, Engine
from tailwise.pipeline.explained import Explanation
from tailwise.rerank.phrases import LOCALE, preferred
from tailwise.serve.forms import (
    AnswerForm,
    DoneForm,
    EventForm,
    FirstForm,
    ItemForm,
    PastForm,
    RequestForm,
    Time,
    TraceForm,
)
from tailwise.types import Event, History, Request, Rows, Slate

T = TypeVar("T")

MOST_EVENTS = 10_000
LATEST = 253_402_300_800.0
"""The year 10,000, in seconds; a time beyond it is in milliseconds."""

_requests = msgspec.json.Decoder(RequestForm)
_events = msgspec.json.Decoder(EventForm | list[EventForm])
encode = msgspec.json.Encoder(enc_hook=str).encode
"""Anything of the wire to JSON bytes."""


def decode_form(body: bytes) -> RequestForm:
    """
    A request's form, checked for types.

    Raises:
        RequestError: Not JSON, or a field of the wrong type or out of range; names the field.
    """
    return decode(_requests, body, what="request")


def decode_request(body: bytes) -> Request:
    """
    A request from one JSON object.

    Raises:
        RequestError: As ``decode_form``, or a time is not one.

    >>> decode_request(b'{"request_id": "r1", "user_id": "u1", "k": 3}').k
    3
    """
    return request_of(decode_form(body))


def request_of(form: RequestForm, languages: str | None = None) -> Request:
    """
    The request that the engine takes; ``request_id`` is made up when absent.

    Args:
        form: As it came.
        languages: What the header ``Accept-Language`` says; it counts where the context names no ``locale``.

    Raises:
        RequestError: A time is not one; says which.
    """
    return Request(
        request_id=form.request_id or uuid.uuid4().hex,
        user_id=form.user_id,
        time=None if form.time is None else seconds(form.time, "time"),
        k=form.k,
        candidates=None if form.candidates is None else tuple(form.candidates),
        history=None if form.history is None else _history(form.history),
        context=_context(form, languages),
        query=form.query,
        exclude_seen=form.exclude_seen,
        diversity=form.diversity,
        tail_share=form.tail_share,
        blend=form.blend,
        seed=form.seed,
    )


def decode_events(body: bytes, *, now: float) -> list[Event]:
    """
    Events from one JSON object or a list of them; all or none.

    Raises:
        RequestError: Not JSON, too many, or one is wrong; names its place (from 0) and the field.

    >>> decode_events(b'{"user_id": "u1", "item_id": "i1", "event": "click"}', now=5.0)[0].time
    5.0
    """
    forms = decode(_events, body, what="event")
    if isinstance(forms, EventForm):
        return [_event(forms, "event", now)]
    if len(forms) > MOST_EVENTS:
        raise RequestError(f"{len(forms)} events came at once, but at most {MOST_EVENTS} may; send them in parts")
    return [_event(form, f"event[{place}]", now) for place, form in enumerate(forms)]


def encode_answer(
    engine: Engine,
    answer: Answer,
    *,
    explain: bool,
    language: str = "",
    explanations: Sequence[Explanation] | None = None,
) -> bytes:
    """
    An answer as one JSON object.

    Args:
        engine: What answered.
        answer: Its answer.
        explain: Adds labels, the first-stage order and the history that was used.
        language: Whose titles are preferred, where the catalogue has several.
        explanations: That go along.
    """
    form = AnswerForm(
        answer.request_id,
        _items(engine, answer.slate, explain=explain, language=language),
        [TraceForm(t.name, t.ms, t.rows_in, t.rows_out, t.skipped or UNSET) for t in answer.trace],
        answer.version,
        answer.excluded_seen,
    )
    if explain:
        shown = answer.first.take(slice(len(answer.slate)))
        form.first_stage = [FirstForm(i, title, round(score, 6)) for i, title, score in _named(engine, shown, language)]
        form.history = done(engine, answer.history, language)
    if explanations is not None:
        form.explanations = list(explanations)
    return encode(form)


def done(engine: Engine, history: History, language: str = "") -> list[DoneForm]:
    """A person's events as stored, oldest first."""
    names = engine.catalogue.titles(history.item_ids, history.rows, language)
    values = [None if v != v else v for v in history.values.tolist()]  # noqa: PLR0124  NaN alone differs from itself
    columns = (history.item_ids.tolist(), names, history.events.tolist(), history.times.tolist(), values)
    return [DoneForm(*event) for event in zip(*columns, strict=True)]


def decode(decoder: msgspec.json.Decoder[T], body: bytes, *, what: str) -> T:
    """
    Decode and check types.

    Raises:
        RequestError: Not JSON, or not of the form; ``is_malformed`` tells which.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise RequestError(_located(str(error), what)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the {what} is not JSON: {error}; send one UTF-8 JSON value") from error
    except RecursionError as error:
        raise RequestError(f"the {what} is nested too deeply to read; leave the nested part out") from error


def is_malformed(error: RequestError) -> bool:
    """Whether it was not JSON at all, rather than JSON with something wrong in it."""
    cause = error.__cause__
    syntax = isinstance(cause, msgspec.DecodeError | UnicodeDecodeError)
    return syntax and not isinstance(cause, msgspec.ValidationError)


def seconds(time: Time, where: str) -> float:
    """
    Seconds since epoch from a number or ISO 8601; no zone means UTC.

    Raises:
        RequestError: Neither, or outside the years 1 to 9999 (milliseconds are).

    >>> seconds("2001-09-09T01:46:40Z", "time")
    1000000000.0
    """
    try:
        if isinstance(time, str):
            moment = datetime.fromisoformat(time)
            time = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if abs(time) < LATEST:
            return float(time)
    except (ValueError, OverflowError):
        pass
    shown = repr(time)[:80]
    raise RequestError(f"{where} is {shown}, but it must be seconds since epoch (UTC, not milliseconds) or ISO 8601")


def _located(message: str, what: str) -> str:
    """
    The decoder's message with the place in front.

    >>> _located("Expected `str`, got `int` - at `$[3].item_id`", "event")
    'event[3].item_id: Expected `str`, got `int`'
    """
    rule, _, path = message.partition(" - at `$")
    return f"{what}{re.sub('`$', '', path)}: {rule}"


def _context(form: RequestForm, languages: str | None) -> dict[str, Any]:
    """What the request tells of its moment, with the language that reasons are wanted in."""
    own = None if languages is None or form.context.get(LOCALE) else preferred(languages)
    return form.context if own is None else {**form.context, LOCALE: own}


def _history(events: Sequence[PastForm]) -> History:
    times: list[Any] = [past.time for past in events]
    try:
        usual = min(times, default=0.0) > -LATEST and max(times, default=0.0) < LATEST
    except TypeError:  # some are text
        usual = False
    if not usual:
        times = [seconds(time, f"request.history[{place}].time") for place, time in enumerate(times)]
    kinds, values = [past.event for past in events], [past.value for past in events]
    return History.of_columns([past.item_id for past in events], times, kinds, values)


def _event(form: EventForm, where: str, now: float) -> Event:
    return Event(
        form.user_id,
        form.item_id,
        now if form.time is None else seconds(form.time, f"{where}.time"),
        form.event,
        form.value,
        form.request_id,
        form.position,
        form.propensity,
        form.event_id,
    )


def _named(engine: Engine, slate: Slate, language: str) -> zip[tuple[str, str, float]]:
    names = engine.catalogue.titles(slate.item_ids, slate.columns["row"], language)
    return zip(slate.item_ids.tolist(), names, slate.scores.tolist(), strict=True)


def _items(engine: Engine, slate: Slate, *, explain: bool, language: str) -> list[ItemForm]:
    n = len(slate)
    rows: Rows = slate.columns["row"]
    columns: Mapping[str, Any] = slate.columns
    reasons = columns.get("reasons", [()] * n)
    propensities = columns.get("propensity", np.ones(n)).tolist()
    ranks = columns.get("first_rank", np.arange(1, n + 1)).tolist()
    tail = engine.catalogue.at(rows, ["tail"])["tail"].tolist()
    labels = _labels(engine, rows) if explain else None
    told = _told(engine, slate)
    return [
        ItemForm(
            item_id,
            title,
            round(score, 6),
            [str(reason["text"]) for reason in reasons[place] or ()],
            propensities[place],
            ranks[place],
            tail[place],
            UNSET if labels is None else labels[place],
            told[place] if told else UNSET,
        )
        for place, (item_id, title, score) in enumerate(_named(engine, slate, language))
    ]


def _told(engine: Engine, slate: Slate) -> list[dict[str, float | None]]:
    """What the heads tell of each item, by column; empty where the model has none, or they did not get to it."""
    columns = {name: slate.columns[name] for name in engine.heads.values() if slate.columns[name].dtype.kind == "f"}
    known = [[None if v != v else round(v, 6) for v in column.tolist()] for column in columns.values()]  # noqa: PLR0124  NaN alone differs from itself
    return [dict(zip(columns, values, strict=True)) for values in zip(*known, strict=True)]


def _labels(engine: Engine, rows: Rows) -> list[list[str]]:
    """Genres, tags and categories of items, (N,) lists; empty where there are none."""
    out: list[list[str]] = [[] for _ in rows]
    for name in MULTI_VALUED:
        if name in engine.catalogue.labels:
            known = engine.catalogue.labels[name]
            for place, label in np.argwhere(engine.catalogue.at(rows, [name])[name]).tolist():
                out[place].append(known[label])
    return out
