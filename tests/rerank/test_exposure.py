from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import ConfigError
from tailwise.fakes import DictFacts
from tailwise.rerank.exposure import Exposure, tail_order
from tailwise.types import Request, Slate, ids_of


def fewest_changes(tail: list[bool], share: float, k: int) -> int:
    """By trying every set of rows for the first k: how many rows must come up from below."""
    n, shown = len(tail), min(k, len(tail))
    needed = min(math.ceil(share * shown), sum(tail))
    sets = itertools.combinations(range(n), shown)
    return min(
        (sum(row >= shown for row in rows) for rows in sets if sum(tail[row] for row in rows) >= needed), default=0
    )


def test_the_best_tail_items_replace_the_lowest_head_items() -> None:
    tail = np.array([0, 1, 0, 0, 0, 0, 1, 1], bool)

    order = tail_order(tail, share=0.6, k=5)

    # By hand: 3 of 5 are needed, 1 is there; 6 and 7 come up, 3 and 4 go down.
    assert order.tolist() == [0, 1, 2, 6, 7, 3, 4, 5]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.booleans(), max_size=9), st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 1.0]), st.integers(1, 10))
def test_the_share_is_reached_with_the_fewest_changes(tail: list[bool], share: float, k: int) -> None:
    shown = min(k, len(tail))

    order = tail_order(np.array(tail, bool), share=share, k=k).tolist()

    before, after = sum(tail[:shown]), sum(tail[row] for row in order[:shown])
    assert sorted(order) == list(range(len(tail)))
    assert after >= min(math.ceil(share * shown), sum(tail))
    assert after >= before
    assert sum(row >= shown for row in order[:shown]) == fewest_changes(tail, share, k)
    assert order[:shown] == sorted(order[:shown])  # above and below the cut, merit still decides
    assert order[shown:] == sorted(order[shown:])


def test_too_few_tail_items_all_come_up() -> None:
    order = tail_order(np.array([0, 0, 0, 1, 0], bool), share=1.0, k=3)

    assert order.tolist() == [0, 1, 3, 2, 4]


def test_a_share_is_not_rounded_up_by_rounding_errors() -> None:
    tail = np.arange(200) >= 93  # 7 of the first 100; 0.07 * 100 is 7.000000000000001

    assert tail_order(tail, share=0.07, k=100).tolist() == list(range(200))


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=f"^tail_share is {share}, but it must be between 0 and 1$"):
        tail_order(np.zeros(3, bool), share=share, k=2)


SLATE = Slate(ids_of(list("abcd")), np.array([4, 3, 2, 1], np.float32), {"tail": np.array([False, False, False, True])})


def test_the_stage_keeps_the_order_by_default_and_says_that_it_was_certain() -> None:
    stage = Exposure.open(Exposure.Config(), DictFacts({}), Path())

    answer = stage(Request("r", k=2), SLATE)

    assert answer.item_ids.tolist() == ["a", "b", "c", "d"]
    assert answer.columns["propensity"].tolist() == [1.0] * 4
    assert answer.columns["propensity"].dtype == np.float32
    assert stage.needs == {"tail"}
    assert stage.gives == {"propensity"}


def test_the_request_overrides_the_share() -> None:
    stage = Exposure(Exposure.Config(tail_share=0.5))

    usual = stage(Request("r", k=2), SLATE)
    more = stage(Request("r", k=1, tail_share=1.0), SLATE)
    none = stage(Request("r", k=2, tail_share=0.0), SLATE)

    assert usual.item_ids.tolist() == ["a", "d", "b", "c"]
    assert usual.scores.tolist() == [4.0, 1.0, 3.0, 2.0]
    assert more.item_ids.tolist() == ["d", "a", "b", "c"]
    assert none.item_ids.tolist() == ["a", "b", "c", "d"]


def test_an_empty_slate_stays_empty() -> None:
    answer = Exposure(Exposure.Config(tail_share=0.5))(Request("r"), SLATE.take(np.arange(0)))

    assert len(answer) == 0
    assert len(answer.columns["propensity"]) == 0
