"""Ids of events that came lately: against a plain list of them, with batches of every size, over restarts."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.state.known import TABLE, KnownIds


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(TABLE)
        yield connection


def add(known: KnownIds, codes: list[int]) -> list[bool]:
    """One transaction."""
    known.refresh()
    new = [known.add(code) for code in codes]
    known.write()
    return new


@given(st.lists(st.lists(st.integers(0, 40), max_size=4), max_size=40), st.integers(1, 10), st.integers(0, 40))
def test_the_newest_are_known_as_a_plain_list_of_batches_says(
    batches: list[list[int]], least: int, restart: int
) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(TABLE)
        known, plain = KnownIds(connection.execute, least), deque[list[int]]()
        for place, codes in enumerate(batches):
            if place == restart:
                known = KnownIds(connection.execute, least)
            before = {code for batch in plain for code in batch}
            fresh = [code for code in dict.fromkeys(codes) if code not in before]

            new = add(known, codes)

            assert [code for code, is_new in zip(codes, new, strict=True) if is_new] == fresh
            if fresh:
                plain.append(fresh)
            while plain and sum(map(len, plain)) - len(plain[0]) >= least:
                plain.popleft()


def test_single_ids_take_no_object_each(database: sqlite3.Connection) -> None:
    known = KnownIds(database.execute, 1000)

    for code in range(3000):
        add(known, [code])
    held = [len(hashes) for _, hashes in known._batches]
    (rows,) = database.execute("SELECT count(*) FROM ids").fetchone()

    assert len(held) <= 110
    assert 1000 <= sum(held) == rows <= 1010  # the file forgets with the memory
    assert add(known, [2001, 1]) == [False, True]


def test_two_processes_know_what_the_other_added(database: sqlite3.Connection) -> None:
    one, other = KnownIds(database.execute, 1000), KnownIds(database.execute, 1000)

    for code in range(50):
        add(one, [code])
        add(other, [1000 + code])

    assert not any(add(other, list(range(50))))
    assert not any(add(one, list(range(1000, 1050))))


def test_what_was_rolled_back_never_came(database: sqlite3.Connection) -> None:
    known = KnownIds(database.execute, 1000)
    add(known, [1])
    database.execute("BEGIN")
    add(known, [2])
    database.execute("ROLLBACK")
    known.forget()

    assert add(known, [1, 2]) == [False, True]
