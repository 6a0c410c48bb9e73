"""Finding people and items by what one types: whole, beginning or part of an id or a title, case ignored."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import polars as pl
import polars.selectors as cs
from msgspec import Struct

from tailwise.pipeline import Engine
from tailwise.serve.insights import Reach


class PersonForm(Struct):
    """A person that the model was fitted on."""

    user_id: str
    events: int


class FoundForm(Struct):
    """An item of the catalogue."""

    item_id: str
    title: str
    tail: bool


class Directory:
    """
    Tables to search, made once from an engine.

    Cost: one pass over the ids or titles a search, some 10 ms a million; call it beside the event loop.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        catalogue = engine.catalogue
        people = pl.DataFrame({"id": engine.people.user_ids.tolist(), "n": np.diff(engine.people.offsets)})
        self._people = people.cast({"id": pl.String}).with_columns(text=pl.col("id").str.to_lowercase())
        titles = [catalogue.title(row) for row in range(len(catalogue))]
        items = pl.DataFrame({"id": catalogue.item_ids.tolist(), "text": titles, "n": catalogue.popularity})
        others = [name for name in catalogue.frame.columns if name.startswith("title_")]
        told = catalogue.frame.select(pl.col(name).cast(pl.String).alias(f"text {name}") for name in others)
        self._items = (
            pl.concat([items.cast({"id": pl.String, "text": pl.String}), told], how="horizontal")
            .with_columns(cs.starts_with("text").str.to_lowercase().fill_null(""))
            .with_columns(row=pl.int_range(pl.len()))
        )

    @cached_property
    def reach(self) -> Reach:
        """How many people met what; made when it is first asked for."""
        return Reach(self._engine)

    def people(self, search: str, limit: int) -> list[PersonForm]:
        """People whose id holds ``search``, most active first within equally good matches; erased ones are left out."""
        erased = self._engine.store.erased
        found = _matches(self._people, search).select("id", "n").iter_rows()
        out: list[PersonForm] = []
        for user_id, events in found:
            if len(out) == limit:
                break
            if not erased(user_id):
                out.append(PersonForm(user_id, events))
        return out

    def items(self, search: str, limit: int, language: str = "") -> list[FoundForm]:
        """Items whose id or a title, in any language, holds ``search``; the most popular first of equal matches."""
        catalogue = self._engine.catalogue
        rows: list[int] = _matches(self._items, search).head(limit)["row"].to_list()
        return [
            FoundForm(str(catalogue.item_ids[row]), catalogue.title(row, language), bool(catalogue.tail[row]))
            for row in rows
        ]


def _matches(table: pl.DataFrame, search: str) -> pl.DataFrame:
    """Rows that match: an exact id or text first, then beginnings, then parts; the largest ``n`` first in each."""
    wanted = search.strip().lower()
    if not wanted:
        return table.sort("n", descending=True, maintain_order=True)
    text = cs.starts_with("text")
    exact = pl.any_horizontal(pl.col("id").str.to_lowercase() == wanted, text == wanted)
    starts = pl.any_horizontal(text.str.starts_with(wanted))
    quality = pl.when(exact).then(0).when(starts).then(1).otherwise(2)
    found = table.filter(exact | pl.any_horizontal(text.str.contains(wanted, literal=True)))
    return found.sort(quality, -pl.col("n"), maintain_order=True)
