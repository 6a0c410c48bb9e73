"""The long tail's due: what is popular anyway must be better to stand as high."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from tailwise.config import Closed
from tailwise.data.scores import past_speaks
from tailwise.types import Facts, Request, Slate


class LongTailConfig(Closed):
    """Settings of the long-tail stage."""

    penalty: Annotated[float, Field(ge=0, le=2)] | None = None
    """What a popular item pays: this times the log of its events, in the unit of the scores. 0 keeps the order; None
    lets the fit choose the largest that held-out people pay little for."""
    cost: Annotated[float, Field(ge=0, le=1)] = 0.01
    """What the penalty that a fit chooses may cost: this part of the NDCG@10 of the best one."""


class LongTail:
    """
    Takes ``penalty · log(1 + events)`` off each score.

    Scores of the fusion and of the list-wise re-ranker are logits: a penalty of 1 would rank by how much more likely
    an item is for this person than for anybody. Small ones cost next to nothing and show much more of a catalogue.
    Of a stranger only what is popular is known, and a query is about something else: both keep their order.

    Source: Steck, RecSys 2011, doi:10.1145/2043932.2043957 (popularity to a power between all and nothing).
    """

    Config = LongTailConfig
    needs = frozenset({"popularity"})
    gives: frozenset[str] = frozenset()

    def __init__(self, config: LongTailConfig) -> None:
        self.config = config

    @classmethod
    def open(cls, config: LongTailConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  nothing is stored
        """Build from settings alone."""
        return cls(config)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        if not self.config.penalty or not past_speaks(request):
            return slate
        events = np.nan_to_num(slate.columns["popularity"], nan=0.0)
        return slate.score(slate.scores - np.float32(self.config.penalty) * np.log1p(events))
