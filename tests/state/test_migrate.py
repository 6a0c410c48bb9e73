"""A state file of the first version becomes one of the second, and nothing that ranks is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tailwise.errors import UnavailableError
from tailwise.state.sqlite import SqliteStore
from tailwise.state.store import Bounds, hash_of
from tailwise.types import Event

FIRST = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT NOT NULL, item_id TEXT NOT NULL, time REAL NOT NULL, event TEXT NOT NULL, value REAL,
    request_id TEXT, position INTEGER, propensity REAL, event_id TEXT UNIQUE);
CREATE INDEX newest ON events (user_id, time, seq);
CREATE TABLE erased (person TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state.sqlite"
    with closing(sqlite3.connect(path)) as first:
        first.executescript(FIRST)
        rows = [("ann", f"i{n % 5}", 1e9 - n, "click", None, None, None, None, f"e{n}") for n in range(40)]
        rows += [("bob", "i1", 5.5, "rating", 4.5, "r1", 3, 0.25, None), ("bob", "i2", 5.5, "view", *[None] * 5)]
        first.executemany("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        first.execute("INSERT INTO erased VALUES (?, ?)", (hash_of("carl"), 7.0))
        first.commit()
    return path


def test_a_file_of_the_first_version_is_brought_up_to_date(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        ann, bob = store.history("ann", 100), store.history("bob", 100)
        again = store.append([Event("ann", "i1", 1.0, event_id="e7"), Event("ann", "new", 2e9, event_id="e99")])

        assert [event.time for event in ann] == [1e9 - n for n in reversed(range(40))]
        assert bob == [Event("bob", "i1", 5.5, "rating", 4.5, "r1", 3, 0.25), Event("bob", "i2", 5.5)]
        assert (store.erased("carl"), store.erased("ann")) == (True, False)
        assert again == 1
        assert store.size() == 43
    with closing(SqliteStore(path)) as store:
        assert len(store.history("ann", 100)) == 41


def test_only_the_newest_go_along(path: Path) -> None:
    with closing(SqliteStore(path, Bounds(most=10, ids=5))) as store:
        assert [event.time for event in store.history("ann", 100)] == [1e9 - n for n in reversed(range(10))]
        assert store.append([Event("x", "a", 1.0, event_id=f"e{n}") for n in (34, 35, 39)]) == 1  # e34 is forgotten


def test_a_file_that_cannot_be_read_is_left_as_it_was(path: Path) -> None:
    with closing(sqlite3.connect(path)) as first:
        first.execute("UPDATE events SET value = 'much' WHERE user_id = 'bob'")
        first.commit()

    with pytest.raises((UnavailableError, ValueError)):
        SqliteStore(path)

    with closing(sqlite3.connect(path)) as first:
        assert first.execute("SELECT count(*) FROM events").fetchone() == (42,)
        assert first.execute("PRAGMA user_version").fetchone() == (1,)
