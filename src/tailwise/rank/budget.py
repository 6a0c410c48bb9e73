"""What may be spent on a model: tokens a minute and a day, money a day. Of this process; it starts at nothing spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Annotated

from pydantic import Field

from tailwise.config import Closed
from tailwise.errors import Abstain

MINUTE, DAY = 60.0, 86_400.0


class BudgetConfig(Closed):
    """What may be spent, by each process that serves; None sets no bound."""

    tokens_per_minute: Annotated[int, Field(ge=0)] | None = None
    """Read and written together."""
    tokens_per_day: Annotated[int, Field(ge=0)] | None = None
    """Read and written together; days are of UTC."""
    money_per_day: Annotated[float, Field(ge=0)] | None = None
    """In the currency of the prices."""
    price_in: Annotated[float, Field(ge=0)] = 0.0
    """Of a million tokens read."""
    price_out: Annotated[float, Field(ge=0)] = 0.0
    """Of a million tokens written."""


class Budget:
    """
    Counts what is spent. A question is charged at its guess before it is asked, and settled when its cost is known.

    Args:
        config: Bounds and prices.
        clock: Seconds since epoch.
    """

    def __init__(self, config: BudgetConfig, *, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock = clock
        self._lock = Lock()
        self._minute = self._day = -1
        self._in_minute = self._in_day = 0
        self._money = 0.0

    def reserve(self, tokens: int) -> None:
        """
        Charge a guess of tokens to be read.

        Raises:
            Abstain: It would go beyond a bound; nothing is charged.
        """
        config = self._config
        with self._lock:
            self._turn_over()
            bounds = (
                ("tokens a minute", self._in_minute + tokens, config.tokens_per_minute),
                ("tokens a day", self._in_day + tokens, config.tokens_per_day),
                ("money a day", self._money + self._price(tokens, 0), config.money_per_day),
            )
            for what, after, most in bounds:
                if most is not None and after > most:
                    raise Abstain(f"budget: {most:g} {what} are spent")
            self._charge(tokens, self._price(tokens, 0))

    def settle(self, reserved: int, *, tokens_in: int, tokens_out: int) -> float:
        """Put what was used in the place of what was reserved; gives its price."""
        price = self._price(tokens_in, tokens_out)
        with self._lock:
            self._turn_over()
            self._charge(tokens_in + tokens_out - reserved, price - self._price(reserved, 0))
        return price

    def _turn_over(self) -> None:
        now = self._clock()
        if int(now // MINUTE) != self._minute:
            self._minute, self._in_minute = int(now // MINUTE), 0
        if int(now // DAY) != self._day:
            self._day, self._in_day, self._money = int(now // DAY), 0, 0.0

    def _charge(self, tokens: int, money: float) -> None:
        self._in_minute = max(0, self._in_minute + tokens)  # a minute that began since has nothing to give back
        self._in_day = max(0, self._in_day + tokens)
        self._money = max(0.0, self._money + money)

    def _price(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self._config.price_in + tokens_out * self._config.price_out) / 1e6
