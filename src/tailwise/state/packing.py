"""
Events to bytes and back: some eight bytes an event, appended without reading those before.

    head  item     time      value       more
    1     varint   varint    0, 1, 4, 8  msgpack, where there is more to say
    └─ kind (4 bits), unit of the time (2), has a value (1), has more (1)

An item is its number in the store's dictionary. A time is the difference to ``last``, the whole seconds of the event
before, in the coarsest unit that gives the float back exactly; one that no unit gives is stored as it is.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence

import msgspec

from tailwise.errors import DataError
from tailwise.types import EVENT_KINDS, Event

KINDS: Mapping[str, int] = {kind: code for code, kind in enumerate(EVENT_KINDS)}
OTHER = 15
"""Code of a kind that is not in the table; its name is among what there is more to say."""
UNITS = (1, 1000, 1_000_000)
"""Of a second; the code after them is a plain float."""
PLAIN = 3
DAMAGED = (IndexError, struct.error, msgspec.DecodeError, ValueError)
"""What unpacking damaged bytes can raise."""
LATEST = 1e11
"""Times beyond it, or before 1970, are stored as plain floats."""
QUARTERS = 0xF0
"""Values from 0 to below 60 in quarters are one byte; this and the next mean a float of 4 or 8 bytes."""

Packed = tuple[int, float, str, float | None, str | None, int | None, float | None]
"""Number of the item, time, kind, value, request_id, position, propensity."""

_F4, _F8 = struct.Struct("<f"), struct.Struct("<d")
_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list).decode


def check_storable(events: Sequence[Event]) -> None:
    """
    Refuse what no store can give back.

    Raises:
        DataError: A time is no finite number, a value is not finite, a position is no place,
            or an id is no text that UTF-8 can spell.
    """
    for event in events:
        if not math.isfinite(event.time):
            raise DataError(f"an event has the time {event.time}, but it must be a finite number of seconds")
        if event.value is not None and not math.isfinite(event.value):
            raise DataError(f"an event has the value {event.value}, but it must be finite")
        if event.position is not None and not 0 <= event.position < 2**63:
            raise DataError(f"an event has the position {event.position}, but it must be between 0 and 2**63 - 1")
        try:
            for text in (event.user_id, event.item_id, event.event, event.request_id, event.event_id):
                if text is not None:
                    text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"an event holds {error.object!r:.80}, which is no text: {error.reason}") from error


def packed(event: Event, number: int) -> Packed:
    """An event whose item has a number."""
    return number, event.time, event.event, event.value, event.request_id, event.position, event.propensity


def unpacked(row: Packed, user_id: str, item_id: str) -> Event:
    """The event that ``packed`` was given, without its ``event_id``."""
    _, time, event, value, request_id, position, propensity = row
    return Event(user_id, item_id, time, event, value, request_id, position, propensity)


def pack(out: bytearray, row: Packed, last: int) -> int:
    """
    Add an event to ``out``; the ``last`` to go on with.

    Args:
        out: What was packed before, in order of time.
        row: Of a finite time, not before those in ``out``.
        last: What the event before gave; 0 at the beginning.

    Cost: some 2 µs.
    """
    number, time, event, value, request_id, position, propensity = row
    kind = KINDS.get(event, OTHER)
    more = request_id is not None or position is not None or propensity is not None or kind == OTHER
    unit, ticks = PLAIN, 0
    if 0 <= time < LATEST:
        for code, per_second in enumerate(UNITS):
            ticks = round(time * per_second)
            if ticks / per_second == time:
                unit = code
                break
    out.append(kind | unit << 4 | (value is not None) << 6 | more << 7)
    _varint(out, number)
    if unit == PLAIN:
        out += _F8.pack(time)
    else:
        _varint(out, ticks - last * UNITS[unit])
    if value is not None:
        _value(out, float(value))
    if more:
        said = _encode([request_id, position, propensity, event if kind == OTHER else None])
        _varint(out, len(said))
        out += said
    return _seconds(time)


def unpack(data: bytes, start: int = 0, last: int = 0, most: int | None = None) -> tuple[list[Packed], int]:
    """
    The events from the byte ``start`` on, at most ``most`` of them, and the ``last`` of the newest.

    Raises:
        IndexError, struct.error, msgspec.DecodeError: The bytes are damaged (see ``DAMAGED``).

    Cost: some 1 µs an event.

    >>> out = bytearray()
    >>> last = pack(out, packed(Event("ann", "heat", 1_700_000_000.5, "rating", 4.5), 300), 0)
    >>> len(out), unpack(bytes(out))
    (10, ([(300, 1700000000.5, 'rating', 4.5, None, None, None)], 1700000000))
    """
    found: list[Packed] = []
    place, end = start, len(data)
    while place < end and len(found) != most:
        head = data[place]
        number, place = _number(data, place + 1)
        unit = head >> 4 & 3
        if unit == PLAIN:
            time: float = _F8.unpack_from(data, place)[0]
            place += 8
        else:
            ticks, place = _number(data, place)
            time = (ticks + last * UNITS[unit]) / UNITS[unit]
        last = _seconds(time)
        value: float | None = None
        if head & 0x40:
            code = data[place]
            form = _F8 if code > QUARTERS else _F4
            value = code / 4 if code < QUARTERS else form.unpack_from(data, place + 1)[0]
            place += 1 if code < QUARTERS else 1 + form.size
        if head & 0x80:
            size, place = _number(data, place)
            request_id, position, propensity, other = _decode(data[place : place + size])
            place += size
            found.append((number, time, other or EVENT_KINDS[head & 15], value, request_id, position, propensity))
        else:
            found.append((number, time, EVENT_KINDS[head & 15], value, None, None, None))
    return found, last


def pack_counts(counts: Mapping[str, int]) -> bytes:
    """
    How often each kind was there, in the order of ``EVENT_KINDS``, then all other kinds together.

    >>> unpack_counts(pack_counts({"view": 300, "purchase": 2}))
    {'view': 300, 'purchase': 2}
    """
    codes = [0] * (len(EVENT_KINDS) + 1)
    for kind, count in counts.items():
        codes[KINDS.get(kind, len(EVENT_KINDS))] += count
    while codes and not codes[-1]:
        codes.pop()
    out = bytearray()
    for count in codes:
        _varint(out, count)
    return bytes(out)


def unpack_counts(data: bytes) -> dict[str, int]:
    """The counts that are not zero, by kind; ``other`` for kinds that have no name here."""
    counts, place = {}, 0
    for kind in (*EVENT_KINDS, "other"):
        if place == len(data):
            break
        count, place = _number(data, place)
        if count:
            counts[kind] = count
    return counts


def _seconds(time: float) -> int:
    """Whole seconds, within the times that have a unit."""
    return int(min(max(time, 0.0), LATEST))


def _varint(out: bytearray, number: int) -> None:
    """Seven bits a byte, the lowest first; all but the last byte have the eighth set."""
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _number(data: bytes, place: int) -> tuple[int, int]:
    """The number that begins at a byte, and where the next thing begins."""
    byte = data[place]
    if byte < 0x80:
        return byte, place + 1
    number, shift = byte & 0x7F, 7
    while True:
        place += 1
        byte = data[place]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place + 1
        shift += 7


def _value(out: bytearray, value: float) -> None:
    quarters = value * 4
    if 0 <= quarters < QUARTERS and quarters.is_integer():
        out.append(int(quarters))
        return
    try:
        short = _F4.pack(value)
    except OverflowError:
        short = b""
    if short and _F4.unpack(short)[0] == value:
        out.append(QUARTERS)
        out += short
    else:
        out.append(QUARTERS + 1)
        out += _F8.pack(value)
