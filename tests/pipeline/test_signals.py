"""Signals: each equals a plain walk, unknown items and strangers give zeros, and names fit the columns."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.catalogue import Catalogue
from tailwise.data.scores import unit_rows
from tailwise.pipeline import Engine
from tailwise.pipeline.signals import _had, _same_kind, _shared, nearness, signal_names
from tailwise.types import NO_HISTORY, Event, History, Request


def past(*rows: int, kind: str = "click") -> History:
    events = [Event("", f"i{row:02d}", 1.7e9 + n, kind) for n, row in enumerate(rows)]
    return History.of(events).place(np.array(rows, np.int64))


@given(st.integers(0, 70), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=40)
def test_nearness_equals_a_plain_walk(length: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    spaces = [unit_rows(random.normal(size=(9, width)).astype(np.float32)) for width in (4, 2)]
    rows, liked = random.integers(-1, 9, n), random.integers(0, 9, length)

    found = nearness(spaces, rows, liked)

    for place, row in enumerate(rows):
        wanted = []
        for vectors in spaces:
            own = [float(vectors[row] @ vectors[other]) if row >= 0 else 0.0 for other in liked[-50:]]
            mean = lambda values: sum(values) / len(values)  # noqa: E731  a word for this walk
            wanted += [own[-1], mean(own[-5:]), mean(own), max(own), max(own[-10:])] if own else [0.0] * 5
        assert found[place] == pytest.approx(wanted, abs=1e-5)


def test_without_spaces_there_is_no_nearness() -> None:
    assert nearness([], np.array([0, -1]), np.array([3])).shape == (2, 0)


def test_no_candidates_have_no_nearness_in_as_many_columns() -> None:
    for liked in (np.array([0, 2]), np.array([], np.int64)):
        found = nearness([np.eye(3, dtype=np.float32)] * 2, np.array([], np.int64), liked)

        assert found.shape == (0, 10)


@given(st.lists(st.integers(-1, 6), max_size=12), st.lists(st.integers(-1, 6), min_size=1, max_size=8))
def test_what_was_had_before_equals_a_plain_walk(history: list[int], rows: list[int]) -> None:
    found = _had(np.array(rows), past(*history))

    for place, row in enumerate(rows):
        times = sum(row == other for other in history) if row >= 0 else 0
        ago = history[::-1].index(row) if times else 0
        assert found[place] == pytest.approx([np.log1p(times), 1 / (1 + ago) if times else 0.0])


def test_labels_shared_with_the_past_are_the_mean_share_over_a_candidates_labels() -> None:
    candidates = np.array([[True, True, False], [False, False, True], [False, False, False]])
    liked = np.array([[True, False, False]] * 6 + [[False, True, False]] * 6)

    found = _shared(candidates, liked)

    wanted = np.array([[(0.5 + 0.5) / 2, (0.4 + 0.6) / 2], [0.0, 0.0], [0.0, 0.0]])
    assert found == pytest.approx(wanted)


def test_kinds_shared_with_the_past_equal_a_plain_walk() -> None:
    brands = ["x", "y", "x", None, "z", "x", "y", "y", "z", "z", *"xxxyyyzzz"]
    frame = pl.DataFrame({"item_id": [f"i{n:02d}" for n in range(len(brands))], "brand": brands})
    counts = np.zeros(len(brands), np.float32)
    catalogue = Catalogue(frame, popularity=counts, recent=counts, vectors=counts[:, None], tail_cut=0.2)
    liked = np.array([0, 0, 0, 1, 1, 1, 3, 4, 4, 4, 1, 1, 1, 2])
    rows = np.array([5, 6, 8, 3, -1])

    found = _same_kind("brand as a number", rows, liked, catalogue)

    had = [brands[row] for row in liked]
    for own, brand in zip(found, ["x", "y", "z"], strict=False):
        wanted = [had.count(brand) / 14, had[-10:].count(brand) / 10, float(had[-1] == brand)]
        assert own == pytest.approx(wanted)
    assert (found[3:] == 0).all()  # an item without a brand, and one that nobody knows
    assert (_same_kind("brand as a number", rows, liked[:0], catalogue) == 0).all()
    names = signal_names([], catalogue)
    assert [name for name in names if "brand" in name] == ["brand shared", "brand shared lately", "brand as the last"]


@pytest.mark.parametrize("history", [past(3, 17, 3, 40), past(), NO_HISTORY, past(-1, -1), past(4, 9, kind="dislike")])
def test_signals_are_finite_and_fit_their_names(tiny_engine: Engine, history: History) -> None:
    asked = Request("r", history=history, candidates=("i01", "nobody knows it", "i20"))

    found = tiny_engine.candidates(asked).columns["signals"]

    assert found.shape == (3, len(signal_names(tiny_engine.sources, tiny_engine.catalogue)))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_names_say_where_each_signal_comes_from(tiny_engine: Engine) -> None:
    names = signal_names(tiny_engine.sources, tiny_engine.catalogue)

    assert len(set(names)) == len(names)
    assert {"score ease", "text to the last", "sequence to the nearest", "genres shared lately", "times had"} <= set(
        names
    )


def test_a_person_is_near_to_what_they_just_had(tiny_engine: Engine) -> None:
    names = signal_names(tiny_engine.sources, tiny_engine.catalogue)
    asked = Request("r", history=past(3), candidates=("i03", "i04"), exclude_seen=False)

    found = tiny_engine.candidates(asked).columns["signals"]

    assert found[0, names.index("sequence to the last")] == pytest.approx(1.0, abs=1e-5)
    assert found[:, names.index("times had")].tolist() == pytest.approx([np.log(2), 0.0])
