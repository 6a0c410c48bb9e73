"""One training loop for every net: seed, schedule, clip, average, early stop, checkpoint, resume, progress."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tailwise.learn.checkpoint import Learner, Progress, Weights, resume, save_checkpoint
from tailwise.learn.optimise import learning_rate, lowered
from tailwise.learn.track import Watched
from tailwise.nets.adapting import learned, load_learned
from tailwise.nets.settings import LoopConfig

__all__ = ["Progress", "side_by_side", "train"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Task:
    """What is to be learned."""

    batches: Callable[[int], Iterable[Sequence[Any]]]
    loss: Callable[[Any, torch.Generator], Tensor]
    seed: int
    pool: Executor
    steps: int


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
    name: str = "sequence",
    until: float = math.inf,
    steps: int = 0,
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
        report: Progress in epochs; one that is ``track.Watched`` is told every epoch's figures too.
        name: What is trained, as the progress calls it.
        until: On ``time.monotonic``'s clock: no epoch begins after it.
        steps: Of an epoch, over which a falling rate falls; 0: it falls between epochs alone.

    Returns:
        Losses and values of every epoch, and which was best.
    """
    learner, task = Learner.of(net, config), _Task(batches, loss, seed, pool, steps)
    progress, best = Progress(), learned(net)
    if folder is not None and (folder / "progress.json").is_file():
        progress, best = resume(folder, learner)
    while progress.epoch < config.epochs and (judge is None or _patient(config, progress)) and time.monotonic() < until:
        report(name, progress.epoch, config.epochs)
        started = time.perf_counter()
        with lowered(net, config.precision):
            progress.losses.append(_epoch(learner, config, progress, task))
        progress.epoch += 1
        judged = judge is not None and progress.epoch >= config.judge_from
        if judge is not None and judged:
            best = _judged(learner, judge, progress, best)
        if folder is not None:
            try:
                save_checkpoint(folder, learner, progress, best)
            except (OSError, SafetensorError) as error:  # a convenience: the work goes on without
                log.warning("no checkpoint: folder=%s reason=%s", folder, error)
        if isinstance(report, Watched):
            figures = {"validation": progress.values[-1]} if judged else {}
            figures |= {"loss": progress.losses[-1], "seconds": time.perf_counter() - started}
            figures["learning_rate"] = learning_rate(config, progress.step, progress.epoch - 1)
            report.epoch(name, progress.epoch, figures)
    load_learned(net, best if progress.best_epoch else learner.averages())
    net.eval()
    report(name, config.epochs, config.epochs)
    return progress


def _patient(config: LoopConfig, progress: Progress) -> bool:
    return progress.epoch - max(progress.best_epoch, config.judge_from - 1) < config.patience


def _judged(learner: Learner, judge: Callable[[], float], progress: Progress, best: Weights) -> Weights:
    """Note what the averaged weights are worth; the best ones so far."""
    with learner.averaged(), torch.no_grad():
        progress.values.append(judge())
    if progress.values[-1] > progress.best_value:
        progress.best_epoch, progress.best_value = progress.epoch, progress.values[-1]
        return learner.averages()
    return best


def _epoch(learner: Learner, config: LoopConfig, progress: Progress, task: _Task) -> float:
    """One pass over the batches; the mean of their losses."""
    learner.net.train()
    total, count, before = 0.0, 0, progress.step
    batches = iter(task.batches(progress.epoch))
    while group := list(islice(batches, config.accumulate)):
        done = min(1.0, (progress.step - before) / task.steps) if task.steps else 0.0
        progress.step += 1
        for own in learner.optimizer.param_groups:
            own["lr"] = own.get("times", 1.0) * learning_rate(config, progress.step, progress.epoch + done)
        total, count = total + _gradients(learner.net, group, progress.step, task), count + len(group)
        nn.utils.clip_grad_norm_(learner.net.parameters(), config.clip)
        learner.step()
    return total / max(1, count)


def _gradients(net: nn.Module, group: Sequence[Sequence[Any]], step: int, task: _Task) -> float:
    """
    Leave the mean gradient of some batches in the net; the sum of their losses.

    Parts are worked on side by side, each by one thread with its own stream of chance, and added up in their order:
    the result does not depend on the number of threads, and no thread ever waits for another within an operation.
    """
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]

    def work(part: Any, place: int) -> tuple[float, tuple[Tensor | None, ...]]:
        state = np.random.SeedSequence((task.seed, step, place)).generate_state(1, np.uint64)[0]
        noise = torch.Generator().manual_seed(int(state >> 1))
        value = task.loss(part, noise)
        return float(value.detach()), torch.autograd.grad(value, parameters, allow_unused=True)

    sums: list[Tensor | None] = [None] * len(parameters)
    total, begun = 0.0, 0
    for parts in group:
        done = list(task.pool.map(work, parts, range(begun, begun + len(parts))))
        begun += len(parts)
        total += sum(value for value, _ in done)
        for _, gradients in done:
            for place, gradient in enumerate(gradients):
                if gradient is not None:
                    before = sums[place]
                    sums[place] = gradient if before is None else before + gradient
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient if gradient is None or len(group) == 1 else gradient / len(group)
    return total
