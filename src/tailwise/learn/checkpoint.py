"""
Where training stands, and picking it up again: exactly, whatever the optimiser.

    folder/progress.json            which checkpoint counts, its checksum, losses and values so far
    folder/checkpoint-{0,1}.safetensors   weights that learn, their average, the best ones, the optimiser's state

The two take turns: a crash while one is written leaves the other whole. The rename of ``progress.json`` makes it count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tailwise.artifacts import sha256_of
from tailwise.errors import ArtifactError
from tailwise.learn.optimise import optimizer_of
from tailwise.nets.adapting import learned, load_learned
from tailwise.nets.settings import LoopConfig

Weights = dict[str, Tensor]


@dataclass
class Progress:
    """Where training stands; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_value: float = -math.inf
    losses: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Learner:
    """A net with what moves it and the average of where its weights that learn were; the others are left alone."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    learning: nn.ParameterList
    average: AveragedModel
    """Of ``learning``."""

    @classmethod
    def of(cls, net: nn.Module, config: LoopConfig) -> Self:
        """
        A learner at the start.

        Source: Polyak & Juditsky, SIAM J. Control Optim. 1992, doi:10.1137/0330046 (averaging).
        """

        def move(averaged: Any, current: Any, steps: Tensor | int) -> None:
            # The first steps count for less than they would: they are far from where it will end.
            stays = min(config.average, (1 + int(steps)) / (10 + int(steps)))
            torch._foreach_lerp_(averaged, current, 1 - stays)

        learning = nn.ParameterList(parameter for parameter in net.parameters() if parameter.requires_grad)
        return cls(net, optimizer_of(net, config), learning, AveragedModel(learning, multi_avg_fn=move))

    def step(self) -> None:
        """Move by the gradients that the weights have, and the average after them."""
        self.optimizer.step()
        self.average.update_parameters(self.learning)

    def averages(self) -> Weights:
        """A copy of the average, by name."""
        means = (parameter.detach().clone() for parameter in self.average.parameters())
        return dict(zip(learned(self.net), means, strict=True))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The net holds the averaged weights for a while."""
        moving = learned(self.net)
        load_learned(self.net, self.averages())
        self.net.eval()
        try:
            yield
        finally:
            load_learned(self.net, moving)


def save_checkpoint(folder: Path, learner: Learner, progress: Progress, best: Weights) -> None:
    """
    Write weights, their average, the best ones, the optimiser's state and the progress.

    Raises:
        OSError: The folder cannot be written.
        SafetensorError: The same, while tensors are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    states = learner.optimizer.state_dict()["state"]
    tensors = {f"net.{name}": tensor for name, tensor in learned(learner.net).items()}
    tensors |= {f"average.{name}": tensor.clone() for name, tensor in learner.average.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for place, state in states.items():
        known = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        tensors |= {f"optimizer.{place}.{name}": value.clone() for name, value in known.items()}
    path = folder / f"checkpoint-{progress.epoch % 2}.safetensors"
    save_file(tensors, path)
    fresh = folder / "progress.json.new"
    fresh.write_text(json.dumps({"sha256": sha256_of(path), **vars(progress)}), encoding="utf-8")
    fresh.replace(folder / "progress.json")


def resume(folder: Path, learner: Learner) -> tuple[Progress, Weights]:
    """Where the last whole checkpoint stands, and the best weights; a damaged one, or none, starts afresh."""
    try:
        known = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        path = folder / f"checkpoint-{known['epoch'] % 2}.safetensors"
        if known.pop("sha256") != sha256_of(path):
            return Progress(), learned(learner.net)
        progress, tensors = Progress(**known), load_file(path)
        load_learned(learner.net, _part(tensors, "net"))
    except (OSError, ValueError, TypeError, KeyError, ArtifactError):  # of another version, say
        return Progress(), learned(learner.net)
    states: dict[int, Weights] = {}
    for name, tensor in _part(tensors, "optimizer").items():
        place, _, what = name.partition(".")
        states.setdefault(int(place), {})[what] = tensor
    learner.average.load_state_dict(_part(tensors, "average"))
    groups = learner.optimizer.state_dict()["param_groups"]
    learner.optimizer.load_state_dict({"state": states, "param_groups": groups})
    return progress, _part(tensors, "best")


def _part(tensors: Weights, prefix: str) -> Weights:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
