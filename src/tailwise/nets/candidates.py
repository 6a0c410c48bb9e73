"""
One history and several candidates side by side in one row of tokens: the history is read once (torch).

    history of the row, item 1, item 2, …  ─▶  model, an item seeing the history and itself  ─▶ a vector an item ─▶ head

A history sees itself alone, so that what a model makes of an item is the same whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailwise.nets.language import Reading
from tailwise.nets.sequence import dropped

HIDDEN = -1e9
"""Added to what a token makes of one that it may not see."""
ALIKE = 1e-3
"""Largest difference of a vector's components, beside another item and alone; more is a model that mixes them."""


class CandidateReader(nn.Module):
    """
    Rows of tokens to one number a candidate: (B, T) to (B, S).

    Args:
        model: A backbone without the head that predicts tokens, adapted or not.
        reading: ``last`` for causal models, where a token sees what came before alone: an item's vector is that of its
            last token; else the mean of its tokens.
        head: What makes a number of a vector, (…, D) to (…, 1); None leaves vectors, (B, S, D).
        dropout: Share of the vector that is dropped while training, before the head.
        together: Whether several items share a row; else each row has one, and everything in it sees everything.

    Cost: of rows of 16 + 5 × 12 tokens for 5 × 28 of pairs, half the time of the pairs.
    Source: after the shared prefixes of Juravsky et al., 2024, arXiv 2402.05099, here for encoders too.
    """

    def __init__(
        self, model: nn.Module, reading: Reading, head: nn.Module | None, dropout: float = 0.0, *, together: bool = True
    ) -> None:
        super().__init__()
        self.model, self.head = model, head
        self.reading, self.dropout, self.together = reading, dropout, together
        self.first = first_place(model)

    def forward(self, ids: Tensor, part: Tensor, which: Tensor, noise: torch.Generator | None = None) -> Tensor:
        vectors = self.vectors(ids, part, which)
        return vectors if self.head is None else self.head(dropped(vectors, self.dropout, noise))[..., 0]

    def vectors(self, ids: Tensor, part: Tensor, which: Tensor) -> Tensor:
        """
        What the model makes of each candidate, (B, S, D).

        Args:
            ids: (B, T) tokens.
            part: (B, T) what each belongs to: 0 the history and its marks, n the nth item, -1 nothing.
            which: (S,) items wanted, from 1; zeros come for one that a row does not have.
        """
        hidden = self.model(input_ids=ids, **self._seen(part)).last_hidden_state
        hidden = hidden[:, -ids.shape[1] :]  # (B, T, D) without the places that a prompt adds in front
        own = (part.unsqueeze(1) == which[:, None]).long()  # (B, S, T)
        if self.reading == "last":
            own = own * (own.cumsum(2) == own.sum(2, keepdim=True)).long()
        shares = own.to(hidden.dtype)
        return (shares @ hidden) / shares.sum(2, keepdim=True).clamp(min=1)

    def _seen(self, part: Tensor) -> dict[str, Tensor]:
        """What each token sees, and the place where it stands, as the model takes them."""
        if not self.together:
            return {"attention_mask": (part >= 0).long()}
        same = part.unsqueeze(2) == part.unsqueeze(1)  # (B, T, T)
        line = torch.arange(part.shape[1])
        before = line[:, None] > line  # (T, T)
        common = part == 0
        seen = same | common.unsqueeze(1)
        if self.reading == "last":
            seen = seen & (before | (line[:, None] == line))
        places = (same & before).sum(2) + torch.where(part > 0, common.sum(1, keepdim=True), 0)
        places = places.masked_fill(part < 0, 0)  # a long padding would have more of them than the model knows
        mask = torch.where(seen, 0.0, HIDDEN).unsqueeze(1)
        return {"attention_mask": mask, "position_ids": places + self.first}


def first_place(model: Any) -> int:
    """The number of a model's first place: RoBERTa and its kin count from after the padding token's."""
    return int(getattr(getattr(model, "embeddings", None), "padding_idx", -1)) + 1


@torch.no_grad()
def reads_together(model: nn.Module, reading: Reading) -> bool:
    """
    Whether a model can read several items in one row: it takes a mask from token to token and places.

    Tried out: an item's vector must be the same beside another one and alone.
    """
    net = CandidateReader(model, reading, None)
    ids, part = torch.tensor([[3, 4, 5, 6, 7, 8, 9]]), torch.tensor([[0, 0, 1, 1, 2, 2, 2]])
    alone = [0, 1, 4, 5, 6]
    try:
        both = net.vectors(ids, part, torch.tensor([1, 2]))
        first = net.vectors(ids[:, :4], part[:, :4], torch.tensor([1]))
        second = net.vectors(ids[:, alone], part[:, alone], torch.tensor([2]))
    except (TypeError, ValueError, RuntimeError, IndexError):  # it takes no such mask, or no places
        return False
    return bool((both - torch.cat([first, second], 1)).abs().max() <= ALIKE)


def padded_rows(
    rows: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], pad_id: int, multiple: int = 8
) -> tuple[Tensor, Tensor, Tensor]:
    """
    Tokens and parts of B rows, each (B, T), padded on the right to a multiple of so many, and their items, (S,).

    What trains takes multiples of 8: the library keeps what it compiled for each shape that it meets.
    """
    longest = -(-max(len(ids) for ids, _ in rows) // multiple) * multiple
    ids = torch.full((len(rows), longest), pad_id)
    part = torch.full((len(rows), longest), -1)
    for place, (own, parts) in enumerate(rows):
        ids[place, : len(own)], part[place, : len(own)] = torch.from_numpy(own), torch.from_numpy(parts)
    return ids, part, torch.arange(1, int(part.max()) + 1)
