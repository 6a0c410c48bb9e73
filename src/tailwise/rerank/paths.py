"""
Paths of a knowledge graph: what a candidate and an item of the history are both linked to.

    candidate –relation→ entity ←relation– item of the history
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.errors import ArtifactError
from tailwise.types import NO_ROWS, Rows

MOST_LINKS = 64
"""Of an item: those to what the fewest other items are linked to."""
COMMON = 50
"""Items that may share an entity, or a tenth of a larger catalogue: what links more of them explains none."""
CODE = re.compile(r"[A-Za-z]{1,2}[./:_]?\d\w*|\d+|\w{1,2}[./:]\w+|(?:https?:|/).*|\W*")
"""What names of entities look like that only a machine can read: ``m.013tjc``, ``Q42``, an address."""


@dataclass(frozen=True)
class Paths:
    """
    Links of M items; those of item ``r`` are ``links[offsets[r]:offsets[r + 1]]``.

    ``links`` are places in ``ends``, pairs of relation and entity; ``items`` says how many items have each.
    """

    offsets: Rows  # (M + 1,)
    links: Rows  # (E,)
    items: Rows  # (P,)
    ends: tuple[tuple[str, str], ...]  # (P,)

    @classmethod
    def of(cls, graph: pl.DataFrame, rows: Callable[[Iterable[str]], Rows], n_items: int) -> Self:
        """
        From ``head relation tail``, where an item may be either; ``rows`` gives item ids their rows, -1 unknown.

        An entity counts when its name can be read, and at least two items are linked to it, but not too many.
        """
        there = graph.drop_nulls(["head", "relation", "tail"])
        ways = [
            pl.DataFrame({"row": rows(there[own].to_list()), "relation": there["relation"], "entity": there[other]})
            for own, other in (("head", "tail"), ("tail", "head"))
        ]
        every = pl.concat(ways).filter(pl.col("row") >= 0).unique(maintain_order=True)
        named = every.filter(~pl.col("entity").str.contains(f"^(?:{CODE.pattern})$"))
        pairs = named.group_by("relation", "entity").agg(pl.len().alias("items"))
        pairs = pairs.filter(pl.col("items").is_between(2, max(COMMON, n_items // 10))).sort("relation", "entity")
        known = named.join(pairs.with_row_index("link"), on=["relation", "entity"]).sort("row", "items", "link")
        known = known.filter(pl.int_range(pl.len()).over("row") < MOST_LINKS)
        counts = np.bincount(known["row"].to_numpy(), minlength=n_items)
        return cls(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            known["link"].to_numpy().astype(np.int64),
            pairs["items"].to_numpy().astype(np.int64),
            tuple(zip(pairs["relation"].to_list(), pairs["entity"].to_list(), strict=True)),
        )

    def __len__(self) -> int:
        return len(self.links)

    def shared(self, rows: Rows, past: Rows) -> list[tuple[int, str, str] | None]:
        """
        The rarest link that each of N candidates has in common with a history.

        Args:
            rows: (N,) candidates, -1 unknown.
            past: (H,) items of the history, oldest first, -1 unknown.

        Returns:
            (N,) the newest event with that link, by its place in ``past``, the relation and the entity; None without.

        Cost: O(L) for L links in all: some 0.05 ms for 10 candidates and 50 events.
        """
        found: list[tuple[int, str, str] | None] = [None] * len(rows)
        links, owner = self._links(rows)
        had, event = self._links(past)
        if not len(links) or not len(had):
            return found
        newest = np.full(len(self.ends), -1)
        newest[had] = event  # of several events the last one stays
        at = newest[links]
        places = np.flatnonzero((at >= 0) & (past[at] != rows[owner]))  # none with itself
        best = places[np.lexsort((-at[places], self.items[links[places]], owner[places]))]
        for place in best[np.unique(owner[best], return_index=True)[1]]:
            found[owner[place]] = (int(at[place]), *self.ends[links[place]])
        return found

    def save(self, folder: Path) -> None:
        """Write the links."""
        folder.mkdir(parents=True, exist_ok=True)
        save_arrays(folder / "paths.safetensors", offsets=self.offsets, links=self.links, items=self.items)
        (folder / "paths.json").write_text(json.dumps(self.ends, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """
        Read what ``save`` wrote; None where nothing was.

        Raises:
            ArtifactError: A file is damaged.
        """
        path = folder / "paths.json"
        if not path.is_file():
            return None
        try:
            ends = tuple((str(relation), str(entity)) for relation, entity in json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        arrays = load_arrays(folder / "paths.safetensors")
        return cls(arrays["offsets"], arrays["links"], arrays["items"], ends)

    def _links(self, rows: Rows) -> tuple[Rows, NDArray[np.int64]]:
        """The links of some items, one after the other, and the place in ``rows`` that each belongs to."""
        own = np.where(rows >= 0, rows, 0)
        counts = np.where(rows >= 0, self.offsets[own + 1] - self.offsets[own], 0)
        total = int(counts.sum())
        if not total:
            return NO_ROWS, NO_ROWS
        owner = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.links[self.offsets[own][owner] + within], owner
