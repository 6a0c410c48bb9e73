"""
A model on trial: a share of the people get its lists, until it does worse than the main one, or is taken in.

    person ─▶ hash in [0, 1) ─┬─ below the share ─▶ canary ─▶ fails? the main model answers after all
                              └─ else ────────────▶ main
    answers of both ─▶ Tally, Tally ─▶ verdict: off, when the canary's are worse by the set factors
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import numpy as np

from tailwise.pipeline import Answer
from tailwise.types import Request

S = TypeVar("S")

FAULTS = ("failed", "late", "breaker", "busy")
"""How the trace begins of a step that did not act through a fault of its own; load, gates and budgets are none."""
LATEST = 1000
"""Answers that are compared, of each model."""
SLACK_SHARE = 0.02
"""Of answers with faults: no more than this is ever called worse; nor is ``SLACK_MS`` of time."""
SLACK_MS = 5.0
FEW = 50
"""Answers of the main model without which its times say nothing."""


def part_of(name: str, salt: str) -> float:
    """
    A number in [0, 1) that stays the same for the same name and salt.

    >>> part_of("u1", "a") == part_of("u1", "a") != part_of("u1", "b")
    True
    """
    digest = blake2b(name.encode("utf-8", "replace"), key=salt.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def is_faulty(answer: Answer) -> bool:
    """Whether a step of an answer did not act through a fault of its own."""
    return any(step.skipped is not None and step.skipped.startswith(FAULTS) for step in answer.trace)


@dataclass
class Tally:
    """How one model did lately: the newest answers, and what was wrong with them."""

    ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    bad: deque[int] = field(default_factory=lambda: deque(maxlen=LATEST))
    """2 for an answer that failed, 1 for one with a step that did, 0 for a good one."""
    answers: int = 0

    def add(self, ms: float | None, bad: int) -> None:
        """Take note of one answer; a failed one has no time."""
        self.answers += 1
        self.bad.append(bad)
        if ms is not None:
            self.ms.append(ms)

    def share(self, least: int) -> float:
        """Share of the newest answers that were at least this bad."""
        return sum(value >= least for value in self.bad) / max(len(self.bad), 1)

    def p99_ms(self) -> float | None:
        """Time that 99 of 100 answers kept within, in milliseconds; None with too few of them."""
        return float(np.percentile(self.ms, 99)) if len(self.ms) >= FEW else None


class Canary(Generic[S]):
    """
    A model that a share of the people are served by.

    Args:
        served: The model.
        version: Of the model; it salts the choice, so that not the same people try every new one.
        share: Of the people, in [0, 1].
        after: Answers of the canary after which it is judged.
        worse: How many times the main model's rates and times are too much.
    """

    def __init__(self, served: S, version: str, *, share: float, after: int, worse: float) -> None:
        self.served = served
        self.share = share
        self.main, self.own = Tally(), Tally()
        self._salt, self._after, self._worse = version, after, worse

    def has(self, request: Request) -> bool:
        """Whether a request is the canary's to answer: by the person, else by the request's id."""
        name = request.request_id if request.user_id is None else request.user_id
        return part_of(name, self._salt) < self.share

    def took(self, ms: float, *, faulty: bool, on_trial: bool) -> None:
        """Take note of an answer of either model."""
        (self.own if on_trial else self.main).add(ms, int(faulty))

    def failed(self) -> None:
        """Take note of a request that the canary could not answer, and the main model could."""
        self.own.add(None, 2)

    def told(self) -> dict[str, Any]:
        """What the trial is, and how it does, for the model card."""
        own = {"answers": self.own.answers, "faults": round(self.own.share(1), 4), "p99_ms": self.own.p99_ms()}
        return {"version": self._salt, "share": self.share, **own}

    def verdict(self) -> str | None:
        """
        Why the canary should go; None while it may stay.

        A broken model need not be asked ``after`` times: failures alone are judged from a tenth of that on.
        """
        own, main = self.own, self.main
        wrong = sum(value > 0 for value in own.bad)
        if own.answers < self._after and wrong < max(self._after / 10, 3):
            return None
        for what, least in (("answers failed", 2), ("answers did without a step", 1)):
            mine, theirs = own.share(least), main.share(least)
            if mine > max(self._worse * theirs, SLACK_SHARE):
                return f"{mine:.1%} of its {what}, {theirs:.1%} of the main model's"
        mine_ms, theirs_ms = own.p99_ms(), main.p99_ms()
        if mine_ms is None or theirs_ms is None or own.answers < self._after:
            return None
        if mine_ms > self._worse * theirs_ms + SLACK_MS:
            return f"its slowest 1 % take {mine_ms:.1f} ms, the main model's {theirs_ms:.1f} ms"
        return None
