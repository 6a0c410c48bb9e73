"""How a model is served: every option of ``tailwise serve``, as one settings object that also its workers read."""

from __future__ import annotations

from pathlib import Path

from tailwise.config import Closed


class Service(Closed):
    """Settings of the service. Checked where they are used."""

    model: Path
    """What ``tailwise fit`` wrote."""
    port: int = 8000
    """0 takes any free one."""
    host: str = "127.0.0.1"
    """The address to listen on; the default is reached from this machine alone."""
    state: str | None = None
    """Where events live; None is a SQLite file beside the model."""
    workers: int = 1
    """Processes; each holds the model."""
    threads: int = 1
    """Of the matrix libraries, for each further process; the first one read its own before it began."""
