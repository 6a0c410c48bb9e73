"""Opinions are found again, grow old, make room, and outlive the process where a fit asks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tailwise.rank.opinions import CacheConfig, Opinions, opinion_key
from tailwise.types import Floats


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def floats(*values: float) -> Floats:
    return np.array(values, np.float32)


def test_what_was_said_is_found_with_its_trust() -> None:
    opinions = Opinions(CacheConfig())
    opinions.write(["a", "b"], floats(0.5, np.nan), 0.25)

    found = opinions.read(["b", "c", "a"])

    assert np.array_equal(found, [[np.nan, 0.25], [np.nan, np.nan], [0.5, 0.25]], equal_nan=True)


def test_what_is_old_is_forgotten() -> None:
    clock = Clock()
    opinions = Opinions(CacheConfig(ttl_s=10), clock=clock)
    opinions.write(["a"], floats(1), 1.0)
    clock.now = 10.5

    assert np.isnan(opinions.read(["a"])).all()
    assert len(opinions) == 0


def test_what_was_unused_for_longest_makes_room() -> None:
    opinions = Opinions(CacheConfig(most=2))
    opinions.write(["a", "b"], floats(1, 2), 1.0)
    opinions.read(["a"])

    opinions.write(["c"], floats(3), 1.0)

    assert np.isnan(opinions.read(["b"])).all()
    assert opinions.read(["a", "c"])[:, 0].tolist() == [1, 3]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(-9, 9, width=32)), max_size=60), st.integers(0, 5))
def test_it_is_a_plain_dictionary_of_the_newest(writes: list[tuple[str, float]], most: int) -> None:
    opinions = Opinions(CacheConfig(most=most))
    plain: dict[str, float] = {}
    for key, value in writes:
        opinions.write([key], floats(value), 1.0)
        plain.pop(key, None)
        plain[key] = value
    kept = dict(list(plain.items())[len(plain) - min(most, len(plain)) :])

    for key in "abcdefgh":
        found = opinions.read([key])[0, 0]
        assert (np.isnan(found) and key not in kept) or found == np.float32(kept[key])


def test_a_file_outlives_the_process(tmp_path: Path) -> None:
    Opinions(CacheConfig(), path=tmp_path / "o.sqlite").write(["a", "b"], floats(1.5, np.nan), 0.5)

    found = Opinions(CacheConfig(), path=tmp_path / "o.sqlite").read(["b", "x", "a"])

    assert np.array_equal(found, [[np.nan, 0.5], [np.nan, np.nan], [1.5, 0.5]], equal_nan=True)


def test_a_damaged_file_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "o.sqlite").write_bytes(b"not a database at all, but long enough to be looked at")
    opinions = Opinions(CacheConfig(), path=tmp_path / "o.sqlite")

    assert np.isnan(opinions.read(["a"])).all()

    opinions.write(["a"], floats(1), 1.0)
    assert opinions.read(["a"])[0, 0] == 1


def test_a_key_depends_on_model_profile_and_item_and_gives_none_away() -> None:
    keys = {opinion_key(*parts) for parts in [("m", "p", "i"), ("n", "p", "i"), ("m", "q", "i"), ("m", "p", "j")]}

    assert len(keys) == 4
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys)
