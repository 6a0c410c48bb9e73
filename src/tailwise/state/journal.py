"""The journal's form: batches of whole events as bytes, and what a segment of the log is called."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tailwise.types import Event

_Whole = tuple[str, str, float, str, float | None, str | None, int | None, float | None, str | None]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Whole]).decode


def encode_batch(events: Sequence[Event]) -> bytes:
    """
    Events with all that is known of them.

    >>> decode_batch(encode_batch([Event("ann", "heat", 2.0, event_id="e1")]))[0].event_id
    'e1'
    """
    return _encode([whole(event) for event in events])


def decode_batch(data: bytes) -> list[Event]:
    """What ``encode_batch`` was given."""
    return [Event(*fields) for fields in _decode(data)]


def whole(event: Event) -> _Whole:
    """All fields of an event, in their order."""
    return (
        event.user_id,
        event.item_id,
        event.time,
        event.event,
        event.value,
        event.request_id,
        event.position,
        event.propensity,
        event.event_id,
    )


def segment_name(number: int, token: str) -> str:
    """
    The file of a segment: in order of its number, and nobody else's.

    >>> segment_name(42, "5f3a")
    'events-000000042-5f3a.parquet'
    """
    return f"events-{number:09d}-{token}.parquet"


def segment_number(name: str) -> int:
    """
    The number in the name of a segment; 0 when it is none of ours.

    >>> segment_number("events-000000042-5f3a.parquet"), segment_number("events-2026.parquet")
    (42, 0)
    """
    _, _, rest = name.partition("-")
    number, dash, _ = rest.partition("-")
    return int(number) if dash and len(number) == 9 and number.isdecimal() else 0
