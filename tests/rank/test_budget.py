"""No more is spent than may be, by the minute and by the day, and what was guessed is settled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import Abstain
from tailwise.rank.budget import DAY, Budget, BudgetConfig


class Clock:
    def __init__(self) -> None:
        self.now = 20_000 * DAY

    def __call__(self) -> float:
        return self.now


def test_a_minute_is_full_and_the_next_one_is_empty() -> None:
    clock = Clock()
    budget = Budget(BudgetConfig(tokens_per_minute=100), clock=clock)
    budget.reserve(60)

    with pytest.raises(Abstain, match=r"^budget: 100 tokens a minute are spent$"):
        budget.reserve(41)

    budget.reserve(40)
    clock.now += 60
    budget.reserve(100)


def test_a_day_is_full_whatever_the_minute_says() -> None:
    clock = Clock()
    budget = Budget(BudgetConfig(tokens_per_day=100), clock=clock)
    budget.reserve(100)
    clock.now += 3600

    with pytest.raises(Abstain, match=r"^budget: 100 tokens a day are spent$"):
        budget.reserve(1)

    clock.now += DAY
    budget.reserve(1)


def test_money_is_tokens_at_their_prices() -> None:
    budget = Budget(BudgetConfig(money_per_day=1.0, price_in=2.0, price_out=10.0), clock=Clock())
    budget.reserve(100_000)

    price = budget.settle(100_000, tokens_in=200_000, tokens_out=50_000)

    assert price == pytest.approx(0.4 + 0.5)
    budget.reserve(50_000)
    with pytest.raises(Abstain, match=r"^budget: 1 money a day are spent$"):
        budget.reserve(1_000)


def test_what_was_guessed_too_high_is_given_back() -> None:
    budget = Budget(BudgetConfig(tokens_per_minute=100), clock=Clock())
    budget.reserve(90)

    budget.settle(90, tokens_in=10, tokens_out=5)

    budget.reserve(85)
    with pytest.raises(Abstain):
        budget.reserve(1)


def test_what_was_reserved_in_another_minute_gives_nothing_back() -> None:
    clock = Clock()
    budget = Budget(BudgetConfig(tokens_per_minute=100), clock=clock)
    budget.reserve(90)
    clock.now += 60

    budget.settle(90, tokens_in=10, tokens_out=0)

    with pytest.raises(Abstain):
        budget.reserve(101)


def test_nothing_is_bounded_where_nothing_is_set() -> None:
    budget = Budget(BudgetConfig(), clock=Clock())
    budget.reserve(10**12)

    assert budget.settle(10**12, tokens_in=10**12, tokens_out=10**12) == 0.0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 40)), max_size=50))
def test_reservations_never_go_beyond_a_minute(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    budget = Budget(BudgetConfig(tokens_per_minute=100), clock=clock)
    spent: dict[int, int] = {}
    for tokens, later in steps:
        clock.now += later
        minute = int(clock.now // 60)
        try:
            budget.reserve(tokens)
        except Abstain:
            assert spent.get(minute, 0) + tokens > 100
            continue
        spent[minute] = spent.get(minute, 0) + tokens
    assert all(total <= 100 for total in spent.values())
