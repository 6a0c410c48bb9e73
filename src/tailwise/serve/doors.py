"""From the settings of the service to what guards it: keys, tokens, limits, TLS; and what must not be started."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Collection
from typing import Any

from tailwise.artifacts import MANIFEST
from tailwise.data.pseudonyms import Pseudonyms
from tailwise.errors import ConfigError
from tailwise.serve.auth import Porter
from tailwise.serve.buckets import open_buckets
from tailwise.serve.keys import KeyRing, read_keys
from tailwise.serve.limits import Limits
from tailwise.serve.places import common_state, services_of
from tailwise.serve.service import Service
from tailwise.serve.tokens import Tokens, read_tokens

log = logging.getLogger(__name__)


def check_doors(service: Service) -> None:
    """
    Refuse what would let people in where they do not belong, before anything is opened.

    Raises:
        ConfigError: Tenants without keys, or an option of TLS that is wrong.
        UnavailableError: A file cannot be read.
    """
    closed = service.keys is not None or service.jwt is not None
    if service.tenants is not None and not closed:
        raise ConfigError("tenants are told apart by their keys: give --keys FILE or --jwt FILE")
    if service.keys is not None:
        read_keys(service.keys)
    if service.jwt is not None:
        read_tokens(service.jwt)
    if not closed and not _loopback(service.host):
        log.warning(
            "%s can be reached from other machines, and without --keys or --jwt whoever reaches it may read and erase",
            service.host,
        )
    if service.pseudonymise is not None:
        Pseudonyms.read(service.pseudonymise)
    if service.traces is not None and not service.traces.startswith(("http://", "https://")):
        raise ConfigError(f"traces is {service.traces!r}, but it must be as http://collector:4318/v1/traces")
    _check_trials(service)
    _check_tls(service)
    if service.tenants is not None:
        services_of(service)


def _check_trials(service: Service) -> None:
    for name, folder in (("shadow", service.shadow), ("canary", service.canary)):
        if folder is None:
            continue
        if service.tenants is not None:
            raise ConfigError(f"{name} is one model, but tenants have a model each; start a service of one to try it")
        if not (folder / MANIFEST).is_file():
            raise ConfigError(f"{name} is {folder}, which holds no model; make one with: tailwise fit")


def _check_tls(service: Service) -> None:
    if service.tls_key is not None and service.tls_cert is None:
        raise ConfigError("tls_key is given without tls_cert; a certificate comes with it: --tls-cert FILE")
    if service.tls_cert is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(service.tls_cert, service.tls_key)
        except FileNotFoundError as error:  # it does not say which
            both = ", ".join(str(path) for path in (service.tls_cert, service.tls_key) if path and not path.is_file())
            raise ConfigError(f"{both} is not there; TLS takes --tls-cert FILE and --tls-key FILE (PEM)") from error
        except (OSError, ValueError) as error:  # an error of OpenSSL is an OSError
            key = "" if service.tls_key is not None else "; name the key: --tls-key FILE"
            raise ConfigError(f"tls_cert {service.tls_cert} and its key are of no use: {error}{key}") from error


def tls_of(service: Service) -> dict[str, Any]:
    """What uvicorn is told about TLS."""
    return {} if service.tls_cert is None else {"ssl_certfile": service.tls_cert, "ssl_keyfile": service.tls_key}


def porter_of(service: Service, *, tenants: Collection[str] = ("",)) -> Porter | None:
    """
    Who decides about callers, where the settings name keys or tokens; None where everybody may do everything.

    Raises:
        ConfigError: A file is not of its form.
        UnavailableError: A file cannot be read, or a package is missing.
    """
    if service.keys is None and service.jwt is None:
        return None
    return Porter(
        ring=None if service.keys is None else KeyRing(service.keys),
        tokens=None if service.jwt is None else Tokens(read_tokens(service.jwt)),
        limits=Limits(open_buckets(common_state(service))),
        tenants=frozenset(tenants),
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
