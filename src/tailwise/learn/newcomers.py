"""Items that a model does not know yet: a row, what they are called, a vector from their text, and their counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise import registry
from tailwise.config import settings_of
from tailwise.data.catalogue import Catalogue
from tailwise.encode.meaning import Meaning
from tailwise.encode.text import item_texts
from tailwise.learn.semantics import StandIns
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound, Rescore, as_stages
from tailwise.rank.sequence import SequenceScorer
from tailwise.rerank.reasons import Reasons


def frozen(bound: Bound) -> bool:
    """Whether a source is left as it is: what a network learned takes a fit."""
    return bound.step.name in registry.TRAINERS


def may_grow(sources: Sequence[Bound]) -> bool:
    """Whether every source can take items that it was not fitted with: counted ones can, of networks the sequence's."""
    return all(not frozen(bound) or isinstance(bound.run, SequenceScorer) for bound in sources)


def new_items(engine: Engine, item_ids: Sequence[str], items: pl.DataFrame | None) -> pl.DataFrame:
    """
    Rows for what the catalogue lacks, with its columns: items of a file, then those that only events name, by id.

    Args:
        engine: Whose catalogue it is.
        item_ids: That events name.
        items: The items file, where there is one.
    """
    known, frame = set(engine.catalogue.item_ids), engine.catalogue.frame
    listed = frame.clear() if items is None else items.filter(~pl.col("item_id").is_in(list(known)))
    lonely = sorted({*item_ids} - known - set(listed["item_id"]))
    there = [pl.col(name).cast(kind, strict=False) for name, kind in frame.schema.items() if name in listed.columns]
    rows = pl.concat([frame.clear(), listed.select(there), pl.DataFrame({"item_id": lonely})], how="diagonal_relaxed")
    return rows.select(pl.col(name).cast(kind, strict=False) for name, kind in frame.schema.items())


def grown_catalogue(engine: Engine, new: pl.DataFrame) -> Catalogue:
    """The catalogue with further items behind its own; their texts are read by the model's own encoder."""
    old = engine.catalogue
    vectors = np.zeros((new.height, old.vectors.shape[1]), np.float32)
    if isinstance(engine.encoder, Meaning):
        vectors = engine.encoder.encode(item_texts(new, engine.encoder.config.columns))
    nothing = np.zeros(new.height, np.float32)
    return Catalogue(
        pl.concat([old.frame, new]),
        popularity=np.append(old.popularity, nothing),
        recent=np.append(old.decayed, nothing),
        vectors=np.concatenate([old.vectors, vectors]),
        tail_cut=old.tail_cut,
        kinds=old.kinds,
    )


def grown_scorer(scorer: SequenceScorer, catalogue: Catalogue) -> SequenceScorer:
    """
    The sequence network, as it is, with places for new items: the mean of the items with the most alike texts.

    An item without a text gets a row of zeros: the network knows nothing of it.
    """
    known = len(scorer.table)
    table = np.zeros((len(catalogue), scorer.table.shape[1]), np.float32)
    table[:known] = scorer.table
    placed: NDArray[np.bool_] = np.asarray(table.any(axis=1), bool)
    among = np.where(placed[:, None], catalogue.vectors, np.float32(0))
    found = StandIns.of(catalogue.vectors, np.arange(known, len(catalogue)), among, same=True)
    if len(found.rows):
        table[found.rows] = found.take(table)
    return scorer.with_table(table, catalogue.item_ids)


def reopened(bounds: Sequence[Bound], catalogue: Catalogue, folder: Path) -> tuple[Bound, ...]:
    """Stages of a model folder that know another catalogue; sources among them are left as they are."""

    def again(bound: Bound) -> Bound:
        if isinstance(bound.run, Rescore):
            return bound
        kind: Any = registry.component(bound.step.name)
        settings = settings_of(kind.Config, bound.step.settings, where=bound.step.name)
        run = kind.open(settings, catalogue, folder / bound.key)
        if isinstance(run, Reasons) and run.paths is not None:  # new items have no links yet
            ends = run.paths.offsets
            more = np.full(len(catalogue) + 1 - len(ends), ends[-1])
            run.paths = replace(run.paths, offsets=np.append(ends, more))
        return replace(bound, run=run)

    return as_stages(tuple(again(bound) for bound in bounds))
