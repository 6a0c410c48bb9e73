import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tailwise.serve.monitor import MOST_VERSIONS, Monitor
from tailwise.types import StageTrace


def samples(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def test_requests_events_and_steps_are_counted(client: TestClient) -> None:
    for _ in range(3):
        client.post("/v1/rank", json={"user_id": "u1"})
    client.post("/v1/rank", content=b"{")
    client.post("/v1/events", json=[{"user_id": "u", "item_id": "i", "event_id": "same"}] * 2)

    found = samples(client)

    assert found['tailwise_requests_total{method="POST",route="/v1/rank",status="200"}'] == 3
    assert found['tailwise_requests_total{method="POST",route="/v1/rank",status="400"}'] == 1
    assert found['tailwise_request_seconds_count{route="/v1/rank"}'] == 4
    assert found['tailwise_stage_seconds_count{stage="mmr"}'] == 3
    assert found["tailwise_events_total"] == 1


def test_callers_cannot_add_labels(client: TestClient) -> None:
    client.get("/health")
    client.get("/metrics")
    before = set(samples(client))
    for n in range(20):
        client.get(f"/v1/users/u{n}")
        client.get(f"/made-up/{n}")
        client.request(f"VERB{n}", "/health")

    added = {name for name in set(samples(client)) - before if name.startswith("tailwise_requests_total")}

    assert added == {
        'tailwise_requests_total{method="GET",route="/v1/users/{user_id:path}",status="200"}',
        'tailwise_requests_total{method="GET",route="other",status="404"}',
        'tailwise_requests_total{method="other",route="/health",status="405"}',
    }


def test_two_monitors_do_not_share_counts() -> None:
    one, other = Monitor(), Monitor()

    one.stored(5)

    assert b"tailwise_events_total 5.0" in one.text()
    assert b"tailwise_events_total 0.0" in other.text()


def test_models_without_end_leave_the_numbers_of_the_newest_few() -> None:
    monitor = Monitor()

    for number in range(100):
        monitor.modelled(f"v{number}", 1.0, faulty=number % 2 == 0)
        monitor.unanswered(f"v{number}")
    text = monitor.text().decode()

    told = {line.split('version="')[1].split('"')[0] for line in text.splitlines() if 'version="' in line}
    assert told == {f"v{number}" for number in range(100 - MOST_VERSIONS, 100)}


def test_a_model_that_comes_back_has_numbers_again() -> None:
    monitor = Monitor()
    for number in [*range(MOST_VERSIONS + 1), 0]:
        monitor.modelled(f"v{number}", 1.0, faulty=False)

    text = monitor.text().decode()

    assert 'tailwise_model_seconds_count{version="v0"} 1.0' in text
    assert 'version="v1"' not in text


def test_an_answer_that_cannot_be_noted_down_is_given_and_counted(
    app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no room for numbers")

    monkeypatch.setattr(app.state.context.pressure, "took", broken)

    answers = [client.post("/v1/rank", json={"user_id": "u1"}).status_code for _ in range(2)]

    assert answers == [200, 200]
    assert samples(client)["tailwise_notes_failed_total"] == 2
    assert "an answer was given, but could not be noted down" in caplog.text


def test_a_state_that_is_away_is_told_apart_from_other_reasons() -> None:
    trace = [
        StageTrace("person", 1.0, 0, 3, "history of 12 s ago: the state is away"),
        StageTrace("person", 1.0, 0, 0, "no history: the state is away"),
        StageTrace("bandit", 1.0, 0, 0, "nobody to try anything on"),
    ]
    monitor = Monitor()

    monitor.ranked(trace)

    text = monitor.text().decode()
    told = {line for line in text.splitlines() if line.startswith("tailwise_stage_skipped_total{")}
    assert told == {
        'tailwise_stage_skipped_total{stage="person",why="stale"} 1.0',
        'tailwise_stage_skipped_total{stage="person",why="no_history"} 1.0',
        'tailwise_stage_skipped_total{stage="bandit",why="other"} 1.0',
    }


def test_events_of_items_that_the_model_does_not_know_are_counted(client: TestClient) -> None:
    client.post("/v1/events", json=[{"user_id": "u", "item_id": item} for item in ("i1", "never-seen", "nor-this")])

    found = samples(client)

    assert found["tailwise_events_total"] == 3
    assert found["tailwise_events_unknown_total"] == 2
