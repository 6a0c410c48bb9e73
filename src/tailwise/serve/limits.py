"""
How much each caller may ask for: a token bucket a key, a quota a day, and how often an address may fail to get in.

    take(caller) ─▶ lease of this worker ── empty ─▶ bucket in memory, SQLite or Redis ─▶ Verdict
                          └─ tokens left: no store is asked

Several workers share a bucket without asking for it at each request: a worker takes a tenth of a second's tokens at
once, and what it has not used after half a second is lost. So the sum of all workers never exceeds the limit.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from starlette.concurrency import run_in_threadpool

from tailwise.errors import TailwiseError
from tailwise.serve.keys import Caller, Limit

log = logging.getLogger(__name__)

T = TypeVar("T")

LEASE_S = 0.5
"""How long a worker keeps tokens that it has not used, in seconds."""
SHARE_S = 0.1
"""A lease is what this long gives, in seconds."""
DAY_S = 86_400
MOST_KEPT = 20_000
"""Callers that are remembered at once; tokens have subjects without end."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass, and what to tell the caller of it."""

    allowed: bool
    limit: int
    """Requests that may come at once; a day, where only that is limited or where it is what refuses."""
    remaining: int
    reset: float
    """Seconds until all of it is there again; for a refusal, until the next request may pass."""
    why: str = ""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """``RateLimit-*``, and ``Retry-After`` for a refusal; whole seconds, upwards."""
        wait = b"%d" % math.ceil(self.reset)
        told = [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", wait),
        ]
        return told if self.allowed else [*told, (b"retry-after", b"%d" % max(1, math.ceil(self.reset)))]


class Buckets(Protocol):
    """Where tokens and counts are kept."""

    shared: bool
    """Whether others take from it too, so that asking costs more than a look."""

    def take(self, name: str, limit: Limit, want: int, now: float) -> tuple[int, float]:
        """At most ``want`` tokens of a bucket, and how many seconds it lacks to be full; when none, to the next one."""
        ...

    def count(self, name: str, daily: int, want: int, day: int) -> tuple[int, int]:
        """At most ``want`` more of a day's quota, and how much is used with them."""
        ...

    def close(self) -> None: ...


def refill(arrival: float, limit: Limit, want: int, now: float) -> tuple[float, int, float]:
    """
    One step of the generic cell rate algorithm, which keeps a bucket as one number.

    Args:
        arrival: When the bucket is full again, in seconds; any time in the past is a full one.
        limit: With a ``rate``.
        want: Tokens.
        now: In seconds.

    Returns:
        The new arrival, the tokens that were given, and the seconds until it is full, or until the next token.

    Source: ITU-T I.371, as a virtual schedule.

    >>> refill(0.0, Limit(rate=2, burst=3), 5, 10.0)
    (11.5, 3, 1.5)
    >>> refill(11.5, Limit(rate=2, burst=3), 1, 10.0)
    (11.5, 0, 0.5)
    >>> refill(3611.5, Limit(rate=2, burst=3), 1, 10.0)
    (11.5, 0, 0.5)
    """
    rate = limit.rate or math.inf
    start = min(max(arrival, now), now + limit.most / rate)  # further ahead only when the clock was set back
    free = limit.most - (start - now) * rate
    given = min(want, math.floor(free + 1e-9))
    if given < 1:
        return start, 0, (1 - free) / rate
    return start + given / rate, given, start + given / rate - now


class MemoryBuckets:
    """Buckets of this process alone."""

    shared = False

    def __init__(self) -> None:
        self._arrivals: dict[str, float] = {}
        self._counts: dict[tuple[str, int], int] = {}

    def take(self, name: str, limit: Limit, want: int, now: float) -> tuple[int, float]:
        """As in ``Buckets``."""
        if len(self._arrivals) > MOST_KEPT:  # a bucket that is full again is as good as one that nobody knows
            self._arrivals = {name: arrival for name, arrival in self._arrivals.items() if arrival > now}
        arrival, given, wait = refill(self._arrivals.get(name, 0.0), limit, want, now)
        self._arrivals[name] = arrival
        return given, wait

    def left(self, name: str, limit: Limit, now: float) -> bool:
        """Whether a token is there, without taking it."""
        return refill(self._arrivals.get(name, 0.0), limit, 1, now)[1] > 0

    def count(self, name: str, daily: int, want: int, day: int) -> tuple[int, int]:
        """As in ``Buckets``."""
        if len(self._counts) > MOST_KEPT:
            self._counts = {(name, on): used for (name, on), used in self._counts.items() if on == day}
        used = self._counts.get((name, day), 0)
        given = max(min(want, daily - used), 0)
        self._counts[name, day] = used + given
        return given, used + given

    def close(self) -> None:
        """Nothing to release."""


@dataclass(slots=True)
class _Lease:
    """What this worker may spend without asking."""

    tokens: int = 0
    until: float = 0.0
    wait: float = 0.0
    quota: int = 0
    used: int = 0
    day: int = -1
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Limits:
    """
    Every caller's limits.

    When the store of the buckets does not answer, this worker counts for itself until it does: a limit is then as
    many times as large as there are workers, and nobody is refused for it.

    Cost: some 1 µs a request; one look into a shared store a caller and tenth of a second.
    """

    def __init__(self, buckets: Buckets | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._buckets = MemoryBuckets() if buckets is None else buckets
        self._alone = MemoryBuckets()
        self._clock = clock
        self._leases: defaultdict[str, _Lease] = defaultdict(_Lease)

    async def take(self, caller: Caller) -> Verdict | None:
        """Count one request; None for a caller without limits."""
        limit = caller.limit
        if limit.rate is None and limit.daily is None:
            return None
        now = self._clock()
        if len(self._leases) > MOST_KEPT:
            self._leases.clear()
        lease = self._leases[caller.name]
        if not self._covers(lease, limit, now):
            async with lease.turn:
                if not self._covers(lease, limit, now):
                    refused = await self._fill(lease, caller, now)
                    if refused is not None:
                        return refused
        return self._spend(lease, limit, now)

    def close(self) -> None:
        """Release the store."""
        self._buckets.close()

    def _covers(self, lease: _Lease, limit: Limit, now: float) -> bool:
        token = limit.rate is None or (lease.tokens > 0 and now < lease.until)
        return token and (limit.daily is None or (lease.quota > 0 and lease.day == int(now // DAY_S)))

    def _spend(self, lease: _Lease, limit: Limit, now: float) -> Verdict:
        if limit.daily is not None:
            lease.quota -= 1
        if limit.rate is None:
            assert limit.daily is not None
            return Verdict(
                allowed=True,
                limit=limit.daily,
                remaining=limit.daily - lease.used + lease.quota,
                reset=DAY_S - now % DAY_S,
            )
        lease.tokens -= 1
        wait = max(lease.wait - (now + LEASE_S - lease.until), 0.0)
        remaining = max(int(limit.most - wait * limit.rate + 1e-9), 0) + lease.tokens
        return Verdict(allowed=True, limit=limit.most, remaining=min(remaining, limit.most), reset=wait)

    async def _fill(self, lease: _Lease, caller: Caller, now: float) -> Verdict | None:
        """Get tokens and quota; the refusal when there are none."""
        limit, day = caller.limit, int(now // DAY_S)
        if limit.rate is not None and not (lease.tokens > 0 and now < lease.until):
            want = max(1, int(limit.rate * SHARE_S)) if self._buckets.shared else 1
            lease.tokens, lease.wait = await self._ask(lambda b: b.take(caller.name, limit, want, now))
            lease.until = now + LEASE_S
            if lease.tokens < 1:
                why = f"this key may send {limit.rate:g} requests a second"
                return Verdict(allowed=False, limit=limit.most, remaining=0, reset=lease.wait, why=why)
        if limit.daily is not None and not (lease.quota > 0 and lease.day == day):
            daily = limit.daily
            want = max(1, min(daily // 1000, 100)) if self._buckets.shared else 1
            lease.quota, lease.used = await self._ask(lambda b: b.count(caller.name, daily, want, day))
            lease.day = day
            if lease.quota < 1:
                why = f"this key may send {daily} requests a day (UTC)"
                return Verdict(allowed=False, limit=daily, remaining=0, reset=DAY_S - now % DAY_S, why=why)
        return None

    async def _ask(self, question: Callable[[Buckets], T]) -> T:
        if not self._buckets.shared:
            return question(self._buckets)
        try:
            return await run_in_threadpool(question, self._buckets)
        except TailwiseError as error:
            log.warning("limits are counted by each worker for now: %s", error)
            return question(self._alone)
