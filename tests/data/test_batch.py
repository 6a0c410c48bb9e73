"""Windows that teach every item once, padding that hides nothing, batches within their budget, fair negatives."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.batch import batches, left_aligned, shared_negatives, windows
from tailwise.types import Rows

LENGTHS = st.lists(st.integers(0, 30), max_size=12)


def numbered(lengths: list[int]) -> list[Rows]:
    """Sequences in which no number comes twice."""
    ends = np.cumsum([0, *lengths])
    return [np.arange(start, end) for start, end in pairwise(ends)]


@given(LENGTHS, st.integers(1, 9))
@settings(max_examples=80)
def test_every_item_but_the_first_is_predicted_exactly_once(lengths: list[int], length: int) -> None:
    sequences = numbered(lengths)

    pieces = windows(sequences, length)

    predicted = Counter(int(row) for piece in pieces for row in piece[1:])
    assert predicted == Counter(int(row) for sequence in sequences for row in sequence[1:])
    assert all(2 <= len(piece) <= length + 1 for piece in pieces)


@given(LENGTHS, st.integers(1, 9))
@settings(max_examples=80)
def test_windows_are_unbroken_and_the_newest_is_full(lengths: list[int], length: int) -> None:
    sequences = numbered(lengths)

    pieces = windows(sequences, length)

    assert all((np.diff(piece) == 1).all() for piece in pieces)
    newest = [sequence[-length - 1 :].tolist() for sequence in sequences if len(sequence) > 1]
    assert [piece for piece in map(list, pieces) if piece in newest] == newest


def test_one_item_teaches_nothing() -> None:
    assert windows([np.array([4]), np.array([], np.int64)], 3) == []


def test_padding_goes_to_the_right_with_a_mask() -> None:
    rows, mask = left_aligned([np.array([7, 8]), np.array([], np.int64), np.array([9])])

    assert rows.tolist() == [[7, 8], [0, 0], [9, 0]]
    assert mask.tolist() == [[True, True], [False, False], [True, False]]


def test_no_sequences_make_an_empty_array() -> None:
    rows, mask = left_aligned([])

    assert rows.shape == mask.shape == (0, 0)


@given(LENGTHS)
@settings(max_examples=50)
def test_what_was_padded_can_be_taken_apart_again(lengths: list[int]) -> None:
    sequences = numbered(lengths)

    rows, mask = left_aligned(sequences)

    assert [row[real].tolist() for row, real in zip(rows, mask, strict=True)] == [each.tolist() for each in sequences]


@given(LENGTHS, st.integers(1, 60), st.integers(0, 99))
@settings(max_examples=80)
def test_batches_hold_every_piece_once_within_the_budget(lengths: list[int], tokens: int, seed: int) -> None:
    pieces = numbered(lengths)

    groups = list(batches(pieces, tokens=tokens, rng=np.random.default_rng(seed)))

    assert sorted(tuple(piece) for group in groups for piece in group) == sorted(map(tuple, pieces))
    for group in groups:
        assert len(group) == 1 or len(group) * max(map(len, group)) <= tokens


def test_no_pieces_make_no_batch() -> None:
    assert list(batches([], tokens=10, rng=np.random.default_rng(0))) == []


def test_alike_lengths_come_together_and_groups_differ_from_epoch_to_epoch() -> None:
    pieces = numbered([length for length in range(2, 42) for _ in range(5)])

    first, again, other = (list(batches(pieces, tokens=200, rng=np.random.default_rng(s))) for s in (1, 1, 2))

    padded = sum(len(group) * max(map(len, group)) for group in first)
    assert padded < 1.15 * sum(map(len, pieces))
    assert list(map(len, first)) == list(map(len, again))
    assert [group[0][0] for group in first] == [group[0][0] for group in again]
    assert {frozenset(int(p[0]) for p in g) for g in first} != {frozenset(int(p[0]) for p in g) for g in other}


def test_negatives_come_as_often_as_their_chance_says() -> None:
    chances = np.array([0.5, 0.0, 0.3, 0.2])
    with np.errstate(divide="ignore"):
        logs = np.log(chances)

    rows, found = shared_negatives(logs, 20_000, np.random.default_rng(0))

    assert rows.dtype == np.int64
    assert np.bincount(rows, minlength=4) / 20_000 == pytest.approx(chances, abs=0.02)
    assert (found == logs[rows]).all()
    assert 1 not in rows


def test_negatives_may_be_none() -> None:
    rows, found = shared_negatives(np.log(np.array([1.0])), 0, np.random.default_rng(0))

    assert (len(rows), len(found)) == (0, 0)
