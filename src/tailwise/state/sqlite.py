"""
The durable store: one SQLite file, shared by the threads and processes of one machine.

    append, erase ─▶ Commits ─▶ Writer ─▶ FILE ─▶ person, history, on connections of their own

Write-ahead logging lets readers go on beside the writer. ``commits`` shares transactions, ``tables`` says what stands
in the file, ``packing`` how events become bytes.
"""

from __future__ import annotations

import logging
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tailwise.errors import ArtifactError, UnavailableError
from tailwise.state import segments
from tailwise.state.commits import BUSY_S, Commits, explaining, is_damage
from tailwise.state.migrate import prepare
from tailwise.state.packing import DAMAGED, check_storable, unpack, unpack_counts, unpacked
from tailwise.state.store import Bounds, Clock, Erasure, Person, Segment, hash_of
from tailwise.state.tables import Row, Writer
from tailwise.types import Event

log = logging.getLogger(__name__)

MOST_CACHED = 50_000
"""Events kept in memory, some 15 MB; beyond it the cache starts afresh."""
LOG_PAGES = 4000
"""Of the write-ahead log, 16 MB: the pages of busy people are written to the file once for many changes."""
PERSON = """SELECT kept, last, counts, crc, events, people.version, erased.version FROM (SELECT 1)
    LEFT JOIN people ON user_id = ? LEFT JOIN erased ON person = ?"""


class SqliteStore:
    """
    Events in one file; what ``append`` acknowledged is there after ``kill -9``, and after a power cut.

    Args:
        path: Of the file, made when it is missing; its folder must exist. Two more files appear beside it while open.
        bounds: How much is kept.

    Raises:
        ArtifactError: A newer version wrote the file, or it is a database of something else.
        UnavailableError: It cannot be opened or written; the message says what to do. So says every method.

    Cost: ``history`` of 50 events some 0.02 ms warm and 0.1 ms cold, never waiting for a writer; ``append`` one fsync,
    shared by all that wait. A file of an older version is brought up to date, some 10 s for a million events.
    """

    def __init__(self, path: Path, bounds: Bounds = Bounds()) -> None:  # noqa: B008  frozen
        self.path = path.absolute()
        self.bounds = bounds
        self._clock = Clock()
        self._cache: dict[str, tuple[bytes, int, list[Event]]] = {}  # by person: bytes, last, what they say
        self._cached = 0
        self._names: dict[int, str] = {}  # of items; a number is never given twice
        self._idle: list[sqlite3.Connection] = []  # for reading; list.pop and append are atomic
        with explaining(self.path):
            connection = self._connect()
            try:
                writer = Writer(connection, bounds, self._clock)
                prepare(self.path, connection, writer)
            except (ArtifactError, sqlite3.Error):
                connection.close()
                raise
        self._commits = Commits(self.path, connection, writer)

    def append(self, events: Sequence[Event]) -> int:
        """
        Store events, ignoring known ``event_id``s; the number that were new. Durable when it returns.

        Raises:
            DataError: A value cannot be stored (a time that is not a number, say); none of ``events`` was.
            UnavailableError: The disk is full, or the file is locked or damaged; none of ``events`` was stored.
        """
        check_storable(events)
        return self._commits.write(lambda writer: writer.append(events)) if events else 0

    def person(self, user_id: str, limit: int) -> Person:
        """What is kept of a person, with the newest ``limit`` events by (time, arrival)."""
        key = (user_id, hash_of(user_id))
        with self._reading() as connection:
            *columns, version, erased = connection.execute(PERSON, key).fetchone()
            if version is None:
                self._cache.pop(user_id, None)
                if self._commits.damaged and erased is None:
                    raise UnavailableError(
                        f"{self.path} is damaged and may have lost person {hash_of(user_id)[:8]} (the hash of the id); "
                        "restore a copy"
                    )
                return Person([], erased or 0, {}, erased is not None)
            row = Row(*columns)
            events = self._events(connection, user_id, row)
        oldest = bisect_left(events, self._clock.cutoff(self.bounds.keep_days), key=lambda event: event.time)
        start = max(oldest, len(events) - max(min(limit, self.bounds.most), 0))
        return Person(events[start:], version, unpack_counts(row.counts), erased is not None)

    def history(self, user_id: str, limit: int) -> list[Event]:
        """The newest ``limit`` events of a person by (time, arrival), oldest first."""
        return self.person(user_id, limit).events

    def erase(self, user_id: str) -> int:
        """
        Delete a person's events, overwriting them, and keep a hash of the id; the number of events that went.

        Items that nobody else had go too. Copies in the write-ahead log are overwritten, unless another process is just
        reading them.
        """
        gone = self._commits.write(lambda writer: writer.erase(user_id))
        self._cache.clear()
        self._cached = 0
        with self._reading() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def erased(self, user_id: str) -> bool:
        """Whether the person was ever erased from this file."""
        with self._reading() as connection:
            return bool(connection.execute("SELECT 1 FROM erased WHERE person = ?", (hash_of(user_id),)).fetchall())

    def sweep(self) -> int:
        """
        Look the file over for damage, then drop what is older than ``keep_days``, 500 people at a time.

        A key that the disk changed leads nowhere, so that its person would be a stranger without a word: once there is
        any damage, who is not found is told as damaged. Cost: 0.3 s for a million people, beside other threads.

        Returns:
            The number of events that went.
        """
        self._look_over()
        total, after = 0, "" if self.bounds.keep_days is not None else None
        while after is not None:
            gone, after = self._commits.write(partial(Writer.sweep, after=after))
            total += gone
        return total

    def size(self) -> int:
        """Events kept, of everybody."""
        with self._reading() as connection:
            return int(connection.execute("SELECT events FROM state").fetchone()[0])

    def keep_journal(self, after: int = 0) -> None:
        """From now on, and for good, hold every new event until it is settled; segments go on ``after`` a number."""
        with self._reading() as connection:
            journal, segment = connection.execute("SELECT journal, segment FROM state").fetchone()
        if not journal or segment < after:
            self._commits.write(partial(segments.keep_journal, after=after))

    def waiting(self) -> int:
        """Events that the journal holds."""
        with self._reading() as connection:
            return int(connection.execute("SELECT total(size) FROM journal").fetchone()[0])

    def claim(self, token: str, most: int) -> Segment | None:
        """The segment that is not settled yet, else a new one; None when nothing waits."""
        return self._commits.write(partial(segments.claim, token=token, most=most))

    def settle(self, name: str) -> None:
        """Let go of the events of a segment whose file is there for good."""
        self._commits.write(partial(segments.settle, name=name))

    def erasures(self) -> list[Erasure]:
        """Those that the log has not followed yet."""
        with self._reading() as connection:
            rows = connection.execute("SELECT person, segment FROM erased WHERE segment IS NOT NULL").fetchall()
        return [Erasure(*row) for row in rows]

    def followed(self, erasures: Sequence[Erasure]) -> None:
        """The log no longer holds these people's earlier events."""
        self._commits.write(partial(segments.followed, erasures=erasures))

    def close(self) -> None:
        """Let running writes end, then release the file; closing twice does no harm."""
        self._commits.close()
        while self._idle:
            self._idle.pop().close()

    def _look_over(self) -> None:
        """Whether SQLite finds its file as it should be."""
        before = self._commits.damaged
        try:
            with self._reading() as connection:
                found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
                self._commits.damaged = found != "ok"
        except UnavailableError as error:
            found = str(error)
        if self._commits.damaged and not before:
            log.warning(
                "%s is damaged (%s): who is not found there may have been lost; restore a copy", self.path, found
            )

    def _events(self, connection: sqlite3.Connection, user_id: str, row: Row) -> list[Event]:
        """The events of a row, oldest first; of what was read before only the end is read again."""
        known, last, events = self._cache.get(user_id, (b"", 0, []))
        if known == row.events:
            return events
        row.check(user_id)
        if not row.events.startswith(known):
            known, last, events = b"", 0, []
        try:
            fresh, last = unpack(row.events, len(known), last)
        except DAMAGED as error:
            raise UnavailableError(f"{self.path} holds bytes that no Tailwise wrote; restore a copy") from error
        unnamed = {row[0] for row in fresh} - self._names.keys()
        for number in unnamed:
            for (item_id,) in connection.execute("SELECT item_id FROM items WHERE number = ?", (number,)).fetchall():
                self._names[number] = item_id
        names = self._names
        # An item without a name: the person was erased between the two queries.
        events = events + [unpacked(each, user_id, names[each[0]]) for each in fresh if each[0] in names]
        self._remember(user_id, (row.events, last, events), len(fresh))
        return events

    def _remember(self, user_id: str, entry: tuple[bytes, int, list[Event]], fresh: int) -> None:
        if self._cached + fresh > MOST_CACHED:
            self._cache.clear()
            self._cached = 0
        if len(self._names) > MOST_CACHED:
            self._names = {}
        self._cache[user_id] = entry
        self._cached += fresh

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile: an idle one, or a new one."""
        self._commits.check_open()
        with explaining(self.path):
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            except sqlite3.Error as error:
                self._commits.damaged |= is_damage(error)
                raise
            finally:
                if self._commits.closed:
                    connection.close()
                else:
                    self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        return connection
