"""What people did for items as one long line of events, to cut windows from and to read with the sequence network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.interactions import Interactions
from tailwise.nets.sequence import SequenceNet
from tailwise.types import Rows

DRAWS = 4
"""Of a basket, items to predict a time; more would steady the gradient for little."""


class LikedEvents:
    """What people did for items, one after the other, and where each person's part begins."""

    def __init__(self, interactions: Interactions) -> None:
        self.n_items = interactions.n_items
        liked = interactions.likes
        self.rows: Rows = interactions.rows[liked]
        self._times = interactions.times[liked]
        cuts = np.concatenate([[0], np.cumsum(liked)])[interactions.offsets]
        self.of_people: list[Rows] = np.split(np.arange(len(self.rows)), cuts[1:-1])
        """Per person, the places of the events, oldest first."""
        begins = np.append(True, (np.diff(self._times) != 0) | (np.diff(interactions.users[liked]) != 0))[
            : len(self.rows)
        ]
        self._starts = np.flatnonzero(begins)
        self._moment = np.cumsum(begins) - 1
        self._sizes = np.diff(np.append(self._starts, len(self.rows)))
        baskets = interactions.in_baskets
        self.draws = DRAWS if baskets else 1
        """Items that are to be predicted at each place that teaches."""
        self.teaches: NDArray[np.bool_] = begins if baskets else np.ones(len(self.rows), bool)
        """(E,) whether an event is predicted from what came before: of a basket only what begins it."""
        self.counts = np.bincount(self.rows, minlength=self.n_items)
        self.touched: Rows = np.flatnonzero(self.counts)
        self.place_of = np.full(self.n_items, -1)
        self.place_of[self.touched] = np.arange(len(self.touched))

    def wanted(self, places: Rows, noise: torch.Generator) -> Tensor:
        """
        Rows of what is to be predicted at some places, (draws · P,).

        Where people act in baskets these are items of the basket that begins there, drawn anew each time: what comes
        first in it by id says nothing, and how it goes on by id would be learned instead of what people buy.
        """
        if self.draws == 1:
            return torch.from_numpy(self.rows[places])
        moment = np.tile(self._moment[places], self.draws)
        share = torch.rand(len(moment), generator=noise, dtype=torch.float64).numpy()
        return torch.from_numpy(self.rows[self._starts[moment] + (share * self._sizes[moment]).astype(np.int64)])

    def log_chance(self, power: float) -> NDArray[np.float64]:
        """(M,) log of the chance of being drawn, by popularity to a power; what nobody touched never is."""
        with np.errstate(divide="ignore"):
            smoothed = np.where(self.counts > 0, power * np.log(self.counts + 1.0), -np.inf)
        return smoothed - np.log(np.exp(smoothed).sum())

    def read(self, net: SequenceNet, places: Rows, noise: torch.Generator | None = None) -> Tensor:
        """(B, T) places of events to the network's (B, T, D)."""
        times = torch.from_numpy(self._times[places])
        out: Tensor = net(F.embedding(torch.from_numpy(self.rows[places]), net.table()), noise, times=times)
        return out
