"""Item-to-item weights over a history: dense equals sparse equals a plain sum."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.retrieve.decay import AGAINST_WEIGHT, DECAYS
from tailwise.retrieve.pairs import PairWeights
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
    sparse = PairWeights(dense).strongest(keep)
    assert sparse.columns is not None
    assert sparse.columns.dtype == np.int32

    scores = sparse.scores(history(events), decay)

    kept = np.abs(dense) >= np.sort(np.abs(dense), axis=1)[:, -keep][:, None]
    assert scores.tolist() == pytest.approx(
        plain_scores(np.where(kept, dense, 0), events, decay), abs=1e-5, nan_ok=True
    )


@given(EVENTS, st.integers(0, 99), st.sampled_from([1, 2, 4]))
@settings(max_examples=60)
def test_scores_under_all_decays_equal_those_under_each(events: list[tuple[int, str]], seed: int, keep: int) -> None:
    weights = PairWeights(random_weights(seed)).strongest(keep)

    scores = weights.by_decay(history(events))

    each = np.nan_to_num(np.stack([weights.scores(history(events), decay) for decay in DECAYS]))
    assert scores == pytest.approx(each, abs=1e-6)


def test_column_minus_one_is_no_neighbour() -> None:
    values = np.array([[0.5, 9.0], [0.25, 0.75]], np.float32)
    columns = np.array([[1, -1], [0, 1]], np.int32)

    scores = PairWeights(values, columns).scores(history([(0, "view"), (1, "view")]), 0.0)

    assert scores.tolist() == [0.25, 1.25]


def test_nearly_all_weights_stay_dense() -> None:
    assert PairWeights(random_weights(0)).strongest(4).columns is None
    assert PairWeights(random_weights(0)).strongest(3).columns is not None


def test_items_that_take_no_part_get_nothing_and_give_nothing() -> None:
    dense = np.array([[0.0, 2.0], [3.0, 0.0]], np.float32)
    weights = PairWeights(dense, chosen=np.array([1, 4]), n_items=6)

    assert weights.scores(history([(0, "view"), (4, "view")]), 0.0).tolist() == [0, 3, 0, 0, 0, 0]
    assert weights.scores(history([(0, "view"), (5, "view")]), 0.0).tolist() == [0] * 6
    assert np.isnan(weights.scores(history([(-1, "view")]), 0.0)).all()


@given(EVENTS, st.integers(0, 99), st.integers(1, 2))
@settings(max_examples=60)
def test_weights_among_some_items_equal_dense_ones_with_zeros(
    events: list[tuple[int, str]], seed: int, keep: int
) -> None:
    chosen = np.array([0, 2, 3, 6])
    part = random_weights(seed)[np.ix_(chosen, chosen)]
    sparse = PairWeights(part, chosen=chosen, n_items=ITEMS).strongest(keep)
    kept = np.abs(part) >= np.sort(np.abs(part), axis=1)[:, -keep][:, None]
    dense = np.zeros((ITEMS, ITEMS), np.float32)
    dense[np.ix_(chosen, chosen)] = np.where(kept | (2 * keep >= len(part)), part, 0)

    scores = sparse.scores(history(events), 0.2)

    assert scores.tolist() == pytest.approx(plain_scores(dense, events, 0.2), abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("keep", [2, 5])
def test_what_is_saved_opens_equal(tmp_path: Path, keep: int) -> None:
    before = PairWeights(random_weights(1)).strongest(keep)

    before.save(tmp_path / "ease", "ease")
    after = PairWeights.open(tmp_path / "ease", "ease")

    past = history([(1, "view"), (3, "dislike")])
    assert (after.scores(past, 0.1) == before.scores(past, 0.1)).all()
    assert (after.columns is None) == (before.columns is None)


@given(EVENTS, st.sampled_from(DECAYS), st.integers(0, 99), st.lists(st.integers(-1, ITEMS - 1), max_size=6))
@settings(max_examples=60)
def test_contributions_add_up_to_the_scores_dense_and_sparse(
    events: list[tuple[int, str]], decay: float, seed: int, rows: list[int]
) -> None:
    past, wanted = history(events), np.array(rows, np.int64)
    every = PairWeights(random_weights(seed))
    chosen = np.array([0, 2, 3, 5])
    some = PairWeights(random_weights(seed)[:4, :4], chosen=chosen, n_items=ITEMS)
    sparse = every.strongest(3)
    assert sparse.columns is not None
    for weights in (every, some, sparse):
        parts = weights.contributions(past, decay, wanted)

        assert parts.shape == (len(rows), len(events))
        assert parts.dtype == np.float32
        scores = np.nan_to_num(weights.scores(past, decay))
        assert parts.sum(axis=1) == pytest.approx(np.where(wanted >= 0, scores[wanted], 0.0), abs=1e-4)


def test_contributions_by_hand() -> None:
    weights = PairWeights(np.arange(ITEMS * ITEMS, dtype=np.float32).reshape(ITEMS, ITEMS))

    parts = weights.contributions(history([(1, "view"), (-1, "view"), (2, "dislike")]), 0.0, np.array([0, 3, -1]))

    assert parts.tolist() == [[7.0, 0.0, -7.0], [10.0, 0.0, -8.5], [0.0, 0.0, 0.0]]
