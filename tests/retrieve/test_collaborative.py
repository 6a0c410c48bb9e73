"""
EASE and item-kNN beside plain algebra; and, with ALS and the next item, what all of them owe on a checkerboard whose
right answer is known.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tailwise.data.interactions import Training
from tailwise.retrieve import collaborative
from tailwise.retrieve.collaborative import (
    Ease,
    EaseConfig,
    ItemKnn,
    ItemKnnConfig,
    ease_weights,
    most_liked,
    weights_of_gram,
)
from tailwise.retrieve.factors import Als, AlsConfig
from tailwise.retrieve.following import NextItem, NextItemConfig
from tailwise.types import Request, ids_of

Asked = Callable[..., Request]
Doubles = NDArray[np.float64]
Trainer = Callable[[list[tuple[int, int]], int], Training]
FIT: dict[str, Callable[[Training], Any]] = {
    "ease": lambda training: Ease.fit(EaseConfig(regularisation=5.0), training),
    "item_knn": lambda training: ItemKnn.fit(ItemKnnConfig(neighbours=5), training),
    "als": lambda training: Als.fit(AlsConfig(factors=2), training),
    "next_item": lambda training: NextItem.fit(NextItemConfig(regularisation=1.0), training),
}
KINDS: dict[str, Any] = {"ease": Ease, "item_knn": ItemKnn, "als": Als, "next_item": NextItem}


@pytest.fixture(scope="module")
def fitted(board: Training) -> dict[str, Any]:
    return {name: fit(board) for name, fit in FIT.items()}


def plain_ease(matrix: Doubles, regularisation: float) -> Doubles:
    """Steck's closed form, by a plain inverse."""
    inverse = np.linalg.inv(matrix.T @ matrix + regularisation * np.eye(matrix.shape[1]))
    weights: Doubles = np.eye(len(inverse)) - inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@given(st.integers(1, 12), st.integers(2, 9), st.floats(0.5, 500), st.integers(0, 99))
@settings(max_examples=40)
def test_ease_equals_the_plain_inverse(people: int, items: int, regularisation: float, seed: int) -> None:
    matrix = (np.random.default_rng(seed).random((people, items)) < 0.4).astype(np.float64)

    weights = ease_weights(csr_matrix(matrix.astype(np.float32)), regularisation)

    assert weights.dtype == np.float32
    assert (np.diag(weights) == 0).all()
    assert weights == pytest.approx(plain_ease(matrix, regularisation), abs=1e-5)


def test_ease_of_two_items_by_hand() -> None:
    # Both items were had by two people: gram [[2, 2], [2, 2]], ridge 1, so each rebuilds 2 / 3 of the other.
    weights = ease_weights(csr_matrix(np.ones((2, 2), np.float32)), 1.0)

    assert weights.tolist() == pytest.approx([pytest.approx([0, 2 / 3]), pytest.approx([2 / 3, 0])])


@pytest.mark.parametrize("name", FIT)
def test_a_checkerboard_is_seen_through(name: str, fitted: dict[str, Any], board: Training, asked: Asked) -> None:
    for person in range(len(board.interactions.user_ids)):
        past = board.past(person)
        request = asked(*past.rows.tolist(), excluded=tuple(past.rows.tolist()))

        found = fitted[name](request, 3).columns["row"]

        assert set(found % 2) == {person % 2}
        assert not set(found) & set(past.rows)


@pytest.mark.parametrize("name", FIT)
def test_scores_agree_with_what_was_returned(name: str, fitted: dict[str, Any], asked: Asked) -> None:
    request = asked(0, 3, (2, "dislike"))

    slate = fitted[name](request, 5)
    scores = fitted[name].scores(request, np.append(slate.columns["row"], -1))

    assert scores[:-1] == pytest.approx(slate.scores)
    assert np.isnan(scores[-1])
    assert (np.diff(slate.scores) <= 0).all()


@pytest.mark.parametrize("name", FIT)
def test_a_dislike_pulls_like_items_down(name: str, fitted: dict[str, Any], asked: Asked) -> None:
    odd = np.arange(3, 12, 2)

    without = fitted[name].scores(asked(0, 1), odd).mean()
    against = fitted[name].scores(asked(0, (1, "dislike")), odd).mean()

    assert against < without


@pytest.mark.parametrize("name", FIT)
@pytest.mark.parametrize("history", [(), (-1, -1)])
def test_a_source_says_nothing_of_a_stranger(
    name: str, history: tuple[int, ...], fitted: dict[str, Any], asked: Asked
) -> None:
    request = asked(*history)

    assert len(fitted[name](request, 5)) == 0
    assert np.isnan(fitted[name].scores(request, np.arange(12))).all()


@pytest.mark.parametrize("name", FIT)
def test_two_of_a_kind_do_not_answer_for_each_other(name: str, fitted: dict[str, Any], asked: Asked) -> None:
    first = fitted[name]
    other = KINDS[name](first.config, *[arg * 2 if isinstance(arg, np.ndarray) else arg for arg in _parts(first)])
    request = asked(0, 2)

    before, after = first.scores(request, np.array([4])), other.scores(request, np.array([4]))

    assert before != after


def _parts(source: Any) -> list[Any]:
    if isinstance(source, Als):
        return [source.items, source._item_ids.tolist()]
    return [type(source.weights)(source.weights.values * 2, source.weights.columns), source._item_ids.tolist()]


@pytest.mark.parametrize("name", FIT)
def test_what_is_saved_opens_equal(
    name: str, tmp_path: Path, fitted: dict[str, Any], board: Training, asked: Asked
) -> None:
    before = fitted[name]

    before.save(tmp_path / name)
    after = KINDS[name].open(before.config, board.catalogue, tmp_path / name)

    assert after(asked(0, 3), 5).item_ids.tolist() == before(asked(0, 3), 5).item_ids.tolist()
    assert (after(asked(0, 3), 5).scores == before(asked(0, 3), 5).scores).all()


@pytest.mark.parametrize("name", FIT)
def test_the_same_seed_gives_the_same_model(name: str, fitted: dict[str, Any], board: Training, asked: Asked) -> None:
    again = FIT[name](board)

    request = asked(0, 3)
    assert (again.scores(request, np.arange(12)) == fitted[name].scores(asked(0, 3), np.arange(12))).all()


def test_the_decay_is_chosen_once_and_kept(board: Training) -> None:
    everything = Training(board.interactions, board.catalogue, 0)
    for kind, config in ((Ease, EaseConfig()), (ItemKnn, ItemKnnConfig())):
        chosen = kind.fit(config, board).config  # type: ignore[arg-type]  # each has its own
        assert chosen.decay is not None
        assert kind.fit(chosen, everything).config == chosen  # type: ignore[arg-type]
        assert kind.fit(chosen.model_copy(update={"decay": 0.0}), board).config.decay == 0.0  # type: ignore[arg-type]


def test_ease_of_the_most_popular_items_alone_knows_nothing_of_the_others(training_of: Trainer, asked: Asked) -> None:
    pairs = [(person, item) for person in range(5) for item in (1, 3, 4)] + [(5, 0), (5, 2)]

    config = EaseConfig(most_items=3, regularisation=1.0, decay=0.0, text_prior=0.0)
    small = Ease.fit(config, training_of(pairs, 6))

    scores = small.scores(asked(1), np.arange(6))
    assert (scores[[3, 4]] > 0.3).all()
    assert scores[[0, 1, 2, 5]].tolist() == [0, 0, 0, 0]
    assert small.scores(asked(0), np.arange(6)).tolist() == [0] * 6
    assert len(small(asked(0), 3)) == 0
    assert set(small(asked(1), 6).columns["row"]) == {3, 4}


@pytest.mark.parametrize("kind", [Ease, NextItem])
def test_texts_tell_of_pairs_that_nobody_had_both_of(
    kind: type[Ease] | type[NextItem], training_of: Trainer, asked: Asked
) -> None:
    # Items of one parity have texts alike; nobody had 4 to 7.
    training = training_of([(person, person % 4) for person in range(20)], 8)

    told = kind.fit(kind.Config(decay=0.0), training).scores(asked(0), np.arange(8))
    bare = kind.fit(kind.Config(decay=0.0, text_prior=0.0), training).scores(asked(0), np.arange(8))

    assert (bare[1:] == 0).all()
    assert (told[[2, 4, 6]] > 0.02).all()
    assert (abs(told[[1, 3, 5, 7]]) < 0.01).all()


def test_what_people_took_outweighs_what_texts_say(training_of: Trainer, asked: Asked) -> None:
    # A hundred people had both 0 and 1, whose texts are unlike; nobody both 0 and 2, whose texts are alike.
    pairs = [(person, item) for person in range(100) for item in (0, 1)] + [(100 + n, 2) for n in range(100)]

    scores = Ease.fit(EaseConfig(decay=0.0), training_of(pairs, 4)).scores(asked(0), np.arange(4))

    assert scores[1] > 4 * scores[2] > 0


def test_a_prior_is_what_the_ridge_draws_to() -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.random((60, 5)) < 0.4).astype(np.float64)
    gram, ridge = matrix.T @ matrix, 10.0
    prior = np.triu(rng.random((7, 7)) * 0.1, 1).astype(np.float32)

    found = weights_of_gram(csr_matrix(gram), ridge, csr_matrix(prior))

    # By hand: each column of the five, its own item left out, by ridge regression that starts at the prior.
    for column in range(7):
        others = [row for row in range(5) if row != column]
        wanted = matrix[:, column] if column < 5 else np.zeros(60)
        left = wanted - matrix[:, others] @ prior[others, column]
        inner = matrix[:, others].T @ matrix[:, others] + ridge * np.eye(len(others))
        by_hand = prior[others, column] + np.linalg.solve(inner, matrix[:, others].T @ left)
        if column < 5:
            assert found[others, column] == pytest.approx(by_hand, abs=1e-6)
            assert found[column, column] == 0
    assert (found[5:] == prior[5:]).all()


def test_behind_the_first_items_only_those_with_enough_events_take_part(
    training_of: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Item 4 has four events, 2 and 0 have three and two, 1 and 3 one each.
    pairs = [(0, 4), (1, 4), (2, 4), (3, 4), (0, 2), (1, 2), (2, 2), (0, 0), (1, 0), (0, 1), (1, 3)]
    interactions = training_of(pairs, 6).interactions
    assert most_liked(interactions, 4).tolist() == [0, 1, 2, 4]

    monkeypatch.setattr(collaborative, "SURE", 1)

    assert most_liked(interactions, 4).tolist() == [2, 4]


def test_a_large_inverse_is_mirrored_block_by_block() -> None:
    matrix = csr_matrix((np.random.default_rng(0).random((300, 1_100)) < 0.02).astype(np.float32))

    weights = ease_weights(matrix, 5.0)

    assert weights == pytest.approx(plain_ease(matrix.toarray().astype(np.float64), 5.0), abs=1e-5)
    assert weights.flags.c_contiguous


def test_sparse_ease_among_the_most_popular_items(training_of: Trainer, asked: Asked) -> None:
    pairs = [(person, item) for person in range(12) for item in range(person % 2, 9, 2)] + [(12, 9), (12, 10)]
    training = training_of(pairs, 12)

    sparse = Ease.fit(EaseConfig(most_items=9, neighbours=4, regularisation=1.0, decay=0.0), training)
    dense = Ease.fit(EaseConfig(most_items=9, regularisation=1.0, decay=0.0), training)

    assert sparse.weights.columns is not None
    found = sparse(asked(0), 4).columns["row"]
    assert set(found) == set(dense(asked(0), 4).columns["row"]) == {2, 4, 6, 8}


def plain_neighbours(liked: Doubles, keep: int) -> Doubles:
    """Damped cosines, the strongest of each item alone; an item is no neighbour of itself."""
    weight = 1 / np.sqrt(np.maximum(liked.sum(axis=1), 1))
    mass = (liked * weight[:, None]).sum(axis=0)
    norm = np.sqrt(mass + 10 * mass.sum() / liked.sum())
    similar = (liked.T * weight) @ liked / np.outer(norm, norm)
    np.fill_diagonal(similar, 0)
    out: Doubles = np.zeros_like(similar)
    for row, values in enumerate(similar):
        best = sorted(range(len(values)), key=lambda column: -values[column])[:keep]
        out[row, best] = values[best]
    return out


def test_item_knn_equals_plain_dot_products(training_of: Trainer, asked: Asked) -> None:
    rng = np.random.default_rng(4)
    pairs = [(person, int(item)) for person in range(15) for item in rng.choice(20, rng.integers(2, 7), replace=False)]
    training = training_of(pairs, 20)
    liked = np.zeros((15, 20))
    liked[tuple(np.array(pairs).T)] = 1

    for keep in (1, 3, 19):
        knn = ItemKnn.fit(ItemKnnConfig(neighbours=keep, decay=0.0), training)
        found = np.stack([knn.scores(asked(row), np.arange(20)) for row in range(20)])
        wanted = plain_neighbours(liked, keep)
        assert np.sort(found, axis=1) == pytest.approx(np.sort(wanted, axis=1), rel=1e-4, abs=1e-4)


def test_item_knn_gives_neighbours_and_no_others(fitted: dict[str, Any], asked: Asked) -> None:
    found = fitted["item_knn"](asked(0, excluded=(0,)), 12)

    assert set(found.columns["row"] % 2) == {0}
    assert (found.scores > 0).all()
    assert len(fitted["item_knn"](asked((0, "dislike")), 12)) == 0


def test_an_item_that_nobody_liked_has_no_neighbours(training_of: Trainer, asked: Asked) -> None:
    knn = ItemKnn.fit(ItemKnnConfig(decay=0.0), training_of([(0, 0), (0, 2), (1, 0), (1, 2), (1, 3)], 5))

    assert len(knn(asked(1), 5)) == 0
    assert set(knn(asked(0), 5).columns["row"]) <= {2, 3}


def test_a_decay_halves_what_is_older(fitted: dict[str, Any], asked: Asked) -> None:
    ease = Ease(
        fitted["ease"].config.model_copy(update={"decay": math.log(2)}),
        fitted["ease"].weights,
        ids_of([str(row) for row in range(12)]),
    )

    both = ease.scores(asked(1, 0), np.arange(12))

    old, new = (fitted["ease"].weights.values[row] for row in (1, 0))
    assert both == pytest.approx(old / 2 + new, abs=1e-6)
