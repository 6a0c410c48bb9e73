"""
The event log: what the store acknowledged, as Parquet segments in a folder that ``tailwise fit`` reads as it is.

    store's journal ─▶ claim ─▶ .events-….parquet.new ─▶ events-….parquet ─▶ settle
                        └ durable, and names the file: after a crash the same events go to the same file, or are there

Every event is in exactly one segment. Segments are rewritten only to forget people.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import TYPE_CHECKING

from tailwise.errors import TailwiseError, UnavailableError
from tailwise.state.journal import segment_number, whole
from tailwise.state.store import Journal, hash_of
from tailwise.types import Event

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

SEGMENTS = "events-*.parquet"


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a segment is full."""

    events: int = 50_000
    """That begin a new one; a batch is never cut, so it may hold a few more."""
    seconds: float = 3600.0
    """Age at which one is written, however few events wait."""
    look_s: float = 1.0
    """How often somebody looks."""


class EventLog:
    """
    Writes the log of one store into one folder, in a thread of its own between ``start`` and ``stop``.

    Several processes may be given the same store and folder: one of them writes.

    Raises:
        UnavailableError: The folder cannot be made or written to.
    """

    def __init__(self, store: Journal, folder: Path, rotation: Rotation = Rotation(), *, patient: bool = False) -> None:
        self.folder = folder
        self._store = store
        self._rotation = rotation
        self._written = time.monotonic()
        self._begun = False  # a segment that the disk refused
        self._waits = False  # whether it was said that something keeps the log from being written
        self.behind = 0  # events that wait, as this process saw last; 0 where another one writes
        self._end = Signal()
        self._thread: Thread | None = None
        with _explaining(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".writing").touch()
            self._known = (0, 0)  # when the folder changed last, and the number of its newest segment then
            try:
                store.keep_journal(self._newest())
            except UnavailableError:
                if not patient:  # else at the first look; what such a store takes until then is marked for the log
                    raise

    def start(self) -> None:
        """Begin to write what waits, and go on."""
        self._thread = Thread(target=self._run, name="event-log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._safely(lambda: self.write(everything=True))

    def write(self, *, everything: bool = False) -> int:
        """
        Write the segments that are due, or ``everything`` that waits, and forget whom the store forgot.

        Returns:
            How many segments there are more; 0 also when another process is writing.

        Raises:
            UnavailableError: The folder cannot be written to, or the store is not there. Nothing is lost: what waits
                stays in the store.
        """
        count = 0
        with _alone(self.folder) as alone:
            self.behind = self._store.waiting() if alone else 0
            if not alone:
                return 0
            self._store.keep_journal(self._newest())  # a store that began again, empty, knows neither
            while self._due(everything=everything) and self._next():
                count += 1
            self.follow()
        return count

    def follow(self) -> int:
        """Rewrite the segments that hold people whom the store forgot since; how many of them there were."""
        erasures = self._store.erasures()
        if not erasures:
            return 0
        newest = {erasure.person: erasure.number for erasure in erasures}
        changed = 0
        with _explaining(self.folder):
            for path in sorted(self.folder.glob(SEGMENTS)):
                changed += _without(path, newest)
        self._store.followed(erasures)
        return changed

    def _newest(self) -> int:
        """The number of the newest segment in the folder; what is new gets a higher one, or erasing would miss it."""
        changed = self.folder.stat().st_mtime_ns
        if self._known[0] != changed:
            numbers = [segment_number(path.name) for path in self.folder.glob(SEGMENTS)]
            self._known = (changed, max(numbers, default=0))
        return self._known[1]

    def _due(self, *, everything: bool) -> bool:
        """Whether a segment should be written now."""
        if everything or self._begun:
            return True
        old = time.monotonic() - self._written >= self._rotation.seconds
        return self.behind >= self._rotation.events or (old and self.behind > 0)

    def _next(self) -> bool:
        """Write the next segment; False when nothing waits."""
        segment = self._store.claim(secrets.token_hex(4), self._rotation.events)
        self._begun = segment is not None
        if segment is None:
            return False
        path = self.folder / segment.name
        with _explaining(self.folder):
            if segment.events and not path.exists():
                _write(path, _frame(segment.events))
        self._store.settle(segment.name)
        self._begun, self._written, self.behind = False, time.monotonic(), self._store.waiting()
        return True

    def _run(self) -> None:
        self._safely(lambda: self.write(everything=True))  # what a crash left, and what waited meanwhile
        while not self._end.wait(self._rotation.look_s):
            self._safely(self.write)

    def _safely(self, work: Callable[[], int]) -> None:
        """A log that cannot be written harms nobody: events wait in the store, and we try again."""
        try:
            work()
        except TailwiseError as error:
            if not self._waits:  # once, and not every second for as long as a disk is full
                log.warning("event log waits: %s", error)
            self._waits = True
            with suppress(TailwiseError):
                self.behind = self._store.waiting()
        else:
            if self._waits:
                log.warning("event log goes on")
            self._waits = False


def _frame(events: Sequence[Event]) -> pl.DataFrame:
    """Events in the form of a data folder, in the order in which they were stored."""
    import polars as pl

    kinds = (pl.String, pl.String, pl.Float64, pl.String, pl.Float64, pl.String, pl.Int64, pl.Float64, pl.String)
    schema = dict(zip((field.name for field in fields(Event)), kinds, strict=True))
    return pl.DataFrame([whole(event) for event in events], schema=schema, orient="row")


def _write(path: Path, frame: pl.DataFrame) -> None:
    """A file that is there whole or not at all, after a power cut too."""
    import polars as pl

    fresh = path.with_name(f".{path.name}.new")
    try:
        frame.write_parquet(fresh)
        _sync(fresh)
        fresh.replace(path)
        _sync(path.parent)
    except pl.exceptions.PolarsError as error:  # polars wraps what the disk answers
        raise OSError(str(error)) from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def _without(path: Path, newest: Mapping[str, int]) -> bool:
    """Take people out of a segment, those whose erasure came after it; whether there were any in it."""
    import polars as pl

    number = segment_number(path.name)
    people = {person for person, last in newest.items() if last >= number}
    there = pl.read_parquet(path, columns=["user_id"])["user_id"].unique().to_list() if number and people else []
    gone = [user_id for user_id in there if hash_of(user_id) in people]
    if not gone:
        return False
    left = pl.read_parquet(path).filter(~pl.col("user_id").is_in(gone))
    if len(left):
        _write(path, left)
    else:
        path.unlink()
        _sync(path.parent)
    return True


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process writes into the folder; none begins meanwhile. A crash lets go."""
    with _explaining(folder), (folder / ".writing").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"event log {folder} cannot be written: {error.strerror or error}; events wait in the store: mend it, or "
            "name another folder"
        ) from error
