"""
Learn for whom a costly opinion counts: weights by the length of the history, and a guess at what asking gains.

    cases + opinions ─▶ NDCG@10 at every weight ─▶ a weight a bucket, pooled towards its neighbours ─▶ kept or 0
                                                └▶ a ridge over situations: who is asked
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Training
from tailwise.errors import ShapeError
from tailwise.learn.slates import Example, earned, folds_of
from tailwise.pipeline import Engine
from tailwise.rank.gate import BUCKETS, LEAST_GAIN, LONGEST, Gate, Rule, blended, bucket
from tailwise.types import AGAINST, Facts, Floats, Request, Slate, ids_of

WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 20.0)
"""That an opinion may have; at the last one it decides alone."""
LEAST_CASES = 40
"""Cases whose target the opinion can move; with fewer, chance would set the weights."""
POOLED = 30
"""Cases that a neighbouring bucket counts for at most: much where a bucket has few of its own, little where many."""
SURE = 2.24
"""Standard errors that a kept bucket's gain is above what it must gain: a chance of 5 % that an opinion without any use
is asked somewhere, shared out over the four buckets of people with a history (Bonferroni; one side of a normal)."""
COUNTED = 10
"""Places that count in NDCG@10."""
RIDGE = 50.0
"""On the rule's slopes, in cases: what a case gains is mostly chance."""
Notes = dict[str, float | str]
Gains = NDArray[np.float64]


def fit_gate(
    examples: Sequence[Example],
    opinions: Sequence[Floats],
    *,
    depth: int,
    seed: int,
    facts: Facts | None = None,
    query: float = 1.0,
    least_gain: float = LEAST_GAIN,
) -> tuple[Gate, Notes]:
    """
    Learn a gate from cases, and what was said of them.

    Every choice is judged by people that had no part in it: the cases are dealt by person, and a bucket's weight is the
    one with the highest gain less its standard error in the other folds. The rule is kept when those whom it would not
    ask gained no more than asking must gain. A bucket keeps its weight when what is asked of it gains more than that by
    ``SURE`` standard errors; elsewhere the incoming order stands, which nobody can be below. A bucket with few cases
    borrows those of its neighbours, and one with none does as they do; people without a history have no neighbours.

    Args:
        examples: Cases after the stages before.
        opinions: Of the first ``depth`` candidates of each, (≤ N,), higher is better; NaN: none.
        depth: Candidates that are judged.
        seed: Of the deal.
        facts: Supply the columns that ``Gate.needs`` names where the examples lack them; None: the cold share is no
            part of the decision.
        query: What the opinion weighs where there is a query; no log can tell.
        least_gain: In NDCG@10: what asking must be expected to gain.

    Returns:
        The gate, and notes for the model card.

    Raises:
        ShapeError: There are not as many opinions as examples.

    Cost: O(J · weights · N log N).
    """
    if len(examples) != len(opinions):
        raise ShapeError(f"there are {len(opinions)} opinions, but {len(examples)} examples")
    gate = Gate(depth=depth, query=query, least_gain=least_gain)
    telling = sum(bool(example.relevant[:depth].any()) for example in examples)
    if telling < LEAST_CASES:
        decision = f"not asked: {telling} cases could teach it, fewer than {LEAST_CASES}"
        return gate, {"decision": decision, "share of requests asked": 0.0}
    curves, before = curves_of(examples, opinions, depth)  # (J, W), (J,)
    place = np.array([bucket(len(example.request.past.liked())) for example in examples])
    fold = folds_of(examples, seed)
    gain = np.zeros(len(examples))
    for part in np.unique(fold):
        chosen = _best(curves[fold != part], place[fold != part])
        gain[fold == part] = curves[fold == part, chosen[place[fold == part]]]
    best = _best(curves, place)
    situations = np.stack([gate.situation(e.request, _with_facts(e.slate, facts)) for e in examples])
    rule, asked = _rule(situations, gain, best[place] > 0, fold, least_gain)
    gain = np.where(asked, gain, 0.0)
    said = [_gain(gain, place, own) for own in range(len(BUCKETS))]
    kept = np.array([mean - SURE * error > least_gain for mean, error in said]) & (best > 0)
    gain, asked = np.where(kept[place], gain, 0.0), asked & kept[place]
    weights = tuple(float(WEIGHTS[own]) for own in np.where(kept, best, 0))
    gate = gate.model_copy(update={"weights": weights, "rule": rule if kept.any() else None})
    notes: Notes = {
        "ndcg@10 before": round(float(before.mean()), 4),
        "ndcg@10 of the opinion alone": round(float((before + curves[:, -1]).mean()), 4),
        "ndcg@10 after (cross-fitted)": round(float((before + gain).mean()), 4),
        "share of requests asked": round(float(asked.mean()), 4),
    }
    for own, name in enumerate(BUCKETS):
        notes[f"weight, {name}"] = gate.weights[own]
        notes[f"gain, {name}"] = f"{said[own][0]:+.4f} ± {said[own][1]:.4f} in {int((place == own).sum())} cases"
    return gate, {**notes, "decision": "asked where it helps" if kept.any() else "not asked: it helps nobody"}


def cases_by_length(training: Training, engine: Engine, *, most: int, depth: int | None = None) -> list[Example]:
    """
    Cases with histories of every length: as they are, and cut to their newest events where a bucket has few.

    A log of busy people has no short histories, but a service meets them every day. What was cut off is not offered as
    a candidate where nobody is shown again what they had: the person would not take it.

    Args:
        training: With held-out cases.
        engine: With the sources, and the stages so far.
        most: Cases at most, as many of each bucket as there can be; nobody is cut to nothing.
        depth: Candidates of each that are kept after the stages; None keeps all.

    Cost: one answer per case.
    """
    from threadpoolctl import threadpool_limits

    held, rng = training.cases(), np.random.default_rng((training.seed, 2))
    counts = np.zeros(len(BUCKETS), np.int64)
    made: list[Example] = []
    with threadpool_limits(1, "blas"):  # products too small to share out
        for case in rng.permutation(len(held))[:most]:
            training.report("histories of every length", len(made), min(most, len(held)))
            past = held.past(int(case), training.catalogue)
            liked = np.array([event not in AGAINST for event in past.events]) & (past.rows >= 0)
            own = bucket(int(liked.sum()))
            wanted = own if own == 0 else 1 + int(counts[1 : own + 1].argmin())
            counts[wanted] += 1
            # Newest first, the events up to the first one that is too many.
            length = int(rng.integers(LONGEST[wanted - 1] + 1, LONGEST[wanted] + 1)) if wanted < own else len(past)
            known = past.take(np.cumsum(liked[::-1])[::-1] <= length)
            request = Request("fit", history=known, exclude_seen=training.exclude_seen)
            slate = engine.candidates(request)
            rows, targets = slate.columns["row"], held.targets[case]
            if training.exclude_seen:
                slate = slate.take(~np.isin(rows, past.rows) | np.isin(rows, targets))
            relevant = np.isin(slate.columns["row"], targets)
            example = Example(int(held.people[case]), request, slate, relevant, len(targets))
            made.append(example.ordered(engine, depth))
    return made


def curves_of(examples: Sequence[Example], opinions: Sequence[Floats], depth: int) -> tuple[Gains, Gains]:
    """What each case gains at each of ``WEIGHTS``, (J, W), and NDCG@10 of the order that came in, (J,)."""
    curves, before = np.zeros((len(examples), len(WEIGHTS))), np.zeros(len(examples))
    for case, (example, opinion) in enumerate(zip(examples, opinions, strict=True)):
        n = min(max(depth, COUNTED), len(example.slate))  # what is behind earns nothing, and stays there
        bare = Slate(ids_of([""] * n), example.slate.scores[:n], {"relevant": example.relevant[:n]})
        before[case] = earned(_falling(bare), bare.columns["relevant"], example.targets)
        for place, weight in enumerate(WEIGHTS):
            after = blended(bare, opinion[:depth], weight)
            curves[case, place] = earned(_falling(after), after.columns["relevant"], example.targets) - before[case]
    return curves, before


def _falling(slate: Slate) -> Floats:
    """Scores that say the order as it stands, whatever ties there are in it."""
    return -np.arange(len(slate), dtype=np.float32)


def _pool(place: NDArray[np.int64], own: int) -> Gains:
    """What each case counts for a bucket, (J,): 1 in it, less in its neighbours, 0 elsewhere."""
    counted = (place == own).astype(np.float64)
    for other in (own - 1, own + 1) if own else ():
        of_other = place == other
        if other and of_other.any():
            counted[of_other] = min(1.0, POOLED / of_other.sum())
    return counted


def _best(curves: Gains, place: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place in ``WEIGHTS`` of each bucket's best weight: of the highest gain less its standard error."""
    sure = np.array([mean - error for mean, error in (_gain(curves, place, own) for own in range(len(BUCKETS)))])
    return np.asarray(sure.argmax(1), np.int64)  # the smallest of those that are as good


def _gain(gain: Gains, place: NDArray[np.int64], own: int) -> tuple[Gains, Gains]:
    """
    The mean gain of a bucket with its neighbours, and its standard error; both 0 without a case.

    Args:
        gain: (J, …) of each case.
        place: (J,) buckets.
        own: The bucket.
    """
    counted = _pool(place, own)
    total = max(counted.sum(), 1e-9)
    mean = counted @ gain / total
    return mean, np.sqrt(counted**2 @ (gain - mean) ** 2) / total


def _rule(
    situations: Floats, gain: Gains, kept: NDArray[np.bool_], fold: NDArray[np.int64], least_gain: float
) -> tuple[Rule | None, NDArray[np.bool_]]:
    """The rule that says who is asked, None for all that are left; and which cases would be, cross-fitted, (J,)."""
    if not kept.any():
        return None, kept
    expected = np.zeros(len(gain))
    for part in np.unique(fold):
        slopes, start = _ridge(situations[kept & (fold != part)], gain[kept & (fold != part)])
        expected[fold == part] = situations[fold == part] @ slopes + start
    refused = kept & (expected <= least_gain)
    if not refused.any() or gain[refused].mean() > least_gain:
        return None, kept
    slopes, start = _ridge(situations[kept], gain[kept])
    return Rule(slopes=tuple(map(float, slopes)), start=start), kept & ~refused


def _ridge(situations: Floats, gain: Gains) -> tuple[Gains, float]:
    """Slopes, (G,), and start of the gain over the situations."""
    if not len(gain):
        return np.zeros(situations.shape[1]), 0.0
    centre, spread = situations.mean(0, dtype=np.float64), situations.std(0, dtype=np.float64)
    spread = np.where(spread > 1e-6, spread, np.inf)  # what never changes says nothing
    scaled = (situations - centre) / spread
    normal = scaled.T @ scaled + RIDGE * np.eye(scaled.shape[1])
    slopes = np.linalg.solve(normal, scaled.T @ (gain - gain.mean())) / spread
    return slopes, float(gain.mean() - slopes @ centre)


def _with_facts(slate: Slate, facts: Facts | None) -> Slate:
    missing = Gate.needs - slate.columns.keys()
    return slate if facts is None or not missing else slate.add(**facts.columns(slate.item_ids, frozenset(missing)))
