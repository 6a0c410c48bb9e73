"""Vectors of items: made once, whitened, zero where there is no text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tailwise.config import EncodeConfig
from tailwise.encode.meaning import Meaning
from tailwise.errors import ConfigError
from tailwise.learn.meaning import embed_items
from tailwise.types import Floats

COLOURS, ANIMALS = ("red", "green", "blue", "grey"), ("fox", "owl", "elk")
CONFIG = EncodeConfig(model="hash", whiten_dim=4)
ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{row}" for row in range(12)],
        "title": [f"{COLOURS[row % 4]} {ANIMALS[row % 3]}" for row in range(12)],
        "price": [float(row) for row in range(12)],
    }
)

Embed = Callable[..., tuple[Meaning | None, Floats, int]]


@pytest.fixture
def embed(tmp_path: Path) -> Embed:
    """``embed_items`` into one cache; gives also how many texts the language model was asked for."""

    def run(items: pl.DataFrame = ITEMS, config: EncodeConfig = CONFIG) -> tuple[Meaning | None, Floats, int]:
        told = [0]

        def report(what: str, done: int, total: int) -> None:
            if what == "embed items":
                told.append(done)

        meaning, vectors = embed_items(items, config, cache=tmp_path / "cache", threads=1, report=report)
        return meaning, vectors, told[-1]

    return run


def test_a_second_run_embeds_nothing_and_gives_the_same(embed: Embed) -> None:
    _, first, asked = embed()
    _, second, asked_again = embed()

    assert (asked, asked_again) == (12, 0)
    np.testing.assert_array_equal(first, second)


def test_only_changed_texts_are_embedded_again(embed: Embed, caplog: pytest.LogCaptureFixture) -> None:
    embed()
    changed = ITEMS.with_columns(
        title=pl.when(pl.col("item_id") == "i5").then(pl.lit("brown bear")).otherwise("title"), price=pl.lit(0.0)
    )

    with caplog.at_level("INFO", "tailwise.learn.meaning"):
        embed(changed)

    said = [record.getMessage() for record in caplog.records]
    assert said == ["texts are made of: title", "items embedded: 12, of them afresh: 1"]


def test_vectors_are_unit_rows_of_the_asked_width_in_the_space_of_later_texts(embed: Embed) -> None:
    meaning, vectors, _ = embed()

    assert meaning is not None
    assert vectors.shape == (12, 4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(meaning.encode(["green owl"])[0], vectors[1], atol=1e-5)
    assert (ITEMS["title"][1], meaning.dim) == ("green owl", 4)


def test_an_item_without_text_gets_zeros(embed: Embed) -> None:
    some = ITEMS.with_columns(title=pl.when(pl.col("item_id") != "i3").then("title"))

    _, vectors, asked = embed(some)

    assert asked == 12  # the empty text among them: it has a vector, of zeros
    assert not vectors[3].any()
    assert vectors[[0, 11]].any(axis=1).all()


@pytest.mark.parametrize(
    "items",
    [ITEMS.drop("title"), ITEMS.with_columns(title=pl.lit(None, pl.String)), ITEMS.with_columns(title=pl.lit("  "))],
)
def test_items_without_any_text_need_no_encoder(items: pl.DataFrame, embed: Embed, tmp_path: Path) -> None:
    meaning, vectors, asked = embed(items)

    assert meaning is None
    assert vectors.shape == (12, 1)
    assert not vectors.any()
    assert asked == 0
    assert not (tmp_path / "cache").exists()


def test_the_columns_that_make_the_text_can_be_chosen(embed: Embed) -> None:
    numbers = EncodeConfig(model="hash", whiten_dim=4, columns=("price",))

    _, of_titles, _ = embed()
    _, of_prices, _ = embed(config=numbers)

    assert not np.allclose(of_titles, of_prices)
    message = r"^columns names 'plot', but the items have: item_id, title, price$"
    with pytest.raises(ConfigError, match=message):
        embed(config=EncodeConfig(model="hash", columns=("plot",)))


def test_a_vector_that_is_no_number_counts_as_missing_with_a_warning(
    embed: Embed, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tailwise.learn.meaning as room

    encode = room.encode_cached

    def broken(*given: Any, **named: Any) -> tuple[Floats, int]:
        raw, fresh = encode(*given, **named)
        raw = raw.copy()
        raw[3, 0] = np.nan
        return raw, fresh

    monkeypatch.setattr(room, "encode_cached", broken)
    with caplog.at_level("WARNING"):
        _, vectors, _ = embed()

    assert caplog.messages == ["texts whose vectors are no numbers count as missing: 1 of 12"]
    assert np.isfinite(vectors).all()
    assert np.flatnonzero(~vectors.any(axis=1)).tolist() == [3]


def test_what_many_items_share_is_part_of_the_text(embed: Embed, caplog: pytest.LogCaptureFixture) -> None:
    items = pl.DataFrame(
        {
            "item_id": [f"i{n:02d}" for n in range(20)],
            "title": ["lamp"] * 20,
            "brand": ["acme", "bolt"] * 10,
            "serial": [f"s{n}" for n in range(20)],
        }
    )

    with caplog.at_level("INFO", "tailwise.learn.meaning"):
        _, vectors, _ = embed(items)

    assert "texts are made of: title, brand" in [record.getMessage() for record in caplog.records]
    assert (vectors[0] == vectors[2]).all()
    assert not np.allclose(vectors[0], vectors[1])
