"""Fit LambdaMART on slates of held-out cases, and use it only when it is better than what comes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailwise.data.interactions import Training
from tailwise.learn.crossfit import Learned, Lists, cross_fitted, gains_of, temperature_of
from tailwise.learn.loop import side_by_side
from tailwise.learn.slates import gather
from tailwise.pipeline import Engine
from tailwise.pipeline.signals import signal_names
from tailwise.rank.boosted import Boosted, BoostedConfig, columns_of, library
from tailwise.types import Column

Member = tuple[str, float]
"""LightGBM's text, and what a unit of the incoming score counts beside its trees."""


def fit_boosted(config: BoostedConfig, training: Training, engine: Engine) -> tuple[Boosted, dict[str, float | str]]:
    """
    Learn to re-rank the best of the order that comes in.

    Each member of the committee adds trees to the incoming score, as a gradient of NDCG asks for them, from the
    people of the other folds, and stops when its own fold's NDCG@10 no longer grows (``crossfit``).

    Args:
        config: Settings.
        training: With held-out cases.
        engine: With the sources, and the stages before this one.

    Returns:
        The stage, and notes for the model card: NDCG@10 before and after, and what was decided.

    Raises:
        UnavailableError: LightGBM is not installed.

    Cost: O(committee · trees · J · N · F) time, O(J · N · F) memory. Each member runs on one thread, and members side
    by side: LightGBM's own threads each sum a part, so that the sums, and with them the trees, would change with their
    number.
    Source: Burges, MSR-TR-2010-82 (LambdaMART); Ke et al., NeurIPS 2017 (LightGBM).
    """
    library()
    names = signal_names(engine.sources, training.catalogue, engine.contexts)
    examples = gather(training, engine, config.cases, config.depth)
    grown, most = [0] * config.committee, config.committee * config.trees

    def report(part: int, trees: int) -> None:
        grown[part] = trees
        training.report("boosted", sum(grown), most)

    with side_by_side(training.threads) as pool:
        members, notes = cross_fitted(
            examples,
            depth=config.depth,
            committee=config.committee,
            seed=training.seed,
            learn=lambda lists, own, part: _member(config, training.seed, lists, own, part, report),
            each=pool.map,
        )
    training.report("boosted", most, most)  # members stop early
    return Boosted(config, names, tuple(text for text, _ in members), tuple(worth for _, worth in members)), notes


def _member(
    config: BoostedConfig,
    seed: int,
    lists: Lists,
    own: NDArray[np.bool_],
    part: int,
    report: Callable[[int, int], None],
) -> Learned[Member]:
    """One member of the committee, taught by its own examples and stopped by the others; what those earn by tree."""
    lightgbm = library()
    settings = _settings(config, seed * 100 + part)
    telling = (lists.labels.sum(1) > 0).numpy()
    worth = temperature_of(lists, np.flatnonzero(own & telling))
    learning = lightgbm.Dataset(**_flat(lists, own & telling, worth), params=settings)
    judging = lightgbm.Dataset(**_flat(lists, ~own & telling, worth), params=settings, reference=learning)
    epochs: list[NDArray[np.float64]] = []

    def judge(flat: Column, _: Any) -> tuple[str, float, bool]:
        report(part, len(epochs) + 1)
        scores = np.zeros(lists.mask.shape, np.float64)
        scores[lists.mask.numpy() & (~own & telling)[:, None]] = flat
        epochs.append(gains_of(torch.from_numpy(scores[~own]), lists, ~own))
        return "ndcg@10", float(epochs[-1].mean()), True

    found = lightgbm.train(
        settings,
        learning,
        config.trees,
        valid_sets=[judging],
        feval=judge,
        callbacks=[lightgbm.early_stopping(config.patience, verbose=False)],
    )
    return (found.model_to_string(num_iteration=found.best_iteration), worth), np.stack(epochs)


def _settings(config: BoostedConfig, seed: int) -> dict[str, Any]:
    """What LightGBM calls our settings."""
    return {
        "objective": "lambdarank",
        "lambdarank_truncation_level": config.top,
        "lambdarank_norm": False,  # a list whose order is right already need not teach as much as one that is wrong
        "metric": "none",
        "num_leaves": config.leaves,
        "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.least_in_leaf,
        "lambda_l2": config.ridge,
        "feature_fraction": config.share_of_signals,
        "bagging_fraction": config.share_of_candidates,
        "bagging_freq": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }


def _flat(lists: Lists, chosen: NDArray[np.bool_], worth: float) -> dict[str, Any]:
    """Some lists as LightGBM takes them: candidates one below the other, and how many each list has."""
    places = np.flatnonzero(chosen)
    mask = lists.mask[places].numpy()
    base = lists.base[places].numpy()[mask]
    return {
        "data": columns_of(lists.signals[places].numpy()[mask], base),
        "label": lists.labels[places].numpy()[mask],
        "group": mask.sum(1),
        "init_score": worth * base,
    }
