"""How good a classifier is on texts that it did not learn from, and what makes its chances true."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.data.labelled import ONE, SPANS, Labelled
from tailwise.learn.calibrate import temperature
from tailwise.rank.calibration import FAR, chance_of, expected_calibration_error
from tailwise.rank.spans import spans_of, tags_of
from tailwise.rank.texts import HeadCard, Read, TextClassifier, softmax
from tailwise.types import Floats

Notes = dict[str, float | str]
LEAST = 20
"""Held-out texts without which nothing is chosen by them, not even when to stop."""


def calibrated(model: TextClassifier, read: Read, data: Labelled) -> dict[str, HeadCard]:
    """
    The heads of a model with the slope, shift and threshold that suit texts it did not learn from.

    A head with fewer than 20 such texts stays as it is, and so does one that a line does not help: chances drawn from
    one half of the texts must be better for the other.

    Args:
        model: Uncalibrated.
        read: What its encoder makes of the texts.
        data: The same texts, labelled.

    Source: Guo et al., ICML 2017, arXiv 1706.04599 (temperature); Lipton, Elkan & Naryanaswamy, ECML 2014,
    doi:10.1007/978-3-662-44851-9_15 (the threshold that is best for F1).
    """
    out = {}
    for head, card in model.card.heads.items():
        raw, wanted = _told(model, read, data, head, card)
        line = (1.0, 0.0)
        if len(wanted) >= LEAST:
            fit, loss = (_slope, _cross_entropy) if head in (*ONE, SPANS) else (_line, _log_loss)
            line = fit(raw, wanted) if _helps(fit, loss, raw, wanted) else line
        fresh = card.model_copy(update={"slope": line[0], "shift": line[1]})
        if head not in (*ONE, SPANS) and len(wanted) >= LEAST:
            chances = chance_of(line[0] * raw + line[1])
            fresh = fresh.model_copy(update={"threshold": _best_threshold(chances, wanted)})
        out[head] = fresh
    return out


def measured(model: TextClassifier, read: Read, data: Labelled) -> Notes:
    """
    Accuracy, F1 and how true the chances are, by head, on texts that nothing was chosen by.

    Raises:
        UnavailableError: scikit-learn is not installed.
    """
    notes: Notes = {}
    for head, card in model.card.heads.items():
        if head == SPANS:
            notes |= _span_notes(model, read, data)
            continue
        raw, wanted = _told(model, read, data, head, card)
        if not len(wanted):
            notes[f"{head}: held out"] = "no labels"
        elif head in ONE:
            notes |= _single_notes(head, softmax(card.slope * raw), wanted)
        else:
            notes |= _several_notes(head, chance_of(card.slope * raw + card.shift), wanted, card.threshold)
    return notes


def _told(model: TextClassifier, read: Read, data: Labelled, head: str, card: HeadCard) -> tuple[Floats, Floats]:
    """Log-odds and what is true, of the texts (or tokens) that a head has labels of."""
    raw = model.raw(read, head)
    place = {label: code for code, label in enumerate(card.labels)}
    if head == SPANS:
        known = [row for row, own in enumerate(data.spans) if own is not None and len(read.tokens[row])]
        tags = [tags_of(data.spans[row] or (), read.offsets[row], card.labels) for row in known]
        empty = np.zeros((0, len(card.labels)), np.float32)
        return np.concatenate([empty, *(raw[row] for row in known)]), np.concatenate([np.zeros(0, int), *tags])
    own = data.labels[head]
    known = [row for row, one in enumerate(own) if one is not None and (head not in ONE or one[0] in place)]
    table = np.stack([raw[row] for row in known]) if known else np.zeros((0, len(place)), np.float32)
    if head in ONE:
        return table, np.array([place[(own[row] or ("",))[0]] for row in known], int)
    wanted = [[label in (own[row] or ()) for label in card.labels] for row in known]
    return table, np.array(wanted, np.float32).reshape(-1, len(place))


def _helps(
    fit: Callable[[Floats, Floats], tuple[float, float]],
    loss: Callable[[Floats, Floats, tuple[float, float]], float],
    raw: Floats,
    wanted: Floats,
) -> bool:
    """Whether lines drawn from each half of the texts are better for the other half."""
    halves = [np.arange(len(wanted)) % 2 == part for part in (0, 1)]
    before = sum(loss(raw[own], wanted[own], (1.0, 0.0)) * own.sum() for own in halves)
    after = sum(loss(raw[own], wanted[own], fit(raw[~own], wanted[~own])) * own.sum() for own in halves)
    return after < before


def _slope(raw: Floats, wanted: Floats) -> tuple[float, float]:
    from scipy.optimize import minimize_scalar

    def loss(log_slope: float) -> float:
        return _cross_entropy(raw, wanted, (float(np.exp(log_slope)), 0.0)) + log_slope**2 / (2 * len(wanted))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)), 0.0


def _line(raw: Floats, wanted: Floats) -> tuple[float, float]:
    curve = temperature(raw.ravel(), wanted.ravel())
    low, high = float(curve.y[0]), float(curve.y[-1])
    return (high - low) / (2 * FAR), (high + low) / 2


def _cross_entropy(raw: Floats, wanted: Floats, line: tuple[float, float]) -> float:
    told = softmax(line[0] * raw)[np.arange(len(wanted)), wanted.astype(int)]
    return float(-np.log(np.clip(told, 1e-7, 1)).mean())


def _log_loss(raw: Floats, wanted: Floats, line: tuple[float, float]) -> float:
    told = np.clip(chance_of(line[0] * raw + line[1]), 1e-7, 1 - 1e-7)
    return float(-np.where(wanted > 0.5, np.log(told), np.log1p(-told)).mean())


def _best_threshold(chances: Floats, wanted: Floats) -> float:
    """From which chance on labels are given, so that F1 over all labels is highest."""
    ways = np.linspace(0.05, 0.95, 19)
    found = [_micro_f1(chances >= way, wanted > 0.5) for way in ways]
    return round(float(ways[int(np.argmax(found))]), 2)


def _micro_f1(told: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    both = float((told & wanted).sum())
    return 2 * both / max(1.0, float(told.sum() + wanted.sum()))


def _single_notes(head: str, chances: Floats, wanted: Floats) -> Notes:
    from sklearn.metrics import f1_score

    told = chances.argmax(1)
    sure = chances.max(1)
    usual = np.bincount(wanted.astype(int)).max() / len(wanted)
    return {
        f"{head}: texts": len(wanted),
        f"{head}: accuracy": round(float((told == wanted).mean()), 4),
        f"{head}: accuracy, most frequent label": round(float(usual), 4),
        f"{head}: macro F1": round(float(f1_score(wanted, told, average="macro", zero_division=0)), 4),
        f"{head}: ece": round(expected_calibration_error(sure, told == wanted), 4),
    }


def _several_notes(head: str, chances: Floats, wanted: Floats, threshold: float) -> Notes:
    from sklearn.metrics import average_precision_score, f1_score

    told, true = chances >= threshold, wanted > 0.5
    seen = true.any(0)
    if not seen.any():
        return {f"{head}: texts": len(wanted), f"{head}: held out": "no text has any of its labels"}
    precision = [average_precision_score(true[:, at], chances[:, at]) for at in np.flatnonzero(seen)]
    return {
        f"{head}: texts": len(wanted),
        f"{head}: micro F1": round(_micro_f1(told, true), 4),
        f"{head}: macro F1": round(float(f1_score(true[:, seen], told[:, seen], average="macro", zero_division=0)), 4),
        f"{head}: average precision": round(float(np.mean(precision)), 4),
        f"{head}: average precision, by chance": round(float(true[:, seen].mean()), 4),
        f"{head}: ece": round(expected_calibration_error(chances.ravel(), wanted.ravel()), 4),
    }


def _span_notes(model: TextClassifier, read: Read, data: Labelled) -> Notes:
    """F1 of parts that are found exactly: both ends and the label."""
    known = [row for row, own in enumerate(data.spans) if own is not None]
    if not known:
        return {f"{SPANS}: held out": "no labels"}
    chances, names = model.chances(read, SPANS), model.card.heads[SPANS].labels
    told = {
        (row, span) for row in known for span, _ in spans_of(data.texts[row], chances[row], read.offsets[row], names)
    }
    true = {(row, span) for row in known for span in data.spans[row] or ()}
    both = len(told & true)
    return {
        f"{SPANS}: texts": len(known),
        f"{SPANS}: precision": round(both / max(1, len(told)), 4),
        f"{SPANS}: recall": round(both / max(1, len(true)), 4),
        f"{SPANS}: F1": round(2 * both / max(1, len(told) + len(true)), 4),
    }


def taught(data: Labelled, names: Mapping[str, Sequence[Any]]) -> Notes:
    """How many texts teach each head."""
    counts: Notes = {}
    for head in names:
        own: Sequence[Any] = data.spans if head == SPANS else data.labels[head]
        counts[f"{head}: learned from"] = sum(one is not None for one in own)
    return counts
