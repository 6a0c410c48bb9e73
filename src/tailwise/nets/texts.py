"""Heads over one encoder: a matrix each, for what a whole text says or for what each of its tokens is (torch)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tailwise.data.labelled import SPANS
from tailwise.nets.adapting import width_of
from tailwise.nets.sequence import dropped

Answers = dict[str, Tensor]
"""Log-odds by head: (B, labels), of ``entities`` (B, T, tags)."""


class Heads(nn.Module):
    """
    A matrix a head, over vectors at mean 0 and spread 1, so that neither their length nor their place matters.

    Args:
        dim: Width D of the encoder's vectors.
        sizes: Labels of each head, by name; of ``entities`` tags.
        dropout: Share of a vector that is dropped while training.
    """

    def __init__(self, dim: int, sizes: Mapping[str, int], dropout: float) -> None:
        super().__init__()
        self.linear = nn.ModuleDict({name: nn.Linear(dim, size) for name, size in sizes.items()})
        self.dropout = dropout
        for parameter in self.parameters():  # nothing is likelier than anything else at first
            nn.init.zeros_(parameter)

    def forward(self, vectors: Tensor, tokens: Tensor | None, noise: torch.Generator | None) -> Answers:
        """(B, D) vectors of texts, and (B, T, D) of tokens, or None where no head is asked of them."""
        own = dropped(nn.functional.layer_norm(vectors, vectors.shape[-1:]), self.dropout, noise)
        out = {name: head(own) for name, head in self.linear.items() if name != SPANS}
        if tokens is not None and SPANS in self.linear:
            read = nn.functional.layer_norm(tokens, tokens.shape[-1:])
            out[SPANS] = self.linear[SPANS](dropped(read, self.dropout, noise))
        return out

    def weights(self) -> dict[str, tuple[Any, Any]]:
        """Matrix and bias of each head as arrays."""
        own = {name: parameter.detach().numpy().copy() for name, parameter in self.linear.named_parameters()}
        return {name: (own[f"{name}.weight"], own[f"{name}.bias"]) for name in self.linear}


class TextNet(nn.Module):
    """An encoder that learns, with its heads: (B, T) tokens to answers and (B, D) unit vectors, the mean of tokens."""

    def __init__(self, model: nn.Module, heads: Heads) -> None:
        super().__init__()
        self.model, self.heads = model, heads

    @property
    def dim(self) -> int:
        """Width D of the encoder's vectors."""
        return width_of(self.model)

    def read(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) tokens to (B, D) vectors of texts and (B, T, D) of tokens."""
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        hidden = hidden[:, -ids.shape[1] :]  # (B, T, D) without the places that a prompt adds in front
        shown = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        return (hidden * shown).sum(1) / shown.sum(1).clamp(min=1), hidden

    def forward(self, ids: Tensor, mask: Tensor, noise: torch.Generator | None) -> tuple[Answers, Tensor]:
        vectors, hidden = self.read(ids, mask)
        return self.heads(vectors, hidden, noise), nn.functional.normalize(vectors, dim=-1)
