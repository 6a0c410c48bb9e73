"""A store from its address, as ``tailwise serve --state URL`` takes it."""

from __future__ import annotations

import re
from pathlib import Path

from tailwise.errors import ConfigError
from tailwise.state.memory import MemoryStore
from tailwise.state.sqlite import SqliteStore
from tailwise.state.store import Bounds, StateStore

FORMS = "memory://, sqlite:///relative/path, sqlite:////absolute/path or redis://HOST:PORT/DB"
REDIS = ("redis", "rediss", "unix")


def open_store(url: str, *, patient: bool = False) -> StateStore:
    """
    The store that ``url`` names; the path of a file stands as it is, without percent codes. Its query holds ``Bounds``.

    Args:
        url: The address.
        patient: Whether a Redis that is away now may come later.

    Raises:
        ConfigError: Not one of the known forms, or a bound is unknown or out of range.
        ArtifactError: The file was written by a newer version, or is a database of something else.
        UnavailableError: The file cannot be opened or written, or Redis is not there or refuses us.

    >>> open_store("memory://?most=3").history("ann", 10)
    []
    """
    address, mark, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    if scheme in REDIS and rest:
        from tailwise.state.redis import RedisStore

        return RedisStore.open(url, patient=patient)
    bounds = Bounds.of(query) if mark else Bounds()
    if address == "memory://":
        return MemoryStore(bounds)
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return SqliteStore(Path(rest[1:]), bounds)
    raise ConfigError(f"state is {without_password(url)!r}, but it must be {FORMS}")


def without_password(url: str) -> str:
    """
    An address as it may be shown.

    >>> without_password("redis://ann:secret@cache:6379/0")
    'redis://***@cache:6379/0'
    """
    return re.sub(r"//.*@", "//***@", url)
