"""Fit the sequence model: windows over histories, softmax over the catalogue, judged by NDCG@10 on held-out people."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

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
from tailwise.nets.serving import LastPlace
from tailwise.rank.sequence import ITEMS, SequenceConfig, SequenceScorer, Trained
from tailwise.types import Floats, Rows

PARTS = 2
"""Of a batch, worked on side by side; fixed, so that the number of threads changes no result."""


def fit_sequence(config: SequenceConfig, training: Training) -> SequenceScorer:
    """
    Train, keep the best epoch, export.

    Args:
        config: Settings; what they leave open is chosen from the data, and stands in the scorer's.
        training: With held-out people it stops when they gain no more; without, it runs for all epochs. After a fit
            with held-out people (``before``) it starts from there and goes on for the share ``finish`` of its epochs,
            now with what had been held out. With an ``Origin`` among its memo it starts from another domain's model.

    Returns:
        A scorer that needs no torch.

    Cost: O(epochs · E · (M D + L D (T + D))).
    Source: Kang & McAuley, ICDM 2018, arXiv 1808.09781; full softmax after Klenitskiy & Vasilev, RecSys 2023.
    """
    config = _sized(config, training)
    net, epochs = train_sequence(config, training)
    config = _with_new_items(net, config, training)
    weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    table = _placement(config, training).table(net.table().detach().numpy())
    return SequenceScorer(config, table, exported(net), training.catalogue.item_ids, Trained(weights, epochs))


def train_sequence(config: SequenceConfig, training: Training) -> tuple[SequenceNet, int]:
    """The trained network, and the number of epochs that it took to the best."""
    config = _sized(config, training)
    events = LikedEvents(training.interactions)
    net, how, stream = _begun(config, training), config.train, training.seed
    before: Trained | None = None if training.before is None else training.before.trained
    if before is not None:
        net.load_state_dict({name: torch.from_numpy(array) for name, array in before.weights.items()})
        how = how.model_copy(update={"epochs": math.ceil(config.finish * before.epochs)})
        stream += 1  # other batches than the first time
    if not len(events.rows):  # another domain's model is all there is
        return net.eval(), 0
    near = neighbours_of(net, config, training, events, stream)
    plain, batches_of = _loss(net, config, events, near), _batches(config, events, stream)
    texts = _texts(config, training)
    aligned = with_alignment(net, plain, weight=config.align / PARTS, vectors=texts, touched=events.touched)
    with side_by_side(training.threads) as pool, aligned as loss:
        progress = train(
            net,
            config=how,
            seed=stream,
            batches=batches_of if near is None else near.before(batches_of),
            loss=loss,
            judge=_judge(net, config, training, events, pool) if len(training.judged()[0]) else None,
            pool=pool,
            folder=None if training.folder is None else training.folder / "sequence",
            report=training.report,
        )
    return net, progress.best_epoch or progress.epoch


def _sized(config: SequenceConfig, training: Training) -> SequenceConfig:
    """The settings with sizes: those of the model that it starts from, else such as suit the data."""
    origin = training.memo.get(Origin)
    if isinstance(origin, Origin):
        return config.model_copy(update={"shape": origin.scorer.config.shape})
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
            net.ids.weight[torch.from_numpy(found.rows)] = torch.from_numpy(found.take(origin.scorer.table))
        net.load_state_dict({**weights, ITEMS: net.ids.weight})
    return net


def _placement(config: SequenceConfig, training: Training) -> Placement:
    """Where rare items stand when the table serves."""
    return Placement.of(_texts(config, training), training.interactions.counts(), config.new_items)


def _texts(config: SequenceConfig, training: Training) -> Floats:
    """(M, W) what is known of items' texts; zeros when that is to be ignored."""
    vectors = training.catalogue.vectors
    return vectors if config.text else np.zeros_like(vectors)


def _with_new_items(net: SequenceNet, config: SequenceConfig, training: Training) -> SequenceConfig:
    """The settings with as much room for items without events as held-out people do not pay for."""
    if "new_items" in config.model_fields_set or not len(training.judged()[0]):
        return config
    events = LikedEvents(training.interactions)
    with side_by_side(training.threads) as pool:
        found = {}
        for power in (0.0, 0.5, 1.0):
            tried = config.model_copy(update={"new_items": power})
            found[power] = _earned(net, tried, training, events, pool)()
    best = max(found.values(), key=lambda gained: float(gained.mean()))
    enough = best.mean() - best.std() / np.sqrt(len(best))
    chosen = max(power for power, gained in found.items() if gained.mean() >= enough)
    return config.model_copy(update={"new_items": chosen})


@dataclass(frozen=True)
class _Part:
    """Some windows of a batch."""

    pieces: list[Rows]
    """Places of events."""
    of: int
    """Positions to predict in the whole batch."""
    drawn: tuple[Rows, NDArray[np.float64]] | None
    """Negatives that the batch shares, and the log of the chance that each had; None compares with all items."""


def _draws(config: SequenceConfig, n_items: int) -> bool:
    return config.loss != "softmax" or n_items > config.full_softmax_up_to


def _batches(config: SequenceConfig, events: LikedEvents, stream: int) -> Callable[[int], Iterator[list[_Part]]]:
    """
    An epoch's number to its batches, each in ``PARTS`` parts of about the same size.

    In a large log an epoch is one of several slices of it, so that judging and patience do not wait for all of it.
    """
    pieces = windows(events.of_people, config.shape.max_length)
    slices = max(1, round(sum(len(piece) - 1 for piece in pieces) / config.epoch_positions))
    log_chance = events.log_chance(_power(config))

    def each(epoch: int) -> Iterator[list[_Part]]:
        rng = np.random.default_rng((stream, epoch))
        order = np.random.default_rng((stream, epoch // slices, len(pieces))).permutation(len(pieces))
        own = pieces if slices == 1 else [pieces[place] for place in order[epoch % slices :: slices]]
        for group in batches(own, tokens=config.batch_tokens, rng=rng):
            of = max(1, events.draws * sum(int(events.teaches[piece[1:]].sum()) for piece in group))
            drawn = shared_negatives(log_chance, config.negatives, rng) if _draws(config, events.n_items) else None
            shares = (group[place::PARTS] for place in range(PARTS))
            yield [_Part(share, of, drawn) for share in shares if share]

    return each


def _power(config: SequenceConfig) -> float:
    return 0.0 if config.loss == "gbce" else 0.75


def _loss(
    net: SequenceNet, config: SequenceConfig, events: LikedEvents, near: Neighbours | None = None
) -> Callable[[_Part, torch.Generator], Tensor]:
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

    def loss(part: _Part, noise: torch.Generator) -> Tensor:
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


def _judge(
    net: SequenceNet, config: SequenceConfig, training: Training, events: LikedEvents, pool: Executor
) -> Callable[[], float]:
    """NDCG@10 of the held-out items among all that the person has not had."""
    earned = _earned(net, config, training, events, pool)
    return lambda: float(earned().mean())


def _earned(
    net: SequenceNet, config: SequenceConfig, training: Training, events: LikedEvents, pool: Executor
) -> Callable[[], NDArray[np.float64]]:
    """What the target of each held-out person earns, (J,)."""
    people, targets = training.judged()
    chosen = np.random.default_rng(training.seed).permutation(len(people))[: config.judged_people]
    own = events.of_people
    chosen = chosen[np.argsort([len(own[people[c]]) for c in chosen], kind="stable")]  # alike lengths together
    people, targets, seen = people[chosen], targets[chosen], training.seen(people[chosen])
    placement = _placement(config, training)

    def all_of_them() -> NDArray[np.float64]:
        table = torch.from_numpy(placement.table(net.table().detach().numpy()))

        def some(start: int) -> NDArray[np.float64]:
            group = [own[person][-config.shape.max_length :] for person in people[start : start + 64]]
            places, mask = left_aligned(group)
            with torch.no_grad():  # each thread has its own say in this
                hidden = events.read(net, places)
                last = hidden[torch.arange(len(group)), torch.from_numpy(mask.sum(1) - 1)]
                scores = (last @ table.T).numpy()
            return gains(scores, targets[start : start + 64], seen[start : start + 64])

        return np.concatenate(list(pool.map(some, range(0, len(people), 64))))

    return all_of_them


def exported(net: SequenceNet) -> bytes:
    """The network as ONNX: ``vectors`` (1, T, D), and ``gaps`` (1, T) when it reads them, to (1, D); any T it reads."""
    import warnings

    buffer = io.BytesIO()
    length = min(7, net.shape.max_length)
    example: tuple[Any, ...] = (torch.zeros(1, length, net.shape.dim),)
    if net.shape.time_gaps:
        example = (*example, torch.zeros(1, length, dtype=torch.int64))
    names = ["vectors", "gaps"][: len(example)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning,))  # the older exporter is six times as fast here
        torch.onnx.export(
            LastPlace(net).eval(),
            example,
            buffer,  # type: ignore[arg-type]  # a buffer is taken too
            input_names=names,
            output_names=["person"],
            dynamic_axes={name: {1: "time"} for name in names},
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()
