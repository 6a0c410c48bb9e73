"""
The shared store: one Redis server for many machines.

A write is one script, so all or none of it happens; a read is one too, so it sees one moment; each is one round trip.
How durable an acknowledged event is, the server's settings say: with ``appendfsync always`` it survives everything;
otherwise opening the store warns.
"""

from __future__ import annotations

import logging
import secrets
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import msgspec

from tailwise.errors import UnavailableError
from tailwise.state import scripts
from tailwise.state.connecting import READ_S, WRITE_S, Line, connect, durability, label, ours_of
from tailwise.state.packing import check_storable
from tailwise.state.store import DAY_S, Bounds, Clock, Erasure, Person, Segment, hash_of, id_hash
from tailwise.types import Event

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str, float | None, str | None, int | None, float | None]).decode
SEQ = 8
"""Bytes before an event that say when it came, so that events of one time keep their order."""


class RedisStore:
    """
    Events in a Redis server (6.2 or newer, no cluster), shared by all who give the same address and prefix.

    Make one with ``RedisStore.open``; the password in an address is never shown.

    Cost: ``person`` one round trip, within 0.1 s or UnavailableError; ``append`` one round trip and the server's fsync.
    """

    def __init__(self, reads: Line, writes: Line, prefix: str, bounds: Bounds) -> None:
        self.bounds = bounds
        self.prefix = f"{prefix}:"
        self._reads = reads
        self._writes = writes
        self._clock = Clock()
        self._log = ""  # "1" from when a log is kept here

    @classmethod
    def open(cls, url: str, *, patient: bool = False) -> Self:
        """
        The store at ``redis://USER:PASSWORD@HOST:PORT/DB``, ``rediss://…`` (TLS) or ``unix://PATH?db=0``.

        The query may hold ``Bounds``, ``prefix`` (of all keys; default ``tailwise``) and the client's ``ssl_…``.

        Args:
            url: The address.
            patient: Whether a server that is away now may come later; it is logged.

        Raises:
            ConfigError: The address or its query is wrong.
            UnavailableError: redis-py is not installed, or the server is not there or refuses us.
        """
        prefix, query = ours_of(url)
        lines = [Line(f"Redis at {label(url)}", connect(url, seconds)) for seconds in (READ_S, WRITE_S)]
        store = cls(lines[0], lines[1], prefix, Bounds.of(query))
        try:
            for warning in lines[1].call(durability):
                log.warning("%s %s", lines[1].name, warning)
        except UnavailableError as error:
            if not patient:
                raise
            log.warning("begun without the state, until it is there: %s", error)
        return store

    def __repr__(self) -> str:
        return f"RedisStore({self._writes.name!r}, prefix={self.prefix[:-1]!r})"

    def append(self, events: Sequence[Event]) -> int:
        """
        Store events, ignoring known ``event_id``s; the number that were new. As durable as the server is.

        Raises:
            DataError: A value cannot be stored; none of ``events`` was.
            UnavailableError: The server is not there, slow or full. After a timeout they may have been stored.
        """
        check_storable(events)
        if not events:
            return 0
        keep = self.bounds.keep_days
        ttl = "" if keep is None else str(int(keep * DAY_S * 1000))
        arguments: list[Any] = [secrets.token_hex(8), self.bounds.most, self.bounds.ids, self._cutoff(), ttl, self._log]
        for e in events:
            said = _encode((e.item_id, e.event, e.value, e.request_id, e.position, e.propensity))
            code = b"" if e.event_id is None else id_hash(e.event_id).to_bytes(8, "big")
            arguments += [e.user_id, repr(float(e.time)), said, code, e.event_id or "", e.event]
        return int(self._write(scripts.APPEND, arguments))

    def person(self, user_id: str, limit: int) -> Person:
        """What is kept of a person, with the newest ``limit`` events by (time, arrival)."""
        most = min(limit, self.bounds.most)
        places = (-most, -1) if most > 0 else (1, 0)
        arguments = [user_id, hash_of(user_id), *places]
        run = partial(self._run, script=scripts.PERSON, arguments=arguments)
        found, flat, erased = self._reads.call(run, again=True)
        pairs = zip(found[::2], found[1::2], strict=True)
        events = [_event(user_id, float(time), member[SEQ:]) for member, time in pairs]
        counts = dict(zip(flat[::2], flat[1::2], strict=True))
        oldest = bisect_left(events, self._clock.cutoff(self.bounds.keep_days), key=lambda event: event.time)
        version = max(int(counts.pop(b"v", 0)), int(erased or 0))
        kinds = {kind.decode(): int(count) for kind, count in counts.items()}
        return Person(events[oldest:], version, kinds, erased is not None)

    def history(self, user_id: str, limit: int) -> list[Event]:
        """The newest ``limit`` events of a person by (time, arrival), oldest first."""
        return self.person(user_id, limit).events

    def erase(self, user_id: str) -> int:
        """
        Delete a person's events and keep a hash of the id; the number of events that went.

        The server's append-only file forgets them when it is next rewritten.
        """
        return int(self._write(scripts.ERASE, [user_id, hash_of(user_id), self._log]))

    def erased(self, user_id: str) -> bool:
        """Whether the person was ever erased from this store."""
        key = self._key("erased")
        return bool(self._reads.call(lambda client: client.hexists(key, hash_of(user_id)), again=True))

    def sweep(self) -> int:
        """Drop what is older than ``keep_days``; the number of events that went. Cost: a call a person."""
        if self.bounds.keep_days is None:
            return 0
        start = len(self._key("p:", ""))
        people = [key[start:] for key in self._keys()]
        return sum(int(self._write(scripts.SWEEP, [user_id, self._cutoff()])) for user_id in people)

    def size(self) -> int:
        """Events kept, of everybody. Cost: a call a thousand people."""
        keys, total = iter(self._keys()), 0
        while part := list(islice(keys, 1000)):
            pipe = self._writes.client.pipeline(transaction=False)
            for key in part:
                pipe.zcard(key)
            total += sum(self._writes.call(lambda _, pipe=pipe: pipe.execute()))  # type: ignore[misc]  # bound at once
        return total

    def keep_journal(self, after: int = 0) -> None:
        """From now on, and for good, hold every new event until it is settled; segments go on ``after`` a number."""
        self._log = "1"
        self._write(scripts.KEEP, [after])

    def waiting(self) -> int:
        """Events that the journal holds."""
        return int(self._writes.call(lambda client: client.xlen(self._key("journal")), again=True))

    def claim(self, token: str, most: int) -> Segment | None:
        """The segment that is not settled yet, else a new one; None when nothing waits."""
        found = self._write(scripts.CLAIM, [token, most])
        if found is None:
            return None
        name, number, entries = found
        events = []
        for _, fields in entries:
            said = dict(zip(fields[::2], fields[1::2], strict=True))
            event_id = said[b"i"].decode() or None
            events.append(_event(said[b"u"].decode(), float(said[b"t"]), said[b"p"], event_id))
        return Segment(name.decode(), int(number), events)

    def settle(self, name: str) -> None:
        """Let go of the events of a segment whose file is there for good."""
        self._write(scripts.SETTLE, [name])

    def erasures(self) -> list[Erasure]:
        """Those that the log has not followed yet."""
        found: Any = self._writes.call(lambda client: client.hgetall(self._key("follow")), again=True)
        return [Erasure(person.decode(), int(number)) for person, number in found.items()]

    def followed(self, erasures: Sequence[Erasure]) -> None:
        """The log no longer holds these people's earlier events."""
        self._write(scripts.FOLLOWED, [part for each in erasures for part in (each.person, each.number)])

    def close(self) -> None:
        """Let go of the connections; closing twice does no harm."""
        self._reads.close()
        self._writes.close()

    def _write(self, script: str, arguments: Sequence[Any]) -> Any:
        """Run a script; a second time at once when the connection had died: each can be done twice without harm."""
        return self._writes.call(partial(self._run, script=script, arguments=arguments), again=True)

    def _run(self, client: Redis, script: str, arguments: Sequence[Any]) -> Any:
        """By its hash where the server knows it."""
        return client.register_script(script)(keys=[self.prefix], args=arguments)

    def _key(self, kind: str, user_id: str = "") -> bytes:
        return f"{self.prefix}{kind}{user_id}".encode()

    def _keys(self) -> Iterator[bytes]:
        """The keys of all people."""
        cursor = 0
        pattern = self._key("p:", "").replace(b"[", b"\\[").replace(b"*", b"\\*").replace(b"?", b"\\?") + b"*"
        while True:
            cursor, keys = self._writes.call(lambda client, at=cursor: client.scan(at, match=pattern, count=1000))  # type: ignore[misc]  # bound at once
            yield from set(keys)
            if cursor == 0:
                return

    def _cutoff(self) -> str:
        cutoff = self._clock.cutoff(self.bounds.keep_days)
        return "-inf" if self.bounds.keep_days is None else repr(cutoff)


def _event(user_id: str, time: float, said: bytes, event_id: str | None = None) -> Event:
    item_id, event, value, request_id, position, propensity = _decode(said)
    return Event(user_id, item_id, time, event, value, request_id, position, propensity, event_id)
