"""ALS beside implicit's own fold-in and plain least squares."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tailwise.data.interactions import Training
from tailwise.retrieve.factors import Als, AlsConfig
from tailwise.types import Floats, Request

Asked = Callable[..., Request]
Doubles = NDArray[np.float64]
Trainer = Callable[[list[tuple[int, int]], int], Training]


@pytest.fixture(scope="module")
def als(board: Training) -> Als:
    return Als.fit(AlsConfig(factors=2), board)


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
