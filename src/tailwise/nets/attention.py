"""
A residual list-wise re-ranker: candidates look at each other, and each moves up or down from where it came in.

    signals (B, N, F), base (B, N) ──▶ standardise ─┬─▶ L blocks of attention across the slate ──▶ move (B, N)
                                                    └─▶ straight: a weight a signal
    score = temperature · base + straight + gate · move        the gate starts near zero, and untrained the order stands
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.nets.sequence import dropped
from tailwise.nets.settings import SlateShape

FAR = 4.0
"""Deviations at which a signal is cut, so that no odd candidate outshouts the slate."""


class SlateBlock(nn.Module):
    """Pre-norm self-attention across the slate, without places: the order that came in is a signal like others."""

    def __init__(self, shape: SlateShape) -> None:
        super().__init__()
        dim = shape.dim
        self.heads, self.rate = shape.heads, shape.dropout
        self.before_attention, self.before_feedforward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, bias: Tensor, noise: torch.Generator | None) -> Tensor:
        b, n, d = x.shape
        mixed = self.query_key_value(self.before_attention(x)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = mixed.permute(2, 0, 3, 1, 4).unbind()  # each (B, A, N, D / A)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + dropped(self.out(attended.transpose(1, 2).reshape(b, n, d)), self.rate, noise)
        return x + dropped(self.narrow(F.gelu(self.widen(self.before_feedforward(x)))), self.rate, noise)


class SlateNet(nn.Module):
    """
    Signals of a slate to its scores.

    Args:
        shape: The network's shape.
        mean: (F,) of each signal over what it learns from.
        deviation: (F,) of the same.
        temperature: What one unit of the incoming score is worth, as a logit.
    """

    def __init__(self, shape: SlateShape, mean: Tensor, deviation: Tensor, temperature: float) -> None:
        super().__init__()
        self.mean, self.deviation = nn.Buffer(mean), nn.Buffer(deviation)
        self.temperature = nn.Buffer(torch.tensor(temperature))
        self.read = nn.Linear(len(mean), shape.dim)
        self.blocks = nn.ModuleList(SlateBlock(shape) for _ in range(shape.layers))
        self.last_norm = nn.LayerNorm(shape.dim)
        self.hidden, self.move = nn.Linear(shape.dim, shape.dim), nn.Linear(shape.dim, 1)
        self.gate = nn.Parameter(torch.tensor(shape.gate))
        self.straight = nn.Parameter(torch.zeros(len(mean)))

    def standard(self, signals: Tensor) -> Tensor:
        """(…, F) signals in deviations from what is usual, cut at ``FAR``."""
        return ((signals - self.mean) / self.deviation).clamp(-FAR, FAR)

    def forward(self, signals: Tensor, base: Tensor, mask: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """(B, N, F) signals, (B, N) incoming scores and which places hold a candidate, to (B, N) scores."""
        bias = torch.zeros_like(base).masked_fill(~mask, -1e9)[
            :, None, None, :
        ]  # onto every candidate's view of others
        usual = self.standard(signals)
        x = self.read(usual)
        for block in self.blocks:
            x = block(x, bias, noise)
        move = self.move(F.gelu(self.hidden(self.last_norm(x))))[..., 0]
        return self.temperature * base + usual @ self.straight + self.gate * move
