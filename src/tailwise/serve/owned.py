"""
Numbers that belong to one tenant: each carries the tenant's name as its first label, and the tenant never sees it.

    Counter(…, ["route"])        one service:   tailwise_requests_total{route="/"}
    owned(Counter, …, "shop")    the operator:  tailwise_requests_total{tenant="shop",route="/"}
                                 the tenant:    tailwise_requests_total{route="/"}

Several workers put their numbers into files that all tenants of a process share, and names alone would mix them there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where several workers put their numbers together; ``running`` sets it."""
TENANT = "tenant"
"""The label."""


def owned(kind: Any, name: str, about: str, labels: Sequence[str] = (), *, tenant: str, **more: Any) -> Any:
    """
    A metric of prometheus_client that is used as ``kind`` itself is, with the tenant filled in where there is one.

    Args:
        kind: Counter, Gauge or Histogram.
        name: Of the metric.
        about: What it counts.
        labels: Of the metric, without the tenant's.
        tenant: Whose numbers they are; "" where a service has one model.
        more: What ``kind`` takes beside these.
    """
    if not tenant:
        return kind(name, about, labels, **more)
    metric = kind(name, about, [TENANT, *labels], **more)
    return Owned(metric, tenant) if labels else metric.labels(tenant)


class Owned:
    """A metric with further labels, whose tenant is known. Cost: a call a use."""

    def __init__(self, metric: Any, tenant: str) -> None:
        self._metric = metric
        self._tenant = tenant

    def labels(self, *values: str) -> Any:
        """The number of these labels."""
        return self._metric.labels(self._tenant, *values)

    def remove(self, *values: str) -> None:
        """Let go of it."""
        self._metric.remove(self._tenant, *values)


def everything(registries: Iterable[CollectorRegistry]) -> Collector:
    """The numbers of several applications of this process, or, where workers share theirs, of all workers."""
    if SHARED not in os.environ:
        return Together(registries)
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # untyped in prometheus_client
    return Together([together])


class Together(Collector):
    """
    What several registries hold, each family once.

    Args:
        registries: Whose names may be the same.
        tenant: Only this one's numbers, without its label; "": all, as they are.
    """

    def __init__(self, registries: Iterable[CollectorRegistry | Collector], tenant: str = "") -> None:
        self._registries = tuple(registries)
        self._tenant = tenant

    def collect(self) -> Iterator[Metric]:
        """Families with their samples; those without any are left out where a tenant asks."""
        families: dict[str, Metric] = {}
        for registry in self._registries:
            for family in registry.collect():
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                known.samples += family.samples
        for family in families.values():
            if self._tenant:
                own = [sample for sample in family.samples if sample.labels.get(TENANT) == self._tenant]
                family.samples = [s._replace(labels={k: v for k, v in s.labels.items() if k != TENANT}) for s in own]
            yield family
