"""Who gets the model on trial, and when it has to go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.serve.canary import FEW, LATEST, Canary, Tally, part_of
from tailwise.types import Request


def canary(share: float = 0.5, after: int = 100) -> Canary[str]:
    return Canary("model", "v2", share=share, after=after, worse=2.0)


def fed(own: list[tuple[float, bool]], main: list[tuple[float, bool]], failures: int = 0) -> Canary[str]:
    made = canary()
    for on_trial, answers in ((True, own), (False, main)):
        for ms, faulty in answers:
            made.took(ms, faulty=faulty, on_trial=on_trial)
    for _ in range(failures):
        made.failed()
    return made


@given(st.text(), st.text())
def test_a_person_has_one_part_whatever_the_name(name: str, salt: str) -> None:
    part = part_of(name, salt)

    assert 0 <= part < 1
    assert part == part_of(name, salt)


def test_parts_are_spread_evenly() -> None:
    parts = np.array([part_of(f"u{number}", "v2") for number in range(4000)])

    counts = np.histogram(parts, bins=10, range=(0, 1))[0]

    assert counts.min() > 320  # 400 expected, standard deviation 19


def test_a_larger_share_keeps_who_was_in_and_the_request_stands_for_who_has_no_name() -> None:
    requests = [Request(f"r{number}", user_id=f"u{number}") for number in range(200)]
    requests += [Request(f"r{number}") for number in range(200)]

    small = {request.request_id for request in requests[:200] if canary(0.1).has(request)}
    large = {request.request_id for request in requests[:200] if canary(0.4).has(request)}
    nameless = sum(canary(0.1).has(request) for request in requests[200:])

    assert small < large
    assert 5 < nameless < 45
    assert not any(canary(0.0).has(request) for request in requests)
    assert all(canary(1.0).has(request) for request in requests)


GOOD = [(2.0, False)] * 100


@pytest.mark.parametrize(
    ("own", "main", "failures", "why"),
    [
        (GOOD, GOOD, 0, None),
        (GOOD[:99], GOOD, 0, None),
        (GOOD, GOOD, 2, None),  # below the slack: 2 of 102
        (GOOD, GOOD, 4, "3.8% of its answers failed, 0.0% of the main model's"),
        ([], GOOD, 9, None),
        ([], GOOD, 10, "100.0% of its answers failed, 0.0% of the main model's"),
        ([(2.0, True)] * 30 + GOOD, GOOD, 0, "23.1% of its answers did without a step, 0.0% of the main model's"),
        ([(2.0, True)] * 30 + GOOD, [(2.0, True)] * 30 + GOOD, 0, None),
        ([(11.0, False)] * 100, [(4.0, False)] * 100, 0, None),  # below twice 4 ms and the slack of 5 ms
        ([(14.0, False)] * 100, [(4.0, False)] * 100, 0, "its slowest 1 % take 14.0 ms, the main model's 4.0 ms"),
        ([(14.0, False)] * 100, [(4.0, False)] * (FEW - 1), 0, None),
        ([(14.0, False)] * 60, [(4.0, False)] * 100, 0, None),
    ],
)
def test_a_canary_goes_when_it_is_worse_by_the_factors(
    own: list[tuple[float, bool]], main: list[tuple[float, bool]], failures: int, why: str | None
) -> None:
    verdict = fed(own, main, failures).verdict()

    assert verdict == why


def test_what_is_long_past_does_not_count() -> None:
    tally = Tally()
    for _ in range(100):
        tally.add(None, 2)
    for _ in range(LATEST):
        tally.add(1.0, 0)

    assert tally.share(1) == 0
    assert tally.answers == LATEST + 100
