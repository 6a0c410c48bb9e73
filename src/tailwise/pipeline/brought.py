"""
Items that join a slate late, because the stage before which they do has places for them.

Sources and stages that learned from what people did have nothing to say of such items, and are not asked: what they
made of the others is as it would be without. A stage that has places says which items it wants: its method
``brings(request, slate)`` gives rows of the catalogue, best first, none that is there or must not be shown. They get
what is known of any item, and "not known" in every column that is somebody's opinion.

A later stage that would drop one of them leaves its place empty. So each that drops items by what they are says which,
by its method ``drops(request, slate)``, and the stage is asked again without those.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tailwise.data.catalogue import Catalogue
from tailwise.pipeline.binding import SIGNALS, Bound
from tailwise.types import Column, Request, Rows, Slate

log = logging.getLogger(__name__)

ROUNDS = 8
"""How often a stage is asked again for what later stages would drop; the places are fewer then."""


def with_brought(
    request: Request,
    slate: Slate,
    stage: Bound,
    catalogue: Catalogue,
    *,
    stages: Sequence[Bound] = (),
    spared: bool = False,
) -> Slate:
    """
    The slate with the items that a stage has places for, behind all others.

    Nobody's answer depends on it: where the stage fails, nothing joins.

    Args:
        request: Resolved.
        slate: As the stage would get it.
        stage: Any; most bring nothing.
        catalogue: Facts about items.
        stages: Of the pipeline; those behind ``stage`` say what they would drop.
        spared: Whether the stage will not run.
    """
    if spared or not hasattr(stage.run, "brings"):
        return slate
    try:
        rows = _welcome(request, slate, stage, stages, catalogue)
    except Exception as error:  # noqa: BLE001  fewer candidates are no reason for no answer
        log.warning("nothing brought by %s: %s: %s", stage.key, type(error).__name__, error)
        return slate
    return joined(slate, rows, catalogue) if len(rows) else slate


def _welcome(request: Request, slate: Slate, stage: Bound, stages: Sequence[Bound], catalogue: Catalogue) -> Rows:
    """What a stage brings and no later one drops, as far as a few questions reach."""
    later = [bound.run for bound in stages[_after(stage, stages) :] if hasattr(bound.run, "drops")]
    rows: Rows = stage.run.brings(request, slate)
    passed: set[int] = set()
    for _ in range(ROUNDS):
        asked = np.array([row for row in rows.tolist() if row not in passed], np.int64)
        if not later or not len(asked):
            return rows
        alone = joined(slate.take(slice(0)), asked, catalogue)
        dropped = np.logical_or.reduce([run.drops(request, alone) for run in later])
        passed.update(asked[~dropped].tolist())
        if not dropped.any():
            return rows
        request = replace(request, excluded=np.concatenate([request.excluded, asked[dropped]]))
        rows = stage.run.brings(request, slate)
    return rows[np.isin(rows, list(passed))]


def _after(stage: Bound, stages: Sequence[Bound]) -> int:
    """The place behind a stage; all of them where it is none of these."""
    return next((place for place, bound in enumerate(stages, 1) if bound is stage), len(stages))


def joined(slate: Slate, rows: Rows, catalogue: Catalogue) -> Slate:
    """
    A slate and further items behind it, with the lowest of its scores.

    Args:
        slate: With the column ``row``.
        rows: (C,) catalogue rows.
        catalogue: Gives the facts; every other column says that nothing is known of the new items.
    """
    facts = {name for name in slate.columns if name in catalogue.names} - {"row"}
    own = {
        name: np.concatenate([column, unknown(name, column, len(rows))])
        for name, column in slate.columns.items()
        if name not in facts
    }
    own["row"] = np.concatenate([slate.columns["row"], rows])
    if "first_rank" in own:
        own["first_rank"][len(slate) :] = len(slate) + 1 + np.arange(len(rows))
    known = slate.scores[np.isfinite(slate.scores)]
    scores = np.concatenate([slate.scores, np.full(len(rows), known.min(initial=np.inf) if len(known) else 0.0)])
    item_ids = np.concatenate([slate.item_ids, catalogue.item_ids[rows]])
    return Slate(item_ids, scores.astype(np.float32), own).look_up(catalogue.tables(facts))


def unknown(name: str, column: Column, n: int) -> Column:
    """
    What a column holds of ``n`` items of which its maker was not asked: what "not known" is in its form.

    >>> unknown("score_ease", np.zeros(2, np.float32), 1).tolist(), unknown("propensity", np.zeros(2), 1).tolist()
    ([nan], [1.0])
    """
    if column.dtype == object:
        out = np.empty((n, *column.shape[1:]), object)
        out.fill(())
        return out
    nothing = {"f": np.nan, "b": False}.get(column.dtype.kind, -1)
    value = {"propensity": 1.0, SIGNALS: 0.0}.get(name, nothing)
    return np.full((n, *column.shape[1:]), value, column.dtype)
