"""State files as they are opened: new ones get their tables, older ones their new form, strange ones are left alone."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from tailwise.errors import ArtifactError
from tailwise.state.commits import BUSY_S
from tailwise.state.store import id_hash
from tailwise.state.tables import TABLES, Writer
from tailwise.types import Event

VERSION = 2
"""Of the tables, in ``PRAGMA user_version``. 1 had a row an event."""
AGAIN_S = 0.01
"""Between two tries for a file that somebody writes to, in seconds."""
FIRST = """SELECT user_id, item_id, time, event, value, request_id, position, propensity FROM first_events
    ORDER BY user_id, time, seq"""
IDS = "SELECT event_id FROM first_events WHERE event_id IS NOT NULL ORDER BY seq DESC LIMIT ?"


def prepare(path: Path, connection: sqlite3.Connection, writer: Writer) -> None:
    """
    Make the tables if the file is new, and bring an older one up to date; all or nothing.

    Raises:
        ArtifactError: A newer version wrote the file, or it is a database of something else; nothing in it was changed.
    """
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise ArtifactError(
                f"{path} has state of version {version}, but this Tailwise reads up to {VERSION}; "
                "upgrade tailwise, or name another path"
            )
        if version == 0:
            if connection.execute("SELECT 1 FROM sqlite_schema").fetchall():
                raise ArtifactError(f"{path} is a database of something else; name another path")
            for statement in TABLES:
                connection.execute(statement)
        if version == 1:
            _from_first(connection, writer)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    if version == 1:
        connection.execute("VACUUM")  # what the rows took goes back to the disk
    _write_ahead(connection)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """
    Turn the file to a write-ahead log, as patiently as anything else is done with it.

    Where somebody else is writing, as another store that has just opened the new file, SQLite refuses this at once.
    """
    until = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            kind = error.sqlite_errorcode & 0xFF  # what is above says more of it
            if kind != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(AGAIN_S)
        else:
            return


def _from_first(connection: sqlite3.Connection, writer: Writer) -> None:
    """Rows of events to one row a person; the newest event ids stay known, as hashes."""
    connection.execute("ALTER TABLE events RENAME TO first_events")
    connection.execute("ALTER TABLE erased RENAME TO first_erased")
    for statement in TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO erased SELECT person, time, 1, NULL FROM first_erased")
    writer.begin()
    writer.state.version = 1
    for _, rows in groupby(connection.execute(FIRST), key=itemgetter(0)):
        writer.append(list(_events(rows)))
    ids = connection.execute(IDS, (writer.bounds.ids,)).fetchall()
    for (event_id,) in reversed(ids):  # the oldest first
        writer.ids.add(id_hash(event_id))
    writer.finish()
    connection.execute("DROP TABLE first_events")
    connection.execute("DROP TABLE first_erased")


def _events(rows: Iterator[tuple[str, str, float, str, float, str, int, float]]) -> Iterator[Event]:
    for row in rows:
        yield Event(*row)
