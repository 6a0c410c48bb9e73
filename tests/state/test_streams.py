"""Redis Streams against a real server: what is acknowledged is durable, poison is put aside, nothing is lost."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tailwise.errors import ConfigError, UnavailableError
from tailwise.serve.feeding import reader
from tailwise.state.ingest import ingest, ingest_once
from tailwise.state.memory import MemoryStore
from tailwise.state.opening import open_store
from tailwise.state.streams import RedisStream
from tailwise.types import Event

READ = reader(None)
FOR_EVER = """
import json, sys
from threading import Event as Signal
from tailwise.types import Event
from tailwise.state.ingest import ingest
from tailwise.state.opening import open_store
from tailwise.state.streams import RedisStream
def told(taken):
    print(taken.events, flush=True)
stream = RedisStream.open(sys.argv[1], idle_s=0.2)
read = lambda body, time: [Event(**json.loads(body), time=time)]
ingest(stream, open_store(sys.argv[2]), read, end=Signal(), report=told)
"""


@pytest.fixture
def client(redis_server: Any) -> Any:
    with closing(Redis(port=redis_server.port)) as opened:
        yield opened


@pytest.fixture
def url(redis_server: Any) -> str:
    return f"redis://127.0.0.1:{redis_server.port}/0/{uuid.uuid4().hex}"


@pytest.fixture
def name(url: str) -> str:
    return url.rpartition("/")[2]


def test_entries_become_events_and_are_acknowledged(client: Any, url: str, name: str) -> None:
    client.xadd(name, {"user_id": "ann", "item_id": "7", "event": "rating", "value": "4.5", "time": "1700000000"})
    client.xadd(
        name, {"data": '[{"user_id": "bob", "item_id": "a", "event_id": "e1"}, {"user_id": "bob", "item_id": "b"}]'}
    )
    store = MemoryStore()
    with closing(RedisStream.open(url)) as stream:
        taken = ingest_once(stream, store, READ)
        again = ingest_once(stream, store, READ)

    assert (taken.events, taken.refused, again.events) == (3, 0, 0)
    assert store.history("ann", 9) == [Event("ann", "7", 1.7e9, "rating", 4.5)]
    assert [event.item_id for event in store.history("bob", 9)] == ["a", "b"]
    assert client.xpending(name, "tailwise")["pending"] == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"data": "{"}, "the event is not JSON: Input data was truncated; send one UTF-8 JSON value"),
        ({"data": b"\xff\xfe"}, "the event is not JSON: "),
        ({"user_id": "ann"}, "event: Object missing required field `item_id`"),
        ({"user_id": "ann", "item_id": "a", "event": "applauded"}, "event.event: Invalid enum value 'applauded'"),
        ({"user_id": "ann", "item_id": "a", "value": "much"}, "event.value: Expected `float | null`, got `str`"),
        ({"user_id": b"\xff", "item_id": "a"}, "the event is not JSON: "),
    ],
)
def test_poison_is_put_aside_with_its_reason_and_the_rest_goes_on(
    client: Any, url: str, name: str, fields: dict[str, Any], reason: str
) -> None:
    poison = client.xadd(name, fields)
    client.xadd(name, {"user_id": "ann", "item_id": "good"})
    store = MemoryStore()
    with closing(RedisStream.open(url)) as stream:
        taken = ingest_once(stream, store, READ)

    ((_, dead),) = client.xrange(f"{name}:dead")
    assert (taken.events, taken.refused) == (1, 1)
    assert dead[b"id"] == poison
    assert dead[b"reason"].decode().startswith(reason)
    assert {key: dead[key.encode()] for key in fields} == {
        key: value if isinstance(value, bytes) else value.encode() for key, value in fields.items()
    }
    assert client.xpending(name, "tailwise")["pending"] == 0


def test_what_one_left_behind_another_takes_over_and_nothing_counts_twice(client: Any, url: str, name: str) -> None:
    client.xadd(name, {"user_id": "ann", "item_id": "a"})
    store = MemoryStore()
    with closing(RedisStream.open(url)) as lost, closing(RedisStream.open(url, idle_s=0)) as other:
        messages = lost.take(10)
        store.append([Event("ann", "a", 1.0, event_id=f"{messages[0].id}/0")])  # durable, but it dies before settling

        taken = ingest_once(other, store, READ)

    assert taken.events == 0
    assert len(store.history("ann", 9)) == 1
    assert client.xpending(name, "tailwise")["pending"] == 0


def test_nothing_is_acknowledged_while_the_store_is_away(client: Any, url: str, name: str, tmp_path: Path) -> None:
    client.xadd(name, {"user_id": "ann", "item_id": "a"})
    store = open_store(f"sqlite:///{tmp_path}/state.sqlite")
    store.close()
    with closing(RedisStream.open(url, idle_s=0)) as stream:
        with pytest.raises(UnavailableError, match=r"is closed; open the store again$"):
            ingest_once(stream, store, READ)
        assert client.xpending(name, "tailwise")["pending"] == 1

        with closing(open_store(f"sqlite:///{tmp_path}/state.sqlite")) as back:
            assert ingest_once(stream, back, READ).events == 1


def test_killed_in_the_middle_it_loses_and_doubles_nothing(client: Any, url: str, name: str, tmp_path: Path) -> None:
    state = f"sqlite:///{tmp_path}/state.sqlite"
    open_store(state).close()
    pipe = client.pipeline()
    for number in range(2000):
        pipe.xadd(name, {"data": f'{{"user_id": "u{number % 7}", "item_id": "{number}"}}'})
    pipe.execute()

    for _ in range(3):
        command = [sys.executable, "-c", FOR_EVER, url, state]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
    stored = 0
    with closing(open_store(state)) as store, closing(RedisStream.open(url, idle_s=0)) as stream:
        while ingest_once(stream, store, READ).events or client.xpending(name, "tailwise")["pending"]:
            pass
        found = [event.item_id for user in range(7) for event in store.history(f"u{user}", 1000)]
        stored = store.size()

    assert stored == 2000
    assert sorted(found, key=int) == [str(number) for number in range(2000)]


def test_it_runs_until_told_and_waits_for_what_is_away(client: Any, url: str, name: str, own_redis: Any) -> None:
    end, seen = threading.Event(), threading.Event()
    store = MemoryStore()
    with closing(RedisStream.open(url)) as stream:
        running = threading.Thread(target=lambda: ingest(stream, store, READ, end=end, report=lambda taken: seen.set()))
        running.start()
        client.xadd(name, {"user_id": "ann", "item_id": "a"})
        assert seen.wait(10)
        end.set()
        running.join(10)

    assert not running.is_alive()
    assert len(store.history("ann", 9)) == 1


def test_a_server_that_lost_the_group_gets_a_new_one(client: Any, url: str, name: str) -> None:
    store = MemoryStore()
    with closing(RedisStream.open(url)) as stream:
        client.delete(name)
        client.xadd(name, {"user_id": "ann", "item_id": "a"})

        events = [ingest_once(stream, store, READ).events for _ in range(2)]

    assert events == [0, 1]


@pytest.mark.parametrize(
    "address", ["redis://h:1", "redis://h:1/0/", "redis://h/x/events", "http://h/0/events", "redis://h/0/e?most=3"]
)
def test_what_is_no_stream_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"^stream is '.*', but it must be redis://HOST:PORT/DB/STREAM\?group=NAME$"):
        RedisStream.open(address)


def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    message = "Redis at redis://127.0.0.1:1/0 cannot be reached ("

    with pytest.raises(UnavailableError, match=f"^{re.escape(message)}") as told:
        RedisStream.open("redis://ann:secret@127.0.0.1:1/events")

    assert "secret" not in str(told.value)
