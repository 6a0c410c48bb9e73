"""A store from its address, as ``tailwise serve --state URL`` takes it."""

from __future__ import annotations

from pathlib import Path

from tailwise.errors import ConfigError, UnavailableError
from tailwise.state.memory import MemoryStore
from tailwise.state.sqlite import SqliteStore
from tailwise.types import StateStore

FORMS = "memory://, sqlite:///relative/path or sqlite:////absolute/path"


def open_store(url: str) -> StateStore:
    """
    The store that ``url`` names; the path stands as it is, without percent codes.

    Raises:
        ConfigError: Not one of the known forms.
        ArtifactError: The file was written by a newer version, or is a database of something else.
        UnavailableError: The file cannot be opened or written, or the store is not in this release.

    >>> open_store("memory://").history("ann", 10)
    []
    """
    scheme, _, rest = url.partition("://")
    if url == "memory://":
        return MemoryStore()
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return SqliteStore(Path(rest[1:]))
    if scheme == "redis":
        raise UnavailableError(f"state in Redis comes with the ops extra of a later release; for now give {FORMS}")
    raise ConfigError(f"state is {url!r}, but it must be {FORMS}")
