from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tailwise.data.interactions import Training
from tailwise.retrieve import likeness
from tailwise.retrieve.likeness import alike

Trainer = Callable[[list[tuple[int, int]], int], Training]


def unit(*rows: list[float]) -> np.ndarray:
    made = np.array(rows, np.float32)
    return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9)


def test_pairs_are_alike_by_what_their_cosine_is_above(training_of: Trainer) -> None:
    log = training_of([(0, 3), (1, 3), (0, 1)], 5).interactions
    vectors = unit([1, 0], [1, 1], [0, 1], [0, 0], [1, 0])

    rows, near = alike(vectors, log, np.array([3, 1]))

    # What people tell of first, even without a text; then by events, of which 0, 2 and 4 have none.
    assert rows.tolist() == [3, 1, 0, 2, 4]
    root = np.sqrt(0.5) - 0.2
    expected = [
        [0, 0, 0, 0, 0],
        [0, 0, root, root, root],
        [0, root, 0, 0, 0.8],
        [0, root, 0, 0, 0],
        [0, root, 0.8, 0, 0],
    ]
    assert near.toarray() == pytest.approx(np.array(expected), abs=1e-6)


def test_only_the_nearest_count_block_by_block(training_of: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "NEAREST", 3)
    monkeypatch.setattr(likeness, "BLOCK", 4)
    log = training_of([(0, 0)], 11).interactions
    rng = np.random.default_rng(0)
    vectors = unit(*rng.normal(1, 0.5, (11, 6)).tolist())

    rows, near = alike(vectors, log, np.arange(11))

    cosines = vectors @ vectors.T - 0.2
    np.fill_diagonal(cosines, 0)
    for row, own in zip(rows, near.toarray(), strict=True):
        assert set(np.flatnonzero(own)) == set(np.argsort(-cosines[row])[:3])
        assert own[own > 0] == pytest.approx(cosines[row][own > 0], abs=1e-6)


def test_at_most_so_many_items_and_none_without_texts(training_of: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "MOST", 3)
    log = training_of([(0, 2), (1, 2), (0, 4)], 6).interactions
    same = unit(*[[1.0, 0.0]] * 6)

    rows, near = alike(same, log, np.array([0, 1]))
    assert rows.tolist() == [0, 1, 2]  # the one with the most events of those beside
    assert near.shape == (3, 3)

    rows, near = alike(np.zeros((6, 2), np.float32), log, np.array([0, 1]))
    assert rows.tolist() == [0, 1]
    assert near.shape == (2, 2)
    assert near.nnz == 0


def test_many_that_are_alike_count_less_each(training_of: Trainer) -> None:
    log = training_of([(0, 0)], 40).interactions
    vectors = unit(*[[1.0, 0.0]] * 37, [0.0, 1.0], [0.1, 1.0], [0.0, 0.0])

    _, near = alike(vectors, log, np.arange(40))

    # 36 others with the same text, .8 each, would add up to 28.8; two alike are as they are.
    assert near[0].sum() == pytest.approx(8.0, abs=1e-4)
    assert near[37].toarray().max() == pytest.approx(1 / np.sqrt(1.01) - 0.2, abs=1e-6)
