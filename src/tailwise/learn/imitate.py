"""What it costs a network to think otherwise than several teachers do, and otherwise than what really came next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.batch import left_aligned
from tailwise.learn.liked import LikedEvents
from tailwise.learn.sequence import Part
from tailwise.nets.sequence import SequenceNet

BLOCK = 512
"""Positions whose chances are held at once."""


def imitation_of(
    net: SequenceNet, teachers: Sequence[SequenceNet], events: LikedEvents, imitate: float
) -> Callable[[Part, torch.Generator], Tensor]:
    """
    What a part of a batch costs.

    All are asked about the items that somebody touched, of the others no teacher knows anything; in a large catalogue
    about those that the batch drew and its targets.
    """
    touched = torch.from_numpy(events.touched)

    def loss(part: Part, noise: torch.Generator) -> Tensor:
        places, mask = left_aligned(part.pieces)
        real = mask[:, 1:] & events.teaches[places[:, 1:]]
        targets, shown = events.wanted(places[:, 1:][real], noise), torch.from_numpy(real)
        drawn = None if part.drawn is None else torch.from_numpy(part.drawn[0])
        items = touched if drawn is None else torch.unique(torch.cat([drawn, targets]))  # in order

        def told(one: SequenceNet, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
            hidden = events.read(one, places[:, :-1], noise)[shown]
            return hidden.repeat(events.draws, 1), F.embedding(items, one.table())

        with torch.no_grad():
            opinions = [told(teacher) for teacher in teachers]
        hidden, table = told(net, noise)
        return imitation_loss(hidden, table, torch.searchsorted(items, targets), opinions, imitate=imitate, of=part.of)

    return loss


class _Imitation(torch.autograd.Function):
    """Cross-entropy against a mixture of chances, in blocks: gradients are made on the way forward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, told: Any, imitate: float, of: int) -> Tensor:
        to_hidden, to_table = torch.empty_like(hidden), torch.zeros_like(table)
        total = hidden.new_zeros((), dtype=torch.float64)
        for start in range(0, len(targets), BLOCK):
            own = slice(start, start + BLOCK)
            wanted = torch.stack([(vectors[own] @ items.T).softmax(1) for vectors, items in told]).mean(0)
            wanted.mul_(imitate)
            wanted.scatter_add_(1, targets[own, None], torch.full_like(wanted[:, :1], 1 - imitate))  # (block, M)
            logs = (hidden[own] @ table.T).log_softmax(1)
            total -= (wanted * logs).sum()
            gradient = logs.exp_().sub_(wanted).div_(of)
            to_hidden[own] = gradient @ table
            to_table.addmm_(gradient.T, hidden[own])
        ctx.save_for_backward(to_hidden, to_table)
        return (total / of).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor | None, ...]:
        to_hidden, to_table = ctx.saved_tensors
        return to_hidden * outputs[0], to_table * outputs[0], None, None, None, None


def imitation_loss(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    told: Sequence[tuple[Tensor, Tensor]],
    *,
    imitate: float,
    of: int | None = None,
) -> Tensor:
    """
    Cross-entropy against ``imitate`` times the teachers' mean chances, and the rest against what came next.

    It differs from that share of the Kullback-Leibler divergence by what does not depend on the student.

    Args:
        hidden: (P, D) one a position to predict.
        table: (M, D) item vectors.
        targets: (P,) rows of ``table``.
        told: Each teacher's (P, D') and (M, D').
        imitate: Share, in [0, 1].
        of: What the sum is divided by; None: P.

    Returns:
        Scalar.

    Cost: O(P M (D + Σ D')) time, O(512 M) memory for each teacher.
    """
    return _Imitation.apply(hidden, table, targets, told, imitate, of or len(targets))  # type: ignore[no-untyped-call]  # torch does not type it
