"""
Networks as one request needs them: the same numbers from smaller graphs. Nothing here learns.

A request is one history or one slate, so there is no batch and no padding, and what is asked of a history is its last
place alone. A graph of small products spends its time between them: fewer, larger ones are what is gained here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.nets.attention import FAR, SlateBlock, SlateNet
from tailwise.nets.sequence import Block, SequenceNet, between_events, since_before

HIDDEN = -80.0
"""Added to what may not be looked at: nothing is left of it beside the rest in float32, and a softmax is spared the
numbers below 1e-38, which take a hundred times as long."""


class LastPlace(nn.Module):
    """
    A history to what comes next: the last block is worked out at the last place alone.

    Args:
        net: Whose weights these are.
    """

    def __init__(self, net: SequenceNet) -> None:
        super().__init__()
        self.net = net
        blocks = [block for block in net.blocks if isinstance(block, Block)]
        self.blocks = nn.ModuleList(_Served(block, last_alone=block is blocks[-1]) for block in blocks)

    def forward(self, vectors: Tensor, times: Tensor) -> Tensor:
        """(1, T, D) item vectors, and (1, T) seconds when the events were, to (1, D)."""
        net, between = self.net, between_events(times[0])  # (T, T)
        x = vectors[0] * math.sqrt(net.shape.dim) + net.places.weight[: vectors.shape[1]]  # (T, D)
        if net.gaps is not None:
            x = x + net.gaps(since_before(times[0]))
        for block in self.blocks:
            x = block(x, between)
        return net.last_norm(x)


class LastPlaces(nn.Module):
    """
    A history to what comes next, as several networks side by side have it.

    Args:
        nets: K of one shape; each reads its own part of the items' vectors.
    """

    def __init__(self, nets: Sequence[SequenceNet]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(LastPlace(net) for net in nets)

    def forward(self, vectors: Tensor, times: Tensor) -> Tensor:
        """(1, T, K · D) item vectors, and (1, T) seconds when the events were, to (1, K · D)."""
        parts = vectors.chunk(len(self.nets), dim=-1) if len(self.nets) > 1 else (vectors,)
        return torch.cat([net(part, times) for net, part in zip(self.nets, parts, strict=True)], dim=-1)


class _Served(nn.Module):
    """A block over one history: (T, D) to (T, D), or to (1, D), the last place alone."""

    def __init__(self, block: Block, *, last_alone: bool) -> None:
        super().__init__()
        self.last_alone = last_alone
        self.block, self.width, self.heads = block, block.out.out_features, block.heads
        self.longest = block.recency.shape[1]
        past = block.past(self.longest, HIDDEN).detach()  # (A, T, T)
        self.past = nn.Buffer((past[:, -1:] if last_alone else past).clone())
        mixed = block.query_key_value
        own = zip(
            torch.split(mixed.weight.detach(), self.width), torch.split(mixed.bias.detach(), self.width), strict=True
        )
        self.query, self.key, self.value = (_Product(weight, bias) for weight, bias in own)
        self.out, self.widen, self.narrow = (
            _Product(layer.weight.detach(), layer.bias.detach()) for layer in (block.out, block.widen, block.narrow)
        )

    def forward(self, x: Tensor, between: Tensor) -> Tensor:
        calm, length = self.block.before_attention(x), x.shape[0]
        x, asking = (x[-1:], calm[-1:]) if self.last_alone else (x, calm)
        past = self.past[:, :, self.longest - length :] if self.last_alone else self.past[:, :length, :length]
        apart = between[-1:] if self.last_alone else between
        past = past + self.block.elapsed.index_select(1, apart.flatten()).view(self.heads, *apart.shape)
        q = self._apart(self.query(asking)) / math.sqrt(self.width // self.heads)
        near = q @ self._apart(self.key(calm)).transpose(1, 2) + past  # (A, T, T), or (A, 1, T)
        attended = near.softmax(-1) @ self._apart(self.value(calm))
        x = x + self.block.gate(0, asking, self.out(attended.transpose(0, 1).reshape(-1, self.width)))
        calm = self.block.before_feedforward(x)
        return x + self.block.gate(1, calm, self.narrow(self.block.inner(self.widen(calm))))

    def _apart(self, x: Tensor) -> Tensor:
        """(T, D) to (A, T, D / A)."""
        return x.view(-1, self.heads, self.width // self.heads).transpose(0, 1)


class _Product(nn.Module):
    """A linear layer as a product with a constant matrix, in the form that ``nets.quantise`` looks for."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Buffer(weight.T.contiguous()), nn.Buffer(bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Committee(nn.Module):
    """
    A committee over one slate, its members worked out side by side.

    Args:
        nets: Of one shape. What each of their norms and means does to its input is folded into the layer behind it.
    """

    def __init__(self, nets: list[SlateNet]) -> None:
        super().__init__()
        self.nets = len(nets)
        layers = [[block for block in net.blocks if isinstance(block, SlateBlock)] for net in nets]
        self.heads, self.dim, self.layers = layers[0][0].heads, nets[0].read.out_features, len(layers[0])
        self.mean, self.deviation = nn.Buffer(_stacked(nets, "mean")), nn.Buffer(_stacked(nets, "deviation"))
        self.temperature = nn.Buffer(torch.stack([net.temperature for net in nets]).mean())
        self.read = _Side([net.read for net in nets])
        self.parts = nn.ModuleList()
        for blocks in zip(*layers, strict=True):
            self.parts.append(_Side([b.query_key_value for b in blocks], [b.before_attention for b in blocks]))
            self.parts.append(_Side([b.out for b in blocks]))
            self.parts.append(_Side([b.widen for b in blocks], [b.before_feedforward for b in blocks]))
            self.parts.append(_Side([b.narrow for b in blocks]))
        self.hidden = _Side([net.hidden for net in nets], [net.last_norm for net in nets])
        self.move = _Side([net.move for net in nets], scale=[float(net.gate.detach()) / len(nets) for net in nets])
        self.straight = nn.Buffer(_stacked(nets, "straight").detach().transpose(1, 2) / len(nets))  # (C, F, 1)

    def forward(self, signals: Tensor, base: Tensor) -> Tensor:
        """(1, N, F) signals and (1, N) incoming scores to (1, N) scores."""
        usual = ((signals - self.mean) * (1 / self.deviation)).clamp(-FAR, FAR)  # (C, N, F)
        x = self.read(usual)  # (C, N, D)
        for layer in range(self.layers):
            mix, out, widen, narrow = self.parts[4 * layer : 4 * layer + 4]
            x = x + out(self._attended(mix(self._calm(x))))
            x = x + narrow(F.gelu(widen(self._calm(x))))
        moves = usual @ self.straight + self.move(F.gelu(self.hidden(self._calm(x))))  # (C, N, 1)
        return self.temperature * base + moves[..., 0].sum(0, keepdim=True)

    def _calm(self, x: Tensor) -> Tensor:
        """A norm without weights of its own."""
        return F.layer_norm(x, (self.dim,))

    def _attended(self, mixed: Tensor) -> Tensor:
        """(C, N, 3 D) to (C, N, D)."""
        nets, width = self.nets, self.dim // self.heads
        q, k, v = (
            part.view(nets, -1, self.heads, width).transpose(1, 2) for part in torch.split(mixed, self.dim, dim=-1)
        )
        near = (q / math.sqrt(width)) @ k.transpose(2, 3)  # (C, A, N, N)
        return (near.softmax(-1) @ v).transpose(1, 2).reshape(nets, -1, self.dim)


class _Side(nn.Module):
    """Linear layers of several networks at once, (C, N, in) to (C, N, out), with the norms that come before them."""

    def __init__(
        self, layers: list[nn.Linear], norms: list[nn.LayerNorm] | None = None, scale: list[float] | None = None
    ) -> None:
        super().__init__()
        with torch.no_grad():
            weight = torch.stack([layer.weight.T for layer in layers])  # (C, in, out)
            bias = torch.stack([layer.bias for layer in layers])[:, None]  # (C, 1, out)
            if norms is not None:
                bias = bias + torch.stack([norm.bias for norm in norms])[:, None] @ weight
                weight = torch.stack([norm.weight for norm in norms])[:, :, None] * weight
            if scale is not None:
                of_each = torch.tensor(scale)[:, None, None]
                weight, bias = weight * of_each, bias * of_each
        self.weight, self.bias = nn.Buffer(weight), nn.Buffer(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def _stacked(nets: list[SlateNet], name: str) -> Tensor:
    return torch.stack([getattr(net, name) for net in nets])[:, None]  # (C, 1, F)
