"""Fit the classic models: positions of histories or of people, one of the classic losses, judged by NDCG@10."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.data.batch import batches, left_aligned, shared_negatives, windows
from tailwise.data.interactions import KIND_NAMES, Interactions, Training
from tailwise.data.scores import gains
from tailwise.learn.loop import side_by_side, train
from tailwise.learn.losses import LOSSES, Contest, gbce_beta, softmax_loss
from tailwise.learn.tower_export import towers_of
from tailwise.nets.sequence import dropped
from tailwise.nets.towers import TowerNet
from tailwise.rank.towers import TowersConfig, TowerScorer
from tailwise.types import Rows

PARTS = 2
"""Of a batch, worked on side by side; fixed, so that the number of threads changes no result."""


def fit_towers(config: TowersConfig, training: Training) -> TowerScorer:
    """
    Train, keep the best epoch, export.

    Args:
        config: Settings.
        training: With held-out people it stops when they gain no more; without, it runs for all epochs. After a fit
            with held-out people (``before``) it learns afresh from all events, for as many epochs as were best then.

    Returns:
        A scorer that needs no torch.

    Cost: O(epochs · E · N D), with N the items that a choice is compared with; ``dnn`` O(epochs · E · N D²).
    Source: ``mf`` Rendle et al., UAI 2009, arXiv 1205.2618; ``pooled`` Covington et al., RecSys 2016,
        doi:10.1145/2959100.2959190; ``dnn`` He et al., WWW 2017, arXiv 1708.05031; ``attention`` Liu et al., KDD 2018,
        doi:10.1145/3219819.3219950; ``gru`` Hidasi et al., ICLR 2016, arXiv 1511.06939.
    """
    net, epochs = train_towers(config, training)
    return TowerScorer(config, towers_of(net, config, training), training.catalogue.item_ids, epochs)


def train_towers(config: TowersConfig, training: Training) -> tuple[TowerNet, int]:
    """The trained network, and the number of epochs that it took to the best."""
    vectors, interactions = training.catalogue.vectors, training.interactions
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        net = TowerNet(
            config.person,
            dim=config.dim,
            n_items=interactions.n_items,
            n_people=len(interactions.user_ids),
            text=torch.from_numpy(vectors) if config.text and vectors.any() else None,
            dropout=config.dropout,
            temperature=config.temperature,
            start=_start(config, interactions.n_items),
        )
    how, choices = config.train, Choices.of(interactions)
    if training.before is not None and training.before.epochs is not None:
        how = how.model_copy(update={"epochs": training.before.epochs})
    with side_by_side(training.threads) as pool:
        progress = train(
            net,
            config=how,
            seed=training.seed,
            batches=_batches(config, interactions, choices, training.seed),
            loss=_loss(net, config, choices),
            judge=_judge(net, config, training, pool) if len(training.judged()[0]) else None,
            pool=pool,
            folder=None if training.folder is None else training.folder / "towers",
            report=training.report,
            name="towers",
        )
    return net, progress.best_epoch or progress.epoch


def _start(config: TowersConfig, n_items: int) -> float:
    """
    The logit of how rare a choice is among what it is compared with, for losses that ask for a yes or no.

    From 0 everything is pushed down at first, and the vectors with it: it stopped early with nothing learned.
    """
    if config.loss not in {"bce", "gbce"}:
        return 0.0
    calibration = config.calibration if config.loss == "gbce" else 0.0
    return math.log(gbce_beta(config.negatives, n_items, calibration) / config.negatives)


@dataclass(frozen=True)
class Choices:
    """The events that speak for an item, by person and then by time."""

    rows: Tensor  # (E,)
    people: Tensor  # (E,)
    labels: Tensor  # (E,) in [0, 1]: a rating over the highest one, 1 for everything else
    offsets: NDArray[np.int64]  # (U + 1,)

    @classmethod
    def of(cls, interactions: Interactions) -> Choices:
        likes, values = interactions.likes, interactions.values
        rated = (KIND_NAMES[interactions.kinds] == "rating") & (values > 0)  # NaN is not
        labels = np.where(rated, values / max(1e-9, values[rated].max(initial=0)), 1)[likes]
        return cls(
            torch.from_numpy(interactions.rows[likes]),
            torch.from_numpy(interactions.users[likes]),
            torch.from_numpy(labels.astype(np.float32)),
            np.concatenate([[0], np.cumsum(likes)])[interactions.offsets].astype(np.int64),
        )


@dataclass(frozen=True)
class _Part:
    """Some of a batch."""

    pieces: list[Rows]
    """Places among the choices: windows of people's, each but the first to be predicted; of ``mf`` any, all of it."""
    of: int
    """Choices to predict in the whole batch."""
    drawn: tuple[Rows, NDArray[np.float64]] | None
    """Items that the batch is compared with, and the log of the chance that each had; None: all of them."""
    log_chance: NDArray[np.float64]
    """(M,) the same of every item."""


def _batches(
    config: TowersConfig, interactions: Interactions, choices: Choices, seed: int
) -> Callable[[int], Iterator[list[_Part]]]:
    """An epoch's number to its batches; in a large log an epoch is one of several slices of it."""
    smoothed = config.negative_power * np.log(interactions.counts().astype(np.float64) + 1.0)
    log_chance = smoothed - np.log(np.exp(smoothed).sum())
    size, places = config.batch_positions, np.arange(len(choices.rows))
    alone = config.person == "mf"  # every choice is predicted, from the person alone
    pieces = [] if alone else windows(np.split(places, choices.offsets[1:-1]), config.max_length)
    n_units, n_choices = (len(places),) * 2 if alone else (len(pieces), sum(len(piece) - 1 for piece in pieces))
    slices = max(1, round(n_choices / config.epoch_positions))

    def groups(epoch: int, rng: np.random.Generator) -> Iterator[list[list[Rows]]]:
        order = np.random.default_rng((seed, epoch // slices, n_units)).permutation(n_units)[epoch % slices :: slices]
        if alone:
            rng.shuffle(order)
            for start in range(0, len(order), size):
                yield [[share] for share in np.array_split(order[start : start + size], PARTS)]
        else:
            for group in batches([pieces[place] for place in order], tokens=size, rng=rng):
                yield [group[place::PARTS] for place in range(PARTS)]

    def each(epoch: int) -> Iterator[list[_Part]]:
        rng = np.random.default_rng((seed, epoch))
        for shares in groups(epoch, rng):
            of = sum(len(piece) - (not alone) for share in shares for piece in share)
            drawn = None if config.loss == "softmax" else shared_negatives(log_chance, config.negatives, rng)
            yield [_Part(share, of, drawn, log_chance) for share in shares if sum(map(len, share))]

    return each


def _loss(net: TowerNet, config: TowersConfig, choices: Choices) -> Callable[[_Part, torch.Generator], Tensor]:
    """What a part costs."""
    n_items = net.ids.num_embeddings
    beta = gbce_beta(config.negatives, n_items, config.calibration)
    of_choice = LOSSES["sampled_softmax" if config.loss == "softmax" else config.loss]  # of all items: nothing is drawn

    def loss(part: _Part, noise: torch.Generator) -> Tensor:
        people, places = _people(net, choices, part.pieces, noise)
        targets = choices.rows[places]
        if part.drawn is None and net.comparison is None:
            return softmax_loss(net.scale * people, net.offered(net.table()), targets, of=part.of)
        corrections = None
        drawn = torch.arange(n_items)
        if part.drawn is not None:
            drawn, chance = (torch.from_numpy(array) for array in part.drawn)
            corrections = (torch.from_numpy(part.log_chance[targets.numpy()]).float(), chance.float())
        contest = Contest(
            net.match(people, net.offered(net.vectors(targets))),
            net.compare(people, net.offered(net.vectors(drawn))),
            targets[:, None] != drawn,
            corrections,
            choices.labels[places],
            beta,
        )
        return of_choice(contest).sum() / part.of

    return loss


def _people(
    net: TowerNet, choices: Choices, pieces: list[Rows], noise: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """(P, D) people as they were before each choice of some pieces, and the (P,) places of those choices."""
    if net.people is not None:
        places = torch.from_numpy(np.concatenate(pieces))
        return dropped(net.people(choices.people[places]), net.rate, noise), places
    grid, mask = (torch.from_numpy(array) for array in left_aligned(pieces))
    real = mask[:, 1:]  # a place is trained when it has a next item; padding never does
    return net(net.vectors(choices.rows[grid[:, :-1]]), noise)[real], grid[:, 1:][real]


def _judge(net: TowerNet, config: TowersConfig, training: Training, pool: Executor) -> Callable[[], float]:
    """NDCG@10 of the held-out items among all that the person has not had."""
    people, targets = training.judged()
    sequences = training.interactions.liked_sequences()
    chosen = np.random.default_rng(training.seed).permutation(len(people))[: config.judged_people]
    chosen = chosen[np.argsort([len(sequences[people[c]]) for c in chosen], kind="stable")]  # alike lengths together
    people, targets, seen = people[chosen], targets[chosen], training.seen(people[chosen])

    def judge() -> float:
        table = net.table()
        blocks = torch.split(net.offered(table), 2048)

        def earned(start: int) -> NDArray[np.float64]:
            own = people[start : start + 64]
            with torch.no_grad():  # each thread has its own say in this
                if net.people is not None:
                    who = net.people(torch.from_numpy(own))
                else:
                    rows, mask = left_aligned([sequences[person][-config.max_length :] for person in own])
                    who = net(table[torch.from_numpy(rows)])[torch.arange(len(own)), torch.from_numpy(mask.sum(1) - 1)]
                scores = torch.cat([net.compare(who, block) for block in blocks], dim=1).numpy()
            return gains(scores, targets[start : start + 64], seen[start : start + 64])

        return float(np.concatenate(list(pool.map(earned, range(0, len(people), 64)))).mean())

    return judge
