"""
RecTools SASRec: width 64, 2 blocks, softmax over all items, dropout 0.3, the newest 100 events.

Order is given as whole seconds, so that RecTools' own sort by time keeps the stable order.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import Fit, Job, Part, ndcg, run
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

WIDE = 1e9


def fit(part: Part, settings: dict[str, Any], seed: int) -> Callable[[np.ndarray], np.ndarray]:
    return scorer(part, *trained(part, settings["epochs"], seed))


def choose(
    job: Job,
    grid: list[dict[str, Any]],
    fit: Fit,  # noqa: ARG001  goes on training instead of starting afresh
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One training, looked at after each number of epochs in the grid; it ends when two looks in a row are worse."""
    people, targets = job.held()
    part = job.part(inner=True)
    tried: list[dict[str, Any]] = []
    model, dataset = trained(part, grid[0]["epochs"], 0)
    for settings in grid:
        more = settings["epochs"] - (tried[-1]["epochs"] if tried else settings["epochs"])
        if more:
            model.fit_partial(dataset, min_epochs=more, max_epochs=more)
        found = ndcg(part.lists(people, scorer(part, model, dataset), 10), targets)
        tried.append({**settings, "ndcg@10": round(found, 4)})
        print(f"  {settings}: validation NDCG@10 {found:.4f}", flush=True)
        best = max(tried, key=lambda one: one["ndcg@10"])
        if len(tried) - tried.index(best) > 2:
            break
    return {"epochs": best["epochs"]}, tried


def trained(part: Part, epochs: int, seed: int) -> tuple[SASRecModel, Dataset]:
    torch.set_num_threads(1)
    seed_everything(seed, workers=True)
    frame = pd.DataFrame(
        {
            Columns.User: part.user,
            Columns.Item: part.item,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(np.arange(len(part.user)), unit="s"),
        }
    )
    dataset = Dataset.construct(frame)

    def trainer() -> Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        return Trainer(
            max_epochs=epochs,
            min_epochs=epochs,
            deterministic=True,
            enable_checkpointing=False,
            accelerator="cpu",
            devices=1,
            **quiet,
        )

    model = SASRecModel(
        n_factors=64,
        n_blocks=2,
        n_heads=1,
        session_max_len=100,
        dropout_rate=0.3,
        loss="softmax",
        lr=0.001,
        batch_size=128,
        dataloader_num_workers=0,
        train_min_user_interactions=2,
        get_trainer_func=trainer,
    )
    model.fit(dataset)
    return model, dataset


def scorer(part: Part, model: SASRecModel, dataset: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    """RecTools gives lists, not scores: places count down from the first."""
    most = max((len(own) for own in part.seen()), default=0) if part.job.exclude_seen else 0
    k = min(part.job.depth + most, part.job.n_items)  # what a person has had is filtered out afterwards

    def score(people: np.ndarray) -> np.ndarray:
        known = np.isin(people, part.user)
        found = model.recommend(people[known], dataset, k=k, filter_viewed=False)
        rows = found[Columns.User].map({person: place for place, person in enumerate(people)})
        scores = np.repeat(part.counts()[None] - WIDE, len(people), 0)  # who has no list gets the popular
        scores[np.unique(rows)] = -np.inf
        scores[rows, found[Columns.Item]] = -found[Columns.Rank].to_numpy(float)
        return scores

    return score


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    run(fit, packages=("rectools", "torch"), choose=choose)
