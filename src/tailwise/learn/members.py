"""
Fit the sequence model: one network, or several that differ in their seed, and one that learned from all of them.

    seeds ─▶ networks ─┬─▶ side by side: their scores add up, for chance errs in each of them differently
                       └─▶ distil: the first goes on, towards the mean of all chances and what really came next
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Sequence

import numpy as np
import torch

from tailwise.data.interactions import Training
from tailwise.learn.imitate import imitation_of
from tailwise.learn.liked import LikedEvents
from tailwise.learn.loop import side_by_side, train
from tailwise.learn.sequence import earned_by, judge_of, parted_batches, placement_of, sized, train_sequence
from tailwise.nets.sequence import SequenceNet
from tailwise.nets.serving import LastPlaces
from tailwise.rank.sequence import INPUTS, SequenceConfig, SequenceScorer, Trained

Member = tuple[SequenceNet, int]
"""A trained network, and the number of epochs that it took to the best."""


def fit_sequence(config: SequenceConfig, training: Training) -> SequenceScorer:
    """
    Train every network of the model, distil them when asked to, export.

    Args:
        config: Settings; what they leave open is chosen from the data, and stands in the scorer's.
        training: As for one network (``train_sequence``). After a fit with held-out people (``before``) each network
            that it has goes on.

    Returns:
        A scorer that needs no torch. A distilled network is the first one as it was, when learning from the others made
        it no better on held-out people.

    Cost: that of one network for each; distilling costs as many forward passes more in each of its steps.
    Source: Lakshminarayanan et al., NeurIPS 2017, arXiv 1612.01474; Hinton et al., 2015, arXiv 1503.02531.
    """
    config = sized(config, training)
    count = config.members if training.before is None else len(training.before.trained)
    members = [train_sequence(config, training, place) for place in range(count)]
    if config.distil and training.before is None and count > 1:
        members = [_distilled(members, config, training)]
    nets = [net for net, _ in members]
    config = _with_new_items(nets, config, training)
    placement = placement_of(config, training)
    table = np.concatenate([placement.table(net.table().detach().numpy()) for net in nets], axis=1)  # (M, K · D)
    trained = [Trained({n: own.numpy() for n, own in net.state_dict().items()}, epochs) for net, epochs in members]
    return SequenceScorer(config, table, exported(nets), training.catalogue.item_ids, trained)


def _distilled(members: Sequence[Member], config: SequenceConfig, training: Training) -> Member:
    """The first network after it learned from all, or as it was when that made it no better."""
    teachers, events = [net for net, _ in members], LikedEvents(training.interactions)
    net = copy.deepcopy(teachers[0])
    with side_by_side(training.threads) as pool:
        judge = judge_of([net], config, training, events, pool) if len(training.judged()[0]) else None
        start = None if judge is None else judge()
        progress = train(
            net,
            config=config.train,
            seed=training.seed,
            batches=parted_batches(config, events, training.seed),
            loss=imitation_of(net, teachers, events, config.imitate),
            judge=judge,
            pool=pool,
            folder=None if training.folder is None else training.folder / "distilled",
            report=training.report,
            name="distil",
        )
    if start is not None and progress.best_value <= start:
        return members[0]
    return net, progress.best_epoch or progress.epoch


def _with_new_items(nets: Sequence[SequenceNet], config: SequenceConfig, training: Training) -> SequenceConfig:
    """The settings with as much room for items without events as held-out people do not pay for."""
    if "new_items" in config.model_fields_set or not len(training.judged()[0]):
        return config
    events = LikedEvents(training.interactions)
    with side_by_side(training.threads) as pool:
        found = {}
        for power in (0.0, 0.5, 1.0):
            tried = config.model_copy(update={"new_items": power})
            found[power] = earned_by(nets, tried, training, events, pool)()
    best = max(found.values(), key=lambda gained: float(gained.mean()))
    enough = best.mean() - best.std() / np.sqrt(len(best))
    chosen = max(power for power, gained in found.items() if gained.mean() >= enough)
    return config.model_copy(update={"new_items": chosen})


def exported(nets: Sequence[SequenceNet]) -> bytes:
    """As ONNX: ``INPUTS``, (1, T, D) and (1, T), to (1, D); any T they read."""
    buffer, shape = io.BytesIO(), nets[0].shape
    length = min(7, shape.max_length)
    example = torch.zeros(1, length, shape.dim * len(nets)), torch.zeros(1, length, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning,))  # the older exporter is six times as fast here
        torch.onnx.export(
            LastPlaces(nets).eval(),
            example,
            buffer,  # type: ignore[arg-type]  # a buffer is taken too
            input_names=list(INPUTS),
            output_names=["person"],
            dynamic_axes={name: {1: "time"} for name in INPUTS},
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()
