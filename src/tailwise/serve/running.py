"""From a model folder to a running service: the port first, then the model, then uvicorn."""

from __future__ import annotations

import errno
import logging
import os
import socket
import tempfile
from contextlib import closing
from dataclasses import replace
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from tailwise import artifacts
from tailwise.errors import UnavailableError, UsageError
from tailwise.pipeline import Engine
from tailwise.serve.app import create_app
from tailwise.serve.doors import check_doors, tls_of
from tailwise.serve.feeding import Feeding
from tailwise.serve.heap import few_arenas, settle
from tailwise.serve.logs import configure
from tailwise.serve.owned import SHARED
from tailwise.serve.places import common_state, services_of, state_beside
from tailwise.serve.protocol import CarefulProtocol
from tailwise.serve.service import Service
from tailwise.serve.tenants import open_tenants
from tailwise.serve.warming import unsound, warm_up
from tailwise.state.opening import open_store

log = logging.getLogger(__name__)

SERVICE = "TAILWISE_SERVICE"
"""The settings of the service as JSON, for its further workers."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TAILWISE_THREADS")
QUIET: dict[str, Any] = {
    "log_level": "warning",
    "log_config": None,  # its lines go where ours go, in our form
    "access_log": False,
    "server_header": False,
    "http": CarefulProtocol,
    "timeout_graceful_shutdown": 5,
    "timeout_keep_alive": 75,  # longer than clients and proxies usually keep a connection, so that they end it, not we
}


def serve(service: Service) -> None:
    """
    Serve a model until it is told to stop (ctrl-c or SIGTERM); running requests are answered first.

    Raises:
        UsageError: The port is not one, there are no workers, or they cannot share the state.
        UnavailableError: The port is in use, or may not be listened on.
        ArtifactError: The model is missing or damaged.
    """
    if service.workers < 1:
        raise UsageError(f"workers is {service.workers}, but it must be at least 1")
    check_doors(service)
    url = common_state(service)
    if service.workers > 1 and url.startswith("memory:"):
        others = f"{service.workers} workers cannot share; give sqlite:///PATH, or one worker"
        raise UsageError(f"state is {url!r}, which {others}")
    listening = bind(service.host, service.port)
    service = service.model_copy(update={"state": url, "port": listening.getsockname()[1]})
    try:
        if service.workers == 1:
            app = load(service)
            listening.listen(2048)  # who connects from now on waits a moment instead of being refused
            _announce(service)
            uvicorn.Server(uvicorn.Config(app, **QUIET, **tls_of(service))).run(sockets=[listening])
        else:
            listening.close()  # uvicorn makes its own for its workers
            _serve_many(service)
    except KeyboardInterrupt:  # uvicorn raises it again after an orderly end
        pass
    finally:
        listening.close()


def bind(host: str, port: int) -> socket.socket:
    """
    A socket on an address, held from now on, so that nobody can take the port while the model loads.

    Raises:
        UsageError: The port or the host is not one.
        UnavailableError: The port is in use or not allowed.
    """
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((host, port))
    except OverflowError as error:
        held.close()
        raise UsageError(f"port is {port}, but it must be between 0 and 65535") from error
    except socket.gaierror as error:
        held.close()
        raise UsageError(f"host {host!r} has no address here; the usual one is 127.0.0.1") from error
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            raise UnavailableError(f"port {port} is in use; choose another with --port") from error
        raise UnavailableError(f"port {port} of {host} cannot be used: {error.strerror}; choose another") from error
    return held


def load(service: Service) -> ASGIApp:
    """The application of a model folder, or of one a tenant; long-lived objects out of the garbage collector's way."""
    few_arenas()
    app = _open(service) if service.tenants is None else open_tenants(service, _open)
    settle()
    return app


def _open(service: Service) -> FastAPI:
    """The application of a model folder, warmed up."""
    engine = Engine.open(service.model)
    url = service.state or state_beside(service.model)
    engine = replace(engine, store=open_store(url, patient=service.patient))
    warm_up(engine)
    why = unsound(engine)
    if why is not None:
        log.warning("the model is served, but %s", why)
    return create_app(engine, service)


def from_environment() -> ASGIApp:
    """What each of several workers calls."""
    service = Service.model_validate_json(os.environ[SERVICE])
    configure(service.log_format, requests=service.log_requests)
    return load(service)


def _serve_many(service: Service) -> None:
    """Several processes on one port. Each opens models and states, so all are looked at before any starts."""
    for own in [service] if service.tenants is None else services_of(service).values():
        artifacts.check(own.model)
        with closing(open_store(own.state or "")) as store:
            Feeding(store, own).stop()  # says what is wrong with the log or the queue, and writes what waited
    _announce(service)
    os.environ |= {
        SERVICE: service.model_copy(update={"patient": True}).model_dump_json(),
        **dict.fromkeys(THREADS, str(service.threads)),
    }
    with tempfile.TemporaryDirectory(prefix="tailwise-metrics-") as together:
        os.environ[SHARED] = together
        place: dict[str, Any] = {"host": service.host, "port": service.port, "workers": service.workers}
        uvicorn.run("tailwise.serve.running:from_environment", factory=True, **place, **QUIET, **tls_of(service))


def _announce(service: Service) -> None:
    address = f"[{service.host}]" if ":" in service.host else service.host
    scheme = "http" if service.tls_cert is None else "https"
    what = f"{service.tenants or service.model} on {scheme}://{address}:{service.port}"
    print(f"serving {what} (ctrl-c stops)", flush=True)  # noqa: T201  the one line it says
