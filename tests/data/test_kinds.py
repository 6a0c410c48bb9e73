"""Kinds: columns whose values many items share, told by themselves and kept as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from tailwise.data.catalogue import Catalogue
from tailwise.data.kinds import kinds_of

KINDS = pl.DataFrame(
    {
        "item_id": [f"i{n:02d}" for n in range(12)],
        "title": ["one", "two"] * 6,
        "brand": ["acme ", "bolt", "acme", "bolt", "bolt", None] * 2,
        "serial": [f"s{n}" for n in range(12)],
        "maker": ["one maker"] * 12,
        "seller": ["a", "b", "c"] * 4,
        "colour": pl.Series(["red", "blue", "red"] * 4, dtype=pl.Categorical),
        "blank": [" "] * 12,
    }
)


def kinds(frame: pl.DataFrame, own: tuple[str, ...] | None = None) -> Catalogue:
    counts = np.zeros(frame.height, np.float32)
    return Catalogue(frame, popularity=counts, recent=counts, vectors=counts[:, None], tail_cut=0.2, kinds=own)


def test_what_many_items_share_is_a_kind() -> None:
    # Not titles, nor what is each item's own or all items', nor what four items have on average.
    assert kinds_of(KINDS) == ("brand", "colour")
    catalogue = kinds(KINDS)

    assert catalogue.kinds == ("brand", "colour")
    found = catalogue.at(np.array([0, 1, 2, 5, -1]), {"brand as a number", "brand as labels", "brand"})
    assert found["brand as a number"].tolist() == [0, 1, 0, -1, -1]
    assert catalogue.labels["brand as labels"] == ("bolt", "acme")
    assert found["brand as labels"].tolist() == [[0, 1], [1, 0], [0, 1], [0, 0], [0, 0]]
    assert found["brand"].tolist() == ["acme ", "bolt", "acme ".strip(), None, None]


def test_kinds_stay_what_they_were_when_items_come(tmp_path: Path) -> None:
    grown = pl.concat([KINDS, KINDS.with_columns(item_id="n" + pl.col("item_id"), seller=pl.lit("a"))])
    assert kinds_of(grown) == ("brand", "seller", "colour")

    catalogue = kinds(grown, ("brand",))
    catalogue.save(tmp_path)

    assert catalogue.kinds == ("brand",)
    assert Catalogue.open(tmp_path).kinds == ("brand",)
    assert Catalogue.open(tmp_path).labels == catalogue.labels
    assert kinds(KINDS.drop("brand"), ("brand",)).kinds == ()
