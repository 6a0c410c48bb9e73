"""
Pairs of texts as tokens, and what an exported cross-encoder says of them: numpy and onnxruntime alone.

    start + history (newest first, comma between) + middle + item + end ─▶ model.onnx ─▶ one logit

Texts of the catalogue are tokens already, from the fit: what stands in a title is never taken for a mark of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.config import Closed
from tailwise.types import Floats, Rows

Tokens = NDArray[np.int64]
TITLE_TOKENS = 16
"""Of one title in a history, at most: a title that is a page long must not be all that is read."""


class Frame(Closed):
    """Where the texts of a pair stand, in tokens."""

    start: tuple[int, ...]
    """Before the history."""
    comma: tuple[int, ...]
    """Between two titles."""
    middle: tuple[int, ...]
    """Between the history and the item."""
    end: tuple[int, ...]
    """After the item."""
    history: Annotated[int, Field(ge=1)]
    """Of the history at most."""
    item: Annotated[int, Field(ge=1)]
    """Of the item at most."""

    @property
    def longest(self) -> int:
        """Tokens of the longest pair, rounded up to a multiple of 8, as pairs are padded while they teach."""
        marks = len(self.start) + len(self.middle) + len(self.end)
        return -(-(marks + self.history + self.item) // 8) * 8

    def past(self, titles: Words, liked: Rows) -> Tokens:
        """
        The newest titles of a history, newest first, as many as fit whole; of a first that is too long, its start.

        Args:
            titles: Of the catalogue.
            liked: (H,) rows, oldest first. What has no title is left out, and what comes again counts once.

        Returns:
            (≤ history,) tokens; none when no item has a title.
        """
        parts: list[int] = []
        for row in dict.fromkeys(liked[::-1].tolist()):
            own = titles.of(row)[:TITLE_TOKENS].tolist()
            more = [*self.comma, *own] if parts else own[: self.history]
            if own and len(parts) + len(more) > self.history:
                break
            parts += more if own else []
        return np.array(parts, np.int64)

    def pair(self, past: Tokens, item: Tokens) -> Tokens:
        """One input of the model, (T,)."""
        return np.concatenate([self.start, past, self.middle, item[: self.item], self.end]).astype(np.int64)


class Words:
    """The tokens of M texts, one after the other."""

    def __init__(self, tokens: NDArray[np.int32], offsets: NDArray[np.int64]) -> None:
        self.tokens, self.offsets = tokens, offsets

    @classmethod
    def join(cls, texts: Sequence[Sequence[int]]) -> Words:
        """Tokens of M texts."""
        offsets = np.concatenate([[0], np.cumsum([len(own) for own in texts])]).astype(np.int64)
        return cls(np.array([token for own in texts for token in own], np.int32), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, row: int) -> Tokens:
        """One text's tokens, (≤ T,); none for row -1."""
        if row < 0:
            return np.empty(0, np.int64)
        return self.tokens[self.offsets[row] : self.offsets[row + 1]].astype(np.int64)

    def lengths(self, rows: Rows) -> NDArray[np.int64]:
        """Tokens of the texts at (N,) rows; 0 at row -1."""
        counts = np.append(np.diff(self.offsets), 0)
        return np.asarray(counts[rows], np.int64)


def logits(session: Any, pairs: Sequence[Tokens], pool: ThreadPoolExecutor | None = None) -> Floats:
    """
    What an exported cross-encoder says of some pairs, (N,).

    One pair at a time: of 50 tokens a batch is no faster, and nothing is padded. Threads take the pairs by length,
    every n-th each, so that none waits for another.

    Args:
        session: Takes ``input_ids`` and ``attention_mask``, each (1, T), and gives (1, 1).
        pairs: (T,) each.
        pool: What shares the work; None: the caller's thread.

    Cost: about 3.3 ms a pair of 48 tokens and core, for six layers of width 384 in int8.
    """
    out = np.zeros(len(pairs), np.float32)

    def some(places: NDArray[np.int64]) -> None:
        for place in places:
            ids = pairs[place][None]
            out[place] = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0, 0]

    by_length = np.argsort([-len(pair) for pair in pairs], kind="stable")
    if pool is None:
        some(by_length)
    else:
        workers = pool._max_workers  # noqa: SLF001  an executor tells its size nowhere else
        list(pool.map(some, [by_length[part::workers] for part in range(workers)]))
    return out
