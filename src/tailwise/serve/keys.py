"""
API keys: a file that holds what is needed to know a key again, and nothing that opens the door.

    tailwise keys create ─▶ FILE (id, sha256, scopes, tenant, expiry, limits) ─▶ KeyRing ─▶ Caller
                        └─▶ tw_<id>_<secret>, shown once

A secret is 256 random bits, so that nobody can try them all: a fast hash keeps it as well as a slow one would.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import Field

from tailwise.config import Closed, settings_of
from tailwise.errors import ConfigError, UnavailableError

log = logging.getLogger(__name__)

ScopeName = Literal["read", "write", "admin"]
READ: ScopeName = "read"
WRITE: ScopeName = "write"
ADMIN: ScopeName = "admin"
PREFIX = "tw"
LOOK_EVERY_S = 1.0
"""How often the file is looked at, in seconds: a revoked key stops within this."""
NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""Of a tenant: what is safe as a folder, a label and a part of an address everywhere."""


class Limit(Closed):
    """What a caller may ask for."""

    rate: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Requests a second in the long run; None does not limit them."""
    burst: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """Requests at once after a pause; None takes those of a second, at least one."""
    daily: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Requests a day (UTC); None does not count them."""

    @property
    def most(self) -> int:
        """Requests at once."""
        return self.burst if self.burst is not None else max(1, int(self.rate or 1))


NO_LIMIT = Limit()


class Key(Limit):
    """One key as the file keeps it."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    """In front of the secret; no secret itself, so that logs may name it."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the secret, in hexadecimal digits."""
    name: Annotated[str, Field(max_length=80)] = ""
    """What people call it."""
    scopes: Annotated[tuple[ScopeName, ...], Field(min_length=1)]
    """What it may do; none includes another."""
    tenant: Annotated[str, Field(pattern=f"{NAME}|^$")] = ""
    """Whose people and items it reaches; empty where a service has one model."""
    created: float
    """Seconds since epoch, UTC."""
    expires: float | None = None
    """Seconds since epoch, UTC; from then on it opens nothing. None: never."""


class KeyFile(Closed):
    """Every key."""

    key: tuple[Key, ...] = ()
    """In the order in which they were made."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as the service needs to know."""

    name: str
    """The id of the key, or what a token says of its subject; never a secret."""
    tenant: str = ""
    scopes: frozenset[str] = frozenset()
    limit: Limit = NO_LIMIT
    expires: float = float("inf")


def read_keys(path: Path) -> KeyFile:
    """
    The keys of a file.

    Raises:
        UnavailableError: It cannot be read.
        ConfigError: It is not TOML, or not of the form; two keys have one id.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnavailableError(
            f"{path} cannot be read: {error.strerror}; make it with: tailwise keys create"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    found = settings_of(KeyFile, raw, where=str(path))
    twice = {key.id for key in found.key if sum(key.id == other.id for other in found.key) > 1}
    if twice:
        raise ConfigError(f"{path}: two keys have the id {min(twice)!r}; delete one of them")
    return found


def create_key(path: Path, *, now: float, **fields: object) -> tuple[Key, str]:
    """
    Add a key to a file, which is made when it is missing.

    Args:
        path: Of the file.
        now: Seconds since epoch.
        fields: Those of ``Key`` that are to be chosen.

    Returns:
        The key as stored, and the secret, which is nowhere else.

    Raises:
        ConfigError: A field is wrong, or the file is.
    """
    secret = secrets.token_urlsafe(32)
    with _changing(path) as keys:
        digest = hashlib.sha256(secret.encode()).hexdigest()
        raw = {"id": secrets.token_hex(4), "sha256": digest, "created": now, **fields}
        key = settings_of(Key, raw, where="the key")
        keys.append(key)
    return key, f"{PREFIX}_{key.id}_{secret}"


def revoke_key(path: Path, key_id: str, *, now: float) -> Key:
    """
    Let a key expire at once; it stays in the file, so that people see what it was.

    Raises:
        ConfigError: No key has this id.
    """
    with _changing(path) as keys:
        return _replace(path, keys, key_id, expires=now)


def rotate_key(path: Path, key_id: str, *, now: float, grace: float) -> tuple[Key, str]:
    """
    A new key that may do what the old one may; the old one goes on for ``grace`` seconds, so that nobody is locked out.

    Raises:
        ConfigError: No key has this id, or it has expired.
    """
    old = next((key for key in read_keys(path).key if key.id == key_id), None)
    if old is not None and old.expires is not None and old.expires <= now:
        raise ConfigError(f"key {key_id!r} has expired; make a new one with: tailwise keys create")
    with _changing(path) as keys:
        ends = now + grace if old is None or old.expires is None else min(old.expires, now + grace)
        old = _replace(path, keys, key_id, expires=ends)
    kept = old.model_dump(include={"name", "scopes", "tenant", "rate", "burst", "daily"}, exclude_none=True)
    return create_key(path, now=now, **kept)


class KeyRing:
    """
    The keys of a file, read again when the file changes.

    A file that cannot be read any more, or is no key file, changes nothing and is logged: a slip of an editor must
    not lock everybody out. The command replaces it in one step, so that it is never half there.

    Cost: ``find`` some 2 µs; one ``stat`` a second.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._mark, self._next_look = self._seen(), clock() + LOOK_EVERY_S
        self._known = self._load()
        if path.stat().st_mode & 0o077:
            log.warning("%s can be read by other accounts of this machine: chmod 600 it", path)

    def find(self, token: str, now: float) -> Caller | None:
        """Whose key this is; None when it is nobody's, or has expired."""
        if self._clock() >= self._next_look:
            self._look()
        parts = token.split("_", 2)
        if len(parts) != 3 or parts[0] != PREFIX:
            return None
        known = self._known.get(parts[1])
        if known is None:
            return None
        digest, caller = known
        if not hmac.compare_digest(hashlib.sha256(parts[2].encode("utf-8", "surrogatepass")).digest(), digest):
            return None
        return caller if now < caller.expires else None

    def _look(self) -> None:
        self._next_look = self._clock() + LOOK_EVERY_S
        try:
            mark = self._seen()
            if mark != self._mark:
                self._known, self._mark = self._load(), mark
                log.warning("%s was read again: %d keys", self._path, len(self._known))
        except (OSError, ConfigError, UnavailableError) as error:
            log.error("the keys stay as they were: %s", error)  # noqa: TRY400  one line: the cause is in it

    def _seen(self) -> tuple[int, int, int] | None:
        """What changes when somebody writes the file."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise UnavailableError(f"{self._path} cannot be read: {error.strerror}") from error
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _load(self) -> dict[str, tuple[bytes, Caller]]:
        return {key.id: (bytes.fromhex(key.sha256), _caller(key)) for key in read_keys(self._path).key}


def _caller(key: Key) -> Caller:
    limit = Limit(rate=key.rate, burst=key.burst, daily=key.daily)
    return Caller(
        key.id, key.tenant, frozenset(key.scopes), limit, float("inf") if key.expires is None else key.expires
    )


def _replace(path: Path, keys: list[Key], key_id: str, *, expires: float) -> Key:
    for place, key in enumerate(keys):
        if key.id == key_id:
            keys[place] = key.model_copy(update={"expires": expires})
            return keys[place]
    raise ConfigError(f"{path} has no key {key_id!r}; see: tailwise keys list --keys {path}")


@contextmanager
def _changing(path: Path) -> Iterator[list[Key]]:
    """The keys to change; written in one step at the end, for the owner alone, while nobody else changes them."""
    try:
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = list(read_keys(path).key) if path.exists() else []
            yield keys
            fresh = path.with_name(f".{path.name}.new")
            fresh.unlink(missing_ok=True)
            raw = {"key": [key.model_dump(exclude_none=True, exclude_defaults=True) for key in keys]}
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(tomli_w.dumps(raw))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written: {error.strerror}") from error
