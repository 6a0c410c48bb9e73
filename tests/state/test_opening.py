from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from tailwise.errors import ConfigError
from tailwise.state.memory import MemoryStore
from tailwise.state.opening import open_store
from tailwise.state.sqlite import SqliteStore
from tailwise.state.store import Bounds

FORMS = "memory://, sqlite:///relative/path, sqlite:////absolute/path or redis://HOST:PORT/DB"


def test_memory_is_a_store_in_memory() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)


def test_three_slashes_are_a_relative_path_and_four_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    for url, path in [
        ("sqlite:///near.db", tmp_path / "near.db"),
        (f"sqlite:///{tmp_path}/far.db", tmp_path / "far.db"),
    ]:
        with closing(open_store(url)) as store:
            assert isinstance(store, SqliteStore)
            assert store.path == path
            assert path.is_file()


@pytest.mark.parametrize(
    "url", ["", "memory", "memory://x", "sqlite://", "sqlite:///", "sqlite://state.db", "mysql://x"]
)
def test_another_address_is_refused_with_the_forms_that_work(url: str) -> None:
    message = f"state is {url!r}, but it must be {FORMS}"

    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        open_store(url)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("keep=3", "state has the setting 'keep', but it may have: most, keep_days, ids"),
        ("most=0", "state has most=0, but it must be a whole number above 0, at most 1e9"),
        ("most=1.5", "state has most=1.5, but it must be a whole number above 0, at most 1e9"),
        ("keep_days=soon", "state has keep_days=soon, but it must be a number above 0, at most 1e9"),
        ("keep_days=nan", "state has keep_days=nan, but it must be a number above 0, at most 1e9"),
        ("ids=", "state has ids=, but it must be a whole number above 0, at most 1e9"),
    ],
)
@pytest.mark.parametrize("address", ["memory://", "sqlite:///nowhere.db", "redis://localhost:1/0"])
def test_a_wrong_bound_is_refused(address: str, query: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        open_store(f"{address}?{query}")


def test_the_query_bounds_what_is_kept(tmp_path: Path) -> None:
    with closing(open_store(f"sqlite:///{tmp_path}/a.db?most=2&keep_days=0.5&ids=9")) as store:
        assert isinstance(store, SqliteStore)
        assert store.bounds == Bounds(most=2, keep_days=0.5, ids=9)
        assert store.path == tmp_path / "a.db"


def test_a_password_is_never_shown() -> None:
    with pytest.raises(ConfigError, match=r"^state is 'mysql://\*\*\*@host/x', but it must be"):
        open_store("mysql://ann:sec/re@t@host/x")
