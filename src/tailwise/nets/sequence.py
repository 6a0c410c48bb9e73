"""
A SASRec-class causal transformer: a history of item vectors to a vector that points at the next item.

The item table is one learned vector per item. It starts from whitened texts and from who takes which items together:
training then moves each item from there to where it belongs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.nets.settings import SequenceShape

GAPS = 32
"""Buckets of time between events: the last holds all above 2³⁰ seconds, 34 years."""
STEP = 0.301
"""Times between events are told apart by doublings."""


def fading(heads: int, length: int) -> Tensor:
    """
    (A, T) where attention starts to tell events apart by how many events ago they were: each head fades at its pace.

    The last head of many hardly fades. Source: Press et al., ICLR 2022, arXiv 2108.12409 (ALiBi), at a quarter of its
    slopes; here they are where learning starts.
    """
    slopes = torch.exp2(-4.0 * torch.arange(1, heads + 1) / heads) / 4
    return -slopes[:, None] * torch.arange(length)


def buckets(seconds: Tensor) -> Tensor:
    """
    Stretches of time, told apart by doublings: ``⌊log10(max(1, Δt)) / 0.301⌋``, at most 31, of any shape.

    Source: the time intervals of HSTU, Zhai et al., ICML 2024, arXiv 2402.17152.

    >>> buckets(torch.tensor([-5.0, 0.0, 1.0, 2.0, 64.0, 86400.0])).tolist()
    [0, 0, 0, 1, 6, 16]
    """
    return (seconds.float().clamp(min=1.0).log10() / STEP).clamp(max=GAPS - 1).long()


def between_events(times: Tensor) -> Tensor:
    """Buckets of the time from each event to each before it, (…, T, T), of (…, T) seconds; 0 to what comes later."""
    return buckets(times.unsqueeze(-1) - times.unsqueeze(-2))


def since_before(times: Tensor) -> Tensor:
    """Buckets of the time since the event before, (…, T), of (…, T) seconds; the first has nothing before it: 0."""
    return buckets(times - torch.cat([times[..., :1], times[..., :-1]], dim=-1))


def dropped(x: Tensor, rate: float, noise: torch.Generator | None) -> Tensor:
    """Dropout, its rate in steps of 2⁻¹⁶, from a generator of its own: parts of a batch are worked on side by side."""
    if noise is None or not rate:
        return x
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=noise)
    edge = round(rate * 2**16)  # four draws of 16 bits from each number: half the time of one float each
    kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= edge - 2**15
    return x * kept.to(x.dtype).mul_(2**16 / (2**16 - edge))


class _LookedUp(torch.autograd.Function):
    """``numbers[:, places]`` of (A, G) numbers; its backward pass counts, which takes a third less than adding up."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.length = numbers.shape[1]
        return numbers.index_select(1, places.flatten()).view(len(numbers), *places.shape)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor, None]:
        places = ctx.saved_tensors[0].flatten()
        sums = [torch.bincount(places, own.flatten(), ctx.length) for own in outputs[0]]
        return torch.stack(sums).to(outputs[0].dtype), None


class Block(nn.Module):
    """
    Pre-norm causal self-attention and a feed-forward part, each added to what came in.

    How much an event counts for by how many events ago it was is learned, one number a head and distance, and so it is
    by how long ago. ``gated`` lets each part decide how much of it is added, and makes the feed-forward part a SwiGLU.

    Source: Vaswani et al., NeurIPS 2017 (plain); distances after Raffel et al., JMLR 2020, arXiv 1910.10683; gated
    after LiGR, arXiv 2502.03417, and Shazeer, arXiv 2002.05202.
    """

    def __init__(self, shape: SequenceShape) -> None:
        super().__init__()
        dim, wide = shape.dim, shape.feedforward * shape.dim
        self.heads = shape.heads
        self.gated = shape.blocks == "gated"
        self.before_attention, self.before_feedforward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 2 * wide if self.gated else wide), nn.Linear(wide, dim)
        self.gates = nn.ModuleList(nn.Linear(dim, dim) for _ in range(2 * self.gated))
        self.recency = nn.Parameter(fading(shape.heads, shape.max_length))
        self.elapsed = nn.Parameter(torch.zeros(shape.heads, GAPS))
        self.rate = shape.dropout

    def forward(self, x: Tensor, noise: torch.Generator | None, between: Tensor | None = None) -> Tensor:
        """(B, T, D) to (B, T, D); ``between``, (B, T, T), are buckets of the time from each event to each before it."""
        b, t, d = x.shape
        calm = self.before_attention(x)
        mixed = self.query_key_value(calm).view(b, t, 3, self.heads, d // self.heads)
        q, k, v = mixed.permute(2, 3, 0, 1, 4).reshape(3, self.heads * b, t, d // self.heads).unbind()
        # Histories start at the left, so that the mask of the future alone keeps padding out: it lies in everyone's.
        past = self.past(t, -math.inf)[:, None].expand(-1, b, -1, -1)  # (A, B, T, T)
        if between is not None:
            past = past + _LookedUp.apply(self.elapsed, between)  # type: ignore[no-untyped-call]  # torch does not type it
        # By hand, since torch's own attention looks for rows where all is hidden each time.
        near = torch.baddbmm(past.reshape(-1, t, t), q / math.sqrt(d // self.heads), k.transpose(1, 2))
        attended = torch.bmm(near.softmax(-1), v).view(self.heads, b, t, -1).permute(1, 2, 0, 3).reshape(b, t, d)
        x = x + dropped(self.gate(0, calm, self.out(attended)), self.rate, noise)
        calm = self.before_feedforward(x)
        return x + dropped(self.gate(1, calm, self.narrow(self.inner(self.widen(calm)))), self.rate, noise)

    def past(self, length: int, future: float) -> Tensor:
        """(A, T, T) added to what each place makes of each: by how many events ago it was, and ``future`` ahead."""
        ahead = self.recency.new_full((self.heads, length), future)
        line = torch.cat([self.recency[:, :length].flip(1), ahead], dim=1)  # (A, 2 T), the place itself at T - 1
        return line.unfold(1, length, 1)[:, :length].flip(1)

    def inner(self, wide: Tensor) -> Tensor:
        """The wide middle of the feed-forward part, bent."""
        if not self.gated:
            return F.gelu(wide)
        rise, wide = wide.chunk(2, dim=-1)
        return F.silu(rise) * wide

    def gate(self, which: int, calm: Tensor, added: Tensor) -> Tensor:
        """How much of a part is added: all of it, unless the block is gated."""
        return self.gates[which](calm).sigmoid() * added if self.gated else added


class SequenceNet(nn.Module):
    """
    Item vectors and places to the vector of the next item.

    Args:
        shape: The network's shape.
        n_items: M.
        start: (M, ≤ D) where items start, such as their whitened texts; what is zero starts at random, and so do the
            missing columns. None starts all at random.
    """

    def __init__(self, shape: SequenceShape, n_items: int, start: Tensor | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.n_items = n_items
        self.ids = nn.Embedding(n_items, shape.dim)
        self.places = nn.Embedding(shape.max_length, shape.dim)
        self.gaps = nn.Embedding(GAPS, shape.dim) if shape.time_gaps else None
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.last_norm = nn.LayerNorm(shape.dim)
        for table in (self.ids, self.places, *([] if self.gaps is None else [self.gaps])):
            nn.init.normal_(table.weight, std=0.02)
        if start is not None:
            with torch.no_grad():
                self.ids.weight[:, : start.shape[1]] += start

    def table(self) -> Tensor:
        """The item table, (M, D)."""
        return self.ids.weight

    def forward(self, vectors: Tensor, noise: torch.Generator | None = None, *, times: Tensor | None = None) -> Tensor:
        """
        (B, T, D) item vectors, oldest first from the left, to (B, T, D): at each place, what comes next.

        ``noise`` is where dropout draws from while training; None drops nothing. ``times``, (B, T) float64, are the
        seconds when the events were; None: all at one moment.
        """
        hidden = vectors * math.sqrt(self.shape.dim) + self.places.weight[: vectors.shape[1]]
        between = None if times is None else between_events(times)
        if self.gaps is not None and times is not None:
            hidden = hidden + self.gaps(since_before(times))
        hidden = dropped(hidden, self.shape.dropout, noise)  # (B, T, D)
        for block in self.blocks:
            hidden = block(hidden, noise, between)
        return self.last_norm(hidden)
