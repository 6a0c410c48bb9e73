"""
A shadow: another model that answers the same requests in a process of its own, and nobody sees its answers.

    answer given ─▶ queue (full: dropped, counted) ─▶ thread ─pipe─▶ process, niced: the shadow model
                                                        └─ compare ─▶ metrics, and a line every hundred answers

The history goes along with the request, so that the shadow needs no store; nothing is written down but numbers.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram

from tailwise.pipeline import Answer, Engine
from tailwise.serve.canary import is_faulty
from tailwise.serve.models import forgotten
from tailwise.serve.monitor import MILLISECONDS
from tailwise.serve.warming import unsound, warm_up
from tailwise.types import Request

log = logging.getLogger(__name__)

WAITING = 64
"""Requests that may wait for the shadow; further ones are dropped."""
LINE_EVERY = 100
"""Comparisons between two lines in the log."""
MOST = 100
"""Places of a list that are compared."""
TENTHS = tuple(tenth / 10 for tenth in range(11))

Told = tuple[list[str], float, bool]
"""What the process says of a request: the items, milliseconds, whether something failed."""


def overlap(first: Sequence[str], second: Sequence[str]) -> float:
    """
    Share of the longer list that stands on both, in [0, 1].

    >>> overlap(["a", "b"], ["b", "c"])
    0.5
    """
    return len({*first} & {*second}) / max(len(first), len(second), 1)


def agreement(first: Sequence[str], second: Sequence[str]) -> float | None:
    """
    Kendall's tau of the items on both lists: 1 in the same order, -1 in the opposite one; None with fewer than two.

    Source: Kendall, Biometrika 1938, doi:10.1093/biomet/30.1-2.81.
    Cost: O(k²).

    >>> agreement(["a", "b", "c"], ["c", "x", "b", "a"])
    -1.0
    """
    place = {item_id: rank for rank, item_id in enumerate(second)}
    ranks = np.array([place[item_id] for item_id in first if item_id in place])
    n = len(ranks)
    if n < 2:
        return None
    above, below = np.triu_indices(n, 1)
    return float(np.sign(ranks[below] - ranks[above]).mean())


def answer_all(folder: Path, pipe: Connection) -> None:
    """The process: opens the model, says why not or nothing, then answers until the pipe ends. Cost: a model."""
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.disable()
    try:
        engine = Engine.open(folder)
        warm_up(engine)
        why = unsound(engine)
    except Exception as error:  # noqa: BLE001  told to whoever started us
        why = str(error)
    pipe.send(why)
    with suppress(EOFError, OSError):
        while why is None:
            asked: Request | str = pipe.recv()
            pipe.send(_forget(engine, asked) if isinstance(asked, str) else _answer(engine, asked))


def _forget(engine: Engine, user_id: str) -> Told:
    forgotten(engine, user_id)
    return [], 0.0, False


def _answer(engine: Engine, request: Request) -> Told:
    try:
        answer = engine.answer(request)
    except Exception:  # noqa: BLE001  one request that it cannot answer is what the shadow is for
        return [], 0.0, True
    return answer.slate.item_ids.tolist(), sum(step.ms for step in answer.trace), is_faulty(answer)


class Shadow:
    """
    Asks a model what it would have answered, from ``start`` to ``stop``, any number of times.

    Args:
        folder: Of the model.
        registry: Where its numbers go.

    Cost: some 2 µs an answer in the event loop; in the thread, what sending a request takes.
    """

    def __init__(self, folder: Path, registry: CollectorRegistry) -> None:
        self._folder = folder
        self._process: SpawnProcess | None = None
        self._thread: Thread | None = None
        self._ended = False  # whether it was told to
        self._queue: SimpleQueue[tuple[Request, list[str], float] | str | None] = SimpleQueue()
        self._sums = np.zeros(5)  # overlap, tau, ms of the main model, ms of the shadow, failures
        self._n = np.zeros(2, np.int64)  # comparisons, and those with a tau
        self.state = "stopped"
        """``opening``, ``answering``, ``stopped``, or why it is none of these."""
        self._compared = Counter(
            "tailwise_shadow", "Answers that the shadow was asked for, by outcome", ["outcome"], registry=registry
        )
        self._overlap = Histogram(
            "tailwise_shadow_overlap", "Share of items on both lists", buckets=TENTHS, registry=registry
        )
        self._tau = Histogram(
            "tailwise_shadow_tau",
            "Kendall's tau of the items on both lists",
            buckets=tuple(2 * tenth - 1 for tenth in TENTHS),
            registry=registry,
        )
        self._seconds = Histogram(
            "tailwise_shadow_seconds", "Time of the shadow's answers", buckets=MILLISECONDS, registry=registry
        )

    def start(self) -> None:
        """Begin; the model opens in the process, and what is asked before it is open is dropped."""
        if self._process is not None:
            return
        pipe, other = multiprocessing.get_context("spawn").Pipe()
        self._queue, self.state, self._ended = SimpleQueue(), "opening", False
        self._process = multiprocessing.get_context("spawn").Process(
            target=answer_all, args=(self._folder, other), name="shadow", daemon=True
        )
        self._process.start()
        other.close()
        self._thread = Thread(target=self._compare_all, args=(pipe, self._queue), name="shadow", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the process and the thread, without waiting for what they were asked."""
        if self._process is None or self._thread is None:
            return
        self._ended = True  # before the pipe closes, which the thread sees earlier than the process is gone
        self._process.terminate()
        self._process.join()
        self._queue.put(None)
        self._thread.join()
        self._process = self._thread = None
        self.state = "stopped"

    def asked(self, request: Request, answer: Answer) -> None:
        """Have the shadow answer what was just answered; never waits."""
        if self.state != "answering" or self._queue.qsize() >= WAITING:
            self._compared.labels("dropped").inc()
            return
        alone = replace(request, history=answer.history, cache={})
        ms = sum(step.ms for step in answer.trace)
        self._queue.put((alone, answer.slate.item_ids[:MOST].tolist(), ms))

    def forget(self, user_id: str) -> None:
        """Have the shadow drop what its steps remember of a person; where there is none, nothing is remembered."""
        if self.state in {"opening", "answering"}:
            self._queue.put(user_id)

    def _compare_all(self, pipe: Connection, queue: SimpleQueue[tuple[Request, list[str], float] | str | None]) -> None:
        with pipe:
            try:
                why = pipe.recv()
                self.state = "answering" if why is None else f"refused: {why}"
                if why is not None:
                    log.warning("there is no shadow: %s", why)
                    return
                while (entry := queue.get()) is not None:
                    if isinstance(entry, str):
                        pipe.send(entry)
                        pipe.recv()
                        continue
                    pipe.send(entry[0])
                    self._compare(entry[1], entry[2], pipe.recv())
            except (EOFError, OSError):  # it was ended, or died
                if not self._ended:
                    self.state = "refused: its process died"
                    log.warning("there is no shadow any more: its process died")

    def _compare(self, items: list[str], ms: float, told: Told) -> None:
        theirs, their_ms, failed = told
        both, tau = overlap(items, theirs[:MOST]), agreement(items, theirs[:MOST])
        self._compared.labels("failed" if failed else "same" if items == theirs[:MOST] else "different").inc()
        self._overlap.observe(both)
        self._seconds.observe(their_ms / 1000)
        if tau is not None:
            self._tau.observe(tau)
        self._sums += (both, 0.0 if tau is None else tau, ms, their_ms, failed)
        self._n += (1, tau is not None)
        if self._n[0] == LINE_EVERY:
            self._write()

    def _write(self) -> None:
        """A line of means over the newest comparisons; it names nobody and nothing."""
        compared, with_tau = self._n.tolist()
        both, tau, ms, their_ms, failed = self._sums.tolist()
        fields = {
            "compared": compared,
            "overlap": round(both / compared, 4),
            "kendall_tau": round(tau / with_tau, 4) if with_tau else None,
            "main_mean_ms": round(ms / compared, 3),
            "shadow_mean_ms": round(their_ms / compared, 3),
            "failures": int(failed),
        }
        log.info("shadow compared", extra=fields)
        self._sums[:], self._n[:] = 0, 0
