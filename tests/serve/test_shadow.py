"""The shadow: what it says of two lists, and a real one, in a process of its own, that nobody waits for."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from tests.serve.test_life import PERSON, house, save, until

from tailwise.serve.shadow import LINE_EVERY, WAITING, Shadow, agreement, overlap

LISTS = st.lists(st.integers(0, 20), unique=True).map(lambda numbers: [str(number) for number in numbers])


@given(LISTS, LISTS)
def test_agreement_is_kendalls_tau_of_what_stands_on_both(first: list[str], second: list[str]) -> None:
    common = [item for item in first if item in second]

    tau = agreement(first, second)

    if len(common) < 2:
        assert tau is None
    else:
        assert tau == pytest.approx(kendalltau(range(len(common)), [second.index(item) for item in common]).statistic)


@given(LISTS, LISTS)
def test_overlap_counts_items_on_both_lists(first: list[str], second: list[str]) -> None:
    share = overlap(first, second)

    assert share == overlap(second, first)
    assert share * max(len(first), len(second)) == pytest.approx(sum(item in second for item in first))


@pytest.mark.parametrize(("other", "outcome"), [("v1", "same"), ("v2", "different")])
def test_a_shadow_is_asked_what_was_answered_and_its_differences_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: str, outcome: str
) -> None:
    caplog.set_level(logging.INFO, logger="tailwise.serve.shadow")
    save(tmp_path / "other", other)
    with house(tmp_path, shadow=tmp_path / "other") as (app, client):
        shadow = app.state.context.life.shadow
        until(lambda: shadow.state == "answering")
        for place in range(LINE_EVERY):
            versions = {client.post("/v1/rank", json={"user_id": f"u{place % 24}"}).json()["version"]}
            until(lambda: shadow._queue.qsize() < WAITING // 2)
        client.request("DELETE", "/v1/users/u3")
        until(lambda: any(text == "shadow compared" for text in caplog.messages))
        metrics = client.get("/metrics").text
        told = client.get("/v1/model").json()["shadow"]

    record = next(record for record in caplog.records if record.getMessage() == "shadow compared")
    fields = vars(record)
    assert versions == {"v1"}  # nobody sees its answers
    assert fields["compared"] == LINE_EVERY
    assert (fields["overlap"] == 1) == (outcome == "same")
    assert fields["kendall_tau"] == 1 or outcome == "different"
    assert fields["failures"] == 0
    assert fields["shadow_mean_ms"] > 0
    assert f'tailwise_shadow_total{{outcome="{outcome}"}} {LINE_EVERY}.0' in metrics
    assert told == {"state": "answering"}


def test_a_shadow_that_hangs_slows_nobody_and_what_it_misses_is_counted(tmp_path: Path) -> None:
    save(tmp_path / "other", "v2")
    with house(tmp_path, shadow=tmp_path / "other") as (app, client):
        shadow = app.state.context.life.shadow
        until(lambda: shadow.state == "answering")
        child = shadow._process
        os.kill(child.pid, signal.SIGSTOP)
        start = time.monotonic()
        statuses = {client.post("/v1/rank", json=PERSON).status_code for _ in range(WAITING + 40)}
        took_s = time.monotonic() - start
        metrics = client.get("/metrics").text
        os.kill(child.pid, signal.SIGCONT)

    assert statuses == {200}
    assert took_s < 20  # were one answer to wait for the shadow, this would never end
    dropped = next(line for line in metrics.splitlines() if line.startswith('tailwise_shadow_total{outcome="dropped"}'))
    assert float(dropped.split()[1]) >= 30
    assert not child.is_alive()  # it ends with the service


def test_a_shadow_that_dies_or_is_damaged_takes_nobody_along(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "other", "v2")
    with house(tmp_path, shadow=tmp_path / "other") as (app, client):
        shadow = app.state.context.life.shadow
        until(lambda: shadow.state == "answering")
        os.kill(shadow._process.pid, signal.SIGKILL)
        client.post("/v1/rank", json=PERSON)
        until(lambda: shadow.state == "refused: its process died")
        after = client.post("/v1/rank", json=PERSON).status_code
    next((tmp_path / "other").rglob("*.safetensors")).unlink()
    with house(tmp_path, shadow=tmp_path / "other") as (app, client):
        damaged = app.state.context.life.shadow
        until(lambda: damaged.state.startswith("refused: "))
        still = client.post("/v1/rank", json=PERSON).status_code

    assert (after, still) == (200, 200)
    assert "is missing" in caplog.messages[-1]


def test_a_shadow_makes_room_for_a_new_main_model_and_comes_back(tmp_path: Path) -> None:
    save(tmp_path / "other", "v2")
    with house(tmp_path, shadow=tmp_path / "other") as (app, client):
        shadow: Shadow = app.state.context.life.shadow
        until(lambda: shadow.state == "answering")
        save(tmp_path / "model", "v3")
        until(lambda: client.get("/v1/model").json()["version"] == "v3")

        until(lambda: shadow.state == "answering")

    assert shadow.state == "stopped"
