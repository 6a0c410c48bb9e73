"""What is searched, where its trials are kept, and what they say so far."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwise.config import PipelineConfig, Settings
from tailwise.data.load import Dataset
from tailwise.errors import UnavailableError
from tailwise.learn.space import Dial

if TYPE_CHECKING:
    import optuna

LEAST_TRIALS = 4
"""With fewer that came to their end nothing can be said of what mattered."""
DISK_SECONDS = 60
"""How long one process waits for another that writes."""


@dataclass(frozen=True)
class Search:
    """What is searched, on what, and where its trials are kept."""

    data: Dataset
    config: PipelineConfig
    space: Mapping[str, Dial]
    storage: Path
    """SQLite; other searches may be kept in it."""
    out: Path
    """TOML of the best pipeline so far, after every trial that is better."""
    seed: int
    settings: Settings

    def study(self, worker: int = 0) -> optuna.Study:
        """
        The trials, as Optuna keeps them; another search on the same file has others.

        Raises:
            UnavailableError: Optuna is not installed, or the file cannot be opened.
        """
        try:
            import optuna
        except ImportError as error:
            raise UnavailableError("tune needs Optuna: pip install 'tailwise[train]'") from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            self.storage.parent.mkdir(parents=True, exist_ok=True)
            kept = optuna.storages.RDBStorage(
                f"sqlite:///{self.storage}", engine_kwargs={"connect_args": {"timeout": DISK_SECONDS}}
            )
            study = optuna.create_study(storage=kept, study_name=self.name, direction="maximize", load_if_exists=True)
        except Exception as error:  # SQLAlchemy's errors and SQLite's share no public class
            raise UnavailableError(f"{self.storage} cannot hold the trials: {error}") from error
        # A resumed search must not propose again what the first one did.
        study.sampler = optuna.samplers.TPESampler(
            seed=self.seed + 7919 * worker + len(study.get_trials(deepcopy=False))
        )
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3)
        return study

    @cached_property
    def name(self) -> str:
        """Of the study: changes with everything that a value depends on."""
        facts = [self.data.digest(), self.config.model_dump(mode="json"), repr(sorted(self.space.items())), self.seed]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Tried:
    """One trial."""

    number: int
    state: str
    """``complete``, ``pruned`` (behind the others at the same epoch) or ``failed``."""
    value: float | None
    """Validation NDCG@10; None unless complete."""
    seconds: float
    settings: Mapping[str, Any]
    why: str
    """What failed."""


@dataclass(frozen=True)
class Found:
    """What a search has found so far."""

    trials: tuple[Tried, ...]
    """That came to an end, in order."""
    best: Tried | None
    mattered: Mapping[str, float]
    """Setting to its share in how values differ, largest first; they add up to 1. Empty with few trials."""


def found(search: Search) -> Found:
    """What the trials say so far."""
    study = search.study()
    trials = tuple(
        Tried(
            trial.number,
            {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
            trial.value if trial.state.name == "COMPLETE" else None,
            trial.user_attrs.get("seconds", trial.duration.total_seconds() if trial.duration else 0.0),
            trial.params,
            str(trial.user_attrs.get("why", "")),
        )
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished()
    )
    complete = [trial for trial in trials if trial.value is not None]
    best = max(complete, key=lambda trial: trial.value or 0.0, default=None)
    return Found(trials, best, _mattered(study, complete))


def _mattered(study: optuna.Study, complete: list[Tried]) -> dict[str, float]:
    """Shares of settings in how values differ (PED-ANOVA: Watanabe et al., IJCAI 2023, arXiv 2304.10255)."""
    import optuna

    if len(complete) < LEAST_TRIALS or len({trial.value for trial in complete}) < 2:
        return {}
    judge = optuna.importance.PedAnovaImportanceEvaluator()
    shares = optuna.importance.get_param_importances(study, evaluator=judge)
    return {name: round(float(share), 4) for name, share in shares.items()}
