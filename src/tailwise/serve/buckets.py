"""Token buckets that several workers share: in a SQLite file beside the state, or in the Redis that holds it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from tailwise.errors import UnavailableError
from tailwise.serve.keys import Limit
from tailwise.serve.limits import DAY_S, Buckets, MemoryBuckets, refill

WAIT_S = 0.5
"""How long the store may take; then each worker counts for itself, in seconds."""
TABLES = (
    "CREATE TABLE IF NOT EXISTS bucket (name TEXT PRIMARY KEY, arrival REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS quota (name TEXT, day INTEGER, used INTEGER NOT NULL, PRIMARY KEY (name, day))",
)
SET_ARRIVAL = "INSERT OR REPLACE INTO bucket VALUES (?, ?)"
SET_USED = "INSERT OR REPLACE INTO quota VALUES (?, ?, ?)"
# The same arithmetic as ``refill``, where nobody else can come between.
TAKE = """
local start = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[4]))
local rate, most, want, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local free = most - (start - now) * rate
local given = math.min(want, math.floor(free + 1e-9))
if given < 1 then return {0, tostring((1 - free) / rate)} end
local arrival = start + given / rate
redis.call('SET', KEYS[1], string.format('%.6f', arrival), 'EX', math.ceil(arrival - now) + 1)
return {given, tostring(arrival - now)}
"""
COUNT = """
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local given = math.max(math.min(tonumber(ARGV[2]), tonumber(ARGV[1]) - used), 0)
redis.call('SET', KEYS[1], used + given, 'EX', 2 * tonumber(ARGV[3]))
return {given, used + given}
"""


def open_buckets(state: str) -> Buckets:
    """
    Where limits are counted, for a state of this address: with it, so that whoever shares one shares the other.

    Raises:
        UnavailableError: The file cannot be made, or the package for Redis is missing.
    """
    scheme, _, rest = state.partition("://")
    if scheme == "sqlite":
        path = Path(rest.partition("?")[0].removeprefix("/").replace("{tenant}", "_all"))
        return SqliteBuckets(path.with_name(f"{path.name}.limits"))
    if scheme in {"redis", "rediss"}:
        return RedisBuckets(state)
    return MemoryBuckets()


class SqliteBuckets:
    """Buckets in a file of their own; it is not synced, since after a power cut nobody misses a count."""

    shared = True

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        with self._explaining():
            self._file = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = OFF")
            for table in TABLES:
                self._file.execute(table)

    def take(self, name: str, limit: Limit, want: int, now: float) -> tuple[int, float]:
        """As in ``Buckets``. Cost: some 50 µs."""
        with self._alone() as file:
            row = file.execute("SELECT arrival FROM bucket WHERE name = ?", (name,)).fetchone()
            arrival, given, wait = refill(row[0] if row else 0.0, limit, want, now)
            file.execute(SET_ARRIVAL, (name, arrival))
        return given, wait

    def count(self, name: str, daily: int, want: int, day: int) -> tuple[int, int]:
        """As in ``Buckets``; the first of a day forgets the days before."""
        with self._alone() as file:
            row = file.execute("SELECT used FROM quota WHERE name = ? AND day = ?", (name, day)).fetchone()
            if row is None:
                file.execute("DELETE FROM quota WHERE day < ?", (day,))
                file.execute("DELETE FROM bucket WHERE arrival < ?", (day * DAY_S,))
            used = row[0] if row else 0
            given = max(min(want, daily - used), 0)
            file.execute(SET_USED, (name, day, used + given))
        return given, used + given

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._file.close()

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """One transaction: no other thread, no other process."""
        with self._lock, self._explaining(), self._file:
            self._file.execute("BEGIN IMMEDIATE")
            yield self._file

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnavailableError(f"{self._path}: {error}; its folder must exist and be writable") from error


class RedisBuckets:
    """Buckets in Redis, beside the state; each step is one script, so that no other worker comes between."""

    shared = True

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ImportError as error:
            raise UnavailableError("limits in Redis need its package: pip install 'tailwise[ops]'") from error
        self._failure = redis.RedisError
        plain = url.partition("?")[0]
        self._redis: Any = redis.Redis.from_url(plain, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S)
        self._take, self._count = self._redis.register_script(TAKE), self._redis.register_script(COUNT)

    def take(self, name: str, limit: Limit, want: int, now: float) -> tuple[int, float]:
        """As in ``Buckets``. Cost: one round trip."""
        with self._explaining():
            given, wait = self._take(keys=[f"tailwise:bucket:{name}"], args=[limit.rate or 0, limit.most, want, now])
        return int(given), float(wait)

    def count(self, name: str, daily: int, want: int, day: int) -> tuple[int, int]:
        """As in ``Buckets``."""
        with self._explaining():
            given, used = self._count(keys=[f"tailwise:quota:{day}:{name}"], args=[daily, want, DAY_S])
        return int(given), int(used)

    def close(self) -> None:
        """Release the connections."""
        self._redis.close()

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except self._failure as error:
            raise UnavailableError(f"Redis does not count: {error}") from error
