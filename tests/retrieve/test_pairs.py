"""Item-to-item weights over a history: dense equals sparse equals a plain sum."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.interactions import Training
from tailwise.data.scores import gains
from tailwise.retrieve.pairs import AGAINST_WEIGHT, DECAYS, PairWeights, history_weights
from tailwise.types import AGAINST, Event, Floats, History

ITEMS = 7
EVENTS = st.lists(st.tuples(st.integers(-1, ITEMS - 1), st.sampled_from(["view", "dislike", "skip"])), max_size=6)


def history(events: list[tuple[int, str]]) -> History:
    past = History.of([Event("", str(row), float(n), kind) for n, (row, kind) in enumerate(events)])
    return past.place(np.array([row for row, _ in events], np.int64))


def random_weights(seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(ITEMS, ITEMS)).astype(np.float32)


def plain_scores(dense: Floats, events: list[tuple[int, str]], decay: float) -> list[float]:
    """What ``PairWeights.scores`` promises, one event at a time."""
    if not any(row >= 0 for row, _ in events):
        return [math.nan] * ITEMS
    out = [0.0] * ITEMS
    for age, (row, kind) in enumerate(reversed(events)):
        if row >= 0:
            weight = (AGAINST_WEIGHT if kind in AGAINST else 1.0) * math.exp(-decay * age)
            out = [have + weight * float(more) for have, more in zip(out, dense[row], strict=True)]
    return out


def test_newer_counts_more_dislikes_count_against_and_unknown_items_not_at_all() -> None:
    weights = history_weights(history([(0, "view"), (1, "dislike"), (-1, "view"), (2, "purchase")]), math.log(2))

    assert weights.tolist() == pytest.approx([1 / 8, AGAINST_WEIGHT / 4, 0.0, 1.0])


@given(EVENTS, st.sampled_from(DECAYS), st.integers(0, 99))
@settings(max_examples=60)
def test_dense_scores_equal_a_plain_sum(events: list[tuple[int, str]], decay: float, seed: int) -> None:
    dense = random_weights(seed)

    scores = PairWeights(dense).scores(history(events), decay)

    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx(plain_scores(dense, events, decay), abs=1e-5, nan_ok=True)


@given(EVENTS, st.sampled_from(DECAYS), st.integers(0, 99), st.integers(1, 3))
@settings(max_examples=60)
def test_sparse_scores_equal_dense_ones_of_the_same_weights(
    events: list[tuple[int, str]], decay: float, seed: int, keep: int
) -> None:
    dense = random_weights(seed)
    sparse = PairWeights.strongest(dense, keep)
    assert sparse.columns is not None
    assert sparse.columns.dtype == np.int32

    scores = sparse.scores(history(events), decay)

    kept = np.abs(dense) >= np.sort(np.abs(dense), axis=1)[:, -keep][:, None]
    assert scores.tolist() == pytest.approx(
        plain_scores(np.where(kept, dense, 0), events, decay), abs=1e-5, nan_ok=True
    )


def test_column_minus_one_is_no_neighbour() -> None:
    values = np.array([[0.5, 9.0], [0.25, 0.75]], np.float32)
    columns = np.array([[1, -1], [0, 1]], np.int32)

    scores = PairWeights(values, columns).scores(history([(0, "view"), (1, "view")]), 0.0)

    assert scores.tolist() == [0.25, 1.25]


def test_nearly_all_weights_stay_dense() -> None:
    assert PairWeights.strongest(random_weights(0), 4).columns is None
    assert PairWeights.strongest(random_weights(0), 3).columns is not None


def test_the_best_decay_is_the_one_that_earns_most(training_of: Callable[..., Training]) -> None:
    # The last item says what comes next; the two before it mislead.
    pairs = [(person, item) for person in range(6) for item in (0, 1, 2, 3 + person % 2, 5 + person % 2)]
    every = training_of(pairs, 8)
    left, targets = every.interactions.hold_out_last()
    training = Training(left, every.catalogue, 0, targets=targets)
    dense = np.zeros((8, 8), np.float32)
    dense[3, 5] = dense[4, 6] = 1.0
    dense[:3, 7] = 0.4
    weights = PairWeights(dense)

    decay = weights.best_decay(training)

    people, wanted = training.judged()
    earned = []
    for each in DECAYS:
        scores = np.stack([weights.scores(training.past(person), each) for person in people])
        earned.append(gains(scores, wanted, training.seen(people)).sum())
    assert decay == DECAYS[int(np.argmax(earned))]
    assert earned[0] < max(earned)
    assert decay > 0


def test_without_anyone_to_ask_the_middle_decay_is_taken(board: Training) -> None:
    everyone = Training(board.interactions, board.catalogue, 0)

    assert PairWeights(random_weights(0)).best_decay(everyone) == DECAYS[len(DECAYS) // 2]


@pytest.mark.parametrize("keep", [2, 5])
def test_what_is_saved_opens_equal(tmp_path: Path, keep: int) -> None:
    before = PairWeights.strongest(random_weights(1), keep)

    before.save(tmp_path / "ease", "ease")
    after = PairWeights.open(tmp_path / "ease", "ease")

    past = history([(1, "view"), (3, "dislike")])
    assert (after.scores(past, 0.1) == before.scores(past, 0.1)).all()
    assert (after.columns is None) == (before.columns is None)
