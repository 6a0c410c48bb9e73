"""More texts than there are: the same meaning in other words. What a copy loses or gains is drawn by a seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tailwise.errors import ConfigError, DataError
from tailwise.nets.settings_texts import Augmentation
from tailwise.types import Floats

Synonyms = Mapping[str, Sequence[str]]
"""Words in lower case to words that may stand for them."""
Translate = Callable[[Sequence[str]], Sequence[str]]
"""Texts to as many texts: any model, however it is asked."""

# Scripts without spaces between words: each sign is taken for a word.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
LONGEST = 3.0
"""A translation that is more than so many times as long as its source, or as short, is no translation."""


def replaced(text: str, synonyms: Synonyms, *, share: float, rng: np.random.Generator) -> str:
    """
    ``text`` with some of its words replaced by words that mean the same.

    Args:
        text: Any.
        synonyms: What may stand for what.
        share: Chance that a word which has synonyms is replaced, in [0, 1].
        rng: Draws.

    >>> replaced("A Film about film makers", {"film": ("movie",)}, share=1.0, rng=np.random.default_rng(0))
    'A Movie about movie makers'
    """

    def other(found: re.Match[str]) -> str:
        word = found[0]
        choices = synonyms.get(word.lower(), ())
        if not choices or rng.random() >= share:
            return word
        chosen = str(choices[int(rng.integers(len(choices)))])
        return chosen[:1].upper() + chosen[1:] if word[:1].isupper() else chosen

    return WORD.sub(other, text)


def without_span(text: str, *, share: float, rng: np.random.Generator) -> str:
    """
    ``text`` with one run of neighbouring words left out; at least one word stays.

    >>> without_span("one two three four", share=0.5, rng=np.random.default_rng(0))
    'one two'
    """
    start, stop = _span(text, share, rng)
    return " ".join(f"{text[:start]} {text[stop:]}".split()) if stop > start else text


def masked_span(text: str, mask: str, *, share: float, rng: np.random.Generator) -> str:
    """
    ``text`` with one run of neighbouring words hidden behind ``mask``, the token that the encoder knows for it.

    >>> masked_span("one two three four", "[MASK]", share=0.5, rng=np.random.default_rng(0))
    'one two [MASK]'
    """
    start, stop = _span(text, share, rng)
    return f"{text[:start]}{mask}{text[stop:]}" if stop > start else text


def swapped(text: str, *, share: float, rng: np.random.Generator) -> str:
    """
    ``text`` with some pairs of words in each other's place, what stands between words left where it is.

    Args:
        text: Any.
        share: Pairs to swap, as a share of the number of words; rounded up.
        rng: Draws.

    >>> swapped("one, two", share=0.5, rng=np.random.default_rng(0))
    'two, one'
    """
    words = [found[0] for found in WORD.finditer(text)]
    if len(words) < 2 or share <= 0:
        return text
    for _ in range(int(np.ceil(share * len(words)))):
        first, second = rng.choice(len(words), 2, replace=False)
        words[first], words[second] = words[second], words[first]
    rest = iter(words)
    return WORD.sub(lambda _: next(rest), text)


def translated_back(texts: Sequence[str], there: Translate, back: Translate) -> list[str | None]:
    """
    Each text in other words, through another language; None where that gave nothing new.

    What comes back empty, unchanged or three times as long or short is dropped: a model that does not know the
    language answers with an apology or an essay.

    Args:
        texts: (N,)
        there: Into the other language.
        back: From it.

    Returns:
        (N,)

    Raises:
        DataError: A model gave another number of texts than it was given.

    Source: Sennrich, Haddow & Birch, ACL 2016, doi:10.18653/v1/P16-1009 (back-translation).
    """
    abroad = _all_of(there, texts)
    found = _all_of(back, abroad)
    return [_if_new(old, new) for old, new in zip(texts, found, strict=True)]


def near_words(words: Sequence[str], vectors: Floats, *, neighbours: int, least: float) -> dict[str, tuple[str, ...]]:
    """
    For each word those nearest to it, as synonyms when nobody wrote any.

    Forms of the same word (one is the beginning of the other) are left out: they add nothing.

    Args:
        words: (V,) in lower case, each once.
        vectors: (V, D) where each word lies; any length, zeros for nowhere.
        neighbours: At most so many a word.
        least: Cosine that a neighbour must reach.

    Cost: O(V² D) time in blocks, O(1,000 V) memory.

    >>> near_words(["film", "movie", "shoe"], np.array([[1, 0], [1, 0.1], [0, 1]]), neighbours=1, least=0.5)
    {'film': ('movie',), 'movie': ('film',)}
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.where(length > 0, length, 1)).astype(np.float32)
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(words), 1000):
        cosine = unit[start : start + 1000] @ unit.T  # (≤ 1000, V)
        places = np.argsort(-cosine, axis=1, kind="stable")[:, : 4 * neighbours + 1]
        for row, order in enumerate(places):
            word = words[start + row]
            near = [words[at] for at in order if cosine[row, at] >= least and not _same_stem(word, words[at])]
            if near:
                found[word] = tuple(near[:neighbours])
    return found


def words_of(tokenizer: Any, table: Floats) -> tuple[list[str], Floats]:
    """
    The whole words that an encoder has a token for, and where its table puts them.

    Args:
        tokenizer: Of transformers.
        table: (V, D) the encoder's token embeddings.

    Returns:
        (W,) words in lower case, and (W, D).
    """
    kept: dict[str, int] = {}
    starts = ("Ġ", "▁")  # how byte-level and unigram tokenisers mark the beginning of a word
    marked = any(token.startswith(starts) for token in tokenizer.get_vocab())
    for token, code in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]):
        word = token.lstrip("".join(starts)) if marked else token
        if code < len(table) and len(word) > 2 and word.isalpha() and (not marked or token.startswith(starts)):
            kept.setdefault(word.lower(), code)
    return list(kept), np.asarray(table[list(kept.values())], np.float32)


def augmented(
    texts: Sequence[str],
    config: Augmentation,
    *,
    seed: int,
    synonyms: Synonyms | None = None,
    mask: str | None = None,
    translations: Sequence[str | None] | None = None,
) -> list[tuple[int, str]]:
    """
    Further texts, each with the row that it is a copy of; copies that changed nothing are left out.

    Args:
        texts: (N,)
        config: Which ways, how many copies, how much of each changes.
        seed: Of what is drawn; each row draws from its own stream, so that rows beside it change nothing.
        synonyms: For the way ``synonyms``; what ``config.table`` says comes before it.
        mask: For ``mask``: the encoder's own token.
        translations: For ``back_translation``: what ``translated_back`` gave.

    Returns:
        At most ``config.copies`` for each text and way, in the order of the rows.

    Raises:
        ConfigError: A way needs what was not given.
    """
    known = {**(synonyms or {}), **config.table}
    _check_given(config, known, mask, translations)
    way: dict[str, Callable[[int, np.random.Generator], str | None]] = {
        "synonyms": lambda row, rng: replaced(texts[row], known, share=config.share, rng=rng),
        "delete": lambda row, rng: without_span(texts[row], share=config.share, rng=rng),
        "mask": lambda row, rng: masked_span(texts[row], str(mask), share=config.share, rng=rng),
        "swap": lambda row, rng: swapped(texts[row], share=config.share, rng=rng),
        "back_translation": lambda row, _: translations[row] if translations is not None else None,
    }
    out: list[tuple[int, str]] = []
    for row, text in enumerate(texts):
        rng = np.random.default_rng([seed, row])
        fresh = (way[name](row, rng) for name in config.ways for _ in range(config.copies))
        out += [(row, copy) for copy in dict.fromkeys(fresh) if copy and copy != text]
    return out


def _check_given(config: Augmentation, known: Synonyms, mask: str | None, translations: Any) -> None:
    missing = {
        "synonyms": (known, "a table of synonyms"),
        "mask": (mask, "an encoder that knows a mask token"),
        "back_translation": (translations, "a model that translates, augment.translator"),
    }
    for way in config.ways:
        given, what = missing.get(way, (True, ""))
        if not given:
            raise ConfigError(f"augment.ways has {way!r}, which needs {what}; give one, or leave the way out")


def _span(text: str, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """Where a run of words begins and ends in ``text``; nothing where it would take all of them."""
    words = [found.span() for found in WORD.finditer(text)]
    count = min(int(np.ceil(share * len(words))), len(words) - 1)
    if count < 1:
        return 0, 0
    first = int(rng.integers(len(words) - count + 1))
    return words[first][0], words[first + count - 1][1]


def _all_of(model: Translate, texts: Sequence[str]) -> list[str]:
    found = [str(text) for text in model(texts)]
    if len(found) != len(texts):
        raise DataError(f"the model that translates gave {len(found)} texts for {len(texts)}; it must give one each")
    return found


def _if_new(old: str, new: str) -> str | None:
    new = " ".join(new.split())
    plain = " ".join(old.split())
    same = new.casefold() == plain.casefold()
    return None if same or not new or not 1 / LONGEST <= len(new) / max(1, len(plain)) <= LONGEST else new


def _same_stem(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
