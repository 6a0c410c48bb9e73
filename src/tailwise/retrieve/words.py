"""
Keyword search: items that share rare words with the query, or with what the person liked (BM25).

An item's words are those of its title, labels, numbers and every other text column, so that this is a source of
attributes too. It speaks before anybody has done anything. Where the log has what people typed before they chose an
item, these words are the item's as well: what people call a thing need not stand in its text. Chinese and its like,
written without spaces, count by characters and by pairs of them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import polars as pl
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.interactions import TYPED, Interactions, Training
from tailwise.data.scores import at_rows, best_slate
from tailwise.encode.text import ITEM_COLUMNS, item_texts
from tailwise.errors import ArtifactError
from tailwise.fakes import UNSPACED
from tailwise.retrieve.decay import history_weights
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate

MOST_WORDS = 1_000
"""Of an item: the first, so that one endless text does not fill the index."""
MOST_ASKED = 128
"""Words of a request that are looked up, the weightiest."""
TYPED_WORDS = "words typed"
"""Key of ``Training.memo`` for what an earlier fit knew of queries, where the log at hand has none."""
TYPISTS = 3
"""People who must have typed a word before a model keeps it."""
NOT_WORDS = frozenset({"item_id", "image", "time"})
"""Columns whose values are no words."""

_RUNS = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(f"{UNSPACED.pattern}+")


class WordsConfig(Closed):
    """Settings of the keyword source."""

    columns: tuple[str, ...] = ()
    """Item columns whose words count; empty takes the usual ones and every other text column."""
    saturation: Annotated[float, Field(ge=0)] = 1.2
    """How much a word that is there again adds: BM25's k1."""
    length: Annotated[float, Field(ge=0, le=1)] = 0.75
    """How far long texts are marked down: BM25's b."""
    decay: Annotated[float, Field(ge=0)] = 0.2
    """How fast older events count less: each counts ``exp(-decay)`` of the next one."""
    taste: Annotated[float, Field(ge=0)] = 0.25
    """What the words of a person's past weigh beside a query's."""


class Words:
    """
    Scores items by the words that they share with a request.

    Args:
        config: Settings.
        item_ids: (M,).
        vocabulary: Word to its place.
        offsets: (V + 1,) where each word's items begin.
        rows: (P,) items, word by word, rising within a word.
        values: (P,) what the word says of the item: BM25's weight.
        typed: (T,) items, words and times of what people typed before they chose.
    """

    Config = WordsConfig

    def __init__(
        self,
        config: WordsConfig,
        item_ids: Ids,
        *,
        vocabulary: dict[str, int],
        offsets: Rows,
        rows: Rows,
        values: Floats,
        typed: tuple[Rows, Rows, Floats] | None = None,
    ) -> None:
        nothing = np.zeros(0, np.int64)
        self._typed = (nothing, nothing, np.zeros(0, np.float32)) if typed is None else typed
        self.config = config
        self._item_ids, self._vocabulary = item_ids, vocabulary
        self._offsets, self._rows, self._values = offsets, rows, values
        by_item = np.argsort(rows, kind="stable")  # the same postings, item by item
        self._own = np.repeat(np.arange(len(vocabulary)), np.diff(offsets))[by_item]  # (P,) words
        self._own_values = values[by_item]
        self._own_offsets = np.searchsorted(rows[by_item], np.arange(len(item_ids) + 1))

    @classmethod
    def fit(cls, config: WordsConfig, training: Training) -> Self:
        """Index the items' words."""
        catalogue = training.catalogue
        texts = item_texts(catalogue.frame, config.columns or word_columns(catalogue.frame))
        counted = [Counter(words_of(text)[:MOST_WORDS]) for text in texts]
        typed = typed_words(training.interactions) or training.memo.get(TYPED_WORDS, {})
        for row, words_typed in typed.items():
            counted[row].update(words_typed)
        vocabulary = {word: place for place, word in enumerate(sorted({word for count in counted for word in count}))}
        sizes = [len(count) for count in counted]
        rows = np.repeat(np.arange(len(counted)), sizes)
        words = np.fromiter((vocabulary[word] for count in counted for word in count), np.int64, sum(sizes))
        times = np.fromiter((n for count in counted for n in count.values()), np.float32, sum(sizes))
        lengths = np.bincount(rows, weights=times, minlength=len(counted)).astype(np.float32)
        values = bm25(words, times, lengths[rows] / max(lengths.mean(), 1e-9), config, items=len(counted))
        order = np.lexsort((rows, words))
        offsets = np.searchsorted(words[order], np.arange(len(vocabulary) + 1))
        triples = [(row, vocabulary[word], n) for row, own in sorted(typed.items()) for word, n in own.items()]
        kept = np.array(triples, np.int64).reshape(-1, 3).T
        return cls(
            config,
            catalogue.item_ids,
            vocabulary=vocabulary,
            offsets=offsets,
            rows=rows[order],
            values=values[order],
            typed=(kept[0], kept[1], kept[2].astype(np.float32)),
        )

    @classmethod
    def open(cls, config: WordsConfig, facts: Facts, folder: Path) -> Self:
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        arrays, path = load_arrays(folder / "words.safetensors"), folder / "words.json"
        try:
            words = [str(word) for word in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        vocabulary = {word: place for place, word in enumerate(words)}
        rows = arrays["rows"].astype(np.int64)
        typed = None
        if "typed_rows" in arrays:
            own, said = (arrays[name].astype(np.int64) for name in ("typed_rows", "typed_words"))
            typed = (own, said, arrays["typed_times"])
        offsets, values = arrays["offsets"], arrays["values"]
        return cls(
            config, facts.item_ids, vocabulary=vocabulary, offsets=offsets, rows=rows, values=values, typed=typed
        )

    def save(self, folder: Path) -> None:
        """Write the index."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "words.json").write_text(json.dumps([*self._vocabulary]), encoding="utf-8")
        rows = self._rows.astype(np.int32)
        save_arrays(
            folder / "words.safetensors",
            offsets=self._offsets,
            rows=rows,
            values=self._values,
            typed_rows=self._typed[0],
            typed_words=self._typed[1],
            typed_times=self._typed[2],
        )

    def __call__(self, request: Request, k: int) -> Slate:
        scores = self._scores(request)
        return best_slate(np.where(scores > 0, scores, np.float32("nan")), k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        return at_rows(self._scores(request), rows)

    @property
    def typed(self) -> dict[int, Counter[str]]:
        """By an item's row, the words that people typed before they chose it, and how often."""
        words, found = [*self._vocabulary], dict[int, Counter[str]]()
        for row, word, times in zip(*(part.tolist() for part in self._typed), strict=True):
            found.setdefault(row, Counter())[words[word]] = int(times)
        return found

    def _scores(self, request: Request) -> Floats:
        """(M,) what every item earns; NaN for all when the request has no word that any item has."""
        if self not in request.cache:
            asked = self._asked(request)
            words = np.flatnonzero(asked)
            if len(words) > MOST_ASKED:
                words = np.sort(words[np.argsort(-asked[words], kind="stable")[:MOST_ASKED]])
            spans = [slice(*self._offsets[[word, word + 1]]) for word in words]
            weights = [self._values[span] * asked[word] for span, word in zip(spans, words, strict=True)]
            scores = np.full(len(self._item_ids), np.nan, np.float32)
            if spans:
                rows = np.concatenate([self._rows[span] for span in spans])
                scores = np.bincount(rows, np.concatenate(weights), len(scores)).astype(np.float32)
            request.cache[self] = scores
        return request.cache[self]

    def _asked(self, request: Request) -> Floats:
        """(V,) what each word counts: of the query, of the past, or of both."""
        asked = np.zeros(len(self._vocabulary), np.float32)
        places = [self._vocabulary[word] for word in words_of(request.query or "") if word in self._vocabulary]
        asked[places] = 1.0
        asked /= max(float(np.linalg.norm(asked)), 1.0)
        weights = history_weights(request.past, self.config.decay)
        past = np.zeros_like(asked)
        for row, weight in zip(request.past.rows[weights > 0].tolist(), weights[weights > 0].tolist(), strict=True):
            own = slice(self._own_offsets[row], self._own_offsets[row + 1])
            past[self._own[own]] += weight * self._own_values[own]
        share = self.config.taste if places else 1.0
        return asked + share * past / max(float(np.linalg.norm(past)), 1e-9)


def typed_words(events: Interactions) -> dict[int, Counter[str]]:
    """
    By an item's row, the words of queries that events for it came of, and how often; empty where none are known.

    Words that fewer than ``TYPISTS`` people ever typed are left out: they may be a name or an address.
    """
    found: dict[int, Counter[str]] = {}
    typists: dict[str, set[int]] = {}
    if TYPED in events.context.columns:
        typed = events.context[TYPED].cast(pl.String).to_list()
        whole = zip(events.rows.tolist(), events.users.tolist(), typed, events.likes.tolist(), strict=True)
        for row, user, query, likes in whole:
            if query and likes:
                words = words_of(query)[:MOST_ASKED]
                found.setdefault(row, Counter()).update(words)
                for word in words:
                    if len(own := typists.setdefault(word, set())) < TYPISTS:
                        own.add(user)
    common = {word for word, own in typists.items() if len(own) >= TYPISTS}
    kept = {row: Counter({word: n for word, n in own.items() if word in common}) for row, own in found.items()}
    return {row: own for row, own in kept.items() if own}


def bm25(words: Rows, times: Floats, lengths: Floats, config: WordsConfig, *, items: int) -> Floats:
    """
    What a word says of an item: its rarity times how often it is there, with diminishing returns.

    Args:
        words: (P,) places of words, one posting a word and item.
        times: (P,) how often the word is in the item.
        lengths: (P,) words of that item, in means.
        config: ``saturation`` and ``length``.
        items: How many there are.

    Source: Robertson & Zaragoza 2009, doi:10.1561/1500000019, with the rarity of Lucene, which is never negative.
    """
    among = np.bincount(words)
    rarity = np.log1p((items - among + 0.5) / (among + 0.5))[words] if len(words) else np.zeros(0)
    room = config.saturation * (1 - config.length + config.length * lengths)
    return np.asarray(rarity * times * (config.saturation + 1) / (times + room), np.float32)


def words_of(text: str) -> list[str]:
    """
    The words of a text, in order: in one form of letters, and what is written without spaces by characters and pairs.

    >>> words_of("Toy Story (1995)"), words_of("黑客帝国 3")
    (['toy', 'story', '1995'], ['黑', '客', '帝', '国', '黑客', '客帝', '帝国', '3'])
    """
    found: list[str] = []
    for run in _RUNS.findall(unicodedata.normalize("NFKC", text).casefold()):
        found += _UNSPACED.sub(" ", run).split()
        for signs in _UNSPACED.findall(run):
            found += [*signs, *(signs[at : at + 2] for at in range(len(signs) - 1))]
    return found


def word_columns(frame: pl.DataFrame) -> Sequence[str]:
    """Columns of the items that have words: the usual ones, and every other text."""
    usual = [name for name in ITEM_COLUMNS if name in frame.columns]
    texts: Iterable[str] = (name for name, dtype in frame.schema.items() if dtype == pl.String)
    return [*usual, *(name for name in texts if name not in NOT_WORDS and name not in usual)]
