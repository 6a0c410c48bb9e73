"""Several models that differ only in their seed, as one source: chance errs in each of them differently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field

from tailwise.config import Closed
from tailwise.data.scores import at_rows, best_slate
from tailwise.rank.fusion import standardised
from tailwise.rank.sequence import SequenceConfig, SequenceScorer
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate


class EnsembleConfig(Closed):
    """Settings of an ensemble."""

    of: Literal["sequence"] = "sequence"
    """Which source it is made of."""
    seeds: Annotated[int, Field(ge=1)] = 3
    """Models, each with the next seed; a fit takes as many times as long."""
    distil: bool = False
    """Whether one model learns from all of them and serves alone, as fast as one."""
    imitate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the one model's loss that is about what all think; the rest is about what came next."""
    member: SequenceConfig = SequenceConfig()
    """Settings of each model."""


class Ensemble:
    """
    Averages its models' opinions of the catalogue, each put on one scale first.

    Args:
        config: Settings.
        members: At least one; a distilled ensemble has exactly one.
        item_ids: (M,).
    """

    Config = EnsembleConfig

    def __init__(self, config: EnsembleConfig, members: Sequence[SequenceScorer], item_ids: Ids) -> None:
        self.config = config
        self.members = tuple(members)
        self._item_ids = item_ids

    @classmethod
    def open(cls, config: EnsembleConfig, facts: Facts, folder: Path) -> Self:
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A model of it is missing or damaged.
        """
        count = max(1, sum((folder / str(place)).is_dir() for place in range(config.seeds)))
        members = [SequenceScorer.open(config.member, facts, folder / str(place)) for place in range(count)]
        return cls(config, members, facts.item_ids)

    def save(self, folder: Path) -> None:
        """Write a folder for each model."""
        for place, member in enumerate(self.members):
            member.save(folder / str(place))

    def __call__(self, request: Request, k: int) -> Slate:
        return best_slate(self._all(request), k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        return at_rows(self._all(request), rows)

    def _all(self, request: Request) -> Floats:
        """(M,) the mean of what the models think; NaN where none knows anything. Made once a request."""
        if self not in request.cache:
            every = np.arange(len(self._item_ids))
            columns = [member.scores(request, every) for member in self.members]
            mean = standardised(columns).mean(axis=1)  # (M,)
            request.cache[self] = np.where(np.isfinite(columns).any(axis=0), mean, np.float32("nan"))
        return request.cache[self]
