"""Fit the list-wise re-ranker on slates of held-out cases, and use it unless it clearly hurts what comes in."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.data.interactions import Training
from tailwise.learn.crossfit import Learned, Lists, cross_fitted, gains_of, temperature_of
from tailwise.learn.listwise_losses import lambdarank_loss, listnet_loss
from tailwise.learn.logit import conditional_logit
from tailwise.learn.loop import side_by_side, train
from tailwise.learn.slates import gather
from tailwise.nets.attention import SlateNet
from tailwise.nets.serving import Committee
from tailwise.pipeline import Engine
from tailwise.pipeline.signals import signal_names
from tailwise.rerank.attention import Attention, AttentionConfig

LEAST = -3.0
"""Standard errors that the gain must be above. It is underestimated: a member learned from a part of the people and
judges alone, and the sources chose their epochs and decays by the very people that the incoming order is judged by. On
four sparse logs what seemed to lose by up to 2.4 standard errors gained on later events (LOG.md)."""
PARTS = 2
"""Of a batch, worked on side by side; fixed, so that the number of threads changes no result."""


def fit_attention(
    config: AttentionConfig, training: Training, engine: Engine
) -> tuple[Attention, dict[str, float | str]]:
    """
    Learn to re-rank the best of the order that comes in.

    Each network of the committee starts at a conditional logit of the signals, learns from the people of the other
    folds and stops when its own fold's NDCG@10 no longer grows (``crossfit``).

    Args:
        config: Settings.
        training: With held-out cases.
        engine: With the sources, and the stages before this one.

    Returns:
        The stage, and notes for the model card: NDCG@10 before and after, and what was decided.

    Cost: O(committee · epochs · J · N (F D + N D)).
    Source: Pei et al., RecSys 2019, arXiv 1904.06813 (PRM); Pang et al., SIGIR 2020, arXiv 1912.05891 (SetRank: no
    places). Residual, gated and cross-fitted is ours.
    """
    names = signal_names(engine.sources, training.catalogue, engine.contexts)
    examples = gather(training, engine, config.cases, config.depth)
    with side_by_side(training.threads):
        members, notes = cross_fitted(
            examples,
            depth=config.depth,
            committee=config.committee,
            seed=training.seed,
            least=LEAST,
            learn=lambda lists, own, part: _member(config, training, lists, own, part),
        )
    return Attention(config, names, exported(Committee(members), len(names)) if members else None), notes


def _member(
    config: AttentionConfig, training: Training, lists: Lists, own: NDArray[np.bool_], part: int
) -> Learned[SlateNet]:
    """One network of the committee, taught by its own examples and stopped by the others; what those earn by epoch."""
    seed = training.seed * 100 + part
    learning = np.flatnonzero(own & (lists.labels.sum(1) > 0).numpy())
    seen = lists.signals[learning][lists.mask[learning]]  # (ΣN, F)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SlateNet(config.shape, seen.mean(0), seen.std(0) + 1e-6, temperature_of(lists, learning))
    net.straight.data = _straight(net, lists, learning, config.ridge)
    epochs: list[NDArray[np.float64]] = []

    def judge() -> float:
        epochs.append(gains_of(_judged(net, lists, ~own), lists, ~own))
        return float(epochs[-1].mean())

    with side_by_side(training.threads) as pool:
        train(
            net,
            config=config.train,
            seed=seed,
            batches=_batches(config, learning, seed),
            loss=_loss(net, lists, config.lambda_weight),
            judge=judge,
            pool=pool,
            report=training.report,
            name=f"attention {part + 1} of {config.committee}",
        )
    return net, np.stack(epochs)


def _straight(net: SlateNet, lists: Lists, learning: NDArray[np.int64], ridge: float) -> Tensor:
    """(F,) where the straight weights start: at the best that they do alone, which a few hundred cases can tell."""
    mask, share = lists.mask[learning], lists.labels[learning]
    share = share / share.sum(1, keepdim=True)
    weights = conditional_logit(
        net.standard(lists.signals[learning][mask]).numpy().astype(np.float64),
        mask.sum(1).numpy(),
        share[mask].numpy().astype(np.float64),
        ridge,
        offset=(net.temperature * lists.base[learning][mask]).numpy().astype(np.float64),
    )
    return torch.from_numpy(weights.astype(np.float32))


def _batches(
    config: AttentionConfig, learning: NDArray[np.int64], seed: int
) -> Callable[[int], Iterator[list[tuple[NDArray[np.int64], int]]]]:
    """An epoch's number to its batches, each in ``PARTS`` parts: which examples, and how many the batch has."""

    def each(epoch: int) -> Iterator[list[tuple[NDArray[np.int64], int]]]:
        order = np.random.default_rng((seed, epoch)).permutation(learning)
        for start in range(0, len(order), config.batch):
            group = order[start : start + config.batch]
            yield [(share, len(group)) for share in (group[place::PARTS] for place in range(PARTS)) if len(share)]

    return each


def _loss(
    net: SlateNet, lists: Lists, lambda_weight: float
) -> Callable[[tuple[NDArray[np.int64], int], torch.Generator], Tensor]:
    """ListNet for the whole order, LambdaRank for its top."""

    def loss(part: tuple[NDArray[np.int64], int], noise: torch.Generator) -> Tensor:
        places, of = torch.from_numpy(part[0]), part[1]
        mask, labels = lists.mask[places], lists.labels[places]
        scores = net(lists.signals[places], lists.base[places], mask, noise)
        value = listnet_loss(scores, labels, mask, of=of)
        if lambda_weight:
            value = value + lambda_weight * lambdarank_loss(scores, labels, mask, k=20, of=of)
        return value

    return loss


def _judged(net: SlateNet, lists: Lists, chosen: NDArray[np.bool_]) -> Tensor:
    """The network's scores of the chosen lists, padded to N."""
    places = torch.from_numpy(np.flatnonzero(chosen))
    with torch.no_grad():
        blocks = [places[start : start + 256] for start in range(0, len(places), 256)]
        return torch.cat([net(lists.signals[b], lists.base[b], lists.mask[b]) for b in blocks])


def exported(committee: Committee, width: int) -> bytes:
    """The committee as ONNX: ``signals`` (1, N, F) and ``base`` (1, N) to (1, N), any N."""
    buffer = io.BytesIO()
    example = (torch.zeros(1, 7, width), torch.zeros(1, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning,))  # the older exporter is six times as fast here
        torch.onnx.export(
            committee.eval(),
            example,
            buffer,  # type: ignore[arg-type]  # a buffer is taken too
            input_names=["signals", "base"],
            output_names=["scores"],
            dynamic_axes={"signals": {1: "candidates"}, "base": {1: "candidates"}},
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()
