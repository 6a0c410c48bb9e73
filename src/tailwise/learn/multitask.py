"""Fit the heads: train on episodes, stop and calibrate on each person's newest ones, export."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.episodes import CHANCES, TASKS, Episodes, episodes_of, newest
from tailwise.data.interactions import Training
from tailwise.learn.calibrate import calibrated
from tailwise.learn.lessons import Lessons, Part, has_labels, usual_of
from tailwise.learn.loop import side_by_side, train
from tailwise.nets.multitask import FACTS, MARKS, MultiTaskNet, task_losses, weigh
from tailwise.pipeline import Engine
from tailwise.rank.multitask import Heads, MultiTask, MultiTaskConfig
from tailwise.types import Floats, Rows

log = logging.getLogger(__name__)

PARTS = 2
"""Of a batch, worked on side by side; fixed, so that the number of threads changes no result."""
Notes = dict[str, float | str]


def fit_multitask(config: MultiTaskConfig, training: Training, engine: Engine) -> tuple[MultiTask, Notes]:  # noqa: ARG001  what others found teaches it nothing
    """
    Learn to tell what will come of a person meeting an item.

    Heads without labels, or whose labels are all alike, are left out, with a warning; without any head the stage
    tells nothing and keeps the order.

    Args:
        config: Settings.
        training: What people did. The newest episodes of each person are held out from it.
        engine: Not asked.

    Returns:
        The stage, and notes for the model card: the heads, and of each its errors on the held-out episodes before
        and after calibration (cross-fitted: a curve is judged on people that it was not drawn from).

    Cost: O(epochs · min(R, epoch_rows) · (1 + negatives) · D · experts), with pasts of T items.
    Source: Ma et al., SIGIR 2018, arXiv 1804.07931 (ESMM); Ma et al., KDD 2018, doi:10.1145/3219819.3220007 (MMoE);
    Tang et al., RecSys 2020, doi:10.1145/3383313.3412236 (PLE).
    """
    episodes = episodes_of(training.interactions, window_days=config.window_days)
    share = min(config.held_out, config.held_out_most / max(len(episodes), 1))
    held = newest(episodes.people, share, np.random.default_rng(training.seed))
    tasks, notes = _heads(episodes, ~held)
    if not tasks:
        log.warning("multitask tells nothing: no head has labels: %s", notes["left out"])
        return MultiTask(config), {**notes, "decision": "not used: no head has labels"}
    lessons = Lessons.of(config, training.interactions, episodes, tasks=tasks, learning=~held)
    answering = np.isfinite(lessons.labels).any(1)  # the others teach nothing
    learn, judge = np.flatnonzero(answering & ~held), np.flatnonzero(answering & held)
    net, epochs, said = _trained(lessons, training, learn, judge)
    if not all(bool(own.isfinite().all()) for own in (*net.parameters(), torch.from_numpy(said))):
        log.warning("multitask tells nothing: it diverged; lower train.learning_rate, %g", config.train.learning_rate)
        return MultiTask(config), {**notes, "decision": "not used: it diverged; lower train.learning_rate"}
    labels = _labels(lessons, training.seed, judge)
    curves, errors = calibrated(config, lessons, said, labels, episodes.people[judge])
    usual = usual_of(episodes, np.ones(len(episodes), bool), training.interactions.n_items)  # the offsets, of all
    heads = Heads(
        tasks,
        _exported(net),
        _table(net, training),
        lessons.counts.facts(np.arange(training.interactions.n_items), np.inf),
        type(usual)(lessons.usual.rating, lessons.usual.dwell, usual.item_offset),
        curves,
        lessons.context.shape[1],
        config.negatives if lessons.draws else 0,
        episodes.shows,
    )
    about: Notes = {
        "heads": ", ".join(tasks),
        "episodes": len(learn),
        "held out": len(judge),
        "counter-examples": f"{config.negatives} drawn for each act" if lessons.draws else "what the log shows",
        "epochs": epochs,
    }
    return MultiTask(config, heads), {**about, **notes, **errors, "decision": "used"}


def _heads(episodes: Episodes, learning: NDArray[np.bool_]) -> tuple[tuple[str, ...], Notes]:
    """The heads that can be built, and why the others cannot."""
    missing = {}
    for place, task in enumerate(TASKS):
        why = has_labels(task, episodes.labels[learning, place], drawn=not episodes.shows)
        if why is not None:
            missing[task] = why
            if why != "no labels":
                log.warning("head left out: head=%s reason=%s", task, why)
    left_out = "; ".join(f"{task}: {why}" for task, why in missing.items())
    return tuple(task for task in TASKS if task not in missing), {"left out": left_out} if left_out else {}


def _trained(lessons: Lessons, training: Training, learn: Rows, judge: Rows) -> tuple[MultiTaskNet, int, Floats]:
    """The trained network, its epochs, and what it says of the held-out episodes, (R, C, K)."""
    config, interactions = lessons.config, training.interactions
    vectors = training.catalogue.vectors
    text = torch.from_numpy(vectors) if config.text and vectors.any() else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        net = MultiTaskNet(config.shape, lessons.tasks, interactions.n_items, text, context=lessons.context.shape[1])
    _start_from_base_rates(net, lessons, learn)

    def batches(epoch: int) -> Iterator[list[Part]]:
        rng = np.random.default_rng((training.seed, epoch))
        yield from lessons.batches(rng.permutation(learn)[: config.epoch_rows], rng, PARTS)

    fixed = _fixed(lessons, training.seed, judge)
    wanted = [lessons.read(part).labels for part in fixed]
    named = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:8]  # another stage of the name has its own
    with side_by_side(training.threads) as pool:
        base = _mean_losses(net, lessons, fixed, wanted, pool)
        progress = train(
            net,
            config=config.train,
            seed=training.seed,
            batches=batches,
            loss=_loss(net, lessons),
            judge=(lambda: _skill(base, _mean_losses(net, lessons, fixed, wanted, pool))) if len(judge) else None,
            pool=pool,
            folder=None if training.folder is None else training.folder / f"multitask-{named}",
            report=lambda _, done, total: training.report("multitask", done, total),
        )
        said = list(pool.map(lambda part: _said(net, lessons, part), fixed))
    shape = (0, 1, len(lessons.tasks))
    return net, progress.best_epoch or progress.epoch, np.concatenate(said) if said else np.empty(shape, np.float32)


def _fixed(lessons: Lessons, seed: int, judge: Rows) -> list[Part]:
    """The held-out episodes with counter-examples that stay the same."""
    rng = np.random.default_rng((seed, len(judge), 1))
    return [part for batch in lessons.batches(judge, rng, 1) for part in batch]


def _labels(lessons: Lessons, seed: int, judge: Rows) -> Floats:
    """(R, C, K) labels of the held-out episodes."""
    parts = [lessons.read(part).labels for part in _fixed(lessons, seed, judge)]
    return np.concatenate(parts) if parts else np.empty((0, 1, len(lessons.tasks)), np.float32)


def _tell(net: MultiTaskNet, lessons: Lessons, part: Part, noise: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """What the network says of a part, and what it should say, (B, C, K) each."""
    read = lessons.read(part)
    rows, places = np.unique(np.concatenate([read.past.ravel(), read.items.ravel()]), return_inverse=True)
    table = net.vectors(torch.from_numpy(rows))  # each item's vector is made once a part
    past, items = (torch.from_numpy(each) for each in np.split(places, [read.past.size]))
    said = net(
        F.embedding(past.view(read.past.shape), table),
        torch.from_numpy(read.marks),
        F.embedding(items.view(read.items.shape), table),
        torch.from_numpy(read.facts),
        torch.from_numpy(read.context),
        noise,
    )
    return said, torch.from_numpy(read.labels)


def _loss(net: MultiTaskNet, lessons: Lessons) -> Callable[[Part, torch.Generator], Tensor]:
    """What a part costs: the mean of each head over its labels, weighed."""
    given = lessons.config.loss_weights
    fixed = torch.tensor([given.get(task, 1.0) for task in lessons.tasks]) if given else None

    def loss(part: Part, noise: torch.Generator) -> Tensor:
        said, labels = _tell(net, lessons, part, noise)
        losses = task_losses(said, labels, lessons.tasks).sum((0, 1)) / torch.from_numpy(part.of).clamp(min=1)
        return weigh(losses, net.log_variance, part.share) if fixed is None else (losses * fixed).sum()

    return loss


def _said(net: MultiTaskNet, lessons: Lessons, part: Part) -> Floats:
    with torch.no_grad():  # each thread has its own say in this
        return _tell(net, lessons, part, None)[0].numpy()


def _mean_losses(
    net: MultiTaskNet, lessons: Lessons, parts: list[Part], wanted: list[Floats], pool: Executor
) -> NDArray[np.float64]:
    """(K,) mean loss of each head on held-out episodes; NaN without labels."""
    total, count = np.zeros(len(lessons.tasks)), np.zeros(len(lessons.tasks))
    for said, labels in zip(pool.map(lambda part: _said(net, lessons, part), parts), wanted, strict=True):
        losses = task_losses(torch.from_numpy(said), torch.from_numpy(labels), lessons.tasks)
        total += losses.double().sum((0, 1)).numpy()
        count += np.isfinite(labels).sum((0, 1))
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _skill(base: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """The mean share of its base loss that a head saves; heads without held-out labels have no say."""
    known = np.isfinite(base) & (base > 0)
    return float((1 - losses[known] / base[known]).mean()) if known.any() else 0.0


def _start_from_base_rates(net: MultiTaskNet, lessons: Lessons, learn: Rows) -> None:
    """Let every head begin with what happens on average."""
    some = lessons.parts(learn[:: max(1, len(learn) // 20_000)], np.random.default_rng(0), 1)[0]
    labels = lessons.read(some).labels.reshape(-1, len(lessons.tasks))
    rates = np.clip(np.nan_to_num(np.nanmean(labels, axis=0)), 1e-4, 1 - 1e-4)
    if {"click", "purchase"} <= set(lessons.tasks):
        click, bought = lessons.tasks.index("click"), lessons.tasks.index("purchase")
        rates[bought] = min(rates[bought] / rates[click], 1 - 1e-4)
    chance = np.array([task in CHANCES for task in lessons.tasks])
    with torch.no_grad():
        net.bias.copy_(torch.from_numpy(np.where(chance, np.log(rates / (1 - rates)), 0.0)))


def _table(net: MultiTaskNet, training: Training) -> Floats:
    """The item table that serves: an item that training never saw keeps its text alone."""
    with torch.no_grad():
        table = net.vectors(torch.arange(training.interactions.n_items))
        unseen = torch.from_numpy(np.bincount(training.interactions.rows, minlength=len(table)) == 0)
        table[unseen] -= net.ids.weight[unseen]
    return table.numpy()


def _exported(net: MultiTaskNet) -> bytes:
    """The network as ONNX, for one person, any length of past and any number of items."""
    buffer, dim = io.BytesIO(), net.ids.embedding_dim
    example = (
        torch.zeros(1, 3, dim),
        torch.zeros(1, 3, MARKS),
        torch.zeros(1, 5, dim),
        torch.zeros(1, 5, FACTS),
        torch.zeros(1, net.context),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning,))  # the older exporter is six times as fast here
        torch.onnx.export(
            net.eval(),
            example,
            buffer,  # type: ignore[arg-type]  # a buffer is taken too
            input_names=["past", "marks", "items", "facts", "context"],
            output_names=["told"],
            dynamic_axes={"past": {1: "time"}, "marks": {1: "time"}, "items": {1: "n"}, "facts": {1: "n"}},
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()
