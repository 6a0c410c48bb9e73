"""
A Redis server as this project meets it: short budgets, no waiting on one that is dead, errors that say what to do.

    call ─▶ Line ─▶ server
             └─ failed: for the next second every call fails at once, then one may try again
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from tailwise.errors import ConfigError, UnavailableError
from tailwise.state.store import BOUNDS

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")

log = logging.getLogger(__name__)

READ_S = 0.1
"""How long a read may take, in seconds: an answer does not wait longer for what is known of a person."""
WRITE_S = 5.0
"""How long a write may take; the caller is told that it may send the events again."""
PAUSE_S = 1.0
"""After a failure, how long calls fail at once."""
REMEDIES = (
    ("> 'maxmemory'", "its memory is full and nothing was stored: raise maxmemory, or keep less: most=, keep_days="),
    ("MISCONF ", "it cannot write to its disk and nothing was stored: free some space there"),
    ("loading the dataset", "it has just started and reads its files: try again in a moment"),
    ("read only replica", "it is a replica: give the address of the primary"),
    ("Authentication required", "give a password: redis://USER:PASSWORD@HOST:PORT/DB"),
    ("invalid username-password", "user or password is wrong"),
    ("no permissions", "its user may not run what is needed: allow it the keys of the prefix, and scripting"),
)
"""What is in the server's own errors, and what to do."""


def connect(url: str, timeout_s: float) -> Redis:
    """
    A client of a server; no connection is made yet, and none is ever tried again behind the caller's back.

    Raises:
        UnavailableError: redis-py is not installed.
        ConfigError: The address is none.
    """
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ModuleNotFoundError as error:
        raise UnavailableError("state in Redis needs redis-py: pip install 'tailwise[ops]'") from error
    try:
        client: Redis = Redis.from_url(
            server_of(url),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            decode_responses=False,
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(f"state is {label(url)!r}, but it must be redis://USER:PASSWORD@HOST:PORT/DB") from error
    return client


def server_of(url: str) -> str:
    """
    The address without what is ours in its query.

    >>> server_of("redis://cache:6379/0?most=200&prefix=shop")
    'redis://cache:6379/0'
    """
    parts = urlsplit(url)
    theirs = [(name, value) for name, value in parse_qsl(parts.query) if name not in {*BOUNDS, "prefix"}]
    return urlunsplit(parts._replace(query=urlencode(theirs)))


def ours_of(url: str) -> tuple[str, str]:
    """
    The prefix of our keys, and the query of our bounds; ``db`` and ``ssl_…`` are the client's.

    >>> ours_of("redis://cache:6379/0?most=200&prefix=shop&ssl_ca_certs=ca.pem")
    ('shop', 'most=200')
    """
    query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    prefix = next((value for name, value in query if name == "prefix"), "tailwise")
    rest = [(name, value) for name, value in query if name not in {"prefix", "db"} and not name.startswith("ssl_")]
    return prefix, urlencode(rest)


def label(url: str) -> str:
    """
    The address as it may be shown: no user, no password, no query.

    >>> label("rediss://ann:secret@cache:6380/2?most=5")
    'rediss://cache:6380/2'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Line:
    """
    Calls to one server within a budget.

    Args:
        name: Of the server, for messages.
        client: With its timeout.
    """

    def __init__(self, name: str, client: Redis) -> None:
        self.name = name
        self.client = client
        self._closed = False
        self._failed = 0.0
        self._why = ""

    def call(self, work: Callable[[Redis], T], *, again: bool = False) -> T:
        """
        What ``work`` gives.

        Args:
            work: Talks to the server.
            again: Whether it may be done a second time at once, when the connection turns out to be a dead one.

        Raises:
            UnavailableError: The server is not there, too slow, full or refuses; says what to do.
        """
        from redis import exceptions

        if self._closed:
            raise UnavailableError(f"{self.name} is closed; open the store again")
        if time.monotonic() < self._failed + PAUSE_S:
            raise UnavailableError(f"{self._why}; trying again within {PAUSE_S:g} s")
        try:
            return work(self.client)
        except exceptions.TimeoutError as error:
            raise self._down("did not answer in time; what was sent may be sent again") from error
        except (exceptions.BusyLoadingError, exceptions.AuthenticationError, exceptions.ReadOnlyError) as error:
            raise self._refused(error) from error
        except exceptions.ConnectionError as error:
            if again:
                return self.call(work)
            raise self._down(f"cannot be reached ({_short(error)}); start it, or look at the address") from error
        except exceptions.RedisError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Let go of the connections."""
        self._closed = True
        self.client.close()

    def _down(self, what: str) -> UnavailableError:
        self._why, self._failed = f"{self.name} {what}", time.monotonic()
        return UnavailableError(self._why)

    def _refused(self, error: Exception) -> UnavailableError:
        text = _short(error)
        remedy = next((remedy for part, remedy in REMEDIES if part in text), "see its log")
        return UnavailableError(f"{self.name} says {text!r}; {remedy}")


def _short(error: Exception) -> str:
    return str(error).rstrip(".").partition("\n")[0][:120]


def durability(client: Redis) -> list[str]:
    """
    What a server may lose, by its settings; one that hides them, as hosted ones do, is said to hide them.

    Nothing but ``appendfsync always`` is trusted: ``WAITAOF`` has answered before the disk had the write (redis/redis
    pull request 13793; some releases of Redis from 7.4 on, Valkey 9.1).
    """
    from redis import exceptions

    try:
        found: dict[Any, Any] = {}
        for name in ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy"):
            found |= client.config_get(name)
    except exceptions.ResponseError:
        return ["does not show its settings: see with who runs it that appendfsync is always"]
    warnings = []
    if found["appendonly"] != "yes":
        warnings.append("loses events when it stops: set appendonly yes and appendfsync always")
    elif found["appendfsync"] != "always":
        span = "second" if found["appendfsync"] == "everysec" else "half minute"
        warnings.append(f"may lose the events of the last {span} when it stops: set appendfsync always")
    if found["maxmemory"] != "0" and found["maxmemory-policy"] != "noeviction":
        warnings.append(f"drops people when it is full ({found['maxmemory-policy']}): set maxmemory-policy noeviction")
    return warnings
