"""
A SASRec-class causal transformer: a history of item vectors to a vector that points at the next item.

The item table is the sum of a learned vector per item and a linear adapter over its frozen text vector, so that an
item which nobody has touched still has a place: its text alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.nets.settings import SequenceShape


def dropped(x: Tensor, rate: float, noise: torch.Generator | None) -> Tensor:
    """Dropout that draws from a generator of its own, so that parts of a batch can be worked on side by side."""
    if noise is None or not rate:
        return x
    return x * torch.empty_like(x).bernoulli_(1 - rate, generator=noise).div_(1 - rate)


class Block(nn.Module):
    """Pre-norm causal self-attention and a feed-forward part, each added to what came in."""

    def __init__(self, shape: SequenceShape) -> None:
        super().__init__()
        dim, wide = shape.dim, shape.feedforward * shape.dim
        self.heads = shape.heads
        self.before_attention, self.before_feedforward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, wide), nn.Linear(wide, dim)
        self.rate = shape.dropout

    def forward(self, x: Tensor, noise: torch.Generator | None) -> Tensor:
        b, t, d = x.shape
        mixed = self.query_key_value(self.before_attention(x)).view(b, t, 3, self.heads, d // self.heads)
        q, k, v = mixed.permute(2, 0, 3, 1, 4).unbind()  # each (B, A, T, D / A)
        # Histories start at the left, so that the causal mask alone keeps padding out: it lies in everyone's future.
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + dropped(self.out(attended.transpose(1, 2).reshape(b, t, d)), self.rate, noise)
        inner = F.gelu(self.widen(self.before_feedforward(x)))
        return x + dropped(self.narrow(inner), self.rate, noise)


class SequenceNet(nn.Module):
    """
    Item vectors and places to the vector of the next item.

    Args:
        shape: The network's shape.
        n_items: M.
        text: (M, W) frozen text vectors, zeros where an item has none; None without text.
    """

    def __init__(self, shape: SequenceShape, n_items: int, text: Tensor | None) -> None:
        super().__init__()
        self.shape = shape
        self.n_items = n_items
        self.ids = nn.Embedding(n_items, shape.dim)
        self.places = nn.Embedding(shape.max_length, shape.dim)
        self.adapter = None if text is None else nn.Linear(text.shape[1], shape.dim, bias=False)
        self.text = nn.Buffer(torch.empty(0) if text is None else text, persistent=False)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.last_norm = nn.LayerNorm(shape.dim)
        for table in (self.ids, self.places):
            nn.init.normal_(table.weight, std=0.02)
        if self.adapter is not None:
            nn.init.normal_(self.adapter.weight, std=0.02)

    def table(self) -> Tensor:
        """The item table, (M, D)."""
        if self.adapter is None:
            return self.ids.weight
        return self.ids.weight + self.adapter(self.text)

    def vectors(self, rows: Tensor) -> Tensor:
        """The table at some rows only, (…, D): in a large catalogue most items take no part in a batch."""
        if self.adapter is None:
            return self.ids(rows)
        return self.ids(rows) + self.adapter(self.text[rows])

    def forward(self, vectors: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """
        (B, T, D) item vectors, oldest first from the left, to (B, T, D): at each place, what comes next.

        ``noise`` is where dropout draws from while training; None drops nothing.
        """
        places = self.places.weight[: vectors.shape[1]]
        hidden = dropped(vectors * math.sqrt(self.shape.dim) + places, self.shape.dropout, noise)  # (B, T, D)
        for block in self.blocks:
            hidden = block(hidden, noise)
        return self.last_norm(hidden)
