"""Parts of texts from tags of tokens: reading an encoder token by token, and from tags to characters and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tailwise.data.batch import token_batches
from tailwise.data.labelled import Span
from tailwise.encode.exported import EncoderCard
from tailwise.errors import ArtifactError
from tailwise.nets.session import open_session
from tailwise.types import Floats, Rows

OUTSIDE = "O"
TOKEN_BUDGET = 256
"""Rows × longest text of one batch."""
Offsets = Sequence[tuple[int, int]]
"""T: where each token stands in its text, in characters; (0, 0) for what stands nowhere."""


class TokenReader:
    """An exported encoder that gives the vector of every token beside the text's. Loaded with the first text."""

    def __init__(self, folder: Path, card: EncoderCard, max_tokens: int) -> None:
        self._folder, self._card = folder, card
        self._max_tokens = min(max_tokens, card.max_tokens)
        self._loaded: tuple[Any, Any] | None = None

    @classmethod
    def open(cls, folder: Path, *, max_tokens: int) -> Self:
        """
        The encoder in ``folder``.

        Raises:
            ArtifactError: It is no exported encoder.
        """
        return cls(folder, EncoderCard.read(folder), max_tokens)

    def read(self, texts: Sequence[str]) -> tuple[Floats, list[Floats], list[Offsets]]:
        """(N,) texts to (N, D) unit rows, N of (T, D) and N of T offsets; a blank text gives zeros and no tokens."""
        session, tokenizer = self._parts()
        clean = [text.encode(errors="replace").decode() for text in texts]  # a lone surrogate becomes "?"
        encoded = [tokenizer.encode(text) for text in clean]
        lengths = [len(own.ids) if text.strip() else 0 for own, text in zip(encoded, clean, strict=True)]
        vectors = np.zeros((len(texts), self._card.dim), np.float32)
        tokens = [np.zeros((0, self._card.dim), np.float32)] * len(texts)
        for rows in token_batches(lengths, budget=TOKEN_BUDGET):
            ids = np.full((len(rows), lengths[rows[-1]]), self._card.pad_id, np.int64)  # (B, T)
            mask = np.zeros_like(ids)
            for place, row in enumerate(rows):
                ids[place, : lengths[row]] = encoded[row].ids
                mask[place, : lengths[row]] = 1
            found = session.run(["embedding", "tokens"], {"input_ids": ids, "attention_mask": mask})
            vectors[rows] = found[0]
            for place, row in enumerate(rows):
                tokens[row] = found[1][place, : lengths[row]]
        offsets = [own.offsets[:length] for own, length in zip(encoded, lengths, strict=True)]
        return vectors, tokens, offsets

    def _parts(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
            tokenizer.no_padding()
            tokenizer.enable_truncation(self._max_tokens)
            session = open_session((self._folder / "model.onnx").read_bytes(), "the encoder")
            if "tokens" not in [one.name for one in session.get_outputs()]:
                raise ArtifactError(f"{self._folder} gives no vectors of tokens; fit the classifier again")
            self._loaded = (session, tokenizer)
        return self._loaded


def tag_names(labels: Sequence[str]) -> tuple[str, ...]:
    """
    Tags of L labels: outside, and beginning and inside of each, (1 + 2 L,).

    >>> tag_names(["film"])
    ('O', 'B-film', 'I-film')
    """
    return (OUTSIDE, *(f"{part}-{label}" for label in labels for part in "BI"))


def tags_of(spans: Sequence[Span], offsets: Offsets, names: Sequence[str]) -> Rows:
    """
    The tag of each token, (T,): of the span that it has a character in common with; outside where there is none.

    >>> tags_of([Span(4, 13, "film")], [(0, 0), (0, 3), (4, 7), (8, 13)], tag_names(["film"])).tolist()
    [0, 0, 1, 2]
    """
    place = {name: code for code, name in enumerate(names)}
    out = np.zeros(len(offsets), np.int64)
    for span in spans:
        inside = [at for at, (start, end) in enumerate(offsets) if start < min(end, span.end) and end > span.start]
        for at in inside:
            out[at] = place[f"{'B' if at == inside[0] else 'I'}-{span.label}"]
    return out


def best_tags(chances: Floats) -> Rows:
    """
    The likeliest tags, (T, 1 + 2 L) to (T,), of all rows of tags where an inside follows its own beginning or inside.

    Cost: O(T L²).
    Source: Viterbi, IEEE Trans. Inf. Theory 1967, doi:10.1109/TIT.1967.1054010.
    """
    if not len(chances):
        return np.empty(0, np.int64)
    told = np.log(np.clip(chances.astype(np.float64), 1e-12, 1))
    count = chances.shape[1]
    tags = np.arange(count)
    is_inside = (tags > 0) & (tags % 2 == 0)
    allowed = ~is_inside[None, :] | (tags[:, None] == tags) | (tags[:, None] == tags - 1)  # (before, after)
    step = np.where(allowed, 0.0, -np.inf)
    best = np.where(is_inside, -np.inf, told[0])
    came = np.zeros(chances.shape, np.int64)
    for at in range(1, len(chances)):
        ways = best[:, None] + step  # (before, after)
        came[at] = ways.argmax(0)
        best = ways.max(0) + told[at]
    out = np.empty(len(chances), np.int64)
    out[-1] = best.argmax()
    for at in range(len(chances) - 1, 0, -1):
        out[at - 1] = came[at, out[at]]
    return out


def spans_of(text: str, chances: Floats, offsets: Offsets, names: Sequence[str]) -> list[tuple[Span, float]]:
    """
    Parts of a text from the chances of its tokens' tags, each with the mean chance of its tags.

    A part that ends within a word takes all of it: a word is several tokens to the encoder, and one to people.

    Args:
        text: As it was read.
        chances: (T, tags) rows that sum to 1.
        offsets: T.
        names: Of the tags.
    """
    placed = [at for at, (start, end) in enumerate(offsets) if end > start]
    found: list[tuple[Span, list[float]]] = []
    for at, tag in zip(placed, best_tags(chances[placed]), strict=True):
        if not tag:
            continue
        start, end = offsets[at]
        label, chance = names[tag][2:], float(chances[at, tag])
        if names[tag].startswith("I-") and found:
            before, own = found[-1]
            found[-1] = (Span(before.start, end, label), [*own, chance])
        else:
            found.append((Span(start, end, label), [chance]))
    whole = [(_whole_words(text, span), float(np.mean(own))) for span, own in found]
    return joined(whole, [])


def joined(first: list[tuple[Span, float]], others: list[tuple[Span, float]]) -> list[tuple[Span, float]]:
    """Both in the order of the text; where two overlap, the one that comes first in ``first``, then ``others``."""
    kept: list[tuple[Span, float]] = []
    for span, chance in (*first, *others):
        if all(span.end <= other.start or span.start >= other.end for other, _ in kept):
            kept.append((span, chance))
    return sorted(kept)


def _whole_words(text: str, span: Span) -> Span:
    start, end = span.start, span.end
    while start > 0 and _one_word(text[start - 1], text[start]):
        start -= 1
    while end < len(text) and _one_word(text[end - 1], text[end]):
        end += 1
    return Span(start, end, span.label)


def _one_word(before: str, after: str) -> bool:
    """Whether two neighbouring characters belong to one word, in scripts that put spaces between words."""
    return all(sign.isalnum() and sign < "\u3040" for sign in (before, after))
