"""Where the models and the state of a service lie: one of each, or one of each a tenant."""

from __future__ import annotations

import re
from pathlib import Path

from tailwise.artifacts import PREVIOUS
from tailwise.errors import ConfigError
from tailwise.serve.keys import NAME
from tailwise.serve.service import Service

PLACE = "{tenant}"
"""Stands for the tenant's name in the address of the state."""


def models_of(tenants: Path) -> dict[str, Path]:
    """
    The model of each tenant: the folders in ``tenants`` that hold one.

    Raises:
        ConfigError: A folder's name is none for a tenant, or there is no model at all.
    """
    found = {path.parent.name: path.parent for path in sorted(tenants.glob("*/manifest.json"))}
    models = {name: path for name, path in found.items() if not name.startswith(".") and not name.endswith(PREVIOUS)}
    for name in models:
        if not re.match(NAME, name):
            rule = "but a tenant's name is small letters, digits, - and _, at most 63; rename the folder"
            raise ConfigError(f"{tenants} holds a model in {name!r}, {rule}")
    if not models:
        raise ConfigError(f"{tenants} holds no model folder; fit one with: tailwise fit DATA --out {tenants}/TENANT")
    return models


def services_of(service: Service) -> dict[str, Service]:
    """
    What each tenant's application is served with: its own model, its own state.

    Raises:
        ConfigError: One address of a state is given for several tenants, or as ``models_of``.
    """
    assert service.tenants is not None
    shared = service.state is not None and service.state != "memory://" and PLACE not in service.state
    if shared:
        raise ConfigError(f"state is {service.state!r}, but tenants share no state: write {PLACE} where the name goes")
    if service.ingest is not None and PLACE not in service.ingest:
        raise ConfigError(f"ingest is one stream, but tenants share no events: write {PLACE} where the name goes")
    found = {}
    for tenant, model in models_of(service.tenants).items():
        state = state_beside(model) if service.state is None else service.state.replace(PLACE, tenant)
        own = {"tenant": tenant, "log": service.log and service.log / tenant, "ingest": service.ingest}
        if service.ingest is not None:
            own["ingest"] = service.ingest.replace(PLACE, tenant)
        found[tenant] = service.model_copy(update={"model": model, "state": state, **own})
    return found


def common_state(service: Service) -> str:
    """
    The address of the state; where there are tenants, a pattern of theirs.

    >>> common_state(Service(model=Path("models/shop")))
    'sqlite:///models/shop.state.sqlite'
    >>> common_state(Service(model=Path("models"), tenants=Path("models")))
    'sqlite:///models/{tenant}.state.sqlite'
    """
    return service.state or state_beside(service.model if service.tenants is None else service.tenants / PLACE)


def state_beside(model: Path) -> str:
    """
    The address of the default store.

    >>> state_beside(Path("models/shop"))
    'sqlite:///models/shop.state.sqlite'
    """
    return f"sqlite:///{model.with_name(f'{model.name}.state.sqlite')}"
