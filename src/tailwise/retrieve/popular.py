"""Popularity with decay: what many people did lately. The first answer to a stranger, and the baseline to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.interactions import Training
from tailwise.data.pace import USUAL
from tailwise.data.scores import best_slate
from tailwise.retrieve.strangers import chosen_for_strangers, popularity_for
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate


class PopularConfig(Closed):
    """Settings of the popularity source."""

    half_life_days: Annotated[float, Field(gt=0)] = 90.0
    """For people with a past an event counts half after this many days; left out: 90, or less where what was taken
    lately tells far better what is taken next, as with news."""
    strangers_half_life_days: Annotated[float, Field(gt=0)] | None = None
    """The same for strangers; None lets those choose who were new in the last fifth of the log, unless what is wanted
    changes fast."""
    strangers_first: Annotated[int, Field(ge=0)] | None = None
    """How many first events of each person count for strangers, 0 all; None lets the same people choose."""


class Popular:
    """
    Scores an item by the logarithm of its decayed events.

    Of a stranger nothing is known but that they are new: to them counts what people took who were new.

    Args:
        config: Settings.
        popularity: (M,) decayed events, for people with a past.
        item_ids: (M,).
        for_strangers: (M,) the same for those without one; None takes the same.
    """

    Config = PopularConfig

    def __init__(
        self, config: PopularConfig, popularity: Floats, item_ids: Ids, for_strangers: Floats | None = None
    ) -> None:
        self.config = config
        self._item_ids = item_ids
        self._counts = (popularity, popularity if for_strangers is None else for_strangers)
        self._scores, self._for_strangers = (np.log1p(count).astype(np.float32) for count in self._counts)  # (M,)

    @classmethod
    def fit(cls, config: PopularConfig, training: Training) -> Self:
        """
        Choose what counts for strangers, and count.

        Newcomers choose by all that they did: what else is held out tells of people with a past, who never see this.
        """
        events, half_life, first = training.interactions, config.strangers_half_life_days, config.strangers_first
        whole = events if training.held is None else training.held.whole
        usual = config.half_life_days if "half_life_days" in config.model_fields_set else whole.pace
        config = config.model_copy(update={"half_life_days": usual})
        if half_life is None or first is None:
            # Newcomers choose by all that they did in weeks; where it is of the day, they are shown what is wanted now.
            own = (usual, 0) if whole.pace < USUAL else chosen_for_strangers(whole, usual)
            half_life, first = own[0] if half_life is None else half_life, own[1] if first is None else first
            config = config.model_copy(update={"strangers_half_life_days": half_life, "strangers_first": first})
        for_strangers = popularity_for(events, half_life, first)
        return cls(config, events.decayed(usual), training.catalogue.item_ids, for_strangers)

    @classmethod
    def open(cls, config: PopularConfig, facts: Facts, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        arrays = load_arrays(folder / "popular.safetensors")
        return cls(config, arrays["popularity"], facts.item_ids, arrays.get("for_strangers"))

    def save(self, folder: Path) -> None:
        """Write the counts."""
        folder.mkdir(parents=True, exist_ok=True)
        popularity, for_strangers = self._counts
        save_arrays(folder / "popular.safetensors", popularity=popularity, for_strangers=for_strangers)

    def __call__(self, request: Request, k: int) -> Slate:
        return best_slate(self._for(request), k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        return np.where(rows >= 0, self._for(request)[rows], np.float32("nan"))

    def _for(self, request: Request) -> Floats:
        return self._scores if len(request.past.newest) else self._for_strangers
