"""
Keep embeddings between runs, so that a second run embeds only what changed.

A vector's key is the hash of its encoder's fingerprint and its text: nothing ever has to be invalidated. The cache is
a convenience. When it cannot be read or written, the vectors are computed and the work goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np

from tailwise.types import Encoder, Floats

log = logging.getLogger(__name__)
T = TypeVar("T")

BLOCK = 256
"""Texts between two writes and two reports: what an interrupted run loses at most."""
WAIT_SECONDS = 10.0
"""For another process that is writing."""


class EmbeddingCache:
    """
    Vectors by key in one SQLite file; processes may share it.

    A damaged file is thrown away, a full or unwritable disk goes on without a cache; both are logged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, keys: Collection[str], dim: int) -> dict[str, Floats]:
        """The vectors, each (dim,), of those ``keys`` that are known."""

        def select(database: sqlite3.Connection) -> dict[str, Floats]:
            query = "SELECT key, vector FROM vectors WHERE key IN (SELECT value FROM json_each(?))"
            rows = database.execute(query, [json.dumps(list(keys))])
            return {key: np.frombuffer(blob, np.float32) for key, blob in rows if len(blob) == 4 * dim}

        return self._attempt(select, otherwise={})

    def write(self, vectors: Mapping[str, Floats]) -> None:
        """Keep vectors by key, all or none."""

        def insert(database: sqlite3.Connection) -> None:
            rows = [(key, vector.astype(np.float32).tobytes()) for key, vector in vectors.items()]
            database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)

        self._attempt(insert, otherwise=None)

    def _attempt(self, work: Callable[[sqlite3.Connection], T], *, otherwise: T) -> T:
        """Do ``work`` in one transaction on a connection of its own: safe in threads and after a fork."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=WAIT_SECONDS)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL)")
                return work(database)
        except (sqlite3.OperationalError, OSError) as error:
            log.warning("embeddings are not cached: path=%s reason=%s", self._path, error)
        except sqlite3.DatabaseError as error:
            log.warning("embedding cache is damaged and thrown away: path=%s reason=%s", self._path, error)
            # A journal that outlived its file would be played back into the next one.
            for path in (self._path, self._path.with_name(f"{self._path.name}-journal")):
                path.unlink(missing_ok=True)
        return otherwise


def fingerprint_of(encoder: Encoder) -> str:
    """What tells an encoder's vectors from another's: its own ``fingerprint``, else its class and settings."""
    own = getattr(encoder, "fingerprint", None)
    return own if isinstance(own, str) else repr(encoder)


def key_of(fingerprint: str, text: str) -> str:
    """The name of a text's vector."""
    return hashlib.sha256(f"{fingerprint}\0{text}".encode(errors="surrogatepass")).hexdigest()


def encode_cached(
    encoder: Encoder,
    texts: Sequence[str],
    cache: EmbeddingCache | None,
    *,
    report: Callable[[int, int], None] | None = None,
) -> tuple[Floats, int]:
    """
    Embed texts, each different one once, and those that the cache knows not at all.

    Args:
        encoder: Gives the same text the same vector.
        texts: (N,).
        cache: None keeps nothing.
        report: Is told how many of the different texts have their vector, and how many there are.

    Returns:
        (N, D) float32 unit rows in the order of ``texts``, and how many texts were embedded afresh.
    """
    fingerprint = fingerprint_of(encoder)
    keys = [key_of(fingerprint, text) for text in texts]
    wanted = dict(zip(keys, texts, strict=True))
    vectors = {} if cache is None else cache.read(wanted, encoder.dim)
    fresh = [key for key in wanted if key not in vectors]
    log.info("embedding: texts=%d different=%d fresh=%d", len(texts), len(wanted), len(fresh))
    for start in range(0, len(fresh), BLOCK):
        block = fresh[start : start + BLOCK]
        made = dict(zip(block, encoder.encode([wanted[key] for key in block]), strict=True))
        if cache is not None:
            cache.write(made)
        vectors |= made
        if report is not None:
            report(len(vectors), len(wanted))
    out = np.empty((len(texts), encoder.dim), np.float32)
    for row, key in enumerate(keys):
        out[row] = vectors[key]
    return out, len(fresh)
