"""Options: the numbers that verbs share, and what ``tailwise serve`` is told by those who run it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

MOST_SEED = 2**31 - 1
"""What every library that draws takes."""


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """
    The type of an option that is a whole number within bounds; outside them the command was asked wrongly.

    >>> whole(1)("7")
    7
    """

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"is {text!r}, but it must be a whole number") from error
        if number < least or (most is not None and number > most):
            rule = f"at least {least}" if most is None else f"between {least} and {most}"
            raise argparse.ArgumentTypeError(f"is {number}, but it must be {rule}")
        return number

    return read


def seed_option(verb: argparse.ArgumentParser, what: str = "of everything that draws") -> None:
    """What every verb that draws takes."""
    verb.add_argument("--seed", type=whole(0, MOST_SEED), default=0, help=f"{what} (default: 0)")


def operating_options(serve: argparse.ArgumentParser) -> None:
    """What those who run the service set."""
    serve.add_argument("--log-format", choices=("text", "json"), default="text", help="of the lines on stderr")
    serve.add_argument("--log-requests", action="store_true", help="a line for every request")
    serve.add_argument("--traces", metavar="URL", help="OpenTelemetry collector, as http://HOST:4318/v1/traces")
    serve.add_argument("--drain-s", metavar="S", type=float, default=0.0, help="pause between SIGTERM and the end")
    serve.add_argument("--shed-after-ms", metavar="MS", type=float, default=50.0, help="wait that drops costly stages")
    serve.add_argument("--refuse-after-ms", metavar="MS", type=float, default=2000.0, help="wait that answers 429")


def changing_options(serve: argparse.ArgumentParser) -> None:
    """Which models are changed between, and when."""
    serve.add_argument(
        "--watch-s", metavar="S", type=float, default=5.0, help="between looks for a new model; 0: none (default: 5)"
    )
    serve.add_argument("--shadow", metavar="MODEL", type=Path, help="answers the same, unseen, to be compared")
    serve.add_argument("--canary", metavar="MODEL", type=Path, help="serves a share of the people, until it does worse")
    serve.add_argument("--canary-share", metavar="P", type=float, default=0.05, help="of the people (default: 0.05)")
    serve.add_argument("--canary-after", metavar="N", type=int, default=200, help="answers to judge by (default: 200)")
    serve.add_argument("--canary-worse", metavar="X", type=float, default=2.0, help="times, that end it (default: 2)")
