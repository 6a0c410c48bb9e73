"""A Redis that is stopped, slow, full or empty again: each is told with its remedy, and mends itself."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from redis import Redis

from tailwise.errors import UnavailableError
from tailwise.state import connecting, redis
from tailwise.state.opening import open_store
from tailwise.state.redis import RedisStore
from tailwise.types import Event

ANN = [Event("ann", "a", 1.0, event_id="e1")]


class Proxy:
    """A TCP line to a server that can be slow, or drop what it carries."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.flows = threading.Event()
        self.flows.set()
        self.answers = True
        self.lines: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                here, _ = self.listening.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
                self.lines += [here, there]
                for source, goal, back in ((here, there, False), (there, here, True)):
                    threading.Thread(target=self._carry, args=(source, goal, back), daemon=True).start()
        except OSError:
            pass

    def _carry(self, source: socket.socket, goal: socket.socket, back: bool) -> None:
        try:
            while data := source.recv(65536):
                self.flows.wait()
                if back and not self.answers:
                    self.cut()
                    return
                goal.sendall(data)
        except OSError:
            pass

    def cut(self) -> None:
        for line in self.lines:
            line.close()
        self.lines.clear()


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowded machine may stand still for the tenth of a second that a read has."""
    monkeypatch.setattr(redis, "READ_S", 5.0)


@pytest.fixture
def proxy(redis_server: Any) -> Iterator[Proxy]:
    made = Proxy(redis_server.port)
    yield made
    made.flows.set()
    made.listening.close()
    made.cut()


def through(proxy: Proxy, url: str) -> str:
    return re.sub(r":\d+/", f":{proxy.port}/", url)


def until(works: Callable[[], Any]) -> Any:
    """What ``works`` gives once it does; it must within half a minute, by itself."""
    end = time.monotonic() + 30
    while True:
        try:
            return works()
        except UnavailableError:
            assert time.monotonic() < end


@contextmanager
def setting(port: int, name: str, value: str) -> Iterator[None]:
    with closing(Redis(port=port)) as client:
        before = client.config_get(name)[name]
        client.config_set(name, value)
        try:
            yield
        finally:
            client.config_set(name, before)


def test_a_stopped_server_is_told_at_once_and_found_again_with_all_events(own_redis: Any) -> None:
    own_redis.start()
    with closing(open_store(own_redis.url())) as store:
        store.append(ANN)
        own_redis.kill()
        name = f"Redis at redis://127.0.0.1:{own_redis.port}/0"

        with pytest.raises(
            UnavailableError, match=rf"^{name} cannot be reached \(.*\); start it, or look at the address$"
        ):
            store.history("ann", 10)
        with pytest.raises(UnavailableError, match=r"; trying again within 1 s$"):
            store.history("ann", 10)
        with pytest.raises(UnavailableError, match=rf"^{name} cannot be reached"):
            store.append(ANN)

        own_redis.start()
        assert [event.item_id for event in until(lambda: store.history("ann", 10))] == ["a"]
        assert until(lambda: store.append(ANN)) == 0


def test_a_slow_server_costs_a_read_a_tenth_of_a_second_and_then_nothing(
    redis_server: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "READ_S", connecting.READ_S)
    with closing(open_store(through(proxy, redis_server.url()))) as store:
        store.append(ANN)
        until(lambda: store.history("ann", 10))
        proxy.flows.clear()
        start = time.monotonic()
        with pytest.raises(UnavailableError, match=r"did not answer in time; what was sent may be sent again$"):
            store.history("ann", 10)
        took = time.monotonic() - start
        with monkeypatch.context() as still:
            still.setattr(connecting, "PAUSE_S", 600.0)
            for _ in range(100):  # none of them asks
                with pytest.raises(UnavailableError, match=r"; trying again within 600 s$"):
                    store.history("ann", 10)
        proxy.flows.set()

        assert 0.05 < took < 4.0  # a write would have had 5 s
        assert len(until(lambda: store.history("ann", 10))) == 1


def test_a_write_whose_answer_is_lost_is_done_once(
    redis_server: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "WRITE_S", 2.0)
    url = redis_server.url()
    with closing(open_store(through(proxy, url))) as store, closing(open_store(url)) as direct:
        store.append([Event("ann", "a", 1.0)])
        proxy.answers = False
        with pytest.raises(UnavailableError):  # it was stored; nobody knows
            store.append([Event("ann", "b", 2.0)])
        proxy.answers = True

        assert [event.item_id for event in direct.history("ann", 10)] == ["a", "b"]
        assert until(lambda: store.append([Event("ann", "c", 3.0)])) == 1
        assert len(direct.history("ann", 10)) == 3


def test_a_full_server_stores_nothing_and_still_reads(own_redis: Any) -> None:
    own_redis.start()
    with closing(open_store(own_redis.url())) as store:
        store.append(ANN)
        with setting(own_redis.port, "maxmemory", "1"):
            message = r"; its memory is full and nothing was stored: raise maxmemory, or keep less: most=, keep_days=$"
            with pytest.raises(UnavailableError, match=message):
                store.append([Event("ann", "b", 2.0), Event("bob", "b", 2.0)])

            assert len(store.history("ann", 10)) == 1

        assert store.append([Event("ann", "b", 2.0)]) == 1
        assert store.history("bob", 10) == []


def test_a_server_that_lost_everything_goes_on_empty(own_redis: Any) -> None:
    own_redis.settings = ()
    own_redis.start()
    with closing(open_store(own_redis.url())) as store:
        store.append(ANN)
        own_redis.kill()
        own_redis.start()

        assert until(lambda: store.history("ann", 10)) == []
        assert until(lambda: store.append(ANN)) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("--appendonly", "no"), ["loses events when it stops: set appendonly yes and appendfsync always"]),
        (
            ("--appendonly", "yes", "--appendfsync", "everysec"),
            ["may lose the events of the last second when it stops: set appendfsync always"],
        ),
        (
            ("--appendonly", "yes", "--appendfsync", "no"),
            ["may lose the events of the last half minute when it stops: set appendfsync always"],
        ),
        (
            (
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--maxmemory",
                "1gb",
                "--maxmemory-policy",
                "allkeys-lru",
            ),
            ["drops people when it is full (allkeys-lru): set maxmemory-policy noeviction"],
        ),
        (("--appendonly", "yes", "--appendfsync", "always"), []),
        (
            ("--appendonly", "yes", "--rename-command", "CONFIG", "hidden"),
            ["does not show its settings: see with who runs it that appendfsync is always"],
        ),
    ],
)
def test_what_a_server_may_lose_is_told_when_it_is_opened(
    own_redis: Any, settings: tuple[str, ...], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.settings = settings
    own_redis.start()

    with caplog.at_level(logging.WARNING):
        open_store(own_redis.url()).close()

    name = f"Redis at redis://127.0.0.1:{own_redis.port}/0"
    assert [record.getMessage() for record in caplog.records] == [f"{name} {each}" for each in said]


def test_a_password_is_asked_for_used_and_never_shown(own_redis: Any, caplog: pytest.LogCaptureFixture) -> None:
    own_redis.settings = ("--appendonly", "no", "--requirepass", "s3cret")
    own_redis.start()
    address = f"127.0.0.1:{own_redis.port}/0"
    errors = []
    for url in (f"redis://{address}", f"redis://:wr0ng@{address}"):
        with pytest.raises(UnavailableError) as told:
            open_store(url)
        errors.append(str(told.value))

    with closing(open_store(f"redis://:s3cret@{address}")) as store:
        assert store.append(ANN) == 1
        shown = repr(store)

    assert errors[0].endswith("; give a password: redis://USER:PASSWORD@HOST:PORT/DB")
    assert errors[1].endswith("; user or password is wrong")
    assert "s3cret" not in caplog.text + shown
    assert "wr0ng" not in "".join(errors)


def test_prefixes_share_nothing(redis_server: Any) -> None:
    first, second = redis_server.url(), redis_server.url()
    with closing(open_store(first)) as one, closing(open_store(second)) as other:
        one.append(ANN)
        other.erase("bob")

        assert other.history("ann", 10) == []
        assert other.append(ANN) == 1
        assert not one.erased("bob")


def test_a_read_is_one_round_trip_and_so_is_a_write(redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_store(redis_server.url())) as store:
        assert isinstance(store, RedisStore)
        store.append(ANN)
        store.person("ann", 10)
        sent: list[bytes] = []
        monkeypatch.setattr("redis.connection.AbstractConnection.send_packed_command", _counting(sent))

        store.person("ann", 10)
        reads = len(sent)
        store.append([Event("ann", f"i{n}", float(n)) for n in range(100)])

        assert (reads, len(sent) - reads) == (1, 1)


def _counting(sent: list[bytes]) -> Callable[..., None]:
    from redis.connection import AbstractConnection

    real = AbstractConnection.send_packed_command

    def send(self: Any, command: Any, check_health: bool = True) -> None:
        sent.append(b"")
        real(self, command, check_health)

    return send


def test_a_closed_store_says_so(redis_server: Any) -> None:
    store = open_store(redis_server.url())
    store.close()
    store.close()

    with pytest.raises(
        UnavailableError, match=r"^Redis at redis://127\.0\.0\.1:\d+/0 is closed; open the store again$"
    ):
        store.history("ann", 1)


def test_a_budget_is_short() -> None:
    assert connecting.READ_S <= 0.1
