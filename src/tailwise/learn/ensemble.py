"""
Fit one model a seed, and teach one of them what all of them think.

    seeds ─▶ models ─┬─▶ Ensemble: their opinions, averaged
                     └─▶ distil: the first goes on, towards the mean of all chances and what really came next
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.batch import batches, left_aligned, shared_negatives, windows
from tailwise.data.interactions import Training
from tailwise.data.scores import gains
from tailwise.learn.loop import side_by_side, train
from tailwise.learn.sequence import fit_sequence, train_sequence
from tailwise.nets.sequence import SequenceNet
from tailwise.rank.ensemble import Ensemble, EnsembleConfig
from tailwise.rank.sequence import SequenceConfig, SequenceScorer, Trained, gap_buckets
from tailwise.types import Rows

BLOCK = 512
"""Positions whose chances are held at once."""
PARTS = 2
"""Of a batch, worked on side by side; fixed, so that the number of threads changes no result."""
NAME = "ensemble"


def fit_ensemble(config: EnsembleConfig, training: Training) -> Ensemble:
    """
    Fit each model with a seed of its own, and distil them when asked to.

    Args:
        config: Settings.
        training: As for one model. After a fit with held-out people (``before``) each model that it has goes on.

    Returns:
        An ensemble that needs no torch. The distilled model is the first one as it was, when learning from the others
        made it no better on held-out people.

    Cost: that of one model for each seed; distilling costs as many forward passes more in each of its steps.
    Source: Lakshminarayanan et al., NeurIPS 2017, arXiv 1612.01474; Hinton et al., 2015, arXiv 1503.02531.
    """
    before: Ensemble | None = training.before
    count = config.seeds if before is None else len(before.members)
    members = []
    for place in range(count):
        folder = None if training.folder is None else training.folder / NAME / str(place)
        own = replace(training, seed=training.seed + place, folder=folder)
        if before is not None:
            own = replace(own, before=before.members[place])
        members.append(fit_sequence(config.member, own))
    config = config.model_copy(update={"member": members[0].config})  # with the sizes that suit the data
    if config.distil and before is None:
        members = [_distilled(config, training, members)]
    return Ensemble(config, members, training.catalogue.item_ids)


class _Events:
    """What people did for items, one after the other, and what a network makes of it."""

    def __init__(self, training: Training) -> None:
        interactions = training.interactions
        liked = interactions.likes
        self.rows: Rows = interactions.rows[liked]
        times = interactions.times[liked]
        cuts = np.concatenate([[0], np.cumsum(liked)])[interactions.offsets]
        self.of_people: list[Rows] = np.split(np.arange(len(self.rows)), cuts[1:-1])
        """Per person, the places of the events, oldest first."""
        self.gaps: Rows = np.concatenate([gap_buckets(times[own]) for own in self.of_people])
        self.counts = np.bincount(self.rows, minlength=interactions.n_items)

    def read(self, net: SequenceNet, places: Rows, table: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """(B, T) places of events to what comes next at each, (B, T, D)."""
        gaps = torch.from_numpy(self.gaps[places]) if net.shape.time_gaps else None
        out: Tensor = net(F.embedding(torch.from_numpy(self.rows[places]), table), noise, gaps=gaps)
        return out


@dataclass(frozen=True)
class _Part:
    """Some windows of a batch."""

    pieces: list[Rows]
    """Places of events."""
    of: int
    """Positions to predict in the whole batch."""
    items: Rows
    """Items that the batch is about, in order, its targets among them."""


def _distilled(config: EnsembleConfig, training: Training, members: Sequence[SequenceScorer]) -> SequenceScorer:
    """The first model after it learned from all, or as it was when that made it no better."""
    teachers = [_net(config.member, training, member) for member in members]
    net, events = copy.deepcopy(teachers[0]), _Events(training)
    judge = _judge(net, config.member, training, events) if len(training.judged()[0]) else None
    with side_by_side(training.threads) as pool:
        start = None if judge is None else judge()
        progress = train(
            net,
            config=config.member.train,
            seed=training.seed,
            batches=_batches(config.member, training.seed, events),
            loss=_loss(net, teachers, events, config.imitate),
            judge=judge,
            pool=pool,
            folder=None if training.folder is None else training.folder / NAME / "distilled",
            report=training.report,
            name="distil",
        )
    if start is not None and progress.best_value <= start:
        return members[0]
    weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    epochs = progress.best_epoch or progress.epoch
    return _as_it_is(config.member, training, Trained(weights, epochs))


def _net(config: SequenceConfig, training: Training, member: SequenceScorer) -> SequenceNet:
    """The network of a fitted model."""
    still = config.model_copy(update={"finish": 0.0})
    net, _ = train_sequence(still, replace(training, before=member, targets=None, folder=None, report=_silent))
    return net


def _as_it_is(config: SequenceConfig, training: Training, trained: Trained) -> SequenceScorer:
    """Weights as a model that serves and can go on."""
    still = config.model_copy(update={"finish": 0.0})
    holder = _Holder(trained)
    scorer = fit_sequence(still, replace(training, before=holder, targets=None, folder=None, report=_silent))
    scorer.config, scorer.trained = config, trained
    return scorer


@dataclass(frozen=True)
class _Holder:
    """What a fit goes on from."""

    trained: Trained


def _silent(what: str, done: int, total: int) -> None:
    """Say nothing: nothing is trained."""


def _batches(config: SequenceConfig, seed: int, events: _Events) -> Callable[[int], Iterator[list[_Part]]]:
    """An epoch's number to its batches; in a large log an epoch is one of several slices of it."""
    pieces = windows(events.of_people, config.shape.max_length)
    slices = max(1, round(sum(len(piece) - 1 for piece in pieces) / config.epoch_positions))
    touched = np.flatnonzero(events.counts)  # of the others no teacher knows anything
    chance = events.counts[touched] ** 0.75
    log_chance = np.log(chance / chance.sum())

    def each(epoch: int) -> Iterator[list[_Part]]:
        rng = np.random.default_rng((seed, epoch, len(pieces)))
        order = np.random.default_rng((seed, epoch // slices)).permutation(len(pieces))
        own = [pieces[place] for place in order[epoch % slices :: slices]]
        for group in batches(own, tokens=config.batch_tokens, rng=rng):
            items = touched
            if len(events.counts) > config.full_softmax_up_to:
                drawn, _ = shared_negatives(log_chance, config.negatives, rng)
                items = np.unique(np.concatenate([touched[drawn], *(events.rows[piece[1:]] for piece in group)]))
            of = sum(len(piece) - 1 for piece in group)
            shares = (group[place::PARTS] for place in range(PARTS))
            yield [_Part(share, of, items) for share in shares if share]

    return each


def _loss(
    net: SequenceNet, teachers: Sequence[SequenceNet], events: _Events, imitate: float
) -> Callable[[_Part, torch.Generator], Tensor]:
    tables = [teacher.table().detach() for teacher in teachers]

    def loss(part: _Part, noise: torch.Generator) -> Tensor:
        places, mask = left_aligned(part.pieces)
        real, items = torch.from_numpy(mask[:, 1:]), torch.from_numpy(part.items)
        targets = torch.searchsorted(items, torch.from_numpy(events.rows[places[:, 1:]])[real])
        with torch.no_grad():
            told = [
                (events.read(teacher, places[:, :-1], table)[real], table[items])
                for teacher, table in zip(teachers, tables, strict=True)
            ]
        table = net.table()
        hidden = events.read(net, places[:, :-1], table, noise)[real]
        return imitation_loss(hidden, table[items], targets, told, imitate=imitate, of=part.of)

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


def _judge(net: SequenceNet, config: SequenceConfig, training: Training, events: _Events) -> Callable[[], float]:
    """NDCG@10 of the held-out items among all that the person has not had."""
    people, targets = training.judged()
    chosen = np.random.default_rng(training.seed).permutation(len(people))[: config.judged_people]
    people, targets, seen = people[chosen], targets[chosen], training.seen(people[chosen])

    def judge() -> float:
        earned, table = 0.0, net.table().detach()
        for start in range(0, len(people), 64):
            group = [events.of_people[person][-config.shape.max_length :] for person in people[start : start + 64]]
            places, mask = left_aligned(group)
            with torch.no_grad():
                hidden = events.read(net, places, table)
            last = hidden[torch.arange(len(group)), torch.from_numpy(mask.sum(1) - 1)]
            earned += gains((last @ table.T).numpy(), targets[start : start + 64], seen[start : start + 64]).sum()
        return float(earned / len(people))

    return judge
