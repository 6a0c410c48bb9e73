"""The long tail's due: what is popular anyway must be better to stand as high."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from tailwise.config import Closed
from tailwise.data.scores import past_speaks
from tailwise.types import Column, Facts, Request, Slate


class LongTailConfig(Closed):
    """Settings of the long-tail stage."""

    penalty: Annotated[float, Field(ge=0, le=2)] | None = None
    """What a popular item pays: this times the log of its events, in the unit of the scores. 0 keeps the order; None
    lets the fit choose, with ``lift``, what shows most of the catalogue and what held-out people pay little for."""
    lift: Annotated[float, Field(ge=0, le=5)] | None = None
    """What every item of the long tail gets on top, in the same unit; None lets the fit choose, and is 0 beside a
    ``penalty`` that is set."""
    cost: Annotated[float, Field(ge=0, le=1)] = 0.02
    """What the choice of a fit may cost: this part of the NDCG@10 of the best one."""


class LongTail:
    """
    Takes ``penalty · log(1 + events)`` off each score, and adds ``lift`` to those of the long tail.

    Scores of the fusion and of the list-wise re-ranker are logits: a penalty of 1 would rank by how much more likely
    an item is for this person than for anybody. Small ones cost next to nothing and show much more of a catalogue.
    Of a stranger only what is popular is known, and a query is about something else: both keep their order.

    Source: Steck, RecSys 2011, doi:10.1145/2043932.2043957 (popularity to a power between all and nothing).
    """

    Config = LongTailConfig
    needs = frozenset({"popularity", "tail"})
    gives: frozenset[str] = frozenset()

    def __init__(self, config: LongTailConfig) -> None:
        self.config = config

    @classmethod
    def open(cls, config: LongTailConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  nothing is stored
        """Build from settings alone."""
        return cls(config)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        penalty, lift = self.config.penalty, self.config.lift
        if not (penalty or lift) or not past_speaks(request):
            return slate
        scores: Column = slate.scores
        if penalty:
            events = slate.columns["popularity"]
            scores = scores - np.float32(penalty) * np.log1p(np.where(np.isnan(events), np.float32(0.0), events))
        if lift:
            scores = scores + np.float32(lift) * slate.columns["tail"]
        return slate.score(np.asarray(scores, np.float32))
