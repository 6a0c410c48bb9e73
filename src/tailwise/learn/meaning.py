"""Give items vectors: open or export the encoder, embed what changed, whiten."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from tailwise.config import EncodeConfig
from tailwise.data.kinds import kinds_of
from tailwise.encode.cache import EmbeddingCache, encode_cached
from tailwise.encode.language import chosen_encoder
from tailwise.encode.meaning import Meaning
from tailwise.encode.reduce import Whitening
from tailwise.encode.text import item_texts, open_encoder, usual_columns
from tailwise.types import Floats

log = logging.getLogger(__name__)

AUTO = "auto"


def embed_items(
    items: pl.DataFrame,
    config: EncodeConfig,
    *,
    cache: Path,
    threads: int,
    like: Meaning | None = None,
    report: Callable[[str, int, int], None],
) -> tuple[Meaning | None, Floats]:
    """
    Vectors of items from their texts.

    Args:
        items: One row an item.
        config: Which encoder, which columns, how wide.
        cache: Folder of exported encoders and of embeddings by content.
        threads: Cores to use.
        like: Another domain's encoder and whitening, to put the items in its space; None: their own.
        report: Progress.

    Returns:
        The encoder with its whitening, None when no item has a text; and (M, D) unit rows, zeros where there is none.

    Raises:
        UnavailableError: The encoder is nowhere to be found, or the extra is missing.
        ConfigError: A column that makes the text is not there.
    """
    if not config.columns:
        config = config.model_copy(update={"columns": tuple(usual_columns(items.columns, kinds_of(items)))})
    texts = item_texts(items, config.columns)
    if not any(text.strip() for text in texts):
        log.info("items have no text: no encoder")
        return None, np.zeros((len(texts), 1), np.float32)

    log.info("texts are made of: %s", ", ".join(config.columns))
    if config.model == AUTO:
        model, why = chosen_encoder(texts)
        log.info("encoder: %s, for %s", model, why)
        config = config.model_copy(update={"model": model})

    def export(model: str, folder: Path) -> Path:
        from tailwise.nets.export import export_encoder

        report("export the language model", 0, 1)
        folder = export_encoder(model, folder, int8=config.int8, layers=config.layers)
        report("export the language model", 1, 1)
        return folder

    if like is None:
        encoder = open_encoder(
            config.model,
            cache=cache,
            threads=threads,
            max_tokens=config.max_tokens,
            export=export,
            layers=config.layers,
            int8=config.int8,
        )
    else:
        encoder = like.encoder
    store = EmbeddingCache(cache / "embeddings.sqlite")
    raw, fresh = encode_cached(encoder, texts, store, report=lambda done, total: report("embed items", done, total))
    log.info("items embedded: %d, of them afresh: %d", len(texts), fresh)
    broken = np.asarray(~np.isfinite(raw).all(axis=1), bool)
    if broken.any():
        log.warning("texts whose vectors are no numbers count as missing: %d of %d", broken.sum(), len(texts))
        raw = np.where(broken[:, None], np.float32(0), raw)
    whitening = Whitening.fit(raw, dim=config.whiten_dim) if like is None else like.whitening
    return Meaning(config, encoder, whitening), whitening.transform(raw)
