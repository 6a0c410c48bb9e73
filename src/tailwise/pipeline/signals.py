"""
All that is known of a candidate for this person, as numbers: what a learned re-ranker judges by.

    signals (N, F) =  every source's score, standardised within the slate
                    | nearness to what the person did lately, in every space that a source keeps vectors in
                    | popularity, how popular it is now, and how that compares with what the person takes
                    | labels, kinds and numbers shared with the person's past
                    | how often, and how lately, the person had it before
                    | the moment of the request, and what is taken in such moments
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tailwise.data.catalogue import Catalogue
from tailwise.data.features import NO_CONTEXTS, Contexts
from tailwise.data.kinds import AS_LABELS, CODE
from tailwise.pipeline.binding import Bound
from tailwise.rank.fusion import NOTHING, standardised_once
from tailwise.types import Column, Floats, History, Request, Rows

NEAR = ("to the last", "to the last 5", "to the last 50", "to the nearest", "to the nearest of 10")
LATELY, SHORT, RECENT = 50, 5, 10
MOST_NUMBERS = 4
"""Number columns of the items that are compared with the person's past."""


def signal_names(sources: Sequence[Bound], catalogue: Catalogue, contexts: Contexts = NO_CONTEXTS) -> tuple[str, ...]:
    """What each of the F signals is, in order."""
    names = [f"score {bound.step.name}" for bound in sources]
    names += [f"{bound.step.name} {near}" for bound in _spaces(sources) for near in NEAR]
    names += ["popularity", "recent", "more popular than usual"]
    names += [f"{label} {span}" for label in _labels(catalogue) for span in ("shared", "shared lately")]
    names += [f"{kind} {span}" for kind in catalogue.kinds for span in ("shared", "shared lately", "as the last")]
    names += [f"{number} differs" for number in catalogue.numbers[:MOST_NUMBERS]]
    return (*names, "times had", "had lately", *contexts.names)


def signals(
    request: Request,
    rows: Rows,
    scores: list[Column],
    sources: Sequence[Bound],
    catalogue: Catalogue,
    contexts: Contexts,
) -> Floats:
    """
    The signals of a slate.

    Args:
        request: With its history.
        rows: (N,) catalogue rows, -1 unknown.
        scores: Of each source, (N,), NaN where it knows nothing.
        sources: In the order of ``scores``.
        catalogue: Facts about items.
        contexts: What is known of moments.

    Returns:
        (N, F) float32, finite; 0 where nothing is known.

    Cost: O(N H D) a space, H at most ``LATELY``.
    """
    past = request.past
    liked = past.liked()
    parts = [standardised_once(request, scores)] if scores else []
    parts.append(nearness([bound.run.vectors for bound in _spaces(sources)], rows, liked))
    parts.append(_popularity(rows, liked, catalogue))
    parts += [
        _shared(catalogue.at(rows, {label})[label], catalogue.at(liked, {label})[label]) for label in _labels(catalogue)
    ]
    parts += [_same_kind(CODE.format(kind), rows, liked, catalogue) for kind in catalogue.kinds]
    parts += [_differs(name, rows, liked, catalogue) for name in catalogue.numbers[:MOST_NUMBERS]]
    parts += [_had(rows, past), contexts.signals(request, rows)]
    found = np.empty((len(rows), sum(part.shape[1] for part in parts)), np.float32)
    place = 0
    for part in parts:
        found[:, place : place + part.shape[1]] = part
        place += part.shape[1]
    finite = np.isfinite(found)
    if not finite.all():
        found[~finite] = 0.0
    return found


def nearness(spaces: Sequence[Floats], rows: Rows, liked: Rows) -> Floats:
    """
    Cosines of candidates to what was liked lately: the last item, means of 5 and 50, the nearest of 50 and of 10.

    Args:
        spaces: S of (M, D) unit rows, zeros where an item has none; each has a width of its own.
        rows: (N,) candidates, -1 unknown.
        liked: (H,) oldest first; the newest ``LATELY`` are looked at.

    Returns:
        (N, 5 S) float32, five of each space; zeros without a history, and for unknown items.
    """
    n, width, lately = len(rows), len(spaces) * len(NEAR), liked[-LATELY:]
    out = np.zeros((n, len(spaces), len(NEAR)), np.float32)
    if not len(lately) or not spaces:
        return out.reshape(n, width)
    cosines = np.empty((len(lately), len(spaces), n), np.float32)  # (≤ 50, S, N): reduced along whole rows
    for place, vectors in enumerate(spaces):
        np.matmul(vectors.take(lately, axis=0), vectors.take(rows, axis=0).T, out=cosines[:, place])
    short, recent = cosines[-SHORT:], cosines[-RECENT:]
    of_short, of_all = np.add.reduce(short) / np.float32(len(short)), np.add.reduce(cosines) / np.float32(len(cosines))
    kinds = (cosines[-1], of_short, of_all, np.maximum.reduce(cosines), np.maximum.reduce(recent))
    for place, kind in enumerate(kinds):
        out[..., place] = kind.T
    unknown = rows < 0
    if unknown.any():
        out[unknown] = 0.0
    return out.reshape(n, width)


def _spaces(sources: Sequence[Bound]) -> list[Bound]:
    return [bound for bound in sources if bound.embedded]


def _popularity(rows: Rows, liked: Rows, catalogue: Catalogue) -> Floats:
    """(N, 3) the log of popularity, its quantile now, and how far it is above what the person liked lately."""
    known = catalogue.at(rows, {"popularity", "recent"})
    usual = np.log1p(catalogue.at(liked[-RECENT:], {"popularity"})["popularity"])
    out = np.empty((len(rows), 3), np.float32)
    out[:, 0] = np.log1p(known["popularity"])
    out[:, 1] = known["recent"]
    out[:, 2] = out[:, 0] - (np.add.reduce(usual) / len(usual) if len(usual) else np.nan)
    return out


def _shared(of_rows: Column, of_liked: Column) -> Floats:
    """(N, 2) the mean share of the person's past, and of the latest part of it, that has a candidate's labels."""
    if not len(of_liked):
        return np.zeros((len(of_rows), 2), np.float32)
    own = of_liked.astype(np.float32)
    lately = own[-RECENT:]
    taste = np.empty((own.shape[1], 2), np.float32)  # (labels, 2)
    for place, part in enumerate((own, lately)):
        np.divide(np.add.reduce(part), len(part), out=taste[:, place])
    labels = of_rows.astype(np.float32)
    return np.asarray((labels @ taste) / np.maximum(np.add.reduce(labels, axis=1, keepdims=True), 1), np.float32)


def _labels(catalogue: Catalogue) -> list[str]:
    """Multi-valued columns; of kinds every value counts, and not the most frequent alone."""
    own = {AS_LABELS.format(kind) for kind in catalogue.kinds}
    return [label for label in catalogue.labels if label not in own]


def _same_kind(name: str, rows: Rows, liked: Rows, catalogue: Catalogue) -> Floats:
    """(N, 3) the share of the person's past, and of the latest part of it, of a candidate's kind; if the last is."""
    own, past = catalogue.at(rows, {name})[name], catalogue.at(liked, {name})[name]
    out = np.zeros((len(rows), 3), np.float32)
    if not len(past):
        return out
    size = max(int(own.max(initial=0)), int(past.max())) + 2
    for place, part in enumerate((past, past[-RECENT:], past[-1:])):
        out[:, place] = (np.bincount(part + 1, minlength=size) / len(part))[own + 1]
    out[own < 0] = 0.0
    return out


def _differs(name: str, rows: Rows, liked: Rows, catalogue: Catalogue) -> Floats:
    """(N, 1) how far a number is from that of what the person liked lately, in spreads of the slate, at most 3."""
    numbers, own = catalogue.at(rows, {name})[name], catalogue.at(liked[-RECENT:], {name})[name]
    own = own[np.isfinite(own)]
    known = numbers[np.isfinite(numbers)]
    if not len(own) or not len(known):
        return np.zeros((len(rows), 1), np.float32)
    middle = known - known[0]  # all alike is then 0, whatever rounding does
    middle -= np.add.reduce(middle) / len(middle)
    spread = np.sqrt(middle @ middle / len(middle))
    if spread < NOTHING:
        return np.zeros((len(rows), 1), np.float32)
    usual = np.add.reduce(own) / len(own)
    apart: Floats = np.minimum(np.abs(numbers - usual) / spread, 3)[:, None]  # NaN stays, and counts as 0
    return apart


def _had(rows: Rows, past: History) -> Floats:
    """(N, 2) the log of how often the person had an item before, and 1 / (1 + events since the last time)."""
    out = np.zeros((len(rows), 2), np.float32)
    same = rows[:, None] == past.rows[::-1]
    if not same.any():
        return out
    there, ago = np.nonzero(same & (rows >= 0)[:, None])  # newest first
    out[:, 0] = np.log1p(np.bincount(there, minlength=len(rows)))
    out[there[::-1], 1] = 1.0 / (1.0 + ago[::-1])  # of several, the newest is written last
    return out
