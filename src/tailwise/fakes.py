"""The smallest thing that keeps each promise of ``types.py``, for tests, examples and where no model is wanted."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailwise.types import Column, Floats, Ids, Request, Rows, Slate, ids_of

UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f]")
"""A sign of Chinese, Japanese or Thai, which are written without spaces between words."""


@dataclass(frozen=True)
class HashEncoder:
    """
    Texts to signed hashed word counts: no model, no download, same answer everywhere.

    What is written without spaces, as Chinese is, counts by signs.
    """

    dim: int = 64

    def encode(self, texts: Sequence[str]) -> Floats:
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in UNSPACED.sub(r" \g<0> ", text.lower()).split():
                code = zlib.crc32(word.encode(errors="surrogatepass"))
                out[row, code % self.dim] += 1.0 if code & 0x10000 else -1.0
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        unit: Floats = np.divide(out, norms, out=np.zeros_like(out), where=norms > 0)
        return unit


@dataclass(frozen=True)
class FixedRetriever:
    """The first items of a catalogue, in its order, for everyone."""

    item_ids: tuple[str, ...]

    def __call__(self, request: Request, k: int) -> Slate:
        rows = np.setdiff1d(np.arange(len(self.item_ids)), request.excluded)[:k]
        return Slate(ids_of(self.item_ids)[rows], self.scores(request, rows), {"row": rows})

    def scores(self, request: Request, rows: Rows) -> Floats:  # noqa: ARG002  the same for every request
        return np.where(rows >= 0, -rows, np.nan).astype(np.float32)


@dataclass(frozen=True)
class Reverse:
    """Worst first."""

    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()

    def __call__(self, request: Request, slate: Slate) -> Slate:  # noqa: ARG002  the same for every request
        return slate.take(np.arange(len(slate))[::-1])


@dataclass(frozen=True)
class DictFacts:
    """Facts from a dict of dicts: ``facts[name][item_id]``."""

    facts: Mapping[str, Mapping[str, Any]]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.facts)

    @property
    def item_ids(self) -> Ids:
        return ids_of(sorted({item_id for column in self.facts.values() for item_id in column}))

    def columns(self, item_ids: Ids, names: frozenset[str]) -> Mapping[str, Column]:
        return {name: np.array([self.facts[name].get(i) for i in item_ids]) for name in names}
