"""Options of ``tailwise serve``: what those who run the service set, and which models it changes between."""

from __future__ import annotations

import argparse
from pathlib import Path


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
