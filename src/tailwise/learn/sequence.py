"""Fit the sequence model: windows over histories, softmax over the catalogue, judged by NDCG@10 on held-out people."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.batch import batches, left_aligned, shared_negatives, windows
from tailwise.data.interactions import Interactions, Training
from tailwise.data.scores import gains
from tailwise.learn.loop import side_by_side, train
from tailwise.learn.losses import sampled_softmax_loss, softmax_loss
from tailwise.nets.sequence import SequenceNet
from tailwise.rank.sequence import SequenceConfig, SequenceScorer, Trained
from tailwise.types import Floats, Rows

PARTS = 2
"""Of a batch, worked on side by side; fixed, so that the number of threads changes no result."""


def fit_sequence(config: SequenceConfig, training: Training) -> SequenceScorer:
    """
    Train, keep the best epoch, export.

    Args:
        config: Settings.
        training: With held-out people it stops when they gain no more; without, it runs for all epochs. After a fit
            with held-out people (``before``) it starts from there and goes on for the share ``finish`` of its epochs,
            now with what had been held out.

    Returns:
        A scorer that needs no torch.

    Cost: O(epochs · E · (M D + L D (T + D))).
    Source: Kang & McAuley, ICDM 2018, arXiv 1808.09781; full softmax after Klenitskiy & Vasilev, RecSys 2023.
    """
    net, epochs = train_sequence(config, training)
    weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    return SequenceScorer(
        config, _table(net, training), exported(net), training.catalogue.item_ids, Trained(weights, epochs)
    )


def train_sequence(config: SequenceConfig, training: Training) -> tuple[SequenceNet, int]:
    """The trained network, and the number of epochs that it took to the best."""
    interactions = training.interactions
    vectors = training.catalogue.vectors
    text = torch.from_numpy(vectors) if config.text and vectors.any() else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        net = SequenceNet(config.shape, interactions.n_items, text)
    how, stream = config.train, training.seed
    before: Trained | None = None if training.before is None else training.before.trained
    if before is not None:
        net.load_state_dict({name: torch.from_numpy(array) for name, array in before.weights.items()})
        how = how.model_copy(update={"epochs": round(config.finish * before.epochs)})
        stream += 1  # other batches than the first time
    sequences = interactions.liked_sequences()
    with side_by_side(training.threads) as pool:
        progress = train(
            net,
            config=how,
            seed=stream,
            batches=_batches(config, interactions, windows(sequences, config.shape.max_length), stream),
            loss=_loss(net),
            judge=_judge(net, config, training, sequences, pool) if len(training.judged()[0]) else None,
            pool=pool,
            folder=None if training.folder is None else training.folder / "sequence",
            report=training.report,
        )
    return net, progress.best_epoch or progress.epoch


@dataclass(frozen=True)
class _Part:
    """Some windows of a batch."""

    pieces: list[Rows]
    of: int
    """Positions to predict in the whole batch."""
    drawn: tuple[Rows, NDArray[np.float64]] | None
    """Negatives that the batch shares, and the log of the chance that each had; None compares with all items."""
    log_chance: NDArray[np.float64]
    """(M,) the same of every item."""


def _batches(
    config: SequenceConfig, interactions: Interactions, pieces: list[Rows], stream: int
) -> Callable[[int], Iterator[list[_Part]]]:
    """
    An epoch's number to its batches, each in ``PARTS`` parts of about the same size.

    In a large log an epoch is one of several slices of it, so that judging and patience do not wait for all of it.
    """
    slices = max(1, round(sum(len(piece) - 1 for piece in pieces) / config.epoch_positions))
    smoothed = 0.75 * np.log(interactions.counts().astype(np.float64) + 1.0)
    log_chance = smoothed - np.log(np.exp(smoothed).sum())

    def each(epoch: int) -> Iterator[list[_Part]]:
        rng = np.random.default_rng((stream, epoch))
        order = np.random.default_rng((stream, epoch // slices, len(pieces))).permutation(len(pieces))
        own = pieces if slices == 1 else [pieces[place] for place in order[epoch % slices :: slices]]
        for group in batches(own, tokens=config.batch_tokens, rng=rng):
            of = sum(len(piece) - 1 for piece in group)
            sampled = interactions.n_items > config.full_softmax_up_to
            drawn = shared_negatives(log_chance, config.negatives, rng) if sampled else None
            shares = (group[place::PARTS] for place in range(PARTS))
            yield [_Part(share, of, drawn, log_chance) for share in shares if share]

    return each


def _loss(net: SequenceNet) -> Callable[[_Part, torch.Generator], Tensor]:
    """What a part costs: full softmax in a small catalogue, shared negatives in a large one."""

    def loss(part: _Part, noise: torch.Generator) -> Tensor:
        rows, mask = (torch.from_numpy(array) for array in left_aligned(part.pieces))
        real = mask[:, 1:]  # a place is trained when it has a next item; padding never does
        targets = rows[:, 1:][real]
        if part.drawn is None:
            table = net.table()
            return softmax_loss(net(F.embedding(rows[:, :-1], table), noise)[real], table, targets, of=part.of)
        drawn, chance = (torch.from_numpy(array) for array in part.drawn)
        mean = sampled_softmax_loss(
            net(net.vectors(rows[:, :-1]), noise)[real],
            net.vectors(targets),
            net.vectors(drawn),
            targets=targets,
            drawn=drawn,
            corrections=(torch.from_numpy(part.log_chance[targets.numpy()]).float(), chance.float()),
        )
        return mean * (len(targets) / part.of)

    return loss


def _judge(
    net: SequenceNet, config: SequenceConfig, training: Training, sequences: list[Rows], pool: Executor
) -> Callable[[], float]:
    """NDCG@10 of the held-out items among all that the person has not had."""
    people, targets = training.judged()
    chosen = np.random.default_rng(training.seed).permutation(len(people))[: config.judged_people]
    chosen = chosen[np.argsort([len(sequences[people[c]]) for c in chosen], kind="stable")]  # alike lengths together
    people, targets, seen = people[chosen], targets[chosen], training.seen(people[chosen])

    def judge() -> float:
        table = net.table()

        def earned(start: int) -> NDArray[np.float64]:
            group = [sequences[person] for person in people[start : start + 64]]
            rows, mask = left_aligned([sequence[-config.shape.max_length :] for sequence in group])
            with torch.no_grad():  # each thread has its own say in this
                hidden = net(F.embedding(torch.from_numpy(rows), table))
                last = hidden[torch.arange(len(group)), torch.from_numpy(mask.sum(1) - 1)]
                scores = (last @ table.T).numpy()
            return gains(scores, targets[start : start + 64], seen[start : start + 64])

        return float(np.concatenate(list(pool.map(earned, range(0, len(people), 64)))).mean())

    return judge


def _table(net: SequenceNet, training: Training) -> Floats:
    """The item table that serves: an item that training never saw keeps its text alone."""
    with torch.no_grad():
        table = net.table().clone()
        unseen = torch.from_numpy(training.interactions.counts() == 0)
        table[unseen] -= net.ids.weight[unseen]
    return table.numpy()


class _Last(nn.Module):
    """What serving needs of the network: the vector at the last place."""

    def __init__(self, net: SequenceNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, vectors: Tensor) -> Tensor:
        return self.net(vectors)[:, -1]


def exported(net: SequenceNet) -> bytes:
    """The network as ONNX: ``vectors`` (1, T, D) to (1, D), any T up to ``max_length``."""
    import warnings

    buffer = io.BytesIO()
    example = torch.zeros(1, min(7, net.shape.max_length), net.shape.dim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning,))  # the older exporter is six times as fast here
        torch.onnx.export(
            _Last(net).eval(),
            (example,),
            buffer,  # type: ignore[arg-type]  # a buffer is taken too
            input_names=["vectors"],
            output_names=["person"],
            dynamic_axes={"vectors": {1: "time"}},
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()
