"""Events that speak for items, in one line: whose they are, how far apart, and how likely each item is drawn."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

import torch

from tailwise.data.baskets import Acts
from tailwise.data.interactions import Interactions
from tailwise.learn.liked import LikedEvents
from tailwise.types import EVENT_KINDS, ids_of

VIEW, SKIP = EVENT_KINDS.index("view"), EVENT_KINDS.index("skip")


def events() -> LikedEvents:
    """Two people: the first skips something between two views."""
    return LikedEvents(
        Interactions(
            ids_of(["a", "b"]),
            np.array([0, 3, 5]),
            np.array([2, 0, 2, 1, 2]),
            np.array([0.0, 5.0, 64.0, 7.0, 8.0]),
            np.array([VIEW, SKIP, VIEW, VIEW, VIEW], np.uint8),
            np.full(5, np.nan, np.float32),
            4,
        )
    )


def test_what_was_skipped_is_not_there() -> None:
    found = events()

    assert [found.rows[own].tolist() for own in found.of_people] == [[2, 2], [1, 2]]
    assert found.counts.tolist() == [0, 1, 3, 0]
    assert found.touched.tolist() == [1, 2]
    assert found.place_of.tolist() == [-1, 0, 1, -1]


def test_chances_follow_popularity_and_never_reach_what_nobody_touched() -> None:
    by_popularity, alike = (np.exp(events().log_chance(power)) for power in (1.0, 0.0))

    assert by_popularity.tolist() == pytest.approx([0, 2 / 6, 4 / 6, 0])
    assert alike.tolist() == pytest.approx([0, 0.5, 0.5, 0])


def baskets() -> LikedEvents:
    """One person with a basket of five and one of six."""
    rows = np.array([0, 1, 2, 3, 4, 0, 5, 6, 7, 8, 9])
    times = np.repeat([1.0, 2.0], [5, 6])
    kinds = np.full(11, VIEW, np.uint8)
    values = np.full(11, np.nan, np.float32)
    return LikedEvents(
        Interactions(ids_of(["a"]), np.array([0, 11]), rows, times, kinds, values, 10, acts=Acts.BASKETS)
    )


def test_events_one_by_one_are_each_predicted_as_they_are() -> None:
    found = events()

    assert found.draws == 1
    assert found.teaches.all()
    assert found.wanted(np.array([0, 2]), torch.Generator()).tolist() == [2, 1]


def test_of_a_basket_only_its_beginning_is_predicted_by_any_item_of_it() -> None:
    found = baskets()

    drawn = [found.wanted(np.array([5]), torch.Generator().manual_seed(seed)).tolist() for seed in range(30)]

    assert np.flatnonzero(found.teaches).tolist() == [0, 5]
    assert {len(own) for own in drawn} == {found.draws}
    assert {item for own in drawn for item in own} == {0, 5, 6, 7, 8, 9}
    assert found.wanted(np.array([5]), torch.Generator().manual_seed(3)).tolist() == drawn[3]
