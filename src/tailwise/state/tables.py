"""
What stands in a state file, and the work on it within one transaction: add, trim, forget.

    people    one row each: the newest events as bytes (``packing``), how many, of what kinds, a checksum
    items     numbers for item ids; ``owner`` is the one person who had the item, NULL from the second on
    ids       hashes of the newest event ids, a row a batch (``known``)
    erased    hashes of erased people
    journal   whole events that wait for the log, a row a batch
    state     one row of counters

A million people with 20 events each take some 0.2 GiB: rows of events would take ten times as much.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

from tailwise.errors import UnavailableError
from tailwise.state.journal import decode_batch, encode_batch
from tailwise.state.known import TABLE, KnownIds
from tailwise.state.packing import pack, pack_counts, packed, unpack, unpack_counts
from tailwise.state.store import Bounds, Clock, hash_of, id_hash
from tailwise.types import Event

TABLES = (
    """CREATE TABLE people (
        user_id TEXT PRIMARY KEY, kept INTEGER NOT NULL, last INTEGER NOT NULL, version INTEGER NOT NULL,
        counts BLOB NOT NULL, crc INTEGER NOT NULL, events BLOB NOT NULL) WITHOUT ROWID""",
    "CREATE TABLE items (number INTEGER PRIMARY KEY AUTOINCREMENT, item_id TEXT NOT NULL UNIQUE, owner TEXT)",
    TABLE,
    """CREATE TABLE erased (
        person TEXT PRIMARY KEY, time REAL NOT NULL, version INTEGER NOT NULL, segment INTEGER) WITHOUT ROWID""",
    "CREATE TABLE journal (number INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, events BLOB NOT NULL)",
    """CREATE TABLE state (
        version INTEGER, events INTEGER, gone INTEGER, journal INTEGER, segment INTEGER,
        claimed TEXT, until INTEGER)""",
    "INSERT INTO state VALUES (0, 0, 0, 0, 0, NULL, NULL)",
)
ROW = "SELECT kept, last, counts, crc, events FROM people WHERE user_id = ?"
SLICE = "SELECT user_id, kept, last, counts, crc, events FROM people WHERE user_id > ? ORDER BY user_id LIMIT 500"
MOST_NUMBERS = 200_000
"""Item numbers kept in memory, some 30 MB; beyond it they are looked up again."""


@dataclass(slots=True)
class Counters:
    """The row of ``state``."""

    version: int
    """Of the newest change, of anybody."""
    events: int
    """Kept, of everybody."""
    gone: int
    """How often numbers of items were given up, so that no process goes on with one."""
    journal: int
    """1 while a log is kept."""
    segment: int
    """The number of the newest segment of the log."""
    claimed: str | None
    """The segment that is not settled yet."""
    until: int | None
    """Its last row in ``journal``."""


@dataclass(slots=True)
class Row:
    """A person as stored."""

    kept: int = 0
    last: int = 0
    counts: bytes = b""
    crc: int = 0
    events: bytes = b""

    def check(self, user_id: str) -> None:
        """
        Refuse bytes that are not what was written: the disk or another program changed them.

        Raises:
            UnavailableError: names the person by the beginning of the hash of the id.
        """
        if self.kept and (type(self.events) is not bytes or checksum(user_id, self.events) != self.crc):
            raise UnavailableError(
                f"the state file is damaged: what it holds of person {hash_of(user_id)[:8]} (the hash of the id) was "
                "not written so; restore a copy, or erase that person"
            )


def checksum(user_id: str, events: bytes) -> int:
    """32 bits, signed so that SQLite stores them in four bytes."""
    return zlib.crc32(events, zlib.crc32(user_id.encode())) - 2**31


class Writer:
    """
    The work of one transaction after the other, on the one connection that writes.

    ``begin`` and ``finish`` stand around it; after a rollback, ``forget``.
    """

    def __init__(self, connection: sqlite3.Connection, bounds: Bounds, clock: Clock) -> None:
        self.run = connection.execute
        self.bounds = bounds
        self.clock = clock
        self._numbers: dict[str, tuple[int, str | None]] = {}  # item_id → number, owner
        self._gone = -1
        self.ids = KnownIds(self.run, bounds.ids)
        self.state = Counters(0, 0, 0, 0, 0, None, None)

    def begin(self) -> None:
        """Read the counters, which another process may have changed."""
        self.state = Counters(*self.run("SELECT * FROM state").fetchone())
        if self.state.gone != self._gone or len(self._numbers) > MOST_NUMBERS:
            self._numbers.clear()
        self._gone = self.state.gone
        self.ids.refresh()

    def finish(self) -> None:
        """Write the counters back."""
        self.ids.write()
        names = ", ".join(f"{field.name} = ?" for field in fields(Counters))
        self.run(f"UPDATE state SET {names}", astuple(self.state))  # noqa: S608  our own names
        self._gone = self.state.gone

    def forget(self) -> None:
        """Nothing of the last transaction happened."""
        self._numbers.clear()
        self.ids.forget()

    def append(self, events: Sequence[Event]) -> int:
        """Add events, ignoring known ids; the number that were new."""
        new = [event for event in events if event.event_id is None or self.ids.add(id_hash(event.event_id))]
        if not new:
            return 0
        self.state.version += 1
        people: dict[str, list[Event]] = {}
        for event in new:
            people.setdefault(event.user_id, []).append(event)
        for user_id, own in people.items():
            found = self.run(ROW, (user_id,)).fetchone()
            self._add(user_id, Row(*found) if found else Row(), own)
        if self.state.journal:
            self.run("INSERT INTO journal VALUES (NULL, ?, ?)", (len(new), encode_batch(new)))
        return len(new)

    def erase(self, user_id: str) -> int:
        """Delete a person's events, here and in the journal; the number of events that went."""
        self.state.version += 1
        found, kept = self.run(ROW, (user_id,)).fetchone(), 0
        if found:
            row = Row(*found)
            self.run("DELETE FROM people WHERE user_id = ?", (user_id,))
            kept = min(row.kept, self.bounds.most)
            self.state.events -= kept
            self._release_all(user_id, row)
        segment = self.state.segment if self.state.journal else None
        mark = (hash_of(user_id), time.time(), self.state.version, segment)
        self.run("INSERT OR REPLACE INTO erased VALUES (?, ?, ?, ?)", mark)
        for number, batch in self.run("SELECT number, events FROM journal").fetchall():
            events = decode_batch(batch)
            others = [event for event in events if event.user_id != user_id]
            if len(others) < len(events):
                self.run("UPDATE journal SET events = ? WHERE number = ?", (encode_batch(others), number))
        return kept

    def sweep(self, after: str) -> tuple[int, str | None]:
        """Drop what is too old of the next 500 people after ``after``: events that went, and the last of the people."""
        rows = self.run(SLICE, (after,)).fetchall()
        before = self.state.events
        for user_id, *columns in rows:
            row = Row(*columns)
            if self._too_old(row):
                self.state.version += 1
                self._add(user_id, row, [])
        return before - self.state.events, rows[-1][0] if rows else None

    def _add(self, user_id: str, row: Row, events: list[Event]) -> None:
        """A person's row with further events, and without what is too old or too much."""
        row.check(user_id)
        events.sort(key=lambda event: event.time)
        fresh = [packed(event, self._number(event.item_id, user_id)) for event in events]
        counts = unpack_counts(row.counts)
        for event in events:
            counts[event.event] = counts.get(event.event, 0) + 1
        most = self.bounds.most
        before, kept = min(row.kept, most), row.kept + len(fresh)
        in_order = not fresh or not row.kept or fresh[0][1] >= row.last + 1
        if in_order and fresh and kept <= most + most // 8 and not self._too_old(row):  # the usual case: add at the end
            data, last = bytearray(row.events), row.last
            for each in fresh:
                last = pack(data, each, last)
        else:
            every = [*unpack(row.events)[0], *fresh]
            every.sort(key=lambda each: each[1])  # stable: on equal times the first to come stays first
            cutoff = self.clock.cutoff(self.bounds.keep_days)
            left = [each for each in every if each[1] >= cutoff][-most:]
            self._release({each[0] for each in every} - {each[0] for each in left}, user_id)
            data, last, kept = bytearray(), 0, len(left)
            for each in left:
                last = pack(data, each, last)
        self.state.events += min(kept, most) - before
        if not kept:
            self.run("DELETE FROM people WHERE user_id = ?", (user_id,))
            return
        whole = bytes(data)
        columns = (kept, last, self.state.version, pack_counts(counts), checksum(user_id, whole), whole)
        self.run("INSERT OR REPLACE INTO people VALUES (?, ?, ?, ?, ?, ?, ?)", (user_id, *columns))

    def _too_old(self, row: Row) -> bool:
        """Whether the oldest event of a person is past its time."""
        if self.bounds.keep_days is None or not row.events:
            return False
        return unpack(row.events, most=1)[0][0][1] < self.clock.cutoff(self.bounds.keep_days)

    def _number(self, item_id: str, user_id: str) -> int:
        """The number of an item, a new one when it has none; noting when a second person has it."""
        known = self._numbers.get(item_id)
        if known is None:
            known = self.run("SELECT number, owner FROM items WHERE item_id = ?", (item_id,)).fetchone()
        if known is None:
            number = self.run("INSERT INTO items VALUES (NULL, ?, ?)", (item_id, user_id)).lastrowid
            known = (number or 0, user_id)
        elif known[1] is not None and known[1] != user_id:
            self.run("UPDATE items SET owner = NULL WHERE number = ?", (known[0],))
            known = (known[0], None)
        self._numbers[item_id] = known
        return known[0]

    def _release_all(self, user_id: str, row: Row) -> None:
        try:
            row.check(user_id)
            self._release({each[0] for each in unpack(row.events)[0]}, user_id)
        except UnavailableError:  # damaged: a scan finds what is theirs
            self.run("DELETE FROM items WHERE owner = ?", (user_id,))
            self.state.gone += 1
            self._numbers.clear()

    def _release(self, numbers: Iterable[int], owner: str) -> None:
        """Give up the items that only this person had."""
        for number in numbers:
            gone = "DELETE FROM items WHERE number = ? AND owner = ? RETURNING item_id"
            for (item_id,) in self.run(gone, (number, owner)).fetchall():
                self._numbers.pop(item_id, None)
                self.state.gone += 1
