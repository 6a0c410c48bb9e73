from __future__ import annotations

from collections.abc import Callable
from typing import Any

import common
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.evaluate import accuracy

Fitted = Callable[[np.ndarray], np.ndarray]


def job(**changes: Any) -> common.Job:
    """Two people and five items: the first had 0, 1, 2 (2 held out), the second 3, 0 (0 held out)."""
    fields: dict[str, Any] = {
        "user": np.array([0, 0, 0, 1, 1]),
        "item": np.array([0, 1, 2, 3, 0]),
        "time": np.arange(5.0),
        "liked": np.ones(5, bool),
        "inner": np.array([True, True, False, True, False]),
        "held_user": np.array([0, 1]),
        "held_item": np.array([2, 0]),
        "asked": np.array([0, 1, -1]),
        "labels": np.zeros((5, 0), bool),
        "n_items": 5,
        "exclude_seen": True,
        "depth": 3,
    }
    return common.Job(**{**fields, **changes})


@given(st.integers(0, 10_000))
def test_the_figure_that_peers_choose_by_is_the_one_that_they_are_judged_by(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lists = np.stack([rng.permutation(30)[:10] for _ in range(6)])
    lists[rng.random(lists.shape) < 0.1] = -1
    targets = [rng.permutation(30)[: rng.integers(1, 15)] for _ in range(6)]
    padded = np.full((6, 15), -1)
    for row, own in enumerate(targets):
        padded[row, : len(own)] = own

    found = common.ndcg(lists, targets)

    theirs = accuracy.ndcg(accuracy.hits(lists, padded), accuracy.count_relevant(padded), 10)
    assert found == pytest.approx(theirs.mean())


def test_ties_go_to_the_lower_row_and_what_must_not_be_shown_leaves_a_gap() -> None:
    scores = np.array([[1.0, 1.0, -np.inf, 2.0], [-np.inf, -np.inf, -np.inf, 0.0]])

    found = common.top(scores, 5)

    assert found.tolist() == [[3, 0, 1, -1, -1], [3, -1, -1, -1, -1]]


def test_a_list_leaves_out_what_was_seen_and_a_stranger_gets_the_popular() -> None:
    part = job().part(inner=False)

    lists = part.lists(np.array([0, 1, -1]), lambda people: np.ones((len(people), 5)), 3)

    assert lists.tolist() == [[3, 4, -1], [1, 2, 4], [0, 1, 2]]


def test_where_things_come_again_nothing_is_left_out() -> None:
    part = job(exclude_seen=False).part(inner=False)

    lists = part.lists(np.array([0]), lambda people: np.ones((len(people), 5)), 3)

    assert lists.tolist() == [[0, 1, 2]]


def test_validation_asks_only_for_what_was_new() -> None:
    people, targets = job(held_item=np.array([1, 0])).held()

    assert people.tolist() == [1]  # the first had item 1 already
    assert [own.tolist() for own in targets] == [[0]]


def test_the_settings_that_do_best_on_validation_are_chosen() -> None:
    def fit(part: common.Part, settings: dict[str, Any], seed: int) -> Fitted:
        assert len(part.item) == 3  # the held-out events are not learned from
        assert seed == 0
        return lambda people: np.repeat(np.eye(5)[settings["likes"]][None], len(people), 0)

    chosen, tried = common.choose(job(), [{"likes": 4}, {"likes": 2}], fit)

    assert chosen == {"likes": 2}
    assert [one["ndcg@10"] for one in tried] == sorted(one["ndcg@10"] for one in tried)


def test_recency_weighted_ease_without_decay_is_the_products_ease() -> None:
    import ease
    from scipy.sparse import csr_matrix

    from tailwise.retrieve.collaborative import ease_weights

    part = job().part(inner=False)

    scores = ease.fit(part, {"ridge": 2.0, "decay": 0.0}, 0)(np.array([0, 1]))

    matrix = csr_matrix((np.ones(5), (part.user, part.item)), shape=(2, 5))
    expected = matrix.toarray() @ ease_weights(matrix, 2.0)
    assert scores[:, :4] == pytest.approx(expected[:, :4], abs=1e-5)
