"""A checkerboard: even people like even items, odd people odd ones, and everyone has something left to find."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from tailwise.data.catalogue import Catalogue
from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Interactions, Training
from tailwise.data.load import Dataset
from tailwise.types import Event, History, Request

PEOPLE, ITEMS, LIKED = 24, 12, 4


def _catalogue(count: int) -> Catalogue:
    nothing = np.zeros(count, np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(count)]})
    # Items point along their parity, each a little its own way.
    vectors = np.random.default_rng(0).normal(0, 0.1, (count, 4)).astype(np.float32)
    vectors[np.arange(count), np.arange(count) % 2] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Catalogue(frame, popularity=nothing, recent=nothing, vectors=vectors, tail_cut=0.2)


def _training(pairs: list[tuple[int, int]], count: int) -> Training:
    """People and items by number; each pair is a day after the one before."""
    frame = pl.DataFrame(
        {
            "user_id": [f"u{person:02d}" for person, _ in pairs],
            "item_id": [f"i{item:02d}" for _, item in pairs],
            "time": [1e9 + 86_400.0 * day for day in range(len(pairs))],
        }
    )
    catalogue = _catalogue(count)
    return Training(Interactions.of(Dataset.of("x", events=frame).events, catalogue), catalogue, 0)


@pytest.fixture(scope="session")
def training_of() -> Callable[[list[tuple[int, int]], int], Training]:
    """From (person, item) pairs in order of time, and the number of items."""
    return _training


@pytest.fixture(scope="session")
def board() -> Training:
    """The checkerboard with the last event of everyone held out."""
    rng = np.random.default_rng(1)
    pairs = []
    for person in range(PEOPLE):
        own = np.arange(person % 2, ITEMS, 2)
        pairs += [(person, int(item)) for item in rng.permutation(own)[:LIKED]]
    every = _training(pairs, ITEMS)
    left, held = hold_out(every.interactions, least=2)
    return Training(left, every.catalogue, 0, targets=held.first(0), held=held)


@pytest.fixture(scope="session")
def asked() -> Callable[..., Request]:
    """A request with these rows as history, each ``row`` or ``(row, kind)``, none of them excluded by itself."""

    def ask(*events: int | tuple[int, str], excluded: tuple[int, ...] = (), query: str | None = None) -> Request:
        pairs = [(each, "view") if isinstance(each, int) else each for each in events]
        past = History.of([Event("", str(row), float(n), kind) for n, (row, kind) in enumerate(pairs)])
        placed = past.place(np.array([row for row, _ in pairs], np.int64))
        return Request("r", history=placed, query=query, excluded=np.array(excluded, np.int64))

    return ask
