from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.state.packing import DAMAGED, pack, pack_counts, packed, unpack, unpack_counts
from tailwise.types import EVENT_KINDS, Event

TIMES = st.one_of(
    st.integers(0, 4 * 10**9).map(float),
    st.integers(0, 4 * 10**12).map(lambda ms: ms / 1000),
    st.integers(0, 4 * 10**15).map(lambda us: us / 1_000_000),
    st.floats(allow_nan=False, allow_infinity=False),
)
ROWS = st.tuples(
    st.integers(1, 2**40),
    TIMES,
    st.sampled_from(EVENT_KINDS) | st.text(min_size=1, max_size=4),
    st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 80).map(lambda n: n / 4),
    st.none() | st.text(max_size=5),
    st.none() | st.integers(0, 2**63 - 1),
    st.none() | st.floats(0, 1),
)


def bytes_of(rows: list[Any]) -> tuple[bytes, int]:
    out, last = bytearray(), 0
    for row in rows:
        last = pack(out, row, last)
    return bytes(out), last


@given(st.lists(ROWS, max_size=12), st.integers(0, 12))
def test_what_is_packed_comes_back_from_any_event_on(rows: list[Any], cut: int) -> None:
    rows.sort(key=lambda row: row[1])
    cut = min(cut, len(rows))
    data, last = bytes_of(rows)
    before, middle = bytes_of(rows[:cut])

    every, end = unpack(data)
    rest, same = unpack(data, len(before), middle)

    assert every == rows
    assert rest == rows[cut:]
    assert end == same == last
    assert unpack(data, most=cut)[0] == rows[:cut]


def test_an_event_by_hand() -> None:
    data, last = bytes_of([packed(Event("ann", "heat", 100.0, "purchase", 4.5), 300), (1, 101.5, "view") + (None,) * 4])

    # purchase = 4 and a value (0x40), 300 in sevens, 100 s, 18 quarters; view in ms (0x10), item 1, 1500 ms after 100 s
    assert data.hex(" ") == "44 ac 02 64 12 10 01 dc 0b"
    assert last == 101


@given(st.binary(max_size=40))
def test_damaged_bytes_are_an_error_or_events_but_never_a_hang(data: bytes) -> None:
    with suppress(*DAMAGED):
        found, _ = unpack(data)
        assert len(found) <= len(data)


@given(st.dictionaries(st.sampled_from(EVENT_KINDS), st.integers(1, 2**40)))
def test_counts_come_back(counts: dict[str, int]) -> None:
    assert unpack_counts(pack_counts(counts)) == counts


def test_kinds_without_a_name_here_are_counted_together() -> None:
    assert unpack_counts(pack_counts({"view": 1, "applause": 2, "other": 3})) == {"view": 1, "other": 5}


@pytest.mark.parametrize("events", [20, 50])
def test_an_ordinary_event_takes_eight_bytes(events: int) -> None:
    rows = [(n * 999 % 100_000 + 1, 1.7e9 + n * 86_400 + 0.123, "click") + (None,) * 4 for n in range(events)]

    data, _ = bytes_of(rows)

    assert len(data) / events < 9
