"""Train a sequence network: windows over histories, softmax over the catalogue, judged on held-out people."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.batch import batches, left_aligned, shared_negatives, windows
from tailwise.data.interactions import Training
from tailwise.data.scores import gains
from tailwise.learn.align import with_alignment
from tailwise.learn.directions import first_table
from tailwise.learn.liked import LikedEvents
from tailwise.learn.loop import side_by_side, train
from tailwise.learn.losses import LOSSES, Contest, gbce_beta, softmax_loss
from tailwise.learn.neighbours import Neighbours, neighbours_of
from tailwise.learn.optimise import fast_bfloat16
from tailwise.learn.semantics import Origin, Placement, StandIns
from tailwise.learn.sizes import settled
from tailwise.nets.sequence import SequenceNet
from tailwise.rank.sequence import ITEMS, SequenceConfig, Trained
from tailwise.types import Floats, Rows

log = logging.getLogger(__name__)

APART = 1000
"""Between the seeds of networks that stand side by side, so that a fit by the next seed shares none with this one."""
PARTS = 2
"""Of a batch, worked on side by side; fixed, so that the number of threads changes no result."""


def train_sequence(config: SequenceConfig, training: Training, place: int = 0) -> tuple[SequenceNet, int]:
    """
    Train one network and keep its best epoch.

    Args:
        config: Settings; what they leave open is chosen from the data.
        training: With held-out people it stops when they gain no more; without, it runs for all epochs. After a fit
            with held-out people (``before``) it starts from there and goes on for the share ``finish`` of its epochs,
            now with what had been held out. With an ``Origin`` among its memo it starts from another domain's model.
        place: Among several networks; each draws by a seed of its own.

    Returns:
        The network, and the number of epochs that it took to the best.

    Cost: O(epochs · E · (M D + L D (T + D))).
    Source: Kang & McAuley, ICDM 2018, arXiv 1808.09781; full softmax after Klenitskiy & Vasilev, RecSys 2023.
    """
    config, training = sized(config, training), replace(training, seed=training.seed + APART * place)
    events = LikedEvents(training.interactions)
    net, how, stream = _begun(config, training), config.train, training.seed
    before: Trained | None = None if training.before is None else training.before.trained[place]
    if before is not None:
        net.load_state_dict({name: torch.from_numpy(array) for name, array in before.weights.items()})
        how = how.model_copy(update={"epochs": math.ceil(config.finish * before.epochs)})
        stream += 1  # other batches than the first time
    if not len(events.rows):  # another domain's model is all there is
        return net.eval(), 0
    near = neighbours_of(net, config, training, events, stream)
    plain, batches_of = _loss(net, config, events, near), parted_batches(config, events, stream)
    texts, name = _texts(config, training), f"sequence {place + 1}" if place else "sequence"
    aligned = with_alignment(net, plain, weight=config.align / PARTS, vectors=texts, touched=events.touched)
    with side_by_side(training.threads) as pool, aligned as loss:
        progress = train(
            net,
            config=how,
            seed=stream,
            batches=batches_of if near is None else near.before(batches_of),
            loss=loss,
            judge=judge_of([net], config, training, events, pool) if len(training.judged()[0]) else None,
            pool=pool,
            folder=None if training.folder is None else training.folder / f"sequence{place or ''}",
            report=training.report,
            name=name if before is None else f"{name} finish",
        )
    return net, progress.best_epoch or progress.epoch


def sized(config: SequenceConfig, training: Training) -> SequenceConfig:
    """The settings with sizes: those of the model that it starts from, else such as suit the data."""
    origin = training.memo.get(Origin)
    if isinstance(origin, Origin):
        theirs, own = origin.scorer.config.shape, config.shape
        for name in sorted(own.model_fields_set):
            if getattr(own, name) != getattr(theirs, name):
                said = (name, getattr(own, name), getattr(theirs, name))
                log.warning("sequence: shape.%s is not %s but %s, as in the model that the fit starts from", *said)
        return config.model_copy(update={"shape": theirs})
    return settled(config, training.interactions)


def _begun(config: SequenceConfig, training: Training) -> SequenceNet:
    """The network before it has learned: items start from texts and people, or where another domain puts them."""
    catalogue, origin = training.catalogue, training.memo.get(Origin)
    fresh = training.before is None  # else the weights that it had are loaded
    start = first_table(_texts(config, training), training.interactions, config.shape.dim) if fresh else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        net = SequenceNet(config.shape, len(catalogue), None if start is None else torch.from_numpy(start))
    if isinstance(origin, Origin):
        weights = {name: torch.from_numpy(array) for name, array in origin.weights().items()}
        with torch.no_grad():
            found = StandIns.of(catalogue.vectors, np.arange(len(catalogue)), origin.vectors, same=False)
            net.ids.weight[torch.from_numpy(found.rows)] = torch.from_numpy(found.take(origin.table))
        # What an older model does not have starts as in a fresh one.
        net.load_state_dict({**net.state_dict(), **weights, ITEMS: net.ids.weight})
    return net


def placement_of(config: SequenceConfig, training: Training) -> Placement:
    """Where rare items stand when the table serves."""
    return Placement.of(_texts(config, training), training.interactions.counts(), config.new_items)


def _texts(config: SequenceConfig, training: Training) -> Floats:
    """(M, W) what is known of items' texts; zeros when that is to be ignored."""
    vectors = training.catalogue.vectors
    return vectors if config.text else np.zeros_like(vectors)


@dataclass(frozen=True)
class Part:
    """Some windows of a batch."""

    pieces: list[Rows]
    """Places of events."""
    of: int
    """Positions to predict in the whole batch."""
    drawn: tuple[Rows, NDArray[np.float64]] | None
    """Negatives that the batch shares, and the log of the chance that each had; None compares with all items."""


def _draws(config: SequenceConfig, n_items: int) -> bool:
    return config.loss != "softmax" or n_items > config.full_softmax_up_to


def parted_batches(config: SequenceConfig, events: LikedEvents, stream: int) -> Callable[[int], Iterator[list[Part]]]:
    """
    An epoch's number to its batches, each in ``PARTS`` parts of about the same size.

    In a large log an epoch is one of several slices of it, so that judging and patience do not wait for all of it.
    """
    pieces = windows(events.of_people, config.shape.max_length)
    slices = max(1, round(sum(len(piece) - 1 for piece in pieces) / config.epoch_positions))
    log_chance = events.log_chance(_power(config))

    def each(epoch: int) -> Iterator[list[Part]]:
        rng = np.random.default_rng((stream, epoch))
        order = np.random.default_rng((stream, epoch // slices, len(pieces))).permutation(len(pieces))
        own = pieces if slices == 1 else [pieces[place] for place in order[epoch % slices :: slices]]
        for group in batches(own, tokens=config.batch_tokens, rng=rng):
            of = max(1, events.draws * sum(int(events.teaches[piece[1:]].sum()) for piece in group))
            drawn = shared_negatives(log_chance, config.negatives, rng) if _draws(config, events.n_items) else None
            shares = (group[place::PARTS] for place in range(PARTS))
            yield [Part(share, of, drawn) for share in shares if share]

    return each


def _power(config: SequenceConfig) -> float:
    return 0.0 if config.loss == "gbce" else 0.75


def _loss(
    net: SequenceNet, config: SequenceConfig, events: LikedEvents, near: Neighbours | None = None
) -> Callable[[Part, torch.Generator], Tensor]:
    """
    What a part costs: full softmax in a small catalogue, shared negatives in a large one.

    Items that nobody touched are compared with nothing: they would only learn that nobody wants them.
    """
    low = torch.bfloat16 if fast_bfloat16() else None
    touched, place_of = torch.from_numpy(events.touched), torch.from_numpy(events.place_of)
    everything = len(touched) == events.n_items
    log_chance = torch.from_numpy(events.log_chance(_power(config))).float()
    name = "gbce" if config.loss == "gbce" else "sampled_softmax"
    beta = gbce_beta(config.negatives, events.n_items, config.calibration)

    def loss(part: Part, noise: torch.Generator) -> Tensor:
        places, mask = left_aligned(part.pieces)
        real = mask[:, 1:] & events.teaches[places[:, 1:]]  # padding never teaches
        hidden = events.read(net, places[:, :-1], noise)[torch.from_numpy(real)].repeat(events.draws, 1)
        targets = events.wanted(places[:, 1:][real], noise)
        if near is not None:
            targets = near.taught(hidden, targets, places[:, 1:][real], noise)
        table = net.table()
        if part.drawn is None:
            if not everything:
                table, targets = table[touched], place_of[targets]
            return softmax_loss(hidden, table, targets, of=part.of, low=low)
        drawn, chance = (torch.from_numpy(array) for array in part.drawn)
        contest = Contest(
            positive=(hidden * F.embedding(targets, table)).sum(1),
            negative=hidden @ F.embedding(drawn, table).T,
            rival=targets[:, None] != drawn,
            corrections=(log_chance[targets], chance.float()),
            beta=beta,
        )
        return LOSSES[name](contest).sum() / part.of

    return loss


def judge_of(
    nets: Sequence[SequenceNet], config: SequenceConfig, training: Training, events: LikedEvents, pool: Executor
) -> Callable[[], float]:
    """NDCG@10 of the held-out items among all that the person has not had."""
    earned = earned_by(nets, config, training, events, pool)
    return lambda: float(earned().mean())


def earned_by(
    nets: Sequence[SequenceNet], config: SequenceConfig, training: Training, events: LikedEvents, pool: Executor
) -> Callable[[], NDArray[np.float64]]:
    """What the target of each held-out person earns, (J,), where the networks' scores add up."""
    people, targets = training.judged()
    chosen = np.random.default_rng(training.seed).permutation(len(people))[: config.judged_people]
    own = events.of_people
    chosen = chosen[np.argsort([len(own[people[c]]) for c in chosen], kind="stable")]  # alike lengths together
    people, targets, seen = people[chosen], targets[chosen], training.seen(people[chosen])
    placement = placement_of(config, training)

    def all_of_them() -> NDArray[np.float64]:
        tables = [torch.from_numpy(placement.table(net.table().detach().numpy())) for net in nets]

        def some(start: int) -> NDArray[np.float64]:
            group = [own[person][-config.shape.max_length :] for person in people[start : start + 64]]
            places, mask = left_aligned(group)
            last = torch.arange(len(group)), torch.from_numpy(mask.sum(1) - 1)
            with torch.no_grad():  # each thread has its own say in this
                scores = [events.read(net, places)[last] @ table.T for net, table in zip(nets, tables, strict=True)]
            added = torch.stack(scores).sum(0).numpy()
            return gains(added, targets[start : start + 64], seen[start : start + 64])

        return np.concatenate(list(pool.map(some, range(0, len(people), 64))))

    return all_of_them
