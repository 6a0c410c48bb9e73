"""Sizes of the sequence model that suit the data, where the settings leave them open; what was chosen, and why."""

from __future__ import annotations

import logging

import numpy as np

from tailwise.data.interactions import Interactions
from tailwise.rank.sequence import SequenceConfig

log = logging.getLogger(__name__)

MOST_LENGTH = 100
"""Longer histories are read in windows."""
STEPS = 30
"""Batches that an epoch should have: fewer leave a small log undertrained, as patience counts epochs."""
BATCH = (800, 6_400)
"""Least and most cells of a batch."""
LITTLE = 20_000
"""Positions to predict below which more is dropped."""
SHORT = 20
"""The same up to so many events of a person, however many people there are."""
FEW = 50_000
"""Positions to predict below which several networks are worth their time: chance decides more, and they cost less."""
MEMBERS = 3


def settled(config: SequenceConfig, interactions: Interactions) -> SequenceConfig:
    """
    The settings with what they leave open chosen from the data. What is given stays; settled twice changes nothing.

    ``max_length`` is what nine in ten people have, up to 100; ``dropout`` is 0.3, and 0.5 below 20,000 positions to
    predict or where nine in ten people have at most 20 events; ``batch_tokens`` makes about 30 batches an epoch, within
    800 and 6,400 cells; ``members`` is 3 below 50,000 positions.
    """
    lengths = np.array([len(sequence) for sequence in interactions.liked_sequences()] or [0])
    positions = int(np.maximum(lengths - 1, 0).sum())
    usual = int(np.quantile(lengths, 0.9))
    open_shape = {
        "max_length": int(np.clip(-10 * (-usual // 10), 10, MOST_LENGTH)),
        "dropout": 0.5 if positions < LITTLE or usual <= SHORT else 0.3,
    }
    chosen = {name: value for name, value in open_shape.items() if name not in config.shape.model_fields_set}
    shape = config.shape.model_copy(update=chosen)
    update: dict[str, object] = {"shape": shape.model_copy(update=shape.model_dump())}  # from here on all are given
    if "batch_tokens" not in config.model_fields_set:
        update["batch_tokens"] = chosen["batch_tokens"] = int(np.clip(positions / STEPS, *BATCH))
    if "members" not in config.model_fields_set:
        update["members"] = chosen["members"] = MEMBERS if positions < FEW else 1
    if chosen:
        said = " ".join(f"{name}={value}" for name, value in chosen.items())
        log.info("sequence model: %s, because %d positions, %d events a person", said, positions, usual)
    return config.model_copy(update=update)
