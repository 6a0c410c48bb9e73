"""Where items start: by their texts on the left, by who takes them together on the right."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.data.load import Dataset
from tailwise.learn import directions
from tailwise.learn.directions import first_table, taken_together
from tailwise.learn.semantics import SPREAD, start_of
from tailwise.types import Floats

ITEMS = 12
NOBODYS = 11


def interactions(pairs: list[tuple[str, int]]) -> Interactions:
    events = pl.DataFrame(
        {
            "user_id": [user for user, _ in pairs],
            "item_id": [f"i{item:02d}" for _, item in pairs],
            "time": np.arange(len(pairs), dtype=float),
        }
    )
    catalogue = Catalogue(
        pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]}),
        popularity=np.zeros(ITEMS, np.float32),
        recent=np.zeros(ITEMS, np.float32),
        vectors=np.zeros((ITEMS, 1), np.float32),
        tail_cut=0.2,
    )
    return Interactions.of(Dataset.of("people", events=events).events, catalogue)


def circles(times: int = 1) -> Interactions:
    """Thirty people take items 0 to 4, thirty others 5 to 10; nobody has the last item."""
    random = np.random.default_rng(1)
    pairs = [
        (f"u{person:02d}", int(item))
        for person in range(60)
        for item in random.choice(np.arange(5) if person < 30 else np.arange(5, 11), 4, replace=False)
    ]
    return interactions(pairs * times)


def cosines(table: Floats) -> Floats:
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    return np.asarray(unit @ unit.T)


def test_items_that_the_same_people_take_stand_together() -> None:
    found = taken_together(circles(), 2)

    assert found is not None
    near = cosines(found)
    assert near[:5, :5].min() > 0.9
    assert near[5:11, 5:11].min() > 0.9
    assert abs(near[:5, 5:11]).max() < 0.1
    assert found[:11].std() == pytest.approx(SPREAD, rel=1e-4)
    assert not found[NOBODYS].any()


def test_how_often_somebody_takes_an_item_says_nothing_and_twice_is_the_same() -> None:
    once, again, thrice = (taken_together(circles(times), 3) for times in (1, 1, 3))

    np.testing.assert_array_equal(once, again)
    np.testing.assert_allclose(once, thrice, atol=1e-6)


@pytest.mark.parametrize("pairs", [[("a", 1)], [("a", 1), ("b", 2)], [("a", n) for n in range(9)]])
def test_with_too_little_nothing_is_said(pairs: list[tuple[str, int]]) -> None:
    assert taken_together(interactions(pairs), 4) is None


@pytest.mark.parametrize(("little", "left"), [(0, 5), (10_000, 7)])
def test_texts_are_on_the_left_and_people_on_the_right(little: int, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "LITTLE", little)
    vectors = np.random.default_rng(2).standard_normal((ITEMS, 3)).astype(np.float32)

    table = first_table(vectors, circles(), 9)

    assert table is not None
    np.testing.assert_array_equal(table[:, :3], start_of(vectors, left))
    assert not table[:, 3:left].any()  # there are no more directions of texts
    np.testing.assert_array_equal(table[:, left:], taken_together(circles(), 9 - left))


def test_without_texts_and_without_people_there_is_nothing_to_start_from() -> None:
    blank = np.zeros((ITEMS, 3), np.float32)

    assert first_table(blank, interactions([("a", 1)]), 8) is None
    people = first_table(blank, circles(), 8)
    assert people is not None
    assert not people[:, :4].any()
