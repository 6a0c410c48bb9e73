"""The log holds what was acknowledged, each event once, and is a data folder; who was erased goes from it."""

from __future__ import annotations

import fcntl
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from redis import Redis

from tailwise.data.load import load
from tailwise.errors import UnavailableError
from tailwise.state import log
from tailwise.state.log import EventLog, Rotation
from tailwise.state.opening import open_store
from tailwise.types import Event

SMALL = Rotation(events=4)


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/state.sqlite"}
    url = urls.get(request.param) or request.getfixturevalue("redis_server").url()
    with closing(open_store(url)) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def logged(folder: Path) -> list[str]:
    names = sorted(folder.glob("events-*.parquet"))
    return [item for name in names for item in pl.read_parquet(name)["item_id"]]


def events(*numbers: int, user_id: str = "ann") -> list[Event]:
    return [Event(user_id, f"i{n}", 1.7e9 + n, event_id=f"{user_id}{n}") for n in numbers]


def test_a_segment_is_written_when_enough_events_wait(store: Any, folder: Path) -> None:
    writing = EventLog(store, folder, SMALL)
    store.append(events(1, 2, 3))

    early, names = writing.write(), list(folder.glob("*.parquet"))
    store.append(events(4, 5))
    due = writing.write()
    store.append(events(6))
    rest = writing.write(everything=True)

    assert (early, names, rest) == (0, [], 1)
    assert due >= 1
    assert logged(folder) == ["i1", "i2", "i3", "i4", "i5", "i6"]
    assert store.waiting() == 0


def test_a_segment_is_written_when_it_is_old(store: Any, folder: Path) -> None:
    writing = EventLog(store, folder, Rotation(seconds=0.0))
    store.append(events(1))

    assert writing.write() == 1
    assert writing.write() == 0
    assert logged(folder) == ["i1"]


def test_the_log_is_a_data_folder_with_all_that_is_known_of_an_event(store: Any, folder: Path) -> None:
    writing = EventLog(store, folder, SMALL)
    full = Event("zoë", "寿司|x", 1.7e9 + 0.25, "rating", 4.5, "r1", 3, 0.25, "e1")
    store.append([full, full, *events(1)])
    writing.write(everything=True)
    store.append(events(2))
    writing.write(everything=True)

    read = load(folder).events

    assert read["user_id"].to_list() == ["zoë", "ann", "ann"]
    assert read.row(0, named=True) == {
        "user_id": "zoë",
        "item_id": "寿司|x",
        "time": 1.7e9 + 0.25,
        "event": "rating",
        "value": 4.5,
        "request_id": "r1",
        "position": 3,
        "propensity": 0.25,
        "event_id": "e1",
    }


@pytest.mark.parametrize("moment", ["claimed", "written", "moved"])
def test_a_crash_at_any_moment_loses_and_doubles_nothing(
    store: Any, folder: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.keep_journal()
    store.append(events(1, 2))

    class Crash(BaseException): ...

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(
            log, *{"claimed": ("_write", crash), "written": ("_sync", crash), "moved": ("_sync", crash)}[moment]
        )
        if moment == "moved":
            calls: list[Path] = []
            patch.setattr(log, "_sync", lambda path: crash() if calls else calls.append(path))
        with pytest.raises(Crash):
            EventLog(store, folder, SMALL).write(everything=True)
    assert len(list(folder.glob("events-*.parquet"))) == (moment == "moved")

    store.append(events(3))
    EventLog(store, folder, SMALL).write(everything=True)

    assert logged(folder) == ["i1", "i2", "i3"]
    assert list(folder.glob(".*.new")) == []


def test_who_is_erased_goes_from_the_segments_and_later_events_stay(store: Any, folder: Path) -> None:
    writing = EventLog(store, folder, SMALL)
    store.append([*events(1, 2), *events(1, user_id="bob")])
    writing.write(everything=True)
    store.append([*events(3), *events(3, user_id="bob")])  # waits while she is erased
    store.erase("ann")
    store.append(events(4))

    writing.write(everything=True)

    read = load(folder).events
    assert read["user_id"].to_list() == ["bob", "bob", "ann"]
    assert read["item_id"].to_list()[2] == "i4"
    assert store.erasures() == []
    on_disk = b"".join(path.read_bytes() for path in sorted(folder.glob("*"))[:1])
    assert b"ann" not in on_disk


def test_a_segment_of_an_erased_person_alone_goes_whole(store: Any, folder: Path) -> None:
    writing = EventLog(store, folder, SMALL)
    store.append(events(1, 2))
    writing.write(everything=True)
    store.erase("ann")

    changed = writing.follow()

    assert changed == 1
    assert list(folder.glob("*.parquet")) == []
    assert writing.follow() == 0


def test_one_of_several_processes_writes(store: Any, folder: Path) -> None:
    writing = EventLog(store, folder, SMALL)
    store.append(events(1, 2, 3, 4))
    with (folder / ".writing").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        assert writing.write(everything=True) == 0

    assert writing.write(everything=True) == 1


def test_a_thread_writes_what_waits_and_the_rest_at_the_end(store: Any, folder: Path) -> None:
    writing = EventLog(store, folder, Rotation(events=2, look_s=0.005))
    there = threading.Event()
    store.append(events(1))
    writing.start()
    store.append(events(2, 3))
    for _ in range(400):
        if len(logged(folder)) >= 3 or there.wait(0.01):
            break
    store.append(events(4))
    writing.stop()

    assert logged(folder) == ["i1", "i2", "i3", "i4"]


def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_lost(store: Any, folder: Path) -> None:
    writing = EventLog(store, folder, SMALL)
    store.append(events(1, 2, 3, 4))
    (folder / ".writing").unlink()
    folder.rmdir()
    folder.write_text("a file")
    message = (
        f"event log {folder} cannot be written: Not a directory; events wait in the store: mend it, or name another "
        "folder"
    )

    with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
        writing.write()
    with pytest.raises(UnavailableError, match=f"^event log {re.escape(str(folder))} cannot be written: File exists;"):
        EventLog(store, folder)

    folder.unlink()
    EventLog(store, folder).write(everything=True)
    assert logged(folder) == ["i1", "i2", "i3", "i4"]


def test_a_folder_that_is_away_is_told_once_with_what_waits_and_so_is_its_return(
    store: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writing = EventLog(store, folder, SMALL)
    store.append(events(1, 2, 3))
    aside = folder.rename(folder.with_name("aside"))
    folder.write_text("a file")

    for _ in range(3):
        writing.stop()  # writes what waits, as every look does
    waited = writing.behind
    folder.unlink()
    aside.rename(folder)
    writing.stop()

    assert (waited, writing.behind) == (3, 0)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "event log waits",
        "event log goes on",
    ]
    assert logged(folder) == ["i1", "i2", "i3"]


def test_a_store_that_began_again_goes_on_with_the_log_and_erases_what_the_one_before_wrote(
    store: Any, folder: Path, tmp_path: Path
) -> None:
    with closing(open_store(f"sqlite:///{tmp_path}/before.sqlite")) as before:
        writing = EventLog(before, folder, SMALL)
        for number in (1, 2, 3):
            before.append([*events(number), *events(number, user_id="bob")])
            writing.write(everything=True)

    writing = EventLog(store, folder, SMALL)
    store.erase("ann")
    writing.write()
    store.append(events(4, user_id="bob"))
    writing.write(everything=True)

    assert logged(folder) == ["i1", "i2", "i3", "i4"]
    assert sorted(log.segment_number(path.name) for path in folder.glob("*.parquet")) == [1, 2, 3, 4]


def test_a_redis_that_was_emptied_loses_nothing_that_came_later_from_the_log(own_redis: Any, folder: Path) -> None:
    own_redis.settings = ()
    own_redis.start()
    with closing(open_store(own_redis.url())) as store:
        writing = EventLog(store, folder, SMALL)
        store.append([*events(1), *events(1, user_id="bob")])
        writing.write(everything=True)
        with Redis(port=own_redis.port) as client:
            client.flushall()

        store.append(events(2, user_id="bob"))
        store.erase("ann")  # before anybody looked
        writing.write(everything=True)

    assert logged(folder) == ["i1", "i2"]
    assert {user for path in folder.glob("*.parquet") for user in pl.read_parquet(path)["user_id"]} == {"bob"}
