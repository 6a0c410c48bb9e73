"""JSON over a real socket: whatever the server does, it is over in time, and the key goes nowhere else."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tailwise.errors import UnavailableError
from tailwise.rank.wire import Line


def test_it_posts_and_reads_json_on_one_connection(server: Any) -> None:
    line = Line(f"{server.url}/")
    server.behave("form")

    first, second = line.post("/a", {"n": 1}, 5), line.post("/b", {"n": 2}, 5)

    assert first == second == {"choices": [{"message": None}], "results": [{"index": "one"}], "usage": 7}
    assert [seen["path"] for seen in server.seen()] == ["a", "b"]
    assert len(line._client._transport._pool.connections) == 1


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        ("error", "{host} answered with status 500"),
        ("redirect", "{host} answered with status 307"),
        ("bytes", "{host} replied with what is no JSON"),
        ("huge", "{host} replied with more than 100000 bytes"),
    ],
)
def test_what_a_broken_server_does_is_one_error_without_its_words(server: Any, mode: str, problem: str) -> None:
    server.behave(mode)
    line = Line(server.url, most_bytes=100_000)

    with pytest.raises(UnavailableError) as raised:
        line.post("/x", {}, 5)

    assert str(raised.value) == problem.format(host=line.host)


@pytest.mark.parametrize("mode", ["stall", "drip"])
def test_a_server_that_takes_its_time_is_left(server: Any, mode: str) -> None:
    server.behave(mode)
    start = time.perf_counter()

    with pytest.raises(TimeoutError, match=r"^127.0.0.1:\d+ took longer than 0.2 s$"):
        Line(server.url).post("/x", {}, 0.2)

    assert time.perf_counter() - start < 20  # of the hundred and more that the server takes


def test_nobody_there_is_one_error() -> None:
    with pytest.raises(UnavailableError, match=r"^127.0.0.1:9 cannot be asked: ConnectError$"):
        Line("http://127.0.0.1:9/v1").post("/x", {}, 5)


def test_the_key_comes_from_the_environment_and_is_never_said(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_LLM_KEY", " sk-very-secret ")
    server.behave("form")
    line = Line(server.url, key_env="SHOP_LLM_KEY")

    line.post("/x", {}, 5)
    server_saw = server.seen()[0]["headers"]
    server.behave("error")
    with pytest.raises(UnavailableError) as raised:
        line.post("/x", {}, 5)

    assert server_saw["authorization"] == "Bearer sk-very-secret"
    assert "secret" not in f"{raised.value!r} {vars(line)}"


def test_a_key_that_is_not_there_is_said_before_anything_is_sent(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_LLM_KEY", raising=False)
    line = Line(server.url, key_env="SHOP_LLM_KEY")

    with pytest.raises(UnavailableError, match=r"^the environment has no SHOP_LLM_KEY, which holds the key of "):
        line.post("/x", {}, 5)

    assert server.seen() == []
