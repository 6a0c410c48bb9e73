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
needs_promtool = pytest.mark.skipif(  # ``make test`` wants Python, git and make alone; ``.ci/run`` installs promtool
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


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


@needs_promtool
def test_prometheus_takes_the_rules() -> None:
    checked = subprocess.run(
        ["promtool", "check", "rules", str(OPS / "alerts.yml")], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "17 rules found" in checked.stdout


LIST = 'tailwise_stage_seconds_count{stage="person",job="tailwise",instance="a"}'
FIRES = {
    "TailwiseSilent": {'tailwise_events_total{job="tailwise",instance="a"}': "5+0x500", LIST: "0+10x500"},
    "TailwiseStageLate": {
        'tailwise_stage_skipped_total{stage="judge",why="late",job="tailwise",instance="a"}': "0+6x500",
        'tailwise_stage_seconds_count{stage="judge",job="tailwise",instance="a"}': "0+10x500",
    },
    "TailwiseMixedModels": {f'tailwise_model_info{{version="{name}",job="tailwise"}}': "1x500" for name in "ab"},
    "TailwiseModelRefused": {
        'tailwise_model_changes_total{what="refused",job="tailwise",instance="a"}': "0x470 1x30",
    },
    "TailwiseStateAway": {
        'tailwise_stage_skipped_total{stage="person",why="stale",job="tailwise",instance="a"}': "0+1x500",
    },
    "TailwiseDrift": {'tailwise_online{what="popularity",job="tailwise",instance="a"}': "0.4x500"},
    "TailwiseStrangeItems": {
        'tailwise_events_unknown_total{job="tailwise",instance="a"}': "0+3x500",
        'tailwise_events_total{job="tailwise",instance="a"}': "0+10x500",
    },
    "TailwiseLogBehind": {'tailwise_waiting{what="log",job="tailwise",instance="a"}': "300000x500"},
}
QUIET = {
    "TailwiseSilent": {'tailwise_events_total{job="tailwise",instance="a"}': "0+1x500", LIST: "0+10x500"},
    "TailwiseStageLate": {
        'tailwise_stage_skipped_total{stage="judge",why="late",job="tailwise",instance="a"}': "0+4x500",
        'tailwise_stage_seconds_count{stage="judge",job="tailwise",instance="a"}': "0+10x500",
    },
    "TailwiseMixedModels": {  # tenants have models of their own
        f'tailwise_model_info{{tenant="{name}",version="{name}",job="tailwise"}}': "1x500" for name in "ab"
    },
    "TailwiseDrift": {'tailwise_online{what="accuracy",job="tailwise",instance="a"}': "0.4x500"},
}


def fired(tmp_path: Path, alert: str, series: dict[str, str]) -> bool:
    """Whether an alert is on after four hours of such numbers, as Prometheus itself works it out."""
    told = [{"series": name, "values": values} for name, values in series.items()]
    asked = {"expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})', "eval_time": "4h"}
    expected = {**asked, "exp_samples": [{"labels": "{}", "value": 1}]}
    unit = {"interval": "30s", "input_series": told, "promql_expr_test": [expected]}
    (tmp_path / "unit.yml").write_text(json.dumps({"rule_files": [str(OPS / "alerts.yml")], "tests": [unit]}))

    run = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "unit.yml")], capture_output=True, text=True, check=False
    )

    assert run.returncode == 0 or "got: nil" in run.stdout + run.stderr, run.stdout + run.stderr
    return run.returncode == 0


@needs_promtool
@pytest.mark.parametrize("alert", FIRES)
def test_an_alert_fires_when_what_it_tells_is_so(tmp_path: Path, alert: str) -> None:
    assert fired(tmp_path, alert, FIRES[alert])


@needs_promtool
@pytest.mark.parametrize("alert", QUIET)
def test_an_alert_is_silent_when_it_is_not(tmp_path: Path, alert: str) -> None:
    assert not fired(tmp_path, alert, QUIET[alert])


def test_no_alert_waits_for_a_number_that_begins_with_its_first_event(client: TestClient) -> None:
    told = client.get("/metrics").text

    assert 'tailwise_model_changes_total{what="refused"} 0.0' in told
    assert 'tailwise_model_changes_total{what="canary_off"} 0.0' in told
    assert "tailwise_notes_failed_total 0.0" in told
