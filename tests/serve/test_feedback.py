import time
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from tailwise.pipeline import Engine
from tailwise.serve.problems import HINTS
from tailwise.state.sqlite import SqliteStore


def best(client: TestClient, user_id: str) -> list[str]:
    return [item["item_id"] for item in client.post("/v1/recommend", json={"user_id": user_id}).json()["items"]]


def test_the_next_list_knows_an_acknowledged_event(client: TestClient) -> None:
    before = best(client, "newcomer")

    answer = client.post("/v1/events", json={"user_id": "newcomer", "item_id": "i36", "event": "favourite"})

    assert answer.json() == {"accepted": 1, "new": 1}
    assert best(client, "newcomer") != before
    assert best(client, "newcomer")[0] != "i36"


def test_an_event_sent_twice_counts_once(client: TestClient) -> None:
    event = {"user_id": "u", "item_id": "i1", "event_id": "e1"}

    answers = [
        client.post("/v1/events", json=events).json() for events in (event, [event, {**event, "event_id": "e2"}])
    ]

    assert answers == [{"accepted": 1, "new": 1}, {"accepted": 2, "new": 1}]
    assert len(client.get("/v1/users/u").json()["events"]) == 2


def test_one_bad_event_stores_nothing(client: TestClient) -> None:
    events = [{"user_id": "u", "item_id": "i1"}, {"user_id": "u", "item_id": "i2", "propensity": 3}]

    response = client.post("/v1/events", json=events)

    assert response.status_code == 422
    assert response.json()["detail"] == "event[1].propensity: Expected `float` <= 1.0"
    assert client.get("/v1/users/u").json()["events"] == []


def test_no_events_are_no_trouble(client: TestClient) -> None:
    assert client.post("/v1/events", json=[]).json() == {"accepted": 0, "new": 0}


def test_a_person_is_what_was_fitted_and_what_came_since_oldest_first(client: TestClient) -> None:
    start = time.time()
    client.post("/v1/events", json={"user_id": "u1", "item_id": "unheard of", "event": "rating", "value": 4.5})

    person = client.get("/v1/users/u1").json()

    assert person["user_id"] == "u1"
    assert person["total"] == 15
    times = [event["time"] for event in person["events"]]
    assert times == sorted(times)
    last = person["events"][-1]
    assert last.pop("time") >= start - 0.001  # in whole milliseconds, which the state keeps in fewer bytes
    assert last == {"item_id": "unheard of", "title": "unheard of", "event": "rating", "value": 4.5}


def test_at_least_the_newest_hundred_events_are_given_back(client: TestClient) -> None:
    client.post("/v1/events", json=[{"user_id": "u", "item_id": f"i{n}", "time": n} for n in range(150)])

    person = client.get("/v1/users/u").json()
    newest = client.get("/v1/users/u?limit=2").json()

    assert [event["time"] for event in person["events"]] == list(range(150))
    assert [event["time"] for event in newest["events"]] == [148, 149]


def test_an_answer_means_that_the_event_is_in_the_file(served: str, tmp_path: Path) -> None:
    httpx.post(f"{served}/v1/events", timeout=60, json={"user_id": "u", "item_id": "i1", "event_id": "e"})

    other = SqliteStore(tmp_path / "state.sqlite")  # as another process would, with the service still running
    try:
        assert [event.item_id for event in other.history("u", 10)] == ["i1"]
    finally:
        other.close()


def test_a_store_that_fails_is_unavailable_and_the_log_alone_says_where_and_why(
    served: str, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.store.close()

    response = httpx.post(f"{served}/v1/events", timeout=60, json={"user_id": "u", "item_id": "i1"})

    assert response.status_code == 503
    assert response.json()["detail"] == HINTS[503]
    assert caplog.messages[-1].endswith("state.sqlite is closed; open the store again")
