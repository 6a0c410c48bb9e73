from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from tailwise.errors import ConfigError, UnavailableError
from tailwise.state.memory import MemoryStore
from tailwise.state.opening import open_store
from tailwise.state.sqlite import SqliteStore

FORMS = "memory://, sqlite:///relative/path or sqlite:////absolute/path"


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


def test_redis_says_when_it_comes() -> None:
    message = f"state in Redis comes with the ops extra of a later release; for now give {FORMS}"

    with pytest.raises(UnavailableError, match=f"^{re.escape(message)}$"):
        open_store("redis://localhost:6379/0")
