"""
Redis Streams as a source of events: a consumer group, so that several processes share one stream.

An entry has one field ``data`` with JSON as ``POST /v1/events`` takes it, or the fields of an event one by one. What
cannot be read goes to the stream ``NAME:dead``, with its reason and its id, in the same step that acknowledges it.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import msgspec

from tailwise.errors import ConfigError
from tailwise.state.connecting import Line, connect, label
from tailwise.state.ingest import Message

if TYPE_CHECKING:
    from redis import Redis

IDLE_S = 30.0
"""After which what another process took, and did not settle, is taken over, in seconds."""
WAIT_S = 1.0
"""How long to wait for new entries, in seconds."""
CALL_S = 5.0
NUMBERS = {"value": float, "propensity": float, "position": int}


class RedisStream:
    """
    One member of a consumer group on one stream; make one with ``RedisStream.open``.

    Args:
        line: To the server.
        name: Of the stream.
        group: Of the consumers that share it.
        idle_s: After which others' entries are taken over, in seconds.
    """

    def __init__(self, line: Line, name: str, group: str, idle_s: float) -> None:
        self.name = name
        self.group = group
        self._line = line
        self._idle_ms = int(idle_s * 1000)
        self._member = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._entries: dict[str, Mapping[bytes, bytes]] = {}  # as they came, to be put aside as they came

    @classmethod
    def open(cls, url: str, *, idle_s: float = IDLE_S, patient: bool = False) -> Self:
        """
        The stream at ``redis://USER:PASSWORD@HOST:PORT/DB/STREAM?group=NAME``; without ``DB`` that of number 0.

        Args:
            url: The address.
            idle_s: After which others' entries are taken over, in seconds.
            patient: Whether a server that is away now may come later.

        Raises:
            ConfigError: The address is none.
            UnavailableError: redis-py is not installed, or the server is not there or refuses us.
        """
        parts = urlsplit(url)
        database, _, name = parts.path.removeprefix("/").rpartition("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        group = query.pop("group", "tailwise")
        if parts.scheme not in {"redis", "rediss"} or not name or not (database or "0").isdecimal() or query:
            raise ConfigError(f"stream is {label(url)!r}, but it must be redis://HOST:PORT/DB/STREAM?group=NAME")
        server = urlunsplit(parts._replace(path=f"/{database or 0}", query=""))
        stream = cls(Line(f"Redis at {label(server)}", connect(server, CALL_S)), name, group, idle_s)
        if not patient:  # else with the first look
            stream._begin()
        return stream

    def take(self, most: int) -> list[Message]:
        """Entries that another member left behind, else new ones; none after a second."""
        found = self._line.call(lambda client: self._delivered(client, most))
        self._entries = {entry.decode(): fields for entry, fields in found if fields}
        return [self._message(entry, fields) for entry, fields in self._entries.items()]

    def settle(self, taken: Sequence[Message], refused: Mapping[str, str]) -> None:
        """Acknowledge; what was refused goes to ``NAME:dead`` in the same step."""

        def work(client: Redis) -> Any:
            pipe = client.pipeline(transaction=True)
            for message in taken:
                entry = message.id.rpartition(":")[2]
                if message.id in refused:
                    why = {b"id": entry.encode(), b"reason": refused[message.id].encode(errors="replace")}
                    pipe.xadd(f"{self.name}:dead", {**self._entries.get(entry, {}), **why})  # type: ignore[dict-item]  # bytes too
                pipe.xack(self.name, self.group, entry)
            return pipe.execute()

        if taken:
            self._line.call(work)

    def close(self) -> None:
        """Let go of the connection; what was taken and not settled goes to another member."""
        self._line.close()

    def _begin(self) -> None:
        """Make the group, and the stream, when they are not there: a group begins with the first entry."""
        from redis.exceptions import ResponseError

        def work(client: Redis) -> None:
            with suppress(ResponseError):  # it is there; if it is something else, reading says so
                client.xgroup_create(self.name, self.group, id="0", mkstream=True)

        self._line.call(work, again=True)

    def _delivered(self, client: Redis, most: int) -> list[tuple[bytes, Mapping[bytes, bytes]]]:
        """What others left behind, else what is new."""
        from redis.exceptions import ResponseError

        try:
            left: Any = client.xautoclaim(self.name, self.group, self._member, self._idle_ms, "0-0", count=most)
            if left[1]:
                return list(left[1])
            wait_ms = int(WAIT_S * 1000)
            fresh: Any = client.xreadgroup(self.group, self._member, {self.name: ">"}, count=most, block=wait_ms)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._begin()  # the server lost everything, as one without persistence does when it starts again
            return []
        return [entry for _, entries in fresh or () for entry in entries]

    def _message(self, entry: str, fields: Mapping[bytes, bytes]) -> Message:
        milliseconds, _, _ = entry.partition("-")
        return Message(f"{self.name}:{entry}", body_of(fields), int(milliseconds) / 1000)


def body_of(fields: Mapping[bytes, bytes]) -> bytes:
    """
    An entry as JSON; what is no number where one belongs stays text, for who reads it to refuse.

    >>> body_of({b"user_id": b"u1", b"item_id": b"i1", b"value": b"4.5"})
    b'{"user_id":"u1","item_id":"i1","value":4.5}'
    """
    if b"data" in fields:
        return fields[b"data"]
    said: dict[str, Any] = {}
    for name, value in fields.items():
        text = value.decode(errors="surrogateescape")
        key = name.decode(errors="replace")
        said[key] = text
        with suppress(ValueError):
            if key in NUMBERS:
                said[key] = NUMBERS[key](text)
            elif key == "time":
                said[key] = float(text)
    try:
        return msgspec.json.encode(said)
    except UnicodeEncodeError:  # no text: JSON has no way to say it
        return b"\xff"
