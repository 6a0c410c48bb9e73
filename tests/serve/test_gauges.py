from dataclasses import replace

import numpy as np
from fastapi import FastAPI
from starlette.testclient import TestClient

from tailwise.pipeline import Engine
from tailwise.serve.gauges import Gauges, judged
from tailwise.serve.monitor import MOST_VERSIONS, Monitor
from tailwise.serve.pressure import Pressure
from tailwise.serve.shown import Shown


def value(text: str, name: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))


def test_what_answers_show_is_in_the_metrics(client: TestClient) -> None:
    answer = client.post("/v1/rank", json={"user_id": "u1", "k": 12}).json()

    text = client.get("/metrics").text

    assert value(text, "tailwise_shown_slots_total") == 12
    assert value(text, "tailwise_shown_tail_slots_total") == sum(item["tail"] for item in answer["items"])
    assert value(text, "tailwise_shown_coverage") == 12 / 96
    assert value(text, 'tailwise_model_info{version="c1ne3a00"}') == 1


def test_asking_twice_counts_nothing_twice(app: FastAPI, client: TestClient) -> None:
    client.post("/v1/rank", json={"user_id": "u1", "k": 5})
    app.state.context.pressure.refused = 3

    texts = [client.get("/metrics").text for _ in range(2)]

    assert [value(text, "tailwise_shown_slots_total") for text in texts] == [5, 5]
    assert [value(text, "tailwise_refused_total") for text in texts] == [3, 3]


def test_another_model_takes_the_place_of_the_one_before(engine: Engine) -> None:
    monitor, pressure = Monitor(), Pressure(shed_after_ms=50, refuse_after_ms=2000)
    gauges, shown = Gauges(monitor.registry, pressure), Shown(engine.catalogue)
    shown.add(np.arange(4))
    gauges.update(engine, shown)

    gauges.update(replace(engine, manifest={"version": "second"}), Shown(engine.catalogue))

    text = monitor.text().decode()
    assert value(text, 'tailwise_model_info{version="c1ne3a00"}') == 0
    assert value(text, 'tailwise_model_info{version="second"}') == 1
    assert value(text, "tailwise_shown_slots_total") == 4  # the new count began again at 0 and takes nothing away


def test_models_without_end_leave_the_newest_few(engine: Engine) -> None:
    monitor, pressure = Monitor(), Pressure(shed_after_ms=50, refuse_after_ms=2000)
    gauges, shown = Gauges(monitor.registry, pressure), Shown(engine.catalogue)

    for number in range(100):
        gauges.update(replace(engine, manifest={"version": f"v{number}"}), shown)
    text = monitor.text().decode()

    assert text.count("tailwise_model_info{") == MOST_VERSIONS
    assert value(text, 'tailwise_model_info{version="v99"}') == 1
    assert value(text, 'tailwise_model_info{version="v98"}') == 0


def test_what_waits_is_told(app: FastAPI, client: TestClient) -> None:
    text = client.get("/metrics").text

    assert value(text, 'tailwise_waiting{what="requests"}') == 1  # this one
    assert value(text, 'tailwise_waiting{what="log"}') == 0
    assert app.state.context.monitor.running == 0


def test_what_learning_on_found_is_told_until_a_model_is_fitted_anew(engine: Engine) -> None:
    monitor, pressure = Monitor(), Pressure(shed_after_ms=50, refuse_after_ms=2000)
    gauges, shown = Gauges(monitor.registry, pressure), Shown(engine.catalogue)
    online = {"accuracy": 0.5, "decision": "learned", "drift": {"popularity": 0.3, "scores": None, "fell": True}}
    gauges.update(replace(engine, manifest={"version": "learned", "online": online}), shown)
    learned = monitor.text().decode()

    gauges.update(replace(engine, manifest={"version": "fitted"}), shown)

    told = {what: value(learned, f'tailwise_online{{what="{what}"}}') for what in ("accuracy", "popularity", "fell")}
    assert told == {"accuracy": 0.5, "popularity": 0.3, "fell": 1}
    assert "scores" not in learned
    assert np.isnan(value(monitor.text().decode(), 'tailwise_online{what="accuracy"}'))


def test_a_round_that_was_taken_back_is_what_is_told() -> None:
    assert judged({"accuracy": 0.6, "decision": "rolled back", "round": {"accuracy": 0.2, "drift": "?"}}) == {
        "accuracy": 0.2
    }
