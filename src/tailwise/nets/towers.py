"""
Small classic models of who likes what: a tower makes a vector of a person, another of an item, and they are compared.

A person is a vector of their own (``mf``), a fading mean of what they liked (``pooled``, ``dnn``), what attention picks
from it (``attention``) or the state of a recurrent net (``gru``, ``lstm``). Items are a learned vector plus a linear
view of their text, so that an item which nobody has touched still has a place: its text alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.nets.sequence import dropped


class Fading(nn.Module):
    """At each place the mean of what came so far, each step back worth less; how much less is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.fade = nn.Parameter(torch.tensor(-2.0))  # softplus of it, 0.13 a step: half after five

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        return torch.softmax(_fading(x, self.fade), dim=1) @ x


class Tower(nn.Module):
    """One hidden layer beside a way past it, to vectors of unit length."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x + self.narrow(F.gelu(self.widen(x))), dim=-1)


class Attention(nn.Module):
    """The newest item asks all items so far, nearer ones louder; what they answer is joined to it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ask, self.answer = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.join = nn.Linear(2 * dim, dim)
        self.scale = 1 / math.sqrt(dim)
        self.fade = nn.Parameter(torch.tensor(-2.0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        heard = self.ask(x) @ self.answer(x).transpose(1, 2) * self.scale  # (B, T, T)
        picked = torch.softmax(heard + _fading(x, self.fade), dim=2) @ x
        return self.join(torch.cat([picked, x], dim=2))


def _fading(x: Tensor, fade: Tensor) -> Tensor:
    """(T, T) logits: each step from a place back to another takes the same off; later places are never seen."""
    places = torch.arange(x.shape[1], device=x.device)
    age = places[:, None] - places
    return (-F.softplus(fade) * age).masked_fill(age < 0, float("-inf"))


class Comparison(nn.Module):
    """
    A plain network over [person, item, person · item], each brought to size first, to one number.

    Its first layer is the sum of three linear maps, which is what one map of the three side by side would be; that of
    an item is worked out once for all people.
    """

    def __init__(self, dim: int, start: float = 0.0) -> None:
        super().__init__()
        self.person_norm, self.item_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.of_person, self.of_item = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.of_both, self.out = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 1)
        nn.init.constant_(self.out.bias, start)

    def forward(self, people: Tensor, items: Tensor) -> Tensor:
        """(…, D) and (…, D), one of them perhaps broadcast, to (…)."""
        people, items = self.person_norm(people), self.item_norm(items)
        inner = F.relu(self.of_person(people) + self.of_item(items) + self.of_both(people * items))
        return self.out(inner)[..., 0]


class TowerNet(nn.Module):
    """
    Histories to people, and people with items to logits.

    Args:
        person: What makes a person: ``mf``, ``pooled``, ``dnn``, ``attention``, ``gru`` or ``lstm``.
        dim: Width D.
        n_items: M.
        n_people: U; only ``mf`` keeps a vector for each.
        text: (M, W) frozen text vectors, zeros where an item has none; None without text.
        dropout: Share of activations dropped while training.
        temperature: What cosines are divided by (``pooled``).
        start: What every logit starts from.
    """

    def __init__(
        self,
        person: str,
        *,
        dim: int,
        n_items: int,
        n_people: int,
        text: Tensor | None,
        dropout: float = 0.0,
        temperature: float = 1.0,
        start: float = 0.0,
    ) -> None:
        super().__init__()
        self.person, self.dim, self.rate = person, dim, dropout
        self.scale = 1 / temperature if person == "pooled" else 1.0
        self.ids = nn.Embedding(n_items, dim)
        self.adapter = None if text is None else nn.Linear(text.shape[1], dim, bias=False)
        self.text = nn.Buffer(torch.empty(0) if text is None else text, persistent=False)
        self.people = nn.Embedding(n_people, dim) if person == "mf" else None
        self.reads = _reader(person, dim)
        self.towers = nn.ModuleList([Tower(dim), Tower(dim)] if person == "pooled" else [])
        self.comparison = Comparison(dim, start) if person == "dnn" else None
        self.last_norm = nn.LayerNorm(dim) if person in {"attention", "gru", "lstm"} else nn.Identity()
        self.bias = nn.Parameter(torch.tensor(start))
        for table in (self.ids, *([self.people] if self.people is not None else ())):
            # Products of two small vectors hardly move at first; the others are brought to size behind the table.
            nn.init.normal_(table.weight, std=0.1 if person == "mf" else 0.02)
        if self.adapter is not None:
            nn.init.normal_(self.adapter.weight, std=0.02)

    def table(self) -> Tensor:
        """What items are read as, (M, D)."""
        return self.ids.weight if self.adapter is None else self.ids.weight + self.adapter(self.text)

    def vectors(self, rows: Tensor) -> Tensor:
        """The table at some rows only, (…, D): in a large catalogue most items take no part in a batch."""
        return self.ids(rows) if self.adapter is None else self.ids(rows) + self.adapter(self.text[rows])

    def offered(self, vectors: Tensor) -> Tensor:
        """Items as read to items as compared, (…, D): through the item tower where there is one."""
        return self.towers[1](vectors) if len(self.towers) else vectors

    def forward(self, vectors: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """
        (B, T, D) items as read, oldest first from the left, to (B, T, D): at each place, the person so far.

        ``noise`` is where dropout draws from while training; None drops nothing.
        """
        x = dropped(vectors * math.sqrt(self.dim), self.rate, noise)
        read = self.reads(x)
        hidden = dropped(read[0] if isinstance(read, tuple) else read, self.rate, noise)  # recurrent nets: and a state
        return self.towers[0](hidden) if len(self.towers) else self.last_norm(hidden)

    def compare(self, people: Tensor, items: Tensor) -> Tensor:
        """(P, D) people with each of (N, D) offered items: (P, N) logits."""
        if self.comparison is not None:
            return self.comparison(people[:, None], items)
        return self.scale * (people @ items.T) + self.bias

    def match(self, people: Tensor, items: Tensor) -> Tensor:
        """(P, D) people with (P, D) offered items, one each: (P,) logits."""
        if self.comparison is not None:
            return self.comparison(people, items)
        return self.scale * (people * items).sum(1) + self.bias


def _reader(person: str, dim: int) -> nn.Module:
    """What reads a history; ``mf`` reads none."""
    if person == "mf":
        return nn.Identity()
    if person in {"pooled", "dnn"}:
        return Fading()
    if person == "attention":
        return Attention(dim)
    return (nn.GRU if person == "gru" else nn.LSTM)(dim, dim, batch_first=True)
