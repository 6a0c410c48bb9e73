"""A signal is noted the first time, wherever the program is, and interrupts the second time."""

from __future__ import annotations

import signal

import pytest

from tailwise.cli.asked import Asked


class Closing:
    """Ctrl-c is pressed while this is collected: what a destructor raises is lost."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_a_signal_is_noted_even_inside_a_destructor() -> None:
    with Asked(signal.SIGINT) as asked:
        assert not asked()

        Closing()

        assert asked()


def test_the_second_signal_interrupts() -> None:
    with Asked(signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)

        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_afterwards_signals_mean_what_they_did() -> None:
    before = signal.getsignal(signal.SIGINT)

    with Asked(signal.SIGINT):
        assert signal.getsignal(signal.SIGINT) != before

    assert signal.getsignal(signal.SIGINT) == before
