"""
Group commit: writers of a file who come at the same time share one transaction, and one fsync.

    write ─┐                     ┌─ one transaction, one fsync ─▶ FILE
    write ─┼─▶ queue ─▶ leader ──┤
    write ─┘                     └─▶ everyone in it returns

An fsync costs milliseconds and an insert microseconds: whoever finds nobody writing leads, and commits for all who came
meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition
from typing import Any, TypeVar

from tailwise.errors import DataError, TailwiseError, UnavailableError
from tailwise.state.tables import Writer

T = TypeVar("T")

BUSY_S = 5.0
"""How long another process may hold the file before we give up, in seconds."""
UNSTORABLE = (sqlite3.IntegrityError, sqlite3.ProgrammingError, OverflowError, UnicodeError)
"""What SQLite raises when a value is at fault, not the file."""
REMEDIES = {
    sqlite3.SQLITE_FULL: "nothing was stored: free some space and try again",
    sqlite3.SQLITE_IOERR: "nothing was stored: free some space or look at the disk, and try again",
    sqlite3.SQLITE_BUSY: f"another process held it for {BUSY_S:g} s: try again",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable, or name another path",
    sqlite3.SQLITE_CANTOPEN: "its folder must exist and be writable, or name another path",
    sqlite3.SQLITE_NOTADB: "it is no state file or is damaged: move it away, then restore a copy or start afresh",
    sqlite3.SQLITE_CORRUPT: "it is damaged: move it away, then restore a copy or start afresh",
}


@dataclass(slots=True)
class _Write:
    """Work that waits for a commit. It has failed until the commit says otherwise."""

    work: Callable[[Writer], Any]
    result: Any = None
    error: TailwiseError | None = field(default_factory=lambda: UnavailableError("the write was interrupted"))
    done: bool = False


class Commits:
    """
    The one who writes to a file, for all threads of a process.

    Args:
        path: Of the file, for messages.
        connection: Used by nobody else; closed with this.
        writer: What works on it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, writer: Writer) -> None:
        self.path = path
        self.connection = connection
        self.closed = False
        self.damaged = False  # whether who is not found in the file may have been lost
        self._writer = writer
        self._queue: list[_Write] = []
        self._turn = Condition()
        self._leading = False

    def write(self, work: Callable[[Writer], T]) -> T:
        """
        Wait for the commit that holds ``work``: of another thread, or one that we lead for all who wait.

        Raises:
            DataError: A value cannot be stored; nothing of ``work`` was.
            UnavailableError: The disk is full, or the file is locked or damaged; nothing of ``work`` was stored.
        """
        mine = _Write(work)
        with self._turn:
            self.check_open()
            self._queue.append(mine)
            self._turn.wait_for(lambda: mine.done or not self._leading)
            batch: list[_Write] = []
            if not mine.done:
                self.check_open()
                self._leading = True
                batch, self._queue = self._queue, batch
        if batch:
            try:
                self._commit(batch)
            finally:
                with self._turn:
                    self._leading = False
                    for write in batch:
                        write.done = True
                    self._turn.notify_all()
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[no-any-return]  # what work returned

    def close(self) -> None:
        """Let running writes end, then release the file; closing twice does no harm."""
        with self._turn:
            self._turn.wait_for(lambda: not self._leading)
            self.closed = True
            self._turn.notify_all()  # whoever still waits is told
            self.connection.close()

    def check_open(self) -> None:
        """
        Refuse to go on after ``close``.

        Raises:
            UnavailableError: It was closed.
        """
        if self.closed:
            raise UnavailableError(f"{self.path} is closed; open the store again")

    def _commit(self, batch: list[_Write]) -> None:
        """All in one transaction; when one is at fault each on its own, so that it harms nobody else's."""
        try:
            with self.connection:  # commits at the end, rolls back on any error
                self.connection.execute("BEGIN IMMEDIATE")
                self._writer.begin()
                results = [write.work(self._writer) for write in batch]
                self._writer.finish()
        except (TailwiseError, sqlite3.Error, *UNSTORABLE) as error:
            self._writer.forget()
            if len(batch) > 1 and _is_of_one(error):
                for write in batch:
                    self._commit([write])
                return
            for write in batch:
                write.error = self._told(error)
        except BaseException:
            self._writer.forget()  # what it holds in memory did not happen either
            raise
        else:
            for write, result in zip(batch, results, strict=True):
                write.result, write.error = result, None

    def _told(self, error: Exception) -> TailwiseError:
        if isinstance(error, TailwiseError):
            return error
        if isinstance(error, sqlite3.Error) and not isinstance(error, UNSTORABLE):
            self.damaged |= is_damage(error)
            return explained(self.path, error)
        return DataError(f"an event cannot be stored: {error}")


def _is_of_one(error: Exception) -> bool:
    """Whether one of several writes is at fault: its values, or the page that its person stands on."""
    return not isinstance(error, sqlite3.Error) or isinstance(error, UNSTORABLE) or is_damage(error)


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """SQLite's errors as ours, with the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(path, error) from error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is not as SQLite wrote it."""
    return (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF) == sqlite3.SQLITE_CORRUPT


def explained(path: Path, error: sqlite3.Error) -> UnavailableError:
    """What SQLite says of a file, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest says how, not what
    return UnavailableError(f"{path}: {error}; {REMEDIES.get(code, 'see the log of the operating system')}")
