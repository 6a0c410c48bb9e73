"""One training loop for every net: seed, warm-up, clip, early stop, checkpoint, resume, progress."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

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


def train(
    net: nn.Module,
    *,
    config: LoopConfig,
    seed: int,
    batches: Callable[[int], Iterable[Any]],
    loss: Callable[[Any], Tensor],
    judge: Callable[[], float] | None = None,
    folder: Path | None = None,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,  # noqa: ARG005  silent by default
) -> Progress:
    """
    Train ``net`` in place; with a judge it ends with the weights of the best epoch that was judged.

    Args:
        net: What learns.
        config: How.
        seed: Of dropout; each epoch draws from its own stream, so that a resumed run equals an uninterrupted one.
        batches: The epoch's number to its batches.
        loss: A batch to a scalar.
        judge: The value on held-out people, higher is better; None trains for all epochs.
        folder: Where the checkpoint of every epoch goes, and where an interrupted run is picked up; None: nowhere.
            It belongs to exactly this run: the caller keeps other data, settings and seeds out of it.
        report: Progress in epochs.

    Returns:
        Losses and values of every epoch, and which was best.
    """
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    progress, best = Progress(), _weights(net)
    if folder is not None and (folder / "progress.json").is_file():
        progress, best = _resume(folder, net, optimizer)
    while progress.epoch < config.epochs and (judge is None or _patient(config, progress)):
        report("sequence", progress.epoch, config.epochs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * 100_003 + progress.epoch)
            progress.losses.append(_epoch(net, optimizer, config, progress, batches(progress.epoch), loss))
        progress.epoch += 1
        if judge is not None and progress.epoch >= config.judge_from:
            net.eval()
            with torch.no_grad():
                progress.values.append(judge())
            if progress.values[-1] > progress.best_value:
                progress.best_epoch, progress.best_value, best = progress.epoch, progress.values[-1], _weights(net)
        if folder is not None:
            try:
                _checkpoint(folder, net, optimizer, progress, best)
            except (OSError, SafetensorError) as error:  # a convenience: the work goes on without
                log.warning("no checkpoint: folder=%s reason=%s", folder, error)
    if progress.best_epoch:
        net.load_state_dict(best)
    net.eval()
    report("sequence", config.epochs, config.epochs)
    return progress


def _patient(config: LoopConfig, progress: Progress) -> bool:
    return progress.epoch - max(progress.best_epoch, config.judge_from - 1) < config.patience


def _epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: LoopConfig,
    progress: Progress,
    batches: Iterable[Any],
    loss: Callable[[Any], Tensor],
) -> float:
    """One pass over the batches; the mean of their losses."""
    net.train()
    total, count = 0.0, 0
    for batch in batches:
        progress.step += 1
        rate = config.learning_rate * min(1.0, progress.step / max(1, config.warm_up_steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        value = loss(batch)
        value.backward()  # type: ignore[no-untyped-call]  # torch does not type it
        nn.utils.clip_grad_norm_(net.parameters(), config.clip)
        optimizer.step()
        total, count = total + float(value.detach()), count + 1
    return total / max(1, count)


def _weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def _checkpoint(
    folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, best: dict[str, Tensor]
) -> None:
    """Write weights, best weights, optimiser state and progress; the last rename makes it count."""
    folder.mkdir(parents=True, exist_ok=True)
    states = optimizer.state_dict()["state"]
    tensors = {f"net.{name}": tensor for name, tensor in _weights(net).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    tensors |= {f"adam.{place}.{name}": t.clone() for place, state in states.items() for name, t in state.items()}
    path = folder / f"checkpoint-{progress.epoch % 2}.safetensors"
    save_file(tensors, path)
    fresh = folder / "progress.json.new"
    fresh.write_text(json.dumps({"sha256": sha256_of(path), **vars(progress)}), encoding="utf-8")
    fresh.replace(folder / "progress.json")


def _resume(folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Progress, dict[str, Tensor]]:
    """Pick up where the last complete checkpoint stands; a damaged one starts afresh."""
    try:
        known = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        path = folder / f"checkpoint-{known['epoch'] % 2}.safetensors"
        if known.pop("sha256") != sha256_of(path):
            return Progress(), _weights(net)
        progress, tensors = Progress(**known), load_file(path)
    except (OSError, ValueError, TypeError, KeyError):
        return Progress(), _weights(net)
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "adam").items():
        place, _, what = name.partition(".")
        states.setdefault(int(place), {})[what] = tensor
    net.load_state_dict(_part(tensors, "net"))
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress, _part(tensors, "best")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }
