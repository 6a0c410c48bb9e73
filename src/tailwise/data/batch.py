"""Sequences to padded arrays: windows over long histories, batches of alike lengths, shared negatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tailwise.types import Rows


def windows(sequences: Sequence[Rows], length: int) -> list[Rows]:
    """
    Cut sequences into pieces of at most ``length + 1`` items, from the newest backwards, neighbours sharing one item.

    So every item but a person's first is predicted exactly once, from at most ``length`` items before it.

    >>> [w.tolist() for w in windows([np.arange(6)], 3)]
    [[2, 3, 4, 5], [0, 1, 2]]
    """
    cut = []
    for sequence in sequences:
        end = len(sequence)
        while end > 1:
            start = max(0, end - length - 1)
            cut.append(sequence[start:end])
            end = start + 1
    return cut


def left_aligned(sequences: Sequence[Rows]) -> tuple[Rows, NDArray[np.bool_]]:
    """
    Pad on the right with row 0.

    Returns:
        (B, T) rows and a (B, T) mask of what is real; T is the longest sequence.
    """
    lengths = np.fromiter((len(s) for s in sequences), np.int64, len(sequences))
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    rows = np.zeros(mask.shape, np.int64)
    if len(sequences):
        rows[mask] = np.concatenate(sequences)
    return rows, mask


def batches(pieces: Sequence[Rows], *, tokens: int, rng: np.random.Generator) -> Iterator[list[Rows]]:
    """
    Group pieces of about the same length so that a padded batch has at most ``tokens`` cells, in random order.

    Lengths are jittered before sorting, so that the groups differ from epoch to epoch. A piece longer than ``tokens``
    makes a batch of its own, and no pieces make no batch.
    """
    lengths = np.fromiter((len(p) for p in pieces), np.int64, len(pieces))
    order = rng.permutation(len(pieces))
    order = order[np.argsort(lengths[order] * rng.uniform(0.9, 1.1, len(order)), kind="stable")]
    groups: list[list[int]] = [[]]
    longest = 0
    for place in order:
        grown = max(longest, int(lengths[place]))
        if groups[-1] and (len(groups[-1]) + 1) * grown > tokens:
            groups.append([])
            grown = int(lengths[place])
        groups[-1].append(int(place))
        longest = grown
    for group in rng.permutation(len(groups)) if pieces else ():
        yield [pieces[place] for place in groups[group]]


def token_batches(lengths: Sequence[int], *, budget: int) -> list[list[int]]:
    """
    Rows by length, short ones first, cut so that rows × longest stays within ``budget``; at least one row a batch.

    A row of length 0 is left out. Texts of like length in one batch waste little on padding.

    >>> token_batches([3, 9, 0, 2, 3], budget=9)
    [[3, 0, 4], [1]]
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and (len(batches[-1]) + 1) * lengths[row] <= budget:
            batches[-1].append(row)
        elif lengths[row]:
            batches.append([row])
    return batches


def shared_negatives(
    log_probabilities: NDArray[np.float64], count: int, rng: np.random.Generator
) -> tuple[Rows, NDArray[np.float64]]:
    """
    Items drawn with replacement, shared by a whole batch, with the log of the chance that each had.

    Args:
        log_probabilities: (M,) log of the chance of each item.
        count: How many to draw.
        rng: Where chance comes from.

    Returns:
        (count,) rows and their (count,) log probabilities, for the correction of sampled softmax.
    """
    cumulative = np.cumsum(np.exp(log_probabilities))
    rows = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
    rows = np.minimum(rows, len(cumulative) - 1).astype(np.int64)
    return rows, log_probabilities[rows]
