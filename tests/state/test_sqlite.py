"""What only a file can promise: it outlives the process, is shared, and says what is wrong with it."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tailwise.errors import ArtifactError, DataError, UnavailableError
from tailwise.state import sqlite
from tailwise.state.commits import _Write
from tailwise.state.migrate import VERSION, _write_ahead
from tailwise.state.sqlite import SqliteStore
from tailwise.state.store import Bounds, hash_of
from tailwise.state.tables import Writer
from tailwise.types import Event

APPEND_FOR_EVER = """
import sys
from pathlib import Path
from tailwise.state.sqlite import SqliteStore
from tailwise.types import Event

store, label, number = SqliteStore(Path(sys.argv[1])), sys.argv[2], 0
while number < int(sys.argv[3]):
    number += 1
    event_id = f"{label}-{number}"
    store.append([Event(label, event_id, float(number), event_id=event_id)])
    print(event_id, flush=True)
"""


def appending(path: Path, label: str, most: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPEND_FOR_EVER, str(path), label, str(most)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def until(happened: Callable[[], bool]) -> None:
    """Wait for other threads to get somewhere; a test that hangs says nothing."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as opened:
        yield opened


def test_events_and_erasures_outlive_the_store(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.append([Event("ann", "a", 1.0), Event("bob", "b", 2.0)])
        store.erase("bob")

    with closing(SqliteStore(path)) as again:
        assert again.history("ann", 10) == [Event("ann", "a", 1.0)]
        assert again.erased("bob")
        assert again.size() == 1


def test_an_acknowledged_event_survives_kill_9(path: Path) -> None:
    rounds, moments = 10, random.Random(7)
    acknowledged: set[str] = set()

    for label in map(str, range(rounds)):
        process = appending(path, label, 1_000_000)
        assert process.stdout is not None
        acknowledged |= {process.stdout.readline() for _ in range(moments.randint(1, 60))}
        process.kill()
        acknowledged |= set(process.stdout.read().splitlines(keepends=True))
        assert process.wait() == -9  # still writing, or the test would prove nothing
        process.stdout.close()

    with closing(SqliteStore(path)) as store:
        found = {f"{event.item_id}\n" for label in range(rounds) for event in store.history(str(label), 1_000_000)}
        assert len(acknowledged) > rounds
        assert {line for line in acknowledged if line.endswith("\n")} <= found  # the last line may be cut in two


def test_two_processes_write_one_file_without_loss(path: Path) -> None:
    processes = [appending(path, label, 150) for label in ("left", "right")]

    for process in processes:
        process.communicate()

    with closing(SqliteStore(path)) as store:
        assert [process.returncode for process in processes] == [0, 0]
        assert (len(store.history("left", 1000)), len(store.history("right", 1000))) == (150, 150)


def test_what_another_process_writes_or_erases_is_seen_at_once(store: SqliteStore, path: Path) -> None:
    store.append([Event("ann", "a", 1.0), Event("ann", "c", 3.0)])
    store.history("ann", 10)

    with closing(SqliteStore(path)) as other:
        other.append([Event("ann", "b", 2.0)])
        after_append = [event.item_id for event in store.history("ann", 10)]
        other.erase("ann")
        after_erase = store.history("ann", 10)
        other.append([Event("ann", "d", 4.0)])  # with the number of an erased event it would come out as that

    assert after_append == ["a", "b", "c"]
    assert after_erase == []
    assert store.history("ann", 10) == [Event("ann", "d", 4.0)]


def test_a_new_file_gets_its_log_when_another_store_has_done_writing(path: Path) -> None:
    with closing(SqliteStore(path)):
        pass
    options = {"isolation_level": None, "check_same_thread": False}
    with closing(sqlite3.connect(path, **options)) as other, closing(sqlite3.connect(path, timeout=5)) as own:
        assert other.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        other.execute("BEGIN IMMEDIATE")
        done = threading.Timer(0.2, other.execute, ["COMMIT"])
        done.start()

        _write_ahead(own)

        done.join()
        assert own.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_stores_that_open_a_new_file_together_all_open_it(path: Path) -> None:
    together = threading.Barrier(6)

    def open_and_append(number: int) -> int:
        together.wait()
        with closing(SqliteStore(path)) as store:
            return store.append([Event("ann", "a", float(number))])

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(open_and_append, range(6))) == [1] * 6


def test_waiting_threads_share_a_commit(store: SqliteStore) -> None:
    commits: list[str] = []
    store._commits.connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    with ThreadPoolExecutor(16) as pool, closing(sqlite3.connect(store.path)) as other:
        other.execute("BEGIN IMMEDIATE")  # the first writer waits here, the others behind it
        waiting = [pool.submit(store.append, [Event("ann", "a", float(n))]) for n in range(16)]
        until(lambda: len(store._commits._queue) == 15)
        other.rollback()
        new = [each.result() for each in waiting]

    assert new == [1] * 16
    assert len(commits) == 2


def test_a_read_does_not_wait_for_a_writer(store: SqliteStore) -> None:
    store.append([Event("ann", "a", 1.0)])
    with ThreadPoolExecutor(1) as pool, closing(sqlite3.connect(store.path)) as other:
        other.execute("BEGIN EXCLUSIVE")  # without write-ahead logging readers would wait too
        waiting = pool.submit(store.append, [Event("ann", "b", 2.0)])

        found = store.history("ann", 10)

        assert not waiting.done()
        other.rollback()
        waiting.result()
    assert found == [Event("ann", "a", 1.0)]
    assert len(store.history("ann", 10)) == 2


def test_work_that_fails_harms_nobody_elses(store: SqliteStore) -> None:
    good = Event("ann", "a", 1.0)

    def bad(writer: Writer) -> int:
        writer.append([Event("bob", "new item", 1.0)])
        return writer.run("INSERT INTO people (user_id) VALUES (NULL)").rowcount

    with ThreadPoolExecutor(3) as pool, closing(sqlite3.connect(store.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = pool.submit(store.append, [good])
        until(lambda: store._commits._leading)
        together = [pool.submit(store.append, [good, good]), pool.submit(store._commits.write, bad)]
        until(lambda: len(store._commits._queue) == 2)
        other.rollback()
        new = [first.result(), together[0].result()]

        with pytest.raises(DataError, match=r"^an event cannot be stored: NOT NULL constraint failed: people\."):
            together[1].result()
    assert new == [1, 2]
    assert store.size() == 3
    assert store.history("bob", 10) == []
    store.append([Event("bob", "new item", 2.0)])  # its number was taken back with the rest
    assert [event.item_id for event in store.history("bob", 10)] == ["new item"]


def test_a_full_disk_refuses_the_events_and_keeps_the_rest(store: SqliteStore) -> None:
    store.append([Event("ann", "a", 1.0)])
    pages = store._commits.connection.execute("PRAGMA page_count").fetchone()[0]
    store._commits.connection.execute(f"PRAGMA max_page_count = {pages}")
    message = f"{store.path}: database or disk is full; nothing was stored: free some space and try again"

    with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
        store.append([Event("ann", "x" * 10_000, 2.0)])

    store._commits.connection.execute("PRAGMA max_page_count = 1000000")
    assert store.append([Event("ann", "b", 3.0)]) == 1
    assert [event.item_id for event in store.history("ann", 10)] == ["a", "b"]


def test_a_locked_file_is_given_up_in_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.0)
    message = f"{path}: database is locked; another process held it for 5 s: try again"
    with closing(SqliteStore(path)) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
            store.append([Event("ann", "a", 1.0)])


def test_a_damaged_file_is_named(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    message = (
        f"{path}: file is not a database; it is no state file or is damaged: "
        "move it away, then restore a copy or start afresh"
    )

    with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
        SqliteStore(path)


def test_a_file_damaged_while_it_is_closed_is_named_when_it_is_read(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.append([Event("ann", "a" * 500, float(n)) for n in range(200)])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))

    with closing(SqliteStore(path)) as store, pytest.raises(UnavailableError, match=r"it is damaged: move it away"):
        store.history("ann", 10)


def test_a_damaged_key_makes_nobody_a_stranger_without_a_word(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people = [f"person-{number:03d}" for number in range(300)]
    with closing(SqliteStore(path)) as store:
        store.append([Event(user_id, "a", 1.0) for user_id in people])
        store.erase("gone")
        assert store.sweep() == 0
        assert store.history("stranger", 10) == []
    data = path.read_bytes()
    path.write_bytes(data.replace(b"person-123", b"person-\x0023", 1))
    message = (
        f"{path} is damaged and may have lost person {hash_of('person-123')[:8]} (the hash of the id); restore a copy"
    )

    with closing(SqliteStore(path)) as store:
        store.sweep()
        store.sweep()

        with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
            store.history("person-123", 10)
        assert store.history("person-007", 10) == [Event("person-007", "a", 1.0)]
        assert store.history("gone", 10) == []
        assert store.append([Event("person-007", "b", 2.0)]) == 1
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [f"{path} is damaged"]


def test_a_damaged_page_fails_the_writes_of_its_people_alone(path: Path) -> None:
    people = [f"person-{number:05d}" for number in range(3000)]
    with closing(SqliteStore(path)) as store:
        store.append([Event(user_id, "a", 1.0) for user_id in people])
    data = bytearray(path.read_bytes())
    pages = range(0, len(data), 4096)
    page = next(at for at in pages if b"person-01500" in data[at : at + 4096] and data[at] == 10)  # a leaf
    data[page : page + 8] = b"\xff" * 8
    path.write_bytes(data)

    with closing(SqliteStore(path)) as store:
        writes = [_Write(partial(Writer.append, events=[Event(name, "b", 2.0)])) for name in (people[0], people[1500])]
        store._commits._commit(writes)

        assert [write.error is None for write in writes] == [True, False]
        assert str(writes[1].error).startswith(f"{path}: database disk image is malformed; it is damaged")
        assert [event.item_id for event in store.history(people[0], 10)] == ["a", "b"]
        with pytest.raises(UnavailableError, match="is damaged and may have lost person"):
            store.history("stranger", 10)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "state.sqlite"
    message = f"{path}: unable to open database file; its folder must exist and be writable, or name another path"

    with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
        SqliteStore(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_a_folder_that_is_read_only_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    tmp_path.chmod(0o500)
    message = f"{path}: unable to open database file; its folder must exist and be writable, or name another path"

    with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
        SqliteStore(path)
    tmp_path.chmod(0o700)


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 7")
    before = path.read_bytes()
    message = (
        f"{path} has state of version 7, but this Tailwise reads up to {VERSION}; upgrade tailwise, or name another "
        "path"
    )

    with pytest.raises(ArtifactError, match=f"^{re.escape(message)}$"):
        SqliteStore(path)

    assert path.read_bytes() == before


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE invoices (number INTEGER)")
    before = path.read_bytes()
    message = f"{path} is a database of something else; name another path"

    with pytest.raises(ArtifactError, match=f"^{re.escape(message)}$"):
        SqliteStore(path)

    assert path.read_bytes() == before


def test_nothing_of_an_erased_person_stays_on_the_disk(store: SqliteStore, tmp_path: Path) -> None:
    store.append([Event("ann.smith@example.org", f"secret-{n}", float(n)) for n in range(300)])
    store.append([Event("bob", "open", 1.0)])
    store.history("ann.smith@example.org", 200)

    store.erase("ann.smith@example.org")

    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"open" in on_disk
    assert b"ann.smith" not in on_disk
    assert b"secret" not in on_disk
    assert not store._cache


def test_the_cache_starts_afresh_when_it_is_full(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "MOST_CACHED", 10)
    for user_id in "abc":
        store.append([Event(user_id, str(n), float(n)) for n in range(6)])

    found = [[event.item_id for event in store.history(user_id, 6)] for user_id in "abcab"]

    assert found == [["0", "1", "2", "3", "4", "5"]] * 5
    assert len(store._cache) <= 10


def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    store.close()

    for use in (lambda: store.append([Event("ann", "a", 1.0)]), lambda: store.history("ann", 1)):
        with pytest.raises(UnavailableError, match=f"^{re.escape(str(path))} is closed; open the store again$"):
            use()


def test_what_another_program_changed_is_not_believed(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.append([Event("ann", "a", 5.0), Event("bob", "a", 5.0)])
        with closing(sqlite3.connect(path)) as other:
            other.execute("UPDATE people SET events = x'0001' || substr(events, 3) WHERE user_id = 'ann'")
            other.commit()
        message = (
            f"the state file is damaged: what it holds of person {hash_of('ann')[:8]} (the hash of the id) was not "
            "written so; restore a copy, or erase that person"
        )

        with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
            store.history("ann", 10)
        with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
            store.append([Event("bob", "b", 6.0), Event("ann", "b", 6.0)])

        assert [event.item_id for event in store.history("bob", 10)] == ["a"]
        assert store.erase("ann") == 1  # and is as good as new
        assert store.append([Event("ann", "b", 7.0)]) == 1
        assert [event.item_id for event in store.history("ann", 10)] == ["b"]


def test_an_item_that_two_people_had_stays_when_one_goes(path: Path) -> None:
    with closing(SqliteStore(path)) as store, closing(SqliteStore(path)) as other:
        other.append([Event("ann", "shared", 1.0), Event("ann", "her own", 2.0)])
        store.append([Event("bob", "shared", 1.0)])
        store.erase("ann")

        other.append([Event("bob", "her own", 2.0), Event("bob", "shared", 3.0)])  # it remembers the number, in vain

        assert [event.item_id for event in store.history("bob", 10)] == ["shared", "her own", "shared"]


def test_items_that_nobody_has_any_more_go(path: Path) -> None:
    with closing(SqliteStore(path, Bounds(most=8))) as store:
        store.append([Event("ann", f"item {n}", float(n)) for n in range(100)])

        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT count(*) FROM items").fetchone() == (8,)


def test_only_the_end_of_a_known_history_is_read_again(store: SqliteStore) -> None:
    store.append([Event("ann", f"item {n}", float(n)) for n in range(50)])
    before = store.history("ann", 100)
    store.append([Event("ann", "item 7", 60.0)])

    after = store.history("ann", 100)

    assert after == [*before, Event("ann", "item 7", 60.0)]
    assert all(old is new for old, new in zip(before, after, strict=False))
    assert len(before) == 50  # what was given away did not grow


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tailwise.errors import UnavailableError
from tailwise.state.sqlite import SqliteStore
from tailwise.types import Event

store = SqliteStore(Path(sys.argv[1]))
store.append([Event("ann", "before", 1.0)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit is then an error, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
stored, errors = 0, []
while len(errors) < 3:
    try:
        stored += store.append([Event("ann", f"{stored}.{n}" * 20, 2.0 + stored) for n in range(50)])
    except UnavailableError as error:
        errors.append(str(error))
assert len(store.history("ann", 5)) == 5  # it still reads
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
stored += store.append([Event("ann", "after", 1e9)])  # and mends itself
print(stored + 1, store.person("ann", 1).events[0].item_id, store.person("ann", 1).counts["view"])
print(errors[-1])
"""


def test_a_disk_that_takes_no_more_loses_nothing_that_was_acknowledged(path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    numbers, error = done.stdout.splitlines()

    stored, newest, counted = numbers.split()
    assert (newest, stored) == ("after", counted)
    assert re.match(rf"^{re.escape(str(path))}: .*; nothing was stored: free some space", error)
