"""
Exposure: who gets seen. A least share of the first positions goes to the long tail.

Also the place where each item's chance of being where it is gets written down (``propensity``), for learning from
clicks later. The order is deterministic so far, so every chance is 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.config import Closed
from tailwise.errors import ConfigError
from tailwise.types import Facts, Request, Rows, Slate


def tail_order(tail: NDArray[np.bool_], *, share: float, k: int) -> Rows:
    """
    The least change that brings ``share`` of the first ``k`` positions to tail items.

    The best tail items from below change places with the lowest head items of the first ``k``. Nothing else moves:
    above and below the cut, items keep their order of merit, so the promoted stand at the bottom of the first ``k``
    and the demoted right below. With too few tail items all of them are promoted; more than enough stay as they are.

    Args:
        tail: (N,) bool. Which items are of the long tail, best first.
        share: Of the first ``min(k, N)`` positions, rounded up, in [0, 1].
        k: Positions that will be shown.

    Returns:
        (N,) int64. A permutation of the rows.

    Raises:
        ConfigError: ``share`` is outside [0, 1].

    Cost: O(N).

    >>> tail_order(np.array([False, True, False, False, False, True]), share=0.5, k=4).tolist()
    [0, 1, 2, 5, 3, 4]
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"tail_share is {share}, but it must be between 0 and 1")
    needed = math.ceil(share * k - 1e-9)  # 0.07 * 100 is a little above 7
    missing = max(needed - int(tail[:k].sum()), 0)
    promoted = k + np.flatnonzero(tail[k:])[:missing]  # none where k is more than N
    heads = np.flatnonzero(~tail[:k])
    above = np.arange(len(tail)) < k  # (N,) which rows end up in the first k
    above[heads[len(heads) - len(promoted) :]] = False
    above[promoted] = True
    return np.concatenate([np.flatnonzero(above), np.flatnonzero(~above)])


class Exposure:
    """A least share of tail items in the answer, and the propensity of each place."""

    needs = frozenset({"tail"})
    gives = frozenset({"propensity"})

    class Config(Closed):
        """Settings of the exposure stage."""

        tail_share: Annotated[float, Field(ge=0, le=1)] = 0.0
        """Least share of tail items among those shown; ``request.tail_share`` overrides it. Unitless."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def open(cls, config: Config, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  nothing is stored
        """Build from settings alone."""
        return cls(config)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """The slate with its tail share, and ``propensity`` (N,) float32: the chance of each item's place, here 1."""
        share = self.config.tail_share if request.tail_share is None else request.tail_share
        if share:
            slate = slate.take(tail_order(slate.columns["tail"], share=share, k=request.k))
        return slate.add(propensity=np.ones(len(slate), np.float32))
