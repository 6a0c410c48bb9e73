"""One training loop for every net: seed, warm-up, clip, early stop, checkpoint, resume, progress."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tailwise.artifacts import sha256_of
from tailwise.nets.settings import LoopConfig

log = logging.getLogger(__name__)


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
class _Task:
    """What is to be learned."""

    batches: Callable[[int], Iterable[Sequence[Any]]]
    loss: Callable[[Any, torch.Generator], Tensor]
    seed: int
    pool: Executor


@dataclass(frozen=True)
class _Learner:
    """A net with what moves it and the average of where it was."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel

    @classmethod
    def of(cls, net: nn.Module, config: LoopConfig) -> Self:
        optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

        def move(averaged: Any, current: Any, steps: Tensor | int) -> None:
            # The first steps count for less than they would: they are far from where it will end.
            stays = min(config.average, (1 + int(steps)) / (10 + int(steps)))
            torch._foreach_lerp_(averaged, current, 1 - stays)

        return cls(net, optimizer, AveragedModel(net, multi_avg_fn=move))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The net holds the averaged weights for a while."""
        moving = _weights(self.net)
        self.net.load_state_dict(self.average.module.state_dict())
        self.net.eval()
        try:
            yield
        finally:
            self.net.load_state_dict(moving)


@contextmanager
def side_by_side(threads: int) -> Iterator[Executor]:
    """
    Threads that each work alone; afterwards torch shares out its products as it did before.

    Sharing out every single product instead makes all threads wait for the last one some thousand times a second; on
    a machine with other work that takes ten times as long as one thread alone (LOG.md has the figures).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, "train", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def train(  # noqa: PLR0913  one argument each of what a run needs
    net: nn.Module,
    *,
    config: LoopConfig,
    seed: int,
    batches: Callable[[int], Iterable[Sequence[Any]]],
    loss: Callable[[Any, torch.Generator], Tensor],
    judge: Callable[[], float] | None = None,
    pool: Executor,
    folder: Path | None = None,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,  # noqa: ARG005  silent by default
) -> Progress:
    """
    Train ``net`` in place; with a judge it ends with the weights of the best epoch that was judged.

    What is judged and kept is the moving average of the weights over the last steps: a constant rate keeps them
    moving, which regularises, and the average takes the noise of that out.

    Args:
        net: What learns.
        config: How.
        seed: Of dropout; each step draws from its own stream, so that a resumed run equals an uninterrupted one.
        batches: The epoch's number to its batches; a batch is a list of parts.
        loss: A part and where dropout draws from to a scalar; those of a batch's parts add up to the batch's.
        judge: The value on held-out people, higher is better; None trains for all epochs.
        pool: Works on the parts of a batch; ``side_by_side`` makes one.
        folder: Where the checkpoint of every epoch goes, and where an interrupted run is picked up; None: nowhere.
            It belongs to exactly this run: the caller keeps other data, settings and seeds out of it.
        report: Progress in epochs.

    Returns:
        Losses and values of every epoch, and which was best.

    Source: Polyak & Juditsky, SIAM J. Control Optim. 1992, doi:10.1137/0330046 (averaging).
    """
    learner, task = _Learner.of(net, config), _Task(batches, loss, seed, pool)
    progress, best = Progress(), _weights(net)
    if folder is not None and (folder / "progress.json").is_file():
        progress, best = _resume(folder, learner)
    while progress.epoch < config.epochs and (judge is None or _patient(config, progress)):
        report("sequence", progress.epoch, config.epochs)
        progress.losses.append(_epoch(learner, config, progress, task))
        progress.epoch += 1
        if judge is not None and progress.epoch >= config.judge_from:
            with learner.averaged(), torch.no_grad():
                progress.values.append(judge())
            if progress.values[-1] > progress.best_value:
                progress.best_epoch, progress.best_value = progress.epoch, progress.values[-1]
                best = _weights(learner.average.module)
        if folder is not None:
            try:
                _checkpoint(folder, learner, progress, best)
            except (OSError, SafetensorError) as error:  # a convenience: the work goes on without
                log.warning("no checkpoint: folder=%s reason=%s", folder, error)
    net.load_state_dict(best if progress.best_epoch else learner.average.module.state_dict())
    net.eval()
    report("sequence", config.epochs, config.epochs)
    return progress


def _patient(config: LoopConfig, progress: Progress) -> bool:
    return progress.epoch - max(progress.best_epoch, config.judge_from - 1) < config.patience


def _epoch(learner: _Learner, config: LoopConfig, progress: Progress, task: _Task) -> float:
    """One pass over the batches; the mean of their losses."""
    learner.net.train()
    total, count = 0.0, 0
    for parts in task.batches(progress.epoch):
        progress.step += 1
        rate = config.learning_rate * min(1.0, progress.step / max(1, config.warm_up_steps))
        for group in learner.optimizer.param_groups:
            group["lr"] = rate
        total, count = total + _gradients(learner.net, parts, progress.step, task), count + 1
        nn.utils.clip_grad_norm_(learner.net.parameters(), config.clip)
        learner.optimizer.step()
        learner.average.update_parameters(learner.net)
    return total / max(1, count)


def _gradients(net: nn.Module, parts: Sequence[Any], step: int, task: _Task) -> float:
    """
    Leave a batch's gradients in the net; the batch's loss.

    Parts are worked on side by side, each by one thread with its own stream of chance, and added up in their order:
    the result does not depend on the number of threads, and no thread ever waits for another within an operation.
    """
    parameters = list(net.parameters())

    def work(part: Any, place: int) -> tuple[float, tuple[Tensor | None, ...]]:
        state = np.random.SeedSequence((task.seed, step, place)).generate_state(1, np.uint64)[0]
        noise = torch.Generator().manual_seed(int(state >> 1))
        value = task.loss(part, noise)
        return float(value.detach()), torch.autograd.grad(value, parameters, allow_unused=True)

    done = list(task.pool.map(work, parts, range(len(parts))))
    for place, parameter in enumerate(parameters):
        found = [gradient for _, gradients in done if (gradient := gradients[place]) is not None]
        parameter.grad = sum(found[1:], found[0]) if found else None
    return sum(value for value, _ in done)


def _weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def _checkpoint(folder: Path, learner: _Learner, progress: Progress, best: dict[str, Tensor]) -> None:
    """Write weights, best weights, optimiser state and progress; the last rename makes it count."""
    folder.mkdir(parents=True, exist_ok=True)
    states = learner.optimizer.state_dict()["state"]
    tensors = {f"net.{name}": tensor for name, tensor in _weights(learner.net).items()}
    tensors |= {f"average.{name}": tensor for name, tensor in _weights(learner.average).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    tensors |= {f"adam.{place}.{name}": t.clone() for place, state in states.items() for name, t in state.items()}
    path = folder / f"checkpoint-{progress.epoch % 2}.safetensors"
    save_file(tensors, path)
    fresh = folder / "progress.json.new"
    fresh.write_text(json.dumps({"sha256": sha256_of(path), **vars(progress)}), encoding="utf-8")
    fresh.replace(folder / "progress.json")


def _resume(folder: Path, learner: _Learner) -> tuple[Progress, dict[str, Tensor]]:
    """Pick up where the last complete checkpoint stands; a damaged one starts afresh."""
    try:
        known = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        path = folder / f"checkpoint-{known['epoch'] % 2}.safetensors"
        if known.pop("sha256") != sha256_of(path):
            return Progress(), _weights(learner.net)
        progress, tensors = Progress(**known), load_file(path)
    except (OSError, ValueError, TypeError, KeyError):
        return Progress(), _weights(learner.net)
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "adam").items():
        place, _, what = name.partition(".")
        states.setdefault(int(place), {})[what] = tensor
    learner.net.load_state_dict(_part(tensors, "net"))
    learner.average.load_state_dict(_part(tensors, "average"))
    groups = learner.optimizer.state_dict()["param_groups"]
    learner.optimizer.load_state_dict({"state": states, "param_groups": groups})
    return progress, _part(tensors, "best")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }
