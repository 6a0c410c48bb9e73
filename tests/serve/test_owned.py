from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from tailwise.serve.owned import Together, everything, owned


def numbers(tenant: str) -> CollectorRegistry:
    """The numbers of one application, as large as its tenant's name is long."""
    registry = CollectorRegistry()
    owned(Counter, "met", "People met", ["where"], tenant=tenant, registry=registry).labels("here").inc(len(tenant))
    owned(Gauge, "wait", "Seconds", tenant=tenant, registry=registry).set(len(tenant))
    return registry


def lines(found: Together) -> list[str]:
    text = generate_latest(found).decode()
    return [line for line in text.splitlines() if not line.startswith("#") and "_created" not in line]


def test_without_a_tenant_a_metric_is_as_it_always_was() -> None:
    registry = CollectorRegistry()

    assert isinstance(owned(Counter, "met", "People met", ["where"], tenant="", registry=registry), Counter)


def test_a_tenant_sees_its_own_numbers_without_its_name() -> None:
    together = everything([numbers("shop"), numbers("library")])

    found = lines(Together([together], "library"))

    assert found == ['met_total{where="here"} 7.0', "wait 7.0"]


def test_together_each_number_says_whose_it_is_and_each_family_is_there_once() -> None:
    together = everything([numbers("shop"), numbers("library")])

    found = lines(together)

    assert found == [
        'met_total{tenant="shop",where="here"} 4.0',
        'met_total{tenant="library",where="here"} 7.0',
        'wait{tenant="shop"} 4.0',
        'wait{tenant="library"} 7.0',
    ]
    assert generate_latest(together).decode().count("# TYPE met_total counter") == 1


def test_a_number_that_is_let_go_of_is_gone() -> None:
    registry = CollectorRegistry()
    metric = owned(Gauge, "model", "The model", ["version"], tenant="shop", registry=registry)
    metric.labels("one").set(1)
    metric.labels("two").set(1)

    metric.remove("one")

    assert lines(Together([registry], "shop")) == ['model{version="two"} 1.0']
