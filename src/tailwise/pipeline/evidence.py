"""
What of a person's history speaks for an item, and whether it falls when that is taken away.

    contributions (N, H) ─▶ the item that carried most ─▶ taken away ─▶ does the score fall? ─▶ cited
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailwise.pipeline.binding import Bound
from tailwise.rank.fusion import Fusion
from tailwise.rerank.reasons import CARRIED
from tailwise.retrieve.decay import history_weights, weights_without
from tailwise.retrieve.pairs import PairWeights
from tailwise.types import Floats, History, Request, Retriever, Rows, Slate

log = logging.getLogger(__name__)

LATELY = 50
"""Newest events of which one may be cited."""


def fusion_of(stages: Sequence[Bound]) -> Fusion | None:
    """The first stage that adds the sources' scores up; None without one."""
    return next((bound.run for bound in stages if isinstance(bound.run, Fusion)), None)


@dataclass(frozen=True, slots=True)
class Sums:
    """A source whose scores are sums over pairs of items: to take an item away costs it microseconds."""

    run: Retriever
    weights: PairWeights
    decay: float


def citing(sources: Sequence[Bound], stages: Sequence[Bound]) -> Sums | None:
    """The source that says which item of a history carried most: of the sums the one trusted most; None for nobody."""
    if not any(CARRIED in getattr(bound.run, "uses", ()) for bound in stages):
        return None
    fusion = fusion_of(stages)
    weights = {} if fusion is None else fusion.weights
    sums = [bound for bound in sources if isinstance(getattr(bound.run, "weights", None), PairWeights)]
    if not sums:
        return None
    trusted = max(sums, key=lambda bound: weights.get(bound.step.name, 0.0))  # without a fusion, the first
    return Sums(trusted.run, trusted.run.weights, trusted.run.config.decay or 0.0)


def with_carried(request: Request, slate: Slate, stage: Bound, source: Sums | None) -> Slate:
    """
    The slate with ``carried`` (N,) for a stage that reads it: the event to cite for each of the first rows.

    Nobody's answer depends on it: where the source fails, nothing is cited.
    """
    if source is None or CARRIED not in getattr(stage.run, "uses", ()) or not len(request.past):
        return slate
    column = np.full(len(slate), -1, np.int64)
    rows: Rows = slate.columns["row"][: request.k]
    try:
        column[: len(rows)] = carried(request, rows, source)
    except Exception as error:  # noqa: BLE001  a reason less is no reason for no answer
        log.warning("nothing cited: %s: %s", type(error).__name__, error)
    return slate.add(**{CARRIED: column})


def carried(request: Request, rows: Rows, source: Sums) -> Rows:
    """
    The newest event with the item that carried most of each row's score lately, and without which that score is lower.

    Args:
        request: With a history.
        rows: (N,) candidates, -1 unknown.
        source: Each score is made again without the item: where a moment goes, those before it fade less, so that
            what an item carried is not all that is lost or won.

    Returns:
        (N,) places in the history, -1 where no item of the newest ``LATELY`` events, that the person liked and had not
        met before them, speaks for a candidate.
    """
    start = _lately(request.past)
    past = request.past.take(slice(start, None)) if start else request.past
    between = source.weights.between(past, rows)
    parts = between * history_weights(past, source.decay)  # (N, H)
    places, summed = by_item(past, parts)
    liked = past.speaks_for[places]
    if start:
        liked &= ~np.isin(past.rows[places], request.past.rows[:start])
    summed = np.where(liked & (past.rows[places] != rows[:, None]), summed, np.float32(0.0))
    best = summed.argmax(axis=1)
    left, older = weights_without(past, source.decay, past.rows[places[best]])
    fall = parts.sum(axis=1) - (between * left).sum(axis=1)
    if start:  # all that is older, as one sum
        fall -= (older - 1) * np.nan_to_num(source.run.scores(request, rows) - parts.sum(axis=1))
    cited = (summed[np.arange(len(rows)), best] > 0) & (fall > 0)
    return np.where(cited, start + places[best], -1)


def _lately(past: History) -> int:
    """Where the newest ``LATELY`` events begin; a moment is not cut in two."""
    start = len(past) - LATELY
    if start <= 0:
        return 0
    after = int(np.searchsorted(past.times, past.times[start], side="right"))
    begin = int(np.searchsorted(past.times, past.times[start], side="left"))
    return start if begin == start else after if after < len(past) else begin


def by_item(past: History, parts: Floats) -> tuple[Rows, Floats]:
    """
    Contributions of events added up by item.

    Returns:
        (I,) the newest event of each distinct item, by its place, and (N, I) sums.
    """
    if len(past.newest) == len(past):  # each once, and known
        return past.newest, parts
    _, first, inverse = np.unique(past.rows[::-1], return_index=True, return_inverse=True)
    places = len(past) - 1 - first
    summed = np.zeros((len(places), len(parts)), np.float32)
    np.add.at(summed, inverse[::-1], parts.T)
    return places, summed.T
