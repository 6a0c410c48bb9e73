"""``ingest``: events from a queue into the store, beside the service or instead of its ``POST /v1/events``."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Event as Signal
from typing import TYPE_CHECKING, Any

from tailwise.cli.progress import say

if TYPE_CHECKING:
    from tailwise.state.ingest import Taken


def ingest_stream(options: argparse.Namespace) -> int:
    """Take events from a Redis stream until told to stop, or until ``--once`` finds none."""
    from tailwise.serve.feeding import reader
    from tailwise.state.ingest import ingest, ingest_once
    from tailwise.state.opening import open_store
    from tailwise.state.streams import RedisStream

    totals = [0, 0]

    def count(taken: Taken) -> None:
        totals[0] += taken.events
        totals[1] += taken.refused

    with closing(RedisStream.open(options.stream)) as stream, closing(open_store(options.state)) as store:
        read = reader(options.pseudonymise)
        say(f"taking events from the stream {stream.name!r} (ctrl-c stops)")
        if options.once:
            taken = ingest_once(stream, store, read)
            while taken.events or taken.refused:
                count(taken)
                taken = ingest_once(stream, store, read)
        else:
            with told_to_stop() as end:
                ingest(stream, store, read, end=end, report=count)
    say(f"stored {totals[0]} events, put {totals[1]} messages aside")
    return 0


@contextmanager
def told_to_stop() -> Iterator[Signal]:
    """Set by ctrl-c or SIGTERM, so that the round that runs is finished; a second one interrupts it."""
    end = Signal()

    def stop(number: int, frame: Any) -> None:
        if end.is_set():
            signal.default_int_handler(number, frame)
        end.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
