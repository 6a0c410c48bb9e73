"""
The journal of a state file: what waits for the log, and which part of it somebody is writing.

A claim is durable before the file of its segment is begun, and names that file: after a crash whoever comes sees by the
name whether the file is there, and writes exactly the same one when it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from tailwise.state.journal import decode_batch, segment_name
from tailwise.state.store import Erasure, Segment
from tailwise.state.tables import Writer


def keep_journal(writer: Writer, after: int) -> None:
    """Hold every new event from now on; the next segment has a number above ``after``."""
    writer.state.journal = 1
    writer.state.segment = max(writer.state.segment, after)


def claim(writer: Writer, token: str, most: int) -> Segment | None:
    """The segment that is not settled yet, else a new one of about ``most`` events, whole batches; None without any."""
    state = writer.state
    if state.claimed is None:
        total = 0
        for number, size in writer.run("SELECT number, size FROM journal ORDER BY number"):
            state.until, total = number, total + size
            if total >= most:
                break
        if state.until is None:
            return None
        state.segment += 1
        state.claimed = segment_name(state.segment, token)
    rows = writer.run("SELECT events FROM journal WHERE number <= ? ORDER BY number", (state.until,)).fetchall()
    events = list(chain.from_iterable(decode_batch(batch) for (batch,) in rows))
    return Segment(state.claimed, state.segment, events)


def settle(writer: Writer, name: str) -> None:
    """Let go of the events of a claimed segment."""
    if writer.state.claimed == name:
        writer.run("DELETE FROM journal WHERE number <= ?", (writer.state.until,))
        writer.state.claimed = writer.state.until = None


def followed(writer: Writer, erasures: Sequence[Erasure]) -> None:
    """The log no longer holds these people's earlier events; an erasure since then still stands."""
    for erasure in erasures:
        row = (erasure.person, erasure.number)
        writer.run("UPDATE erased SET segment = NULL WHERE person = ? AND segment = ?", row)
