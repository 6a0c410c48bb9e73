"""
Self-distillation for the long tail: what people in a like moment took next stands in for a rare item now and then.

    once an epoch: moments that a tail item followed ─▶ the network as it stands ─▶ bank: vectors, people, what followed
    a step: some positions with a tail target ─▶ the nearest moments of other people ─▶ a tail item that followed there

A rare item has few moments to learn from; so it learns from those of its neighbours too. The target is drawn and not
mixed: on average that is cross-entropy against the mixture, at the cost of nothing but finding neighbours for the few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.batch import left_aligned, windows
from tailwise.data.catalogue import tail_of
from tailwise.data.interactions import Training
from tailwise.learn.liked import LikedEvents
from tailwise.nets.sequence import SequenceNet
from tailwise.rank.sequence import SequenceConfig
from tailwise.types import Rows

__all__ = ["Bank", "Neighbours", "neighbours_of"]

MOMENTS = 4_096
"""In the bank at most, drawn anew every epoch."""
NEAREST = 20
"""Moments that are drawn from."""
SHARPNESS = 0.05
"""A moment whose cosine is less by this is drawn ``1 / e`` as often."""
GROUP = 64
"""Windows that are read at a time."""


@dataclass(frozen=True)
class Bank:
    """Moments that a tail item followed."""

    vectors: Tensor  # (N, D) unit rows, of what the network made of the past
    people: Tensor  # (N,)
    followed: Tensor  # (N,) rows of items

    def draw(self, hidden: Tensor, people: Tensor, noise: torch.Generator) -> Tensor:
        """
        For each of (P, D) moments a row that followed one of the nearest moments of *other* people, (P,); -1 for none.

        Cost: O(P N D).
        """
        cosines = F.normalize(hidden, dim=1) @ self.vectors.T  # (P, N)
        cosines.masked_fill_(people[:, None] == self.people, -torch.inf)
        near, places = cosines.topk(min(NEAREST, len(self.people)), dim=1)
        alone = near[:, 0].isinf()
        chances = torch.softmax(near.masked_fill(alone[:, None], 0.0) / SHARPNESS, dim=1)
        taken = places.gather(1, torch.multinomial(chances, 1, generator=noise))[:, 0]
        return self.followed[taken].masked_fill(alone, -1)


class Neighbours:
    """
    Gives some positions whose target is a tail item another one's target.

    Args:
        net: What learns, and tells which moments are alike.
        events: What it learns from.
        share: Of the positions with a tail target, in [0, 1].
        tail: (M,) which items are of the long tail.
        length: Events that the network reads.
        seed: Of the bank, together with the epoch.

    Source: retrieval-augmented self-distillation from similar people for the long tail, Liu et al. (LLM-ESR), NeurIPS
    2024, arXiv 2405.20646, which draws their vectors together; what followed in the nearest moments as a distribution
    over what comes next, Khandelwal et al. (kNN-LM), ICLR 2020, arXiv 1911.00172.
    """

    def __init__(
        self, net: SequenceNet, events: LikedEvents, *, share: float, tail: NDArray[np.bool_], length: int, seed: int
    ) -> None:
        self._net, self._events, self._share, self._seed = net, events, share, seed
        self._tail = torch.from_numpy(tail)
        self._person = np.repeat(np.arange(len(events.of_people)), [len(own) for own in events.of_people])
        self._pieces = windows(events.of_people, length)
        self.bank: Bank | None = None

    def before(self, batches: Callable[[int], Iterator[Any]]) -> Callable[[int], Iterator[Any]]:
        """The same batches, before whose first of an epoch the bank is filled: what it holds is as old as the epoch."""

        def each(epoch: int) -> Iterator[Any]:
            self.bank = self.filled(epoch)
            yield from batches(epoch)

        return each

    def filled(self, epoch: int) -> Bank | None:
        """Up to ``MOMENTS`` moments, by the network as it stands; None when no tail item follows anything."""
        rng = np.random.default_rng((self._seed, epoch, len(self._pieces)))
        order, noise = rng.permutation(len(self._pieces)), torch.Generator().manual_seed(int(rng.integers(2**63)))
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        count = 0
        for start in range(0, len(order), GROUP):
            found.append(self._moments([self._pieces[place] for place in order[start : start + GROUP]], noise))
            count += len(found[-1][0])
            if count >= MOMENTS:
                break
        return Bank(*(torch.cat(known)[:MOMENTS] for known in zip(*found, strict=True))) if count else None

    def _moments(self, pieces: list[Rows], noise: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Of some windows, what the bank holds of the moments that a tail item followed."""
        own, mask = left_aligned(pieces)
        real = mask[:, 1:] & self._events.teaches[own[:, 1:]]
        places, draws = own[:, 1:][real], self._events.draws
        followed = self._events.wanted(places, noise)  # (draws · P,)
        with torch.no_grad():
            hidden = self._events.read(self._net, own[:, :-1])[torch.from_numpy(real)].repeat(draws, 1)
        rare = self._tail[followed]
        people = torch.from_numpy(self._person[places]).repeat(draws)
        return F.normalize(hidden[rare], dim=1), people[rare], followed[rare]

    def taught(self, hidden: Tensor, targets: Tensor, places: Rows, noise: torch.Generator) -> Tensor:
        """
        Targets, some of them those of neighbours.

        Args:
            hidden: (P, D) what the network makes of each past.
            targets: (P,) rows of what followed.
            places: (P / draws,) of the events that followed.
            noise: Where chance comes from.
        """
        chosen = self._tail[targets] & (torch.rand(len(targets), generator=noise) < self._share)
        at = chosen.nonzero()[:, 0]
        if self.bank is None or not len(at):
            return targets
        people = torch.from_numpy(self._person[places]).repeat(self._events.draws)[at]
        found = self.bank.draw(hidden.detach()[at], people, noise)
        return targets.index_put((at,), torch.where(found < 0, targets[at], found))


def neighbours_of(
    net: SequenceNet, config: SequenceConfig, training: Training, events: LikedEvents, seed: int
) -> Neighbours | None:
    """As the settings say, with the tail that the catalogue has by the events that are learned from; None: nobody."""
    if not config.self_distil:
        return None
    tail = tail_of(events.counts, training.catalogue.tail_cut)
    return Neighbours(net, events, share=config.self_distil, tail=tail, length=config.shape.max_length, seed=seed)
