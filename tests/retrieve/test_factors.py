"""ALS beside implicit's own fold-in and plain least squares."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tailwise.data.interactions import Training
from tailwise.retrieve.decay import DECAYS
from tailwise.retrieve.factors import Als, AlsConfig
from tailwise.types import Floats, Request

Asked = Callable[..., Request]
Doubles = NDArray[np.float64]
Trainer = Callable[[list[tuple[int, int]], int], Training]


@pytest.fixture(scope="module")
def als(board: Training) -> Als:
    return Als.fit(AlsConfig(factors=2, decay=0.0), board)


@given(st.sets(st.integers(0, 11), min_size=1, max_size=8))
@settings(max_examples=30)
def test_a_folded_in_person_equals_implicits(als: Als, asked: Asked, liked: set[int]) -> None:
    config = als.config
    theirs = AlternatingLeastSquares(
        factors=config.factors, regularization=config.regularisation, alpha=config.confidence, num_threads=1
    )
    theirs.item_factors = als.items
    row = csr_matrix((np.ones(len(liked), np.float32), ([0] * len(liked), sorted(liked))), shape=(1, 12))

    found = als.person(asked(*sorted(liked)))

    assert found == pytest.approx(theirs.recalculate_user(0, row), abs=1e-3)


def plain_person(items: Floats, config: AlsConfig, opinions: dict[int, float]) -> Doubles:
    """Weighted least squares, item by item: 1 with confidence for what was liked, 0 with less for what was disliked."""
    left = config.regularisation * np.eye(items.shape[1])
    right = np.zeros(items.shape[1])
    for row, vector in enumerate(items.astype(np.float64)):
        opinion = opinions.get(row, 0.0)
        sure = config.confidence * abs(opinion) if opinion else 1.0
        left += sure * np.outer(vector, vector)
        right += sure * (opinion > 0) * vector
    return np.asarray(np.linalg.solve(left, right))


def test_dislikes_and_repeats_fold_in_as_least_squares_says(als: Als, asked: Asked) -> None:
    request = asked(0, 0, 3, (4, "dislike"), (6, "dislike"), 6, -1)

    found = als.person(request)

    opinions = {0: 1.0, 3: 1.0, 4: -0.5, 6: 1.0}  # once each; of 6 the last word counts
    assert found == pytest.approx(plain_person(als.items, als.config, opinions), abs=1e-3)


def test_als_is_never_wider_than_there_are_items(training_of: Trainer) -> None:
    narrow = Als.fit(AlsConfig(factors=64), training_of([(0, 0), (0, 1), (1, 1), (1, 2)], 3))

    assert narrow.items.shape == (3, 3)


def test_vectors_have_unit_length(als: Als) -> None:
    assert np.linalg.norm(als.vectors, axis=1) == pytest.approx(np.ones(12))


def test_what_is_older_counts_less_down_to_not_at_all(als: Als, asked: Asked) -> None:
    fading = Als(als.config.model_copy(update={"decay": math.log(2)}), als.items, als._item_ids)
    gone = Als(als.config.model_copy(update={"decay": 400.0}), als.items, als._item_ids)

    found = fading.person(asked(0, 3, 0, (4, "dislike")))

    opinions = {3: 1 / 4, 0: 1 / 2, 4: -0.5}
    assert found == pytest.approx(plain_person(als.items, als.config, opinions), abs=1e-3)
    # What counts for nothing is unknown: neither liked nor a sign of no interest.
    left = als._gram + 4 * np.outer(als.items[5], als.items[5]) - np.outer(als.items[1], als.items[1])
    assert gone.person(asked(1, 5)) == pytest.approx(np.linalg.solve(left, 5 * als.items[5]), abs=1e-3)


def test_scores_under_all_decays_equal_those_under_each(als: Als, asked: Asked) -> None:
    request = asked(0, 3, (4, "dislike"), 0, 7)

    scores = als.by_decay(request.past)

    for row, decay in zip(scores, DECAYS, strict=True):
        one = Als(als.config.model_copy(update={"decay": decay}), als.items, als._item_ids)
        assert row == pytest.approx(one.items @ one.person(request), abs=1e-4)


def test_held_out_people_choose_the_decay_and_a_second_fit_keeps_it(board: Training) -> None:
    chosen = Als.fit(AlsConfig(factors=2), board).config

    assert chosen.decay in DECAYS
    assert Als.fit(chosen, board).config == chosen
