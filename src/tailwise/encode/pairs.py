"""
A history with the items it is paired with as tokens, and what an exported cross-encoder says: numpy and onnxruntime.

    start + history (newest first, comma between) + middle + item + end + item + end … ─▶ model.onnx ─▶ a logit an item

Texts of the catalogue are tokens already, from the fit: what stands in a title is never taken for a mark of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.config import Closed
from tailwise.types import Floats, Rows

Tokens = NDArray[np.int64]
Row = tuple[Tokens, Tokens]
"""Tokens, and what each belongs to: 0 the history and its marks, n the nth item. Both (T,)."""
TITLE_TOKENS = 16
"""Of one title in a history, at most: a title that is a page long must not be all that is read."""
INPUTS = ("input_ids", "part", "which")
"""Of an exported cross-encoder."""
ROOM = 192
"""Tokens of a row that is only read, about: of more the attention costs more than reading the history again."""


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
    together: bool = True
    """Whether several items share a row, and with it the reading of the history."""

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

    def rows(self, past: Tokens, items: Sequence[Tokens], least: int = 1, room: int = ROOM) -> list[Row]:
        """
        Inputs of the model: the history with the items in their order, as many in a row as there is room for.

        Args:
            past: As ``past`` makes it.
            items: N texts, none of them empty.
            least: So many rows, if there are as many items, that several may work on them.
            room: Tokens of a row, about.
        """
        head, tails = np.array([*self.start, *past, *self.middle], np.int64), [self._tail(item) for item in items]
        number = len(tails)
        if self.together:
            number = min(number, max(least, -(-sum(map(len, tails)) // max(1, room - len(head)))))
        ends = [len(tails) * place // number for place in range(number + 1)] if number else []
        return [_row(head, tails[start:end]) for start, end in pairwise(ends)]

    def _tail(self, item: Tokens) -> Tokens:
        return np.array([*item[: self.item], *self.end], np.int64)


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


def logits(session: Any, rows: Sequence[Row], pool: ThreadPoolExecutor | None = None) -> Floats:
    """
    What an exported cross-encoder says of the items of some rows, (N,), row by row.

    One row at a time, so that nothing is padded. Threads take the rows by length, every n-th each, so that none waits
    for another.

    Args:
        session: Takes ``INPUTS``: tokens and their parts, each (1, T), and the items wanted, (S,); gives (1, S).
        rows: As ``Frame.rows`` makes them.
        pool: What shares the work; None: the caller's thread.
    """
    said: list[Floats] = [np.empty(0, np.float32)] * len(rows)

    def some(places: NDArray[np.int64]) -> None:
        for place in places:
            ids, part = rows[place]
            which = np.arange(1, part[-1] + 1)
            said[place] = session.run(None, dict(zip(INPUTS, (ids[None], part[None], which), strict=True)))[0][0]

    by_length = np.argsort([-len(ids) for ids, _ in rows], kind="stable")
    if pool is None:
        some(by_length)
    else:
        workers = pool._max_workers  # noqa: SLF001  an executor tells its size nowhere else
        list(pool.map(some, [by_length[part::workers] for part in range(workers)]))
    return np.concatenate([np.empty(0, np.float32), *said])


def _row(head: Tokens, tails: Sequence[Tokens]) -> Row:
    part = np.repeat(np.arange(len(tails) + 1), [len(head), *map(len, tails)])
    return np.concatenate([head, *tails]), part
