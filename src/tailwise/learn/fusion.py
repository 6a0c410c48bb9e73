"""Fit the fusion on held-out people, and use it only when it is no worse than the best single source."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Training
from tailwise.pipeline import Engine
from tailwise.rank.fusion import TEXT, Fusion, FusionConfig, standardised
from tailwise.types import Floats, Request

FOLDS = 5
LEAST_PEOPLE = 2 * FOLDS
"""With fewer, which source is best would be chance."""


def fit_fusion(config: FusionConfig, training: Training, engine: Engine) -> tuple[Fusion, dict[str, float | str]]:
    """
    Learn how far to trust each source.

    Every held-out person's slate is made by the engine as it will be in service; the weights maximise the likelihood
    of the item that came next (a conditional logit with weights that are not negative). Five-fold cross-validation
    over people says what the fusion earns on people that it did not learn from; when that is less than the best
    source earns alone, that source alone is used.

    Args:
        config: Settings.
        training: With ``targets``.
        engine: With the sources, and no stage yet.

    Returns:
        The fusion, and notes for the model card: NDCG@10 of each source and of the fusion, and what was decided.

    Cost: one retrieval per person, then a convex problem in S weights.
    """
    names = [bound.step.name for bound in engine.sources]
    slates, hits, reached = _examples(config, training, engine, names)
    if len(slates) < LEAST_PEOPLE:
        equal = dict.fromkeys(names, 1.0 / len(names))
        why = f"{len(slates)} people could teach it, fewer than {LEAST_PEOPLE}: every source counts alike"
        return Fusion(config, equal), {"decision": why}
    alone = {name: _earned(slates, hits, np.eye(len(names))[place], reached) for place, name in enumerate(names)}
    best = max(alone, key=lambda name: alone[name])
    fused = _cross_validated(slates, hits, config.regularisation, reached)
    notes: dict[str, float | str] = {f"ndcg@10 {name}": round(value, 4) for name, value in alone.items()}
    notes["ndcg@10 fusion (cross-validated)"] = round(fused, 4)
    notes["target among candidates"] = round(len(slates) / reached, 4)
    found = _fit_weights(slates, hits, config.regularisation)
    weights = {name: round(float(w), 6) for name, w in zip(names, found, strict=True) if w > 1e-6}
    for_queries = {TEXT: 0.0} if TEXT in names else {}
    if fused < alone[best] or not weights:
        notes["decision"] = f"not used: {best} alone is better"
        return Fusion(config, {**for_queries, best: 1.0}), notes
    notes["decision"] = "used"
    return Fusion(config, {**for_queries, **weights}), notes


def _examples(
    config: FusionConfig, training: Training, engine: Engine, names: list[str]
) -> tuple[list[Floats], list[int], int]:
    """Standardised scores of each slate that holds its target, the target's place, and the number of people asked."""
    people, targets = training.judged()
    chosen = np.random.default_rng(training.seed).permutation(len(people))[: config.people]
    slates, hits = [], []
    for done, place in enumerate(chosen):
        if done % 100 == 0:
            training.report("fusion", done, len(chosen))
        # Beside the person's own past the target itself must be allowed, or repeats could not be learned.
        request = Request("fit", history=training.past(int(people[place])), exclude_seen=training.exclude_seen)
        slate = engine.candidates(request)
        hit = np.flatnonzero(slate.columns["row"] == targets[place])
        if len(hit):
            slates.append(standardised([slate.columns[f"score_{name}"] for name in names]))
            hits.append(int(hit[0]))
    training.report("fusion", len(chosen), len(chosen))
    return slates, hits, len(chosen)


def _fit_weights(slates: list[Floats], hits: list[int], regularisation: float) -> NDArray[np.float64]:
    """(S,) weights, not negative, of the conditional logit."""
    from scipy.optimize import minimize

    stacked = np.concatenate(slates).astype(np.float64)  # (ΣN, S)
    starts = np.concatenate([[0], np.cumsum([len(s) for s in slates])])[:-1]
    owner = np.repeat(np.arange(len(slates)), [len(s) for s in slates])
    wanted = stacked[starts + np.array(hits)].mean(axis=0)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = stacked @ weights
        logits -= np.maximum.reduceat(logits, starts)[owner]
        mass = np.exp(logits)
        total = np.add.reduceat(mass, starts)
        value = np.log(total).mean() - logits[starts + np.array(hits)].mean() + regularisation * weights @ weights
        chance = mass / total[owner] / len(slates)
        return value, chance @ stacked - wanted + 2 * regularisation * weights

    found = minimize(
        loss, np.full(stacked.shape[1], 0.1), jac=True, method="L-BFGS-B", bounds=[(0, None)] * stacked.shape[1]
    )
    return np.asarray(found.x)


def _earned(slates: list[Floats], hits: list[int], weights: NDArray[np.float64], people: int) -> float:
    """Mean NDCG@10 over all people asked; one whose slate misses the target earns 0, ties count half."""
    total = 0.0
    for features, hit in zip(slates, hits, strict=True):
        scores = features @ weights
        ahead = (scores > scores[hit]).sum() + ((scores == scores[hit]).sum() - 1) / 2
        total += 1 / np.log2(ahead + 2) if ahead < 10 else 0.0
    return float(total / people)


def _cross_validated(slates: list[Floats], hits: list[int], regularisation: float, people: int) -> float:
    """What the fusion earns on people that it did not learn from."""
    fold = np.arange(len(slates)) % FOLDS  # people were drawn at random, so places are random already
    total = 0.0
    for part in range(FOLDS):
        learn, judge = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        weights = _fit_weights([slates[i] for i in learn], [hits[i] for i in learn], regularisation)
        total += _earned([slates[i] for i in judge], [hits[i] for i in judge], weights, people)
    return total
