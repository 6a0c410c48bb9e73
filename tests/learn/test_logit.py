"""The conditional logit: it finds weights that made the choices, and a plain walk agrees where it stops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailwise.learn.logit import conditional_logit

Lists = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]


def drawn(weights: list[float], lists: int, seed: int, offset: float = 0.0) -> Lists:
    """Lists of two to six candidates, one of each taken as the weights say; the last column is the offset's."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 7, lists)
    columns = rng.standard_normal((sizes.sum(), len(weights)))
    logits = columns @ weights + offset * columns[:, -1]
    share = np.zeros(len(columns))
    for start, size in zip(np.cumsum(sizes) - sizes, sizes, strict=True):
        chance = np.exp(logits[start : start + size])
        share[start + rng.choice(size, p=chance / chance.sum())] = 1.0
    return columns, sizes, share


def loss(weights: NDArray[np.float64], lists: Lists, ridge: float) -> float:
    """List by list."""
    columns, sizes, share = lists
    total, start = 0.0, 0
    for size in sizes:
        own = slice(start, start + size)
        logits = columns[own] @ weights
        total += float(np.log(np.exp(logits).sum()) - share[own] @ logits)
        start += size
    return total / len(sizes) + ridge * float(weights @ weights)


def test_it_recovers_the_weights_that_chose() -> None:
    found = conditional_logit(*drawn([1.5, -0.7, 0.0], 4000, seed=1), ridge=0.0)

    assert found == pytest.approx([1.5, -0.7, 0.0], abs=0.12)


def test_without_a_sign_no_weight_is_negative() -> None:
    found = conditional_logit(*drawn([1.5, -0.7, 0.0], 4000, seed=1), ridge=0.0, signed=False)

    assert found[0] > 1.0
    assert found[1] == 0.0


def test_what_an_offset_tells_is_not_told_again() -> None:
    columns, sizes, share = drawn([0.0, 0.0], 4000, seed=2, offset=1.0)

    found = conditional_logit(columns, sizes, share, ridge=0.0, offset=columns[:, -1])

    assert found == pytest.approx([0.0, 0.0], abs=0.1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), ridge=st.floats(0.01, 1.0), lists=st.integers(1, 30))
def test_no_step_from_where_it_stops_is_likelier(seed: int, ridge: float, lists: int) -> None:
    own = drawn([1.0, -1.0], lists, seed)

    found = conditional_logit(*own, ridge=ridge)

    there = loss(found, own, ridge)
    for step in ([0.05, 0.0], [-0.05, 0.0], [0.0, 0.05], [0.0, -0.05]):
        assert loss(found + step, own, ridge) >= there - 1e-7


def test_without_lists_nothing_counts() -> None:
    nothing = np.zeros(0)

    assert conditional_logit(np.zeros((0, 3)), np.zeros(0, np.int64), nothing, 0.1).tolist() == [0.0, 0.0, 0.0]
