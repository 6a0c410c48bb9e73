"""Give a slate what its stages need: facts, every source's opinion, and the signals made of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from tailwise.data.catalogue import Catalogue
from tailwise.data.features import NO_CONTEXTS, Contexts
from tailwise.errors import ConfigError, ShapeError
from tailwise.pipeline.binding import SIGNALS, Bound
from tailwise.pipeline.signals import signal_names, signals
from tailwise.types import Column, Floats, Request, Slate, StageTrace

log = logging.getLogger(__name__)


def hydrate(
    request: Request,
    slate: Slate,
    sources: Sequence[Bound],
    catalogue: Catalogue,
    names: frozenset[str],
    contexts: Contexts = NO_CONTEXTS,
) -> tuple[Slate, list[StageTrace]]:
    """
    The slate with the columns that were asked for.

    Args:
        request: With its history.
        slate: With the column ``row``.
        sources: Each gives a column ``score_NAME``, whoever found the item. One that fails knows nothing of any item,
            and the trace says so.
        catalogue: Facts about items.
        names: Facts, and ``signals`` when a stage judges by them.
        contexts: What is known of moments; a part of the signals.

    Returns:
        The slate, and a trace of each source that failed.
    """
    rows, failed = slate.columns["row"], []
    columns: dict[str, Column] = {}
    known = []
    for bound in sources:
        try:
            scores = checked_scores(bound.run.scores(request, rows), len(rows))
        except Exception as error:  # noqa: BLE001  the others decide
            log.warning("source failed: %s: %s", bound.key, error)
            failed.append(StageTrace(bound.key, 0.0, len(rows), 0, f"failed: {type(error).__name__}"))
            scores = np.full(len(rows), np.nan, np.float32)
        columns[f"score_{bound.step.name}"] = scores
        known.append(scores)
    if SIGNALS in names:
        columns[SIGNALS] = signals(request, rows, known, sources, catalogue, contexts)
    return slate.look_up(catalogue.tables(names - {SIGNALS, "row"})).add(**columns), failed


def checked_scores(scores: Column, n: int) -> Floats:
    """
    What a source gave, (N,) float32.

    Raises:
        ShapeError: It has not one score an item.
    """
    if scores.shape != (n,):
        raise ShapeError(f"it gave scores of the shape {scores.shape} for {n} items")
    return np.asarray(scores, np.float32)


def check_signals(
    stages: Sequence[Bound], sources: Sequence[Bound], catalogue: Catalogue, contexts: Contexts = NO_CONTEXTS
) -> None:
    """
    See that a stage which learned from signals meets the same ones.

    Raises:
        ConfigError: The pipeline's sources or contexts, or the items' columns, are not those of the fit.
    """
    for bound in stages:
        if SIGNALS in bound.run.needs:
            learned, now = tuple(bound.run.names), signal_names(sources, catalogue, contexts)
            if learned != now:
                odd = sorted({*learned} ^ {*now}) or list(now)
                raise ConfigError(
                    f"stage {bound.key} learned from {len(learned)} signals, but the pipeline gives {len(now)} "
                    f"({odd[0]!r} differs); fit the model again"
                )
