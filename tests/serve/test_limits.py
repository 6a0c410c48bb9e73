import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import UnavailableError
from tailwise.serve.keys import Caller, Limit
from tailwise.serve.limits import Limits, MemoryBuckets, Verdict, refill

NOON = 1_800_014_400.0  # 12:00 UTC


class Hands:
    def __init__(self) -> None:
        self.seconds = NOON

    def __call__(self) -> float:
        return self.seconds


def ask(limits: Limits, limit: Limit, *, name: str = "a") -> Verdict:
    verdict = asyncio.run(limits.take(Caller(name, limit=limit)))
    assert verdict is not None
    return verdict


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    hands = Hands()
    limits, limit = Limits(clock=hands), Limit(rate=2, burst=3)

    at_once = [ask(limits, limit) for _ in range(5)]
    hands.seconds += 0.5
    later = [ask(limits, limit) for _ in range(2)]

    assert [verdict.allowed for verdict in at_once] == [True, True, True, False, False]
    assert [verdict.remaining for verdict in at_once] == [2, 1, 0, 0, 0]
    assert at_once[2].reset == pytest.approx(1.5)
    assert at_once[3].reset == pytest.approx(0.5)
    assert [verdict.allowed for verdict in later] == [True, False]


@given(
    rate=st.floats(0.1, 50),
    burst=st.integers(1, 20),
    waits=st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_one_number_does_what_counting_tokens_does(rate: float, burst: int, waits: list[float]) -> None:
    limit, arrival, now = Limit(rate=rate, burst=burst), 0.0, 1000.0
    tokens, given_out, wanted = float(burst), [], []
    for wait in waits:
        now += wait
        tokens = min(burst, tokens + wait * rate)
        if abs(tokens - 1) > 1e-6:  # nearer than rounding nobody can say
            wanted.append(tokens >= 1)
            arrival, given, _ = refill(arrival, limit, 1, now)
            given_out.append(given == 1)
            tokens -= given
        else:
            tokens = min(tokens, 0.5)
            arrival = now + (burst - tokens) / rate

    assert given_out == wanted


def test_callers_do_not_share_a_bucket() -> None:
    limits, limit = Limits(clock=Hands()), Limit(rate=1, burst=1)

    verdicts = [ask(limits, limit, name=name).allowed for name in "aabb"]

    assert verdicts == [True, False, True, False]


def test_a_day_has_so_many_requests_and_ends_at_midnight_utc() -> None:
    hands = Hands()
    limits, limit = Limits(clock=hands), Limit(daily=2)

    today = [ask(limits, limit) for _ in range(3)]
    hands.seconds += 12 * 3600
    tomorrow = ask(limits, limit)

    assert [(verdict.allowed, verdict.remaining) for verdict in today] == [(True, 1), (True, 0), (False, 0)]
    assert today[2].reset == 12 * 3600
    assert today[2].why == "this key may send 2 requests a day (UTC)"
    assert tomorrow.allowed


def test_a_request_that_the_rate_refuses_costs_nothing_of_the_day() -> None:
    hands = Hands()
    limits, limit = Limits(clock=hands), Limit(rate=1, burst=1, daily=3)
    for _ in range(10):
        ask(limits, limit)

    hands.seconds += 1
    second = ask(limits, limit).allowed
    hands.seconds += 1

    assert second
    assert ask(limits, limit).allowed
    hands.seconds += 1
    assert ask(limits, limit).why == "this key may send 3 requests a day (UTC)"


def test_without_limits_there_is_no_verdict() -> None:
    assert asyncio.run(Limits().take(Caller("a"))) is None


def test_headers_are_whole_seconds_upwards() -> None:
    told = dict(Verdict(allowed=False, limit=5, remaining=0, reset=1.2).headers())

    assert told == {
        b"ratelimit-limit": b"5",
        b"ratelimit-remaining": b"0",
        b"ratelimit-reset": b"2",
        b"retry-after": b"2",
    }


class Away:
    """A shared store that does not answer."""

    shared = True

    def take(self, name: str, limit: Limit, want: int, now: float) -> tuple[int, float]:
        raise UnavailableError("away")

    def count(self, name: str, daily: int, want: int, day: int) -> tuple[int, int]:
        raise UnavailableError("away")

    def close(self) -> None: ...


def test_a_store_that_is_away_refuses_nobody_but_limits_still_hold(caplog: pytest.LogCaptureFixture) -> None:
    limits, limit = Limits(Away(), clock=Hands()), Limit(rate=1, burst=2, daily=100)

    async def several() -> list[bool]:
        verdicts = [await limits.take(Caller("a", limit=limit)) for _ in range(4)]
        return [verdict is not None and verdict.allowed for verdict in verdicts]

    assert asyncio.run(several()) == [True, True, False, False]
    assert "limits are counted by each worker for now: away" in caplog.messages


def test_what_is_remembered_stays_bounded() -> None:
    buckets, limit = MemoryBuckets(), Limit(rate=1000)
    for number in range(45_000):
        buckets.take(str(number), limit, 1, number * 1.0)
        buckets.count(str(number), 5, 1, number // 10)

    assert len(buckets._arrivals) <= 20_001
    assert len(buckets._counts) <= 20_001


def test_many_requests_at_the_same_time_get_no_more_than_there_is() -> None:
    limits, limit = Limits(clock=Hands()), Limit(rate=1, burst=7)

    async def crowd() -> int:
        verdicts = await asyncio.gather(*(limits.take(Caller("a", limit=limit)) for _ in range(50)))
        return sum(verdict is not None and verdict.allowed for verdict in verdicts)

    assert asyncio.run(crowd()) == 7


def test_a_refusal_says_when_there_is_a_token_again() -> None:
    limit, arrival, now = Limit(rate=3, burst=2), 0.0, 50.0
    given = 1
    while given:
        arrival, given, wait = refill(arrival, limit, 1, now)

    assert refill(arrival, limit, 1, now + wait - 1e-6)[1] == 0
    assert refill(arrival, limit, 1, now + wait + 1e-6)[1] == 1
    assert math.isfinite(wait)
