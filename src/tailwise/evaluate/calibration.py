"""How true the heads of a model are on the test part: errors of quantities, order and calibration of chances."""

from __future__ import annotations

import numpy as np

from tailwise.data.episodes import CHANCES, TASKS, against, counter_examples, episodes_of
from tailwise.data.interactions import Interactions
from tailwise.data.split import Split
from tailwise.evaluate import accuracy
from tailwise.evaluate.results import MethodResult
from tailwise.pipeline import Engine
from tailwise.rank.calibration import expected_calibration_error, log_loss
from tailwise.rank.multitask import MultiTask
from tailwise.types import NO_HISTORY, Floats, Request


def head_results(engine: Engine, split: Split, *, seed: int) -> list[MethodResult]:
    """
    Measure every head of a model on what came of the meetings in the test part.

    A person's past is their training part. Where the model was fitted against counter-examples, as many are drawn
    here. Meetings with items that the catalogue does not know are left out.

    Args:
        engine: Fitted on the training part alone.
        split: What was held out.
        seed: Of the counter-examples.

    Returns:
        One a head: ``mae`` and ``rmse`` of a rating (in its scale) or a dwell time (in seconds); ``auc``, ``log_loss``
        and ``ece`` of a chance. None without heads, or without labels in the test part.
    """
    heads = next((bound.run for bound in engine.stages if isinstance(bound.run, MultiTask)), None)
    if heads is None or not heads.heads:
        return []
    told, labels = _told(engine, heads, split, np.random.default_rng(seed))
    results = []
    for task in heads.heads:
        place = TASKS.index(task)
        known = np.isfinite(labels[:, place]) & np.isfinite(told[:, place])
        if known.any():
            found = _measures(task, told[known, place], labels[known, place])
            results.append(MethodResult(f"multitask: {task}", {}, found, None, "source"))
    return results


def _measures(task: str, told: Floats, labels: Floats) -> dict[str, float]:
    if task not in CHANCES:
        return {"mae": accuracy.mae(told, labels), "rmse": accuracy.rmse(told, labels)}
    return {
        "auc": accuracy.auc_of_scores(told, labels),
        "log_loss": log_loss(told, labels),
        "ece": expected_calibration_error(told, labels),
    }


def _told(engine: Engine, heads: MultiTask, split: Split, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """What the heads tell of the test meetings and of counter-examples, and what came of them, (R, every task)."""
    past = Interactions.of(split.train.events, engine.catalogue)
    test = Interactions.of(split.test, engine.catalogue)
    episodes = episodes_of(test, window_days=heads.config.window_days)
    drawn = counter_examples(past.counts(), (len(episodes), heads.learned.drawn), rng)
    labels = np.concatenate([episodes.labels[:, None], against(episodes.labels, drawn, episodes.rows)], 1)
    items = np.concatenate([episodes.rows[:, None], drawn], 1)  # (R, C)
    told = np.full(labels.shape, np.nan, np.float32)
    cuts = np.searchsorted(episodes.people, np.arange(len(test.user_ids) + 1))
    for person, user_id in enumerate(test.user_ids):
        own = slice(cuts[person], cuts[person + 1])
        request = Request("heads", history=past.history(user_id, engine.catalogue) or NO_HISTORY)
        for task, values in heads.predict(request, items[own].ravel()).items():
            told[own, :, TASKS.index(task)] = values.reshape(items[own].shape)
    return told.reshape(-1, len(TASKS)), labels.reshape(-1, len(TASKS))
