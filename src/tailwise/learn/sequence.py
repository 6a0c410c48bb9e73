"""Fit the sequence model: windows over histories, softmax over the catalogue, judged by NDCG@10 on held-out people."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.batch import batches, left_aligned, shared_negatives, windows
from tailwise.data.interactions import Training
from tailwise.data.scores import gains
from tailwise.learn.loop import Progress, train
from tailwise.learn.losses import sampled_softmax_loss, softmax_loss
from tailwise.nets.sequence import SequenceNet
from tailwise.rank.sequence import SequenceConfig, SequenceScorer
from tailwise.types import Floats, Rows


def fit_sequence(config: SequenceConfig, training: Training) -> SequenceScorer:
    """
    Train, keep the best epoch, export.

    Args:
        config: Settings.
        training: With held-out people it stops when they gain no more; without, it runs for all epochs.

    Returns:
        A scorer that needs no torch.

    Cost: O(epochs · E · (M D + L D (T + D))).
    Source: Kang & McAuley, ICDM 2018, arXiv 1808.09781; full softmax after Klenitskiy & Vasilev, RecSys 2023.
    """
    net, _ = train_sequence(config, training)
    return SequenceScorer(config, _table(net, training), exported(net), training.catalogue.item_ids)


def train_sequence(config: SequenceConfig, training: Training) -> tuple[SequenceNet, Progress]:
    """The trained network, and how it went."""
    interactions = training.interactions
    vectors = training.catalogue.vectors
    text = torch.from_numpy(vectors) if config.text and vectors.any() else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        net = SequenceNet(config.shape, interactions.n_items, text)
    sequences = interactions.liked_sequences()
    pieces = windows(sequences, config.shape.max_length)

    def each(epoch: int) -> Iterator[tuple[list[Rows], np.random.Generator]]:
        rng = np.random.default_rng((training.seed, epoch))
        return ((group, rng) for group in batches(pieces, tokens=config.batch_tokens, rng=rng))

    progress = train(
        net,
        config=config.train,
        seed=training.seed,
        batches=each,
        loss=_loss(net, config, interactions.counts()),
        judge=_judge(net, config, training, sequences) if len(training.judged()[0]) else None,
        folder=None if training.folder is None else training.folder / "sequence",
        report=training.report,
    )
    return net, progress


def _loss(
    net: SequenceNet, config: SequenceConfig, counts: Floats
) -> Callable[[tuple[list[Rows], np.random.Generator]], Tensor]:
    """What a batch of windows costs: full softmax in a small catalogue, shared negatives in a large one."""
    smoothed = 0.75 * np.log(counts.astype(np.float64) + 1.0)
    log_chance = smoothed - np.log(np.exp(smoothed).sum())

    def loss(batch: tuple[list[Rows], np.random.Generator]) -> Tensor:
        group, rng = batch
        rows, mask = (torch.from_numpy(array) for array in left_aligned(group))
        real = mask[:, 1:]  # a place is trained when it has a next item; padding never does
        targets = rows[:, 1:][real]
        if net.n_items <= config.full_softmax_up_to:
            table = net.table()
            return softmax_loss(net(F.embedding(rows[:, :-1], table))[real], table, targets)
        drawn, chance = shared_negatives(log_chance, config.negatives, rng)
        negatives = torch.from_numpy(drawn)
        corrections = (torch.from_numpy(log_chance[targets.numpy()]).float(), torch.from_numpy(chance).float())
        return sampled_softmax_loss(
            net(net.vectors(rows[:, :-1]))[real],
            net.vectors(targets),
            net.vectors(negatives),
            targets=targets,
            drawn=negatives,
            corrections=corrections,
        )

    return loss


def _judge(net: SequenceNet, config: SequenceConfig, training: Training, sequences: list[Rows]) -> Callable[[], float]:
    """NDCG@10 of the held-out items among all that the person has not had."""
    people, targets = training.judged()
    chosen = np.random.default_rng(training.seed).permutation(len(people))[: config.judged_people]
    chosen = chosen[np.argsort([len(sequences[people[c]]) for c in chosen], kind="stable")]  # alike lengths together
    people, targets, seen = people[chosen], targets[chosen], training.seen(people[chosen])

    def judge() -> float:
        table = net.table()
        earned = []
        for start in range(0, len(people), 128):
            group = [sequences[person] for person in people[start : start + 128]]
            rows, mask = left_aligned([sequence[-config.shape.max_length :] for sequence in group])
            hidden = net(F.embedding(torch.from_numpy(rows), table))
            last = hidden[torch.arange(len(group)), torch.from_numpy(mask.sum(1) - 1)]
            scores = (last @ table.T).numpy()
            earned.append(gains(scores, targets[start : start + 128], seen[start : start + 128]))
        return float(np.concatenate(earned).mean())

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
