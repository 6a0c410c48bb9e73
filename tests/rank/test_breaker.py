"""Who fails again and again is left alone, tried once after a rest, and believed again when that works."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import Abstain
from tailwise.rank.breaker import Breaker, BreakerConfig


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(BreakerConfig(failures=2, rest_s=10), clock=clock)
    for _ in range(2):
        breaker.enter()
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row_and_says_when_it_tries_again() -> None:
    breaker = opened(Clock())

    with pytest.raises(Abstain, match=r"^breaker: open after 2 failures, next try in 10 s$"):
        breaker.enter()
    assert breaker.state == 2


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(BreakerConfig(failures=2))

    for _ in range(5):
        breaker.failed()
        breaker.succeeded()

    assert breaker.state == 0


def test_after_a_rest_one_probe_is_let_in_and_only_one() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 10
    assert breaker.state == 1

    breaker.enter()

    with pytest.raises(Abstain):
        breaker.enter()


def test_a_good_probe_closes_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 10
    breaker.enter()

    breaker.succeeded()

    assert breaker.state == 0
    breaker.enter()
    breaker.enter()


def test_every_bad_probe_doubles_the_rest_up_to_tenfold() -> None:
    clock = Clock()
    breaker = opened(clock)
    rests = []
    for _ in range(6):
        start = clock.now
        while breaker.state == 2:
            clock.now += 1
        rests.append(clock.now - start)
        breaker.enter()
        breaker.failed()

    assert rests == [10, 20, 40, 80, 100, 100]


def test_who_left_without_asking_leaves_room_for_the_next_probe() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 10
    breaker.enter()
    with pytest.raises(Abstain):  # one probe at a time
        breaker.enter()

    breaker.left()

    breaker.enter()
    with pytest.raises(Abstain):
        breaker.enter()


@given(st.lists(st.sampled_from(["good", "bad", "wait"]), max_size=60))
def test_nobody_is_let_in_while_it_rests(steps: list[str]) -> None:
    clock = Clock()
    breaker = Breaker(BreakerConfig(failures=3, rest_s=5), clock=clock)
    row = 0
    for step in steps:
        if step == "wait":
            clock.now += 3
            continue
        try:
            breaker.enter()
        except Abstain:
            assert row >= 3
            continue
        row = row + 1 if step == "bad" else 0
        (breaker.failed if step == "bad" else breaker.succeeded)()
        assert (breaker.state == 2) == (row >= 3)
