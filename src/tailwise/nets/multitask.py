"""
One look at a person and some items, told in several ways: click, purchase, rating, dwell, favourite, dislike.

    past (T items) ─▶ pools: long-term, short-term, what was valued ─┐
    item vector, facts of the item ──────────────────────────────────┼─▶ experts ─▶ gates ─▶ towers ─▶ one number a task
    pools × item ────────────────────────────────────────────────────┘

A purchase comes through a click: where both are told, the purchase's number is the log-odds of
``p(click) · p(purchase after a click)``, trained on everything that was shown and not on clicks alone (ESMM).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.episodes import CHANCES
from tailwise.nets.sequence import dropped
from tailwise.nets.settings import MultiTaskShape
from tailwise.types import AGAINST, EVENT_KINDS

MARKS = 3 + len(EVENT_KINDS)
"""Of each event of a past: whether it is there, whether it is short-term, how much more than usual the person made of
it, and its kind."""
FACTS = 4
"""Of each item: events, recent events and acts up to then, and how often it is in the person's own past."""
POOLS = 3
SAYS = torch.tensor([0.1 if kind == "view" else -1.0 if kind in AGAINST else 1.0 for kind in EVENT_KINDS])
"""What an act says of a person's interest before anything is learned: passing by says little."""


class MultiTaskNet(nn.Module):
    """
    A person's past and items to one number a task.

    Args:
        shape: The network's shape.
        tasks: The K tasks that are told, in order; a purchase stands after the click.
        n_items: M.
        text: (M, W) frozen text vectors, zeros where an item has none; None without text.
        context: Width F of what is known of the moment; 0: nothing.
    """

    def __init__(
        self, shape: MultiTaskShape, tasks: Sequence[str], n_items: int, text: Tensor | None, *, context: int = 0
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.context = context
        self.rate = shape.dropout
        dim, count = shape.dim, len(self.tasks)
        self.ids = nn.Embedding(n_items, dim)
        self.adapter = None if text is None else nn.Linear(text.shape[1], dim, bias=False)
        self.text = nn.Buffer(torch.empty(0) if text is None else text, persistent=False)
        self.kind_weights = nn.Parameter(SAYS[:, None].repeat(1, 2))  # in the long and in the short run
        shown = _experts_of(shape, count)  # (K, E)
        self.closed = nn.Buffer(torch.zeros(shown.shape).masked_fill(~shown, float("-inf")), persistent=False)
        wide = (2 * POOLS + 1) * dim + POOLS + len(EVENT_KINDS) + 2 + FACTS + context
        self.experts = nn.Linear(wide, shown.shape[1] * shape.expert_dim)
        self.gates = nn.Linear(wide, shown.numel())
        self.into_towers = nn.Parameter(torch.empty(count, shape.expert_dim, shape.tower_dim))
        self.tower_bias = nn.Parameter(torch.zeros(count, 1, shape.tower_dim))
        self.out = nn.Parameter(torch.zeros(count, shape.tower_dim, 1))
        self.bias = nn.Parameter(torch.zeros(count))
        self.log_variance = nn.Parameter(torch.zeros(count))
        nn.init.normal_(self.ids.weight, std=0.1)
        if self.adapter is not None:
            nn.init.normal_(self.adapter.weight, std=0.1)
        nn.init.normal_(self.into_towers, std=math.sqrt(2 / shape.expert_dim))
        # The last layer begins at zero: a head starts from its base rate, or from damped means, and learns the rest.

    def vectors(self, rows: Tensor) -> Tensor:
        """The item table at some rows, (…, D)."""
        return self.ids(rows) if self.adapter is None else self.ids(rows) + self.adapter(self.text[rows])

    def forward(
        self,
        past: Tensor,
        marks: Tensor,
        items: Tensor,
        facts: Tensor,
        context: Tensor,
        noise: torch.Generator | None = None,
    ) -> Tensor:
        """
        Tell every task of C items for each of B people.

        Args:
            past: (B, T, D) item vectors.
            marks: (B, T, MARKS); an event that is not there is all zeros.
            items: (B, C, D) item vectors.
            facts: (B, C, FACTS).
            context: (B, F).
            noise: Where dropout draws from while training; None drops nothing.

        Returns:
            (B, C, K) log-odds of chances; of quantities, how many deviations above what is usual.
        """
        pools, summary = self._person(past, marks)
        person = torch.cat([pools.flatten(1), summary, context], 1)[:, None]  # (B, 1, ·)
        cross = pools[:, None] * items[:, :, None]  # (B, C, POOLS, D)
        parts = [person.expand(-1, items.shape[1], -1), items, facts, cross.flatten(2), cross.sum(3)]
        seen = torch.cat(parts, 2)  # (B, C, wide)
        b, c, _ = seen.shape
        hidden = dropped(F.relu(self.experts(seen)), self.rate, noise).view(b, c, self.closed.shape[1], -1)
        gates = (self.gates(seen).view(b, c, *self.closed.shape) + self.closed).softmax(3)  # (B, C, K, E)
        mixed = (gates @ hidden).flatten(0, 1).transpose(0, 1)  # (K, BC, H)
        towers = dropped(F.relu(mixed @ self.into_towers + self.tower_bias), self.rate, noise)
        told = (towers @ self.out).squeeze(2).T.reshape(b, c, -1) + self.bias  # (B, C, K)
        return self._through_the_click(told)

    def _person(self, past: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
        """What somebody's past comes to: (B, POOLS, D) pooled items, and (B, ·) kinds, number and mood of the acts."""
        there, lately, more, kinds = marks[:, :, :1], marks[:, :, 1:2], marks[:, :, 2:3], marks[:, :, 3:]
        count = there.sum(1).clamp(min=1)  # (B, 1)
        says = kinds @ self.kind_weights * torch.cat([there, lately], 2)  # (B, T, 2)
        interest = says / says.abs().sum(1, keepdim=True).clamp(min=1e-3)
        weights = torch.cat([interest, more / count[:, None].sqrt()], 2)  # (B, T, POOLS)
        summary = torch.cat([kinds.sum(1) / count, more.sum(1) / count, torch.log(1 + there.sum(1)) / 4], 1)
        return weights.transpose(1, 2) @ past, summary

    def _through_the_click(self, told: Tensor) -> Tensor:
        """Make a purchase the product of a click and of what follows it, where both are told."""
        if not {"click", "purchase"} <= set(self.tasks):
            return told
        click, after = self.tasks.index("click"), self.tasks.index("purchase")
        log_chance = F.logsigmoid(told[..., click]) + F.logsigmoid(told[..., after])
        odds = log_chance - torch.log(1 - log_chance.exp().clamp(max=1 - 1e-6))
        return torch.cat([told[..., :after], odds[..., None], told[..., after + 1 :]], -1)


def task_losses(told: Tensor, labels: Tensor, tasks: Sequence[str]) -> Tensor:
    """
    Each task's loss at each item: cross-entropy of chances, half the squared error of quantities; 0 without a label.

    Args:
        told: (…, K) what the network gives.
        labels: (…, K) in the same units: 0 or 1, or deviations; NaN where there is none.
        tasks: The K tasks.

    Returns:
        (…, K).
    """
    known = ~labels.isnan()
    wanted = labels.nan_to_num(0.0)
    chance = torch.tensor([task in CHANCES for task in tasks])
    apart = F.binary_cross_entropy_with_logits(told, wanted.clamp(0, 1), reduction="none")
    return torch.where(chance, apart, (told - wanted).square() / 2) * known


def weigh(losses: Tensor, log_variance: Tensor, share: float = 1.0) -> Tensor:
    """
    Add up the K mean losses, each divided by a variance that is learned, so that no head drowns the others.

    Args:
        losses: (K,) of a batch, or what a part of it adds to them.
        log_variance: (K,) learned.
        share: Of the batch in this part.

    Source: Kendall, Gal & Cipolla, CVPR 2018, arXiv 1705.07115.
    """
    return (losses * torch.exp(-log_variance) + share * log_variance / 2).sum()


def _experts_of(shape: MultiTaskShape, count: int) -> Tensor:
    """(K, E) bool: which expert each task may use."""
    if shape.experts == "shared":
        return torch.ones(count, 1, dtype=torch.bool)
    shared = torch.ones(count, shape.expert_count, dtype=torch.bool)
    if shape.experts == "mmoe":
        return shared
    return torch.cat([shared, torch.eye(count, dtype=torch.bool)], 1)
