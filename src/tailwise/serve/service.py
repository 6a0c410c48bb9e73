"""How a model is served: every option of ``tailwise serve``, as one settings object that also its workers read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from tailwise.config import Closed
from tailwise.serve.logs import Form


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
    log: Path | None = None
    """A folder for every stored event, as Parquet that ``tailwise fit`` reads; None keeps no log."""
    ingest: str | None = None
    """A Redis stream of events, ``redis://HOST:PORT/DB/STREAM``; None: events come over HTTP alone."""
    workers: int = 1
    """Processes; each holds the model."""
    patient: bool = False
    """Whether it begins although Redis is away: a further worker does, whose place the first process has looked at."""
    threads: int = 1
    """Of the matrix libraries, for each further process; the first one read its own before it began."""
    tenants: Path | None = None
    """A folder of model folders, one a tenant; None serves the one model."""
    tenant: str = ""
    """Whose application this is, where there are several; each gets its own settings."""
    keys: Path | None = None
    """API keys, as ``tailwise keys`` keeps them; None lets everybody in, unless there are tokens."""
    jwt: Path | None = None
    """Which tokens of an identity provider are believed; None: none."""
    tls_cert: Path | None = None
    """Certificate chain (PEM); None serves plain HTTP."""
    tls_key: Path | None = None
    """Its private key (PEM); None when the certificate's file holds it."""
    pseudonymise: Path | None = None
    """A file with a secret: people's ids are replaced by keyed hashes before anything stores or logs them."""
    at_once: Annotated[int, Field(ge=1)] = 1024
    """Requests answered at the same time, a worker; more are told to come back."""
    least_people: Annotated[int, Field(ge=2)] = 10
    """Numbers about fewer people than this are not told."""
    shed_after_ms: Annotated[float, Field(gt=0)] = 50.0
    """Wait, in milliseconds, from which stages that cost much are done without."""
    refuse_after_ms: Annotated[float, Field(gt=0)] = 2_000.0
    """Wait, in milliseconds, from which ranking is refused (429) until fewer ask."""
    log_format: Form = "text"
    """Of the lines on stderr: ``text``, or ``json`` with one object a line."""
    log_requests: bool = False
    """Whether every request gets a line: route, status and time."""
    traces: str | None = None
    """Where spans go, as ``http://collector:4318/v1/traces`` (OTLP over HTTP); None: nowhere."""
    drain_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds between the order to stop, when ``/ready`` begins to say no, and the last request that is taken."""
    watch_s: Annotated[float, Field(ge=0)] = 5.0
    """Seconds between two looks whether the model folder holds another model, which then takes its place; 0: none."""
    shadow: Path | None = None
    """A model that answers the same requests, unseen, to be compared; None: none."""
    canary: Path | None = None
    """A model that a share of the people are served by, until it does worse; None: none."""
    canary_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Of the people, in [0, 1]."""
    canary_after: Annotated[int, Field(ge=10)] = 200
    """Answers of the canary after which it is judged."""
    canary_worse: Annotated[float, Field(ge=1)] = 2.0
    """How many times the main model's share of faults, or its slowest 1 %, end the trial."""
