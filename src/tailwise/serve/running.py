"""From a model folder to a running service: the port first, then the model, then uvicorn."""

from __future__ import annotations

import errno
import gc
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from tailwise import artifacts
from tailwise.errors import ConfigError, UnavailableError
from tailwise.pipeline import Engine
from tailwise.serve.app import create_app
from tailwise.serve.monitor import SHARED
from tailwise.serve.service import Service
from tailwise.state.opening import open_store
from tailwise.types import Request

SERVICE = "TAILWISE_SERVICE"
"""The settings of the service as JSON, for its further workers."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TAILWISE_THREADS")
QUIET: dict[str, Any] = {
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "timeout_graceful_shutdown": 5,
    "timeout_keep_alive": 75,  # longer than clients and proxies usually keep a connection, so that they end it, not we
}


def serve(service: Service) -> None:
    """
    Serve a model until it is told to stop (ctrl-c or SIGTERM); running requests are answered first.

    Raises:
        ConfigError: The port is not one, there are no workers, or they cannot share the state.
        UnavailableError: The port is in use, or may not be listened on.
        ArtifactError: The model is missing or damaged.
    """
    if service.workers < 1:
        raise ConfigError(f"workers is {service.workers}, but it must be at least 1")
    url = service.state or state_beside(service.model)
    if service.workers > 1 and url.startswith("memory:"):
        others = f"{service.workers} workers cannot share; give sqlite:///PATH, or one worker"
        raise ConfigError(f"state is {url!r}, which {others}")
    listening = bind(service.host, service.port)
    service = service.model_copy(update={"state": url, "port": listening.getsockname()[1]})
    try:
        if service.workers == 1:
            app = load(service)
            listening.listen(2048)  # who connects from now on waits a moment instead of being refused
            _announce(service)
            uvicorn.Server(uvicorn.Config(app, **QUIET)).run(sockets=[listening])
        else:
            listening.close()  # uvicorn makes its own for its workers
            _serve_many(service)
    except KeyboardInterrupt:  # uvicorn raises it again after an orderly end
        pass
    finally:
        listening.close()


def state_beside(model: Path) -> str:
    """
    The address of the default store.

    >>> state_beside(Path("models/shop"))
    'sqlite:///models/shop.state.sqlite'
    """
    return f"sqlite:///{model.with_name(f'{model.name}.state.sqlite')}"


def bind(host: str, port: int) -> socket.socket:
    """
    A socket on an address, held from now on, so that nobody can take the port while the model loads.

    Raises:
        ConfigError: The port or the host is not one.
        UnavailableError: The port is in use or not allowed.
    """
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((host, port))
    except OverflowError as error:
        held.close()
        raise ConfigError(f"port is {port}, but it must be between 0 and 65535") from error
    except socket.gaierror as error:
        held.close()
        raise ConfigError(f"host {host!r} has no address here; the usual one is 127.0.0.1") from error
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            raise UnavailableError(f"port {port} is in use; choose another with --port") from error
        raise UnavailableError(f"port {port} of {host} cannot be used: {error.strerror}; choose another") from error
    return held


def load(service: Service) -> FastAPI:
    """The application of a model folder, warmed up, its long-lived objects out of the garbage collector's way."""
    engine = Engine.open(service.model, state=service.state or state_beside(service.model))
    # The first answer reads every matrix from the disk and takes a hundred times as long: nobody should wait for it.
    for user_id in engine.people.user_ids[:3]:
        engine.answer(Request("warm-up", user_id=user_id))
    app = create_app(engine, service)
    gc.collect()
    gc.freeze()  # a full collection over the model's objects would otherwise halt a request now and then
    return app


def from_environment() -> FastAPI:
    """What each of several workers calls."""
    return load(Service.model_validate_json(os.environ[SERVICE]))


def _serve_many(service: Service) -> None:
    """Several processes on one port. Each opens the model and the state, so both are looked at before any starts."""
    artifacts.check(service.model)
    open_store(service.state or "").close()
    _announce(service)
    os.environ |= {SERVICE: service.model_dump_json(), **dict.fromkeys(THREADS, str(service.threads))}
    with tempfile.TemporaryDirectory(prefix="tailwise-metrics-") as together:
        os.environ[SHARED] = together
        place: dict[str, Any] = {"host": service.host, "port": service.port, "workers": service.workers}
        uvicorn.run("tailwise.serve.running:from_environment", factory=True, **place, **QUIET)


def _announce(service: Service) -> None:
    address = f"[{service.host}]" if ":" in service.host else service.host
    print(f"serving {service.model} on http://{address}:{service.port} (ctrl-c stops)", flush=True)  # noqa: T201  the one line it says
