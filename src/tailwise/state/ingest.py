"""
Events from a queue into the store: taken, made durable, and only then let go of.

    Source.take ─▶ read ─▶ store.append ─▶ Source.settle
                    └ cannot be read: settled as refused, with the reason

A crash between the two ends delivers messages again; their ids make that harmless. ``streams`` has the source for Redis
Streams. One for Kafka is the same two methods: ``take`` polls a consumer with ``enable.auto.commit`` off, ``settle``
produces what was refused to another topic, flushes, and commits the offsets after the messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event as Signal
from typing import Protocol

from tailwise.errors import UnavailableError, UserError
from tailwise.state.store import StateStore
from tailwise.types import Event

log = logging.getLogger(__name__)

MOST = 500
"""Messages that are made durable together."""
PAUSE_S = 1.0
"""Between attempts, while the queue or the store is away."""


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a queue."""

    id: str
    """Unique within the queue, the same at every delivery."""
    body: bytes
    """An event, or a list of them, as JSON."""
    time: float
    """When it was put there, in seconds since epoch: the time of events that bring none."""


class Source(Protocol):
    """A queue that delivers each message until it is settled."""

    def take(self, most: int) -> Sequence[Message]:
        """Up to ``most`` messages that are not settled; none after a short wait."""
        ...

    def settle(self, taken: Sequence[Message], refused: Mapping[str, str]) -> None:
        """Done with ``taken``; those in ``refused`` (id → reason) are put aside for people to look at."""
        ...


Read = Callable[[bytes, float], list[Event]]
"""A body and the time for events without one to events; raises UserError."""


@dataclass(slots=True)
class Taken:
    """What came of one round."""

    events: int = 0
    """That were new."""
    refused: int = 0
    """Messages that were put aside."""


def ingest_once(source: Source, store: StateStore, read: Read) -> Taken:
    """
    One round: take, store, settle.

    Raises:
        UnavailableError: The queue or the store is away; nothing was settled, so nothing is lost.
    """
    messages = source.take(MOST)
    if not messages:
        return Taken()
    readable: dict[str, list[Event]] = {}
    refused: dict[str, str] = {}
    for message in messages:
        try:
            readable[message.id] = _identified(message, read(message.body, message.time))
        except UserError as error:
            refused[message.id] = str(error)
    new = 0
    try:
        new = store.append([event for events in readable.values() for event in events])
    except UserError:  # of one message: each on its own
        for message_id, events in readable.items():
            try:
                new += store.append(events)
            except UserError as error:
                refused[message_id] = str(error)
    source.settle(messages, refused)
    for message_id, reason in refused.items():
        log.warning("message %s was put aside: %s", message_id, reason)
    return Taken(new, len(refused))


def ingest(
    source: Source, store: StateStore, read: Read, *, end: Signal, report: Callable[[Taken], None] | None = None
) -> None:
    """
    Round after round until ``end`` is set; while something is away it waits and tries again.

    Args:
        source: Where messages come from.
        store: Where events go.
        read: What makes events of a message.
        end: Ends it, after the round that runs.
        report: Is told of every round in which something came.
    """
    away = False
    while not end.is_set():
        try:
            taken = ingest_once(source, store, read)
        except UnavailableError as error:
            if not away:
                log.warning("ingestion waits: %s", error)
            away = True
            end.wait(PAUSE_S)
            continue
        if away:
            log.warning("ingestion goes on")
        away = False
        if report is not None and (taken.events or taken.refused):
            report(taken)


def _identified(message: Message, events: list[Event]) -> list[Event]:
    """Events with ids: their own, else the message's, so that a second delivery changes nothing."""
    return [
        event if event.event_id is not None else replace(event, event_id=f"{message.id}/{place}")
        for place, event in enumerate(events)
    ]
