"""Fit the fusion on held-out people, and use it unless the best single source is better than it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Training
from tailwise.learn.asked import asked_examples
from tailwise.learn.logit import conditional_logit
from tailwise.learn.slates import FOLDS, Example, earned, folds_of, gather
from tailwise.pipeline import Engine
from tailwise.rank.fusion import ASKED, Fusion, FusionConfig, standardised
from tailwise.types import Floats

LEAST_PEOPLE = 2 * FOLDS
"""With fewer, which source is best would be chance."""
TIE = 0.01
"""The share of NDCG@10 that is no difference: a tie is the fusion's, since what many find leaves more to the stages
behind it."""


def fit_fusion(config: FusionConfig, training: Training, engine: Engine) -> tuple[Fusion, dict[str, float | str]]:
    """
    Learn how far to trust each source.

    Every held-out person's slate is made by the engine as it will be in service; the weights maximise the likelihood
    of the item that came next (a conditional logit with weights that are not negative). Five-fold cross-validation
    over people says what the fusion earns on people that it did not learn from; when the best source alone earns more,
    by more than a ``TIE``, that source alone is used.

    Args:
        config: Settings.
        training: With ``targets``.
        engine: With the sources, and no stage yet.

    Where enough cases came of a query, what each source weighs with a query is learned from these in the same way.

    Returns:
        The fusion, and notes for the model card: NDCG@10 of each source and of the fusion, and what was decided.

    Cost: one retrieval per person, then a convex problem in S weights.
    """
    fusion, notes = _without_query(config, training, engine)
    if config.query is not None:
        return fusion, notes
    examples = asked_examples(training, engine)
    if not any(example.relevant.any() for example in examples):
        return fusion, notes
    names = [bound.step.name for bound in engine.sources]
    slates = [standardised([e.slate.columns[f"score_{name}"] for name in names]) for e in examples]
    notes["ndcg@10 with a query, by set weights"] = round(
        _earned(slates, examples, np.array([fusion.asked.get(name, 0.0) for name in names])), 4
    )
    notes["ndcg@10 with a query (cross-validated)"] = round(
        _cross_validated(slates, examples, config.regularisation, training.seed), 4
    )
    found = _fit_weights(slates, examples, config.regularisation)
    learned = {name: round(float(w), 6) for name, w in zip(names, found, strict=True) if w > 1e-6}
    return Fusion(config, fusion.weights, learned), notes


def _without_query(config: FusionConfig, training: Training, engine: Engine) -> tuple[Fusion, dict[str, float | str]]:
    """The weights for requests that have none."""
    names = [bound.step.name for bound in engine.sources]
    examples = gather(training, engine, config.people)
    people = {example.person for example in examples if example.relevant.any()}
    if len(people) < LEAST_PEOPLE:
        equal = dict.fromkeys(names, 1.0 / len(names))
        why = f"{len(people)} people could teach it, fewer than {LEAST_PEOPLE}: every source counts alike"
        return Fusion(config, equal), {"decision": why}
    slates = [standardised([e.slate.columns[f"score_{name}"] for name in names]) for e in examples]
    alone = {name: _earned(slates, examples, np.eye(len(names))[place]) for place, name in enumerate(names)}
    best = max(alone, key=lambda name: alone[name])
    fused = _cross_validated(slates, examples, config.regularisation, training.seed)
    notes: dict[str, float | str] = {f"ndcg@10 {name}": round(value, 4) for name, value in alone.items()}
    notes["ndcg@10 fusion (cross-validated)"] = round(fused, 4)
    notes["target among candidates"] = round(float(np.mean([e.relevant.sum() / e.targets for e in examples])), 4)
    found = _fit_weights(slates, examples, config.regularisation)
    weights = {name: round(float(w), 6) for name, w in zip(names, found, strict=True) if w > 1e-6}
    for_queries = {name: 0.0 for name in ASKED if name in names}
    if fused < (1 - TIE) * alone[best] or not weights:
        notes["decision"] = f"not used: {best} alone is better"
        return Fusion(config, {**for_queries, best: 1.0}), notes
    notes["decision"] = "used"
    return Fusion(config, {**for_queries, **weights}), notes


def _fit_weights(slates: list[Floats], examples: list[Example], regularisation: float) -> NDArray[np.float64]:
    """(S,) weights, not negative, of the conditional logit; of several targets each counts its share."""
    both = zip(slates, examples, strict=True)
    taught = [(slate, example.relevant) for slate, example in both if example.relevant.any()]
    if not taught:
        return np.zeros(slates[0].shape[1])
    stacked = np.concatenate([slate for slate, _ in taught]).astype(np.float64)  # (ΣN, S)
    share = np.concatenate([relevant / relevant.sum() for _, relevant in taught])  # (ΣN,)
    sizes = np.array([len(slate) for slate, _ in taught])
    return conditional_logit(stacked, sizes, share, regularisation, signed=False)


def _earned(slates: list[Floats], examples: list[Example], weights: NDArray[np.float64]) -> float:
    """Mean NDCG@10 over all cases; one whose slate misses the target earns 0."""
    pairs = zip(slates, examples, strict=True)
    return float(np.mean([earned(slate @ weights, example.relevant, example.targets) for slate, example in pairs]))


def _cross_validated(slates: list[Floats], examples: list[Example], regularisation: float, seed: int) -> float:
    """What the fusion earns on people that it did not learn from."""
    fold = folds_of(examples, seed)
    total = 0.0
    for part in range(FOLDS):
        learn, judge = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        weights = _fit_weights([slates[i] for i in learn], [examples[i] for i in learn], regularisation)
        total += len(judge) * _earned([slates[i] for i in judge], [examples[i] for i in judge], weights)
    return total / len(examples)
