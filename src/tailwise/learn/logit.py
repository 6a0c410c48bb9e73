"""A conditional logit: which of a list's columns tell what is taken from it, by how much."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def conditional_logit(
    columns: NDArray[np.float64],
    sizes: NDArray[np.int64],
    share: NDArray[np.float64],
    ridge: float,
    *,
    offset: NDArray[np.float64] | None = None,
    signed: bool = True,
) -> NDArray[np.float64]:
    """
    The weights under which what was taken from J lists is likeliest, less a ridge.

    Args:
        columns: (ΣN, S) of the candidates of all lists, one list behind the other.
        sizes: (J,) candidates of each list, at least one.
        share: (ΣN,) what each candidate counts of what its list had taken; each list's add up to one.
        ridge: On the squares of the weights, a list.
        offset: (ΣN,) what the logits have beside; None: nothing.
        signed: Whether a weight may be negative.

    Returns:
        (S,), zeros when there is no list.

    Cost: some dozen products with the columns; the problem is convex.

    >>> taken = np.array([1.0, 0.0, 0.0, 1.0])
    >>> conditional_logit(np.array([[1.0], [0.0], [0.0], [1.0]]), np.array([2, 2]), taken, 0.1).round(2).tolist()
    [1.18]
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    if not len(sizes):
        return np.zeros(columns.shape[1])
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    wanted = share @ columns / len(sizes)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = columns @ weights
        if offset is not None:
            logits += offset
        logits -= np.maximum.reduceat(logits, starts)[owner]
        mass = np.exp(logits)
        total = np.add.reduceat(mass, starts)
        value = np.log(total).mean() - share @ logits / len(sizes) + ridge * weights @ weights
        chance = mass / total[owner] / len(sizes)
        return value, chance @ columns - wanted + 2 * ridge * weights

    width = columns.shape[1]
    start, bounds = (np.zeros(width), None) if signed else (np.full(width, 0.1), [(0, None)] * width)
    with threadpool_limits(1, "blas"):  # sums of several threads would round by their number
        return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)
