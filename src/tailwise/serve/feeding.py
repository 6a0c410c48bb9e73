"""
What runs beside the routes of a service: the event log, events from a queue, and retention.

    stream ─▶ ingestion ─▶ engine's store ─▶ event log ─▶ DIR, for the next tailwise fit
                                └─ sweep, once an hour
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import cast

from tailwise.data.pseudonyms import Pseudonyms
from tailwise.errors import TailwiseError
from tailwise.serve import wire
from tailwise.serve.service import Service
from tailwise.state.ingest import Read, ingest
from tailwise.state.log import EventLog
from tailwise.state.store import Journal, StateStore
from tailwise.state.streams import RedisStream
from tailwise.types import Event

log = logging.getLogger(__name__)

SWEEP_S = 3600.0
"""Between two looks for what is older than the store keeps, in seconds."""
ROUND_S = 5.0
"""How long the end of the service waits for a round of its threads, in seconds: a sweep of millions takes minutes."""


def reader(secret: Path | None) -> Read:
    """
    What makes events of a message, as ``POST /v1/events`` does.

    Args:
        secret: Of ``--pseudonymise``: people's ids are replaced before anything stores them.

    >>> reader(None)(b'{"user_id": "u1", "item_id": "i1"}', 5.0)[0].time
    5.0
    """
    names = None if secret is None else Pseudonyms.read(secret)

    def read(body: bytes, now: float) -> list[Event]:
        events = wire.decode_events(body, now=now)
        return events if names is None else [replace(event, user_id=names.of(event.user_id)) for event in events]

    return read


class Feeding:
    """
    Threads of one application, from ``start`` to ``stop``.

    Args:
        store: Where events go, and what the log is written from.
        service: Says which of the threads there are.
        stored: Is told how many events of the queue were new.

    Raises:
        UnavailableError: The folder of the log cannot be written to, or the stream is not there.
        ConfigError: The address of the stream is wrong.
    """

    def __init__(self, store: StateStore, service: Service, stored: Callable[[int], None] = lambda _: None) -> None:
        self._store, self._stored = store, stored
        self._end = Signal()
        self._threads: list[Thread] = []
        self._log = (
            None if service.log is None else EventLog(cast(Journal, store), service.log, patient=service.patient)
        )
        self._stream = None if service.ingest is None else RedisStream.open(service.ingest, patient=service.patient)
        self._read = reader(service.pseudonymise)

    def behind(self) -> int:
        """Events that wait to be written to the log."""
        return 0 if self._log is None else self._log.behind

    def start(self) -> None:
        """Begin."""
        if self._log is not None:
            self._log.start()
        if self._stream is not None:
            self._begin("ingestion", self._ingest)
        self._begin("retention", self._sweep)

    def stop(self) -> None:
        """
        End, when the round that runs is done and what waits for the log is written. The store is still open then.

        A round that takes longer than ``ROUND_S`` is not waited for: it ends with the store, or with the process.
        """
        self._end.set()
        for thread in self._threads:
            thread.join(ROUND_S)
            if thread.is_alive():
                log.warning("%s goes on for longer than %g s and is left behind", thread.name, ROUND_S)
        if self._stream is not None:
            self._stream.close()
        if self._log is not None:
            self._log.stop()

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        thread = Thread(target=work, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _ingest(self) -> None:
        if self._stream is not None:
            ingest(self._stream, self._store, self._read, end=self._end, report=lambda t: self._stored(t.events))

    def _sweep(self) -> None:
        while True:
            try:
                self._store.sweep()
            except TailwiseError as error:
                log.warning("retention waits: %s", error)
            if self._end.wait(SWEEP_S):
                return
