"""Alert rules and the dashboard: they name numbers that the service has, and Prometheus' own check takes the rules."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

OPS = Path(__file__).parents[2] / "ops"
NAME = re.compile(r"\btailwise_[a-z_]+")


def expressions() -> dict[str, str]:
    """Every expression of both files, by where it stands."""
    rules = re.findall(r"alert: (\w+)\n\s+expr: (.+)", (OPS / "alerts.yml").read_text(encoding="utf-8"))
    board: dict[str, Any] = json.loads((OPS / "grafana.json").read_text(encoding="utf-8"))
    panels = {panel["title"]: target["expr"] for panel in board["panels"] for target in panel["targets"]}
    return {**dict(rules), **panels}


def test_every_number_that_is_asked_for_exists(client: TestClient) -> None:
    client.post("/v1/rank", json={"user_id": "u1"})
    told = set(NAME.findall(client.get("/metrics").text))
    asked = {name for expression in expressions().values() for name in NAME.findall(expression)}

    assert len(expressions()) > 15
    assert len(asked) > 8
    assert asked <= told, sorted(asked - told)


def test_every_route_that_is_asked_for_exists(client: TestClient) -> None:
    routes = {route for expression in expressions().values() for route in re.findall(r'route="([^"]+)"', expression)}

    assert routes
    assert routes <= set(client.get("/openapi.json").json()["paths"])


def test_every_alert_says_what_is_wrong_and_how_much_it_matters() -> None:
    text = (OPS / "alerts.yml").read_text(encoding="utf-8")

    alerts = text.split("- alert: ")[1:]

    assert all("summary: " in alert and re.search(r"severity: (page|ticket)", alert) for alert in alerts)
    documented = (OPS.parent / "docs" / "how-to" / "operate.md").read_text(encoding="utf-8")
    assert [name for name in (alert.split()[0] for alert in alerts) if f"`{name}`" not in documented] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Debian's prometheus")
def test_prometheus_takes_the_rules() -> None:
    checked = subprocess.run(
        ["promtool", "check", "rules", str(OPS / "alerts.yml")], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "12 rules found" in checked.stdout
