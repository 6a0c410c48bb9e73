"""Losses over a catalogue: the full softmax in blocks that fit the cache, and the classic ones against drawn items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it

BLOCK = 256
"""Positions whose logits are held at once, so that they stay in the cache; twice as many of half the bits."""


class _FullSoftmax(torch.autograd.Function):
    """
    Mean cross-entropy of ``hidden @ table.T`` without ever holding all logits.

    Forward already makes both gradients, block by block and in the same memory: on two cores an epoch of MovieLens 100K
    takes half the time of ``cross_entropy(hidden @ table.T)``, most of it saved on memory traffic.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, of: int, low: torch.dtype) -> Tensor:
        # Every product has one shape: libraries that compile a product for its shape would keep one of each size met.
        block = BLOCK * 4 // low.itemsize
        rest = -len(hidden) % block
        people, items = F.pad(hidden, (0, 0, 0, rest)).to(low), table.to(low)
        places = F.pad(targets, (0, rest)) + torch.arange(block).repeat(len(people) // block) * len(table)
        items_t = items.T.contiguous()
        to_hidden, to_table, share = torch.empty_like(people), torch.zeros_like(table), torch.empty_like(items)
        logits = people.new_empty(block, len(table))
        chances, chosen = torch.empty_like(logits), people.new_empty(len(people))
        for start in range(0, len(targets), block):
            own = slice(start, start + block)
            torch.mm(people[own], items_t, out=logits)  # (block, M)
            torch.softmax(logits, 1, out=chances)
            torch.index_select(chances.view(-1), 0, places[own], out=chosen[own])
            chances.view(-1)[places[own]] = chosen[own] - 1.0  # ``scatter_add_`` takes as long as the products do
            chances[len(targets) - start :] = 0.0  # padding
            torch.mm(chances, items, out=to_hidden[own])
            to_table += torch.mm(chances.T, people[own], out=share)
        n = len(targets)
        ctx.save_for_backward(to_hidden[:n].to(hidden.dtype).div_(of), to_table.div_(of))
        return (-_log_of(chosen[:n], people[:n], items, targets).sum() / of).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor, Tensor, None, None, None]:
        to_hidden, to_table = ctx.saved_tensors
        return to_hidden * outputs[0], to_table * outputs[0], None, None, None


def _log_of(chosen: Tensor, people: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """Logarithms of the chances of the targets, (P,) in float64; of those too small for a number, from their logits."""
    logs = chosen.double().log()
    if (lost := (chosen < torch.finfo(chosen.dtype).tiny).nonzero()[:, 0]).numel():
        logits = people[lost].double() @ items.double().T
        logs[lost] = logits.gather(1, targets[lost, None])[:, 0] - logits.logsumexp(1)
    return logs


def softmax_loss(
    hidden: Tensor, table: Tensor, targets: Tensor, *, of: int | None = None, low: torch.dtype | None = None
) -> Tensor:
    """
    Mean cross-entropy over the whole catalogue.

    Args:
        hidden: (P, D) one a position to predict; padding left out beforehand.
        table: (M, D) item vectors.
        targets: (P,) int64 rows of ``table``.
        of: What the sum is divided by: positions of the whole batch when these are a part of it; None: these alone.
        low: What products are made in, such as bfloat16 where the processor has it: half the time; sums, weights and
            gradients stay as exact as ``hidden``. None: that of ``hidden``.

    Returns:
        Scalar.

    Cost: O(P M D) time, O(1,024 M) memory.
    """
    return _FullSoftmax.apply(hidden, table, targets, of or len(targets), low or hidden.dtype)  # type: ignore[no-untyped-call]  # torch does not type it


@dataclass(frozen=True)
class Contest:
    """P positions, each with the item that was chosen and N others that it is compared with."""

    positive: Tensor  # (P,) logits of what was chosen
    negative: Tensor  # (P, N) logits of the others
    rival: Tensor  # (P, N) bool, False where the other is the chosen item itself: it does not count
    corrections: tuple[Tensor, Tensor] | None = None
    """(P,) and (N,) log of the chance of drawing each, for the sampled softmax; None: all were as likely."""
    labels: Tensor | None = None
    """(P,) what the squared error makes of a choice, in (0, 1], such as a rating; None: 1."""
    beta: float = 1.0
    """The power of gBCE, from ``gbce_beta``; 1 makes it plain binary cross-entropy."""


def sampled_softmax(contest: Contest) -> Tensor:
    """
    (P,) cross-entropy of the choice against the others, each logit less the log of its chance of being drawn.

    Source: Bengio & Senécal, 2008, doi:10.1109/TNN.2007.912312 (the correction).
    """
    positive, negative = contest.positive, contest.negative
    if contest.corrections is not None:
        positive, negative = positive - contest.corrections[0], negative - contest.corrections[1]
    logits = torch.cat([positive[:, None], negative.masked_fill(~contest.rival, float("-inf"))], dim=1)
    return logits.logsumexp(1) - positive


def listwise(contest: Contest) -> Tensor:
    """
    (P,) ListNet over the choice and the others: without correction, so that what is drawn often is pushed down.

    Source: Cao et al., ICML 2007, doi:10.1145/1273496.1273513.
    """
    return sampled_softmax(replace(contest, corrections=None))


def bce(contest: Contest) -> Tensor:
    """(P,) mean binary cross-entropy of the choice, a yes, and the others, each a no."""
    return _mean(F.softplus(-contest.positive), F.softplus(contest.negative), contest.rival)


def gbce(contest: Contest) -> Tensor:
    """
    (P,) the same with the choice's probability to the power β, which undoes the confidence that sampling breeds.

    The paper's code turns the positive logit into that of ``σ(s)^β``, in 64 bits so as not to lose it; since
    ``-log σ(s)^β = -β log σ(s)``, no such step is needed.

    Source: Petrov & Macdonald, RecSys 2023, doi:10.1145/3604915.3608783. It supposes uniform draws.
    """
    return _mean(contest.beta * F.softplus(-contest.positive), F.softplus(contest.negative), contest.rival)


def gbce_beta(negatives: int, n_items: int, calibration: float) -> float:
    """
    The power of gBCE: ``β = α (t (1 - 1/α) + 1/α)``, with α the share of the catalogue that each choice is up against.

    Args:
        negatives: N.
        n_items: M.
        calibration: t in [0, 1]: 0 is plain binary cross-entropy, 1 gives scores that are probabilities.

    >>> gbce_beta(256, 1683, 0.0), round(gbce_beta(256, 1683, 0.75), 4), round(gbce_beta(256, 1683, 1.0), 4)
    (1.0, 0.3641, 0.1522)
    """
    share = min(1.0, negatives / max(1, n_items - 1))
    return share * (calibration * (1 - 1 / share) + 1 / share)


def bpr(contest: Contest) -> Tensor:
    """
    (P,) mean logistic loss of the choice's lead over each of the others.

    Source: Rendle et al., UAI 2009, arXiv 1205.2618.
    """
    lead = contest.positive[:, None] - contest.negative
    return _mean(None, F.softplus(-lead), contest.rival)


def hinge(contest: Contest) -> Tensor:
    """(P,) mean of what the choice's lead over each of the others lacks to 1."""
    return _mean(None, F.relu(1 - contest.positive[:, None] + contest.negative), contest.rival)


def mse(contest: Contest) -> Tensor:
    """(P,) mean squared error: the choice is worth its label, each of the others 0."""
    worth = 1.0 if contest.labels is None else contest.labels
    return _mean((contest.positive - worth).square(), contest.negative.square(), contest.rival)


def _mean(own: Tensor | None, others: Tensor, rival: Tensor) -> Tensor:
    """(P,) mean of the (P,) loss of the choice, when it has one, and of the (P, N) losses of its rivals; 0 of none."""
    total, count = others.masked_fill(~rival, 0.0).sum(1), rival.sum(1)
    return total / count.clamp(min=1) if own is None else (own + total) / (1 + count)


LOSSES: Mapping[str, Callable[[Contest], Tensor]] = {
    "sampled_softmax": sampled_softmax,
    "bce": bce,
    "gbce": gbce,
    "bpr": bpr,
    "hinge": hinge,
    "mse": mse,
    "listwise": listwise,
}
"""By the name that a configuration uses. ``softmax`` is not among them: over the whole catalogue nothing is drawn, and
``softmax_loss`` never holds all logits. Give the whole catalogue as the others to have any of these over all of it."""
