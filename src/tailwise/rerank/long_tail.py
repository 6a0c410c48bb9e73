"""The long tail's due: what stands in many lists anyway must be better to stand as high."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.scores import past_speaks
from tailwise.errors import ArtifactError
from tailwise.types import Column, Facts, Floats, Request, Slate

FILE = "prices.safetensors"
NONE = np.zeros(0, np.float32)


class LongTailConfig(Closed):
    """Settings of the long-tail stage."""

    penalty: Annotated[float, Field(ge=0, le=2)] | None = None
    """What a popular item pays: this times the log of its events, in the unit of the scores. None lets the fit choose
    what shows most of the catalogue and what held-out people pay little for; so do the next two."""
    lift: Annotated[float, Field(ge=0, le=5)] | None = None
    """What every item of the long tail gets on top, in the same unit."""
    rounds: Annotated[int, Field(ge=0, le=50)] | None = None
    """Rounds of the auction in which items that stand in many lists become dear."""
    cost: Annotated[float, Field(ge=0, le=1)] = 0.01
    """What the choice of a fit may cost, by a standard error: this part of NDCG@10."""


class LongTail:
    """
    Takes its price off each item's score, adds ``lift`` to those of the long tail, and orders by that.

    The fit learns prices from the lists of held-out people, as in an auction: what stands in more of them is dearer, so
    that somebody to whom it matters little gets the next best item instead. Small prices cost no accuracy and show
    much more of a catalogue. ``penalty · log(1 + events)`` is a price by popularity alone. Scores of the fusion and of
    the list-wise re-ranker are logits, and so are prices: a penalty of 1 would rank by how much more likely an item is
    for this person than for anybody.

    Of a stranger only what is popular is known, and a query is about something else: both keep their order.

    Args:
        config: What was chosen.
        prices: (M,) by row of the catalogue; items that came later have none.

    Source: prices after Bertsekas, Annals of Operations Research 1988, doi:10.1007/BF02186476; Steck, RecSys 2011,
    doi:10.1145/2043932.2043957 (popularity to a power between all and nothing).
    """

    Config = LongTailConfig
    needs = frozenset({"row", "popularity", "tail"})
    gives: frozenset[str] = frozenset()

    def __init__(self, config: LongTailConfig, prices: Floats = NONE) -> None:
        self.config = config
        self.prices = prices
        self._table = np.append(prices, np.float32(0.0))  # (M + 1,) the last is of what is not known

    def __call__(self, request: Request, slate: Slate) -> Slate:
        penalty, lift = self.config.penalty, self.config.lift
        if not (penalty or lift or len(self.prices)) or not past_speaks(request):
            return slate
        scores: Column = slate.scores
        if len(self.prices):
            scores = scores - self._table[np.minimum(slate.columns["row"], len(self.prices))]
        if penalty:
            events = slate.columns["popularity"]
            scores = scores - np.float32(penalty) * np.log1p(np.where(np.isnan(events), np.float32(0.0), events))
        if lift:
            scores = scores + np.float32(lift) * slate.columns["tail"]
        return slate.score(np.asarray(scores, np.float32))

    def save(self, folder: Path) -> None:
        """Write the prices, when there are any."""
        if len(self.prices):
            folder.mkdir(parents=True, exist_ok=True)
            save_arrays(folder / FILE, prices=self.prices)

    @classmethod
    def open(cls, config: LongTailConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  nothing is looked up
        """
        Build from settings and prices.

        Raises:
            ArtifactError: Rounds were held, but their prices are missing or damaged.
        """
        if not config.rounds:
            return cls(config)
        arrays = load_arrays(folder / FILE)
        if "prices" not in arrays:
            raise ArtifactError(f"{folder / FILE} holds no prices; fit the model again")
        return cls(config, arrays["prices"])
