"""
Asking a model without ever waiting for it longer than one wants to.

    opinion(brief) ─▶ known? ─▶ breaker ─▶ room? ─▶ budget ─▶ a thread asks ─▶ kept
                        │ yes                                     │ in time
                        ▼                                         ▼
                     opinion                                   opinion        (late: the next request finds it kept)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Lock, Thread

import numpy as np

from tailwise.errors import Abstain, UnavailableError
from tailwise.nets.questions import Backend, Question, Reply
from tailwise.rank.breaker import Breaker
from tailwise.rank.budget import Budget
from tailwise.rank.modes import Ask, Opinion
from tailwise.rank.opinions import Opinions, opinion_key
from tailwise.rank.prompts import Brief
from tailwise.types import Floats, Rows

log = logging.getLogger(__name__)

Way = Callable[[Brief, Rows, Ask], Opinion]
"""How the candidates at some places are asked about."""
COUNTS = (
    "asks",
    "questions",
    "cache_hits",
    "late",
    "busy",
    "broken",
    "over_budget",
    "failed",
    "malformed",
    "tokens_in",
    "tokens_out",
    "money",
    "checked",
    "agreement",
)
"""What is counted; ``agreement`` is the sum over those that were ``checked``."""


class Counsel:
    """
    A model with its cache, breaker and budget, and a few threads that ask it. Threads may share it.

    Args:
        backend: Who answers.
        opinions: What was said before.
        breaker: Leaves a model alone that fails.
        budget: What may be spent.
        in_flight: Opinions that are being asked for at once, at most; who comes then is told "busy".
        timeout_s: Of one opinion, all its questions together.
        enough: Share of the candidates whose known opinions do; None asks about those that are unknown, alone.
        dialect: What else an opinion depends on: mode, template, columns.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        opinions: Opinions,
        breaker: Breaker,
        budget: Budget,
        in_flight: int,
        timeout_s: float,
        enough: float | None,
        dialect: str,
    ) -> None:
        self._backend = backend
        self._opinions = opinions
        self._breaker = breaker
        self._budget = budget
        self._in_flight = in_flight
        self._timeout_s = timeout_s
        self._enough = enough
        self._fingerprint = f"{backend.fingerprint}\0{dialect}"
        self._lock = Lock()
        self._flying: dict[tuple[str, ...], Future[Opinion]] = {}
        self._counts = dict.fromkeys(COUNTS, 0.0)

    @property
    def counts(self) -> Mapping[str, float]:
        """What has happened so far, and the breaker's state: 0 closed, 1 half open, 2 open."""
        with self._lock:
            return {**self._counts, "in_flight": len(self._flying), "breaker": self._breaker.state}

    @property
    def remote(self) -> bool:
        """Whether what is asked leaves this process."""
        return self._backend.remote

    def warm(self) -> None:
        """Have a model in this process read before anybody asks it; raises UnavailableError where it cannot be."""
        warm = getattr(self._backend, "warm", None)
        if warm is not None:
            warm()

    def opinion(self, brief: Brief, way: Way, wait_s: float) -> Opinion:
        """
        What the model thinks of the candidates of a brief that have a text.

        Args:
            brief: What it may be told.
            way: How to ask.
            wait_s: How long to wait; the asking itself goes on, and what it brings is kept. 0 waits for nothing, and
                is not late.

        Raises:
            Abstain: The breaker is open, the budget is spent, or too many are asking.
            TimeoutError: It did not come in time.
            UnavailableError: The model does not answer, or not in a form that can be read.
        """
        places = np.flatnonzero([bool(text) for text in brief.items])
        keys = [opinion_key(self._fingerprint, brief.profile, brief.item_ids[place]) for place in places]
        known = self._opinions.read(keys)  # (P, 2)
        there = ~np.isnan(known[:, 1])
        if there.mean() >= (1.0 if self._enough is None else self._enough):
            self._count(cache_hits=1)
            return self._as_known(brief, places, known)
        wanted = places[~there] if self._enough is None else places
        future = self._asked(brief, wanted, way)
        try:
            fresh = future.result(wait_s)
        except TimeoutError:
            self._count(late=wait_s > 0)
            raise
        if len(wanted) == len(places):
            return fresh
        return self._as_known(brief, places, self._opinions.read(keys))

    def _as_known(self, brief: Brief, places: Rows, known: Floats) -> Opinion:
        values = np.full(len(brief.items), np.nan, np.float32)
        values[places] = known[:, 0]
        return Opinion(values, float(np.nanmean(known[:, 1])))

    def _asked(self, brief: Brief, places: Rows, way: Way) -> Future[Opinion]:
        """The asking that is under way for the same, or a new one."""
        name = (brief.profile, *brief.item_ids[places])
        with self._lock:
            if name in self._flying:
                return self._flying[name]
            if len(self._flying) >= self._in_flight:
                self._counts["busy"] += 1
                raise Abstain(f"busy: {self._in_flight} opinions are being asked for")
            try:
                self._breaker.enter()
            except Abstain:
                self._counts["broken"] += 1
                raise
            future: Future[Opinion] = Future()
            self._flying[name] = future
            self._counts["asks"] += 1
        # A thread of its own, and a daemon: a model that never answers must keep neither others nor the exit waiting.
        Thread(target=self._work, args=(name, brief, places, way, future), name="counsel", daemon=True).start()
        return future

    def _work(self, name: tuple[str, ...], brief: Brief, places: Rows, way: Way, future: Future[Opinion]) -> None:
        until = time.monotonic() + self._timeout_s
        try:
            found = way(brief, places, lambda question: self._ask(question, until))
            self._count(malformed=found.malformed, checked=found.checked, agreement=found.trust * found.checked)
            self._keep(brief, places, found)
        except Abstain as reason:
            self._breaker.left()
            self._count(over_budget=1)
            outcome: Opinion | BaseException = reason
        except BaseException as error:  # noqa: BLE001  whatever it is, somebody may be waiting for it
            self._breaker.failed()
            self._count(failed=1)
            log.warning("the model gave no opinion: %s: %s", type(error).__name__, error)
            # Only who waits is late; a model that takes too long does not answer.
            outcome = UnavailableError(str(error)) if isinstance(error, TimeoutError) else error
        else:
            self._breaker.succeeded()
            outcome = found
        with self._lock:
            del self._flying[name]
        if isinstance(outcome, Opinion):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    def _keep(self, brief: Brief, places: Rows, found: Opinion) -> None:
        """
        Remember an opinion.

        Raises:
            UnavailableError: It is none.
        """
        if not np.isfinite(found.values).any():
            raise UnavailableError("no opinion could be read from what the model replied")
        keys = [opinion_key(self._fingerprint, brief.profile, brief.item_ids[place]) for place in places]
        self._opinions.write(keys, found.values[places], found.trust)

    def _ask(self, question: Question, until: float) -> Reply:
        """One question within the time that is left and the budget."""
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the opinion took longer than {self._timeout_s:g} s")
        guess = question.tokens
        self._budget.reserve(guess)
        self._count(questions=1)
        reply = self._backend.ask(question, left)  # one that fails may have cost its guess all the same
        money = self._budget.settle(guess, tokens_in=reply.tokens_in, tokens_out=reply.tokens_out)
        self._count(tokens_in=reply.tokens_in, tokens_out=reply.tokens_out, money=money)
        return reply

    def _count(self, **more: float) -> None:
        with self._lock:
            for name, value in more.items():
                self._counts[name] += value
