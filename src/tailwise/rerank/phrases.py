"""
What reasons say, in the language of who reads: a table of sentences, and which language that is.

An item's name and an entity's are somebody else's words: they are cut, put on one line, and never read as a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tailwise.types import Request

LOCALE = "locale"
"""Key of ``Request.context`` that says which language reasons are wanted in, as ``zh-CN``."""
MOST_LETTERS = 120
"""Of a name; longer ones are cut."""

SENTENCES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "history": "Because of {name}",
        "path": "{relation}: {entity}, as in {name}",
        "similar": "Similar to {name}",
        "shared": "Shares {labels} with your latest",
        "new_for": "New here, for those who like {name}",
        "new": "New here",
        "popular": "Popular now",
        "liked": "Liked by many",
        "tail": "From the long tail",
        "score": "Fits your history",
        "rule": "Rule: {rules}",
        "gate": "Put here with the help of a language model",
        "query": "Matches your search",
        "nearest": "Among the nearest to your search",
        "listed": "From the catalogue",
    },
    "zh": {
        "history": "因为你选过“{name}”",
        "path": "与“{name}”同一{relation}：{entity}",
        "similar": "与“{name}”相似",
        "shared": "与你最近所选同属：{labels}",
        "new_for": "新上架，适合喜欢“{name}”的人",
        "new": "新上架",
        "popular": "近期热门",
        "liked": "很多人喜欢",
        "tail": "小众之选",
        "score": "符合你的偏好",
        "rule": "规则：{rules}",
        "gate": "由语言模型协助排在这里",
        "query": "符合你的搜索",
        "nearest": "与你的搜索较为接近",
        "listed": "来自目录",
    },
}
"""A sentence for each kind of evidence, in each language."""
JOINED = {"en": ", ", "zh": "、"}
RELATIONS: Mapping[str, Mapping[str, str]] = {
    "en": {"cast": "With", "keyword": "About"},
    "zh": {
        "actor": "演员",
        "artist": "艺人",
        "author": "作者",
        "brand": "品牌",
        "cast": "演员",
        "category": "类别",
        "country": "国家",
        "director": "导演",
        "genre": "类型",
        "group": "组别",
        "keyword": "关键词",
        "language": "语言",
        "producer": "制片人",
        "publisher": "出版方",
        "series": "系列",
        "topic": "主题",
        "writer": "编剧",
    },
}
"""What relations of a graph are called; others go by the last part of their own name."""
DEFAULT = "en"
UNSAID = frozenset({"kind", "item_id", "text"})
"""What evidence holds for programs alone."""


def language_of(locale: object) -> str:
    """
    The language that sentences are there in, for a locale as people and browsers write it; else English.

    >>> language_of("zh-Hans-CN"), language_of("zh_TW"), language_of("fr"), language_of(None)
    ('zh', 'zh', 'en', 'en')
    """
    own = str(locale).replace("_", "-").partition("-")[0].strip().lower() if isinstance(locale, str) else DEFAULT
    return own if own in SENTENCES else DEFAULT


def reader_of(request: Request) -> str:
    """The language of who reads an answer, as its context says; else English."""
    return language_of(request.context.get(LOCALE))


def preferred(header: str) -> str | None:
    """
    The language of ours that an ``Accept-Language`` header likes best; None when it likes none of them.

    >>> preferred("fr-CH, fr;q=0.9, zh;q=0.8, en;q=0.7"), preferred("de"), preferred("en;q=0, zh;q=oops")
    ('zh', None, None)
    """
    best: tuple[float, str] | None = None
    for part in header[:1000].split(","):
        tag, _, quality = part.partition(";")
        own = tag.replace("_", "-").partition("-")[0].strip().lower()
        weight = _weight(quality)
        if own in SENTENCES and weight > 0 and (best is None or weight > best[0]):
            best = weight, own
    return None if best is None else best[1]


def sentence(evidence: Mapping[str, Any], language: str) -> str:
    """
    Evidence as one sentence.

    Args:
        evidence: ``kind``, and what its sentence names: ``name``, ``labels``, ``rules``, ``relation`` and ``entity``.
        language: Of ``SENTENCES``.

    >>> sentence({"kind": "shared", "labels": ["Crime", "War"]}, "en")
    'Shares Crime, War with your latest'
    >>> sentence({"kind": "history", "name": "{kind}"}, "zh")
    '因为你选过“{kind}”'
    """
    said = {name: _said(name, value, language) for name, value in evidence.items() if name not in UNSAID}
    return SENTENCES[language][str(evidence["kind"])].format_map(said)


@lru_cache(4096)  # the same titles are cited all day
def plain(name: str) -> str:
    r"""
    A name on one line, without letters that cannot be seen, and not too long.

    >>> plain("  a\n b\u202e"), len(plain("x" * 500))
    ('a b', 120)
    """
    if not name.isprintable():
        name = "".join(letter if letter.isprintable() else " " for letter in name)
    line = " ".join(name.split())
    return line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS - 1]}…"


def relation_name(relation: str, language: str) -> str:
    """
    What a relation is called.

    >>> relation_name("film.film.directed_by", "en"), relation_name("director", "zh"), relation_name("cast", "en")
    ('Directed by', '导演', 'With')
    """
    own = relation.rpartition(".")[2]
    words = own.replace("_", " ").strip()
    return RELATIONS[language].get(own.lower(), words[:1].upper() + words[1:])


def _said(name: str, value: Any, language: str) -> str:
    if name == "relation":
        return plain(relation_name(str(value), language))
    if isinstance(value, list | tuple):
        return JOINED[language].join(plain(str(one)) for one in value)
    return plain(str(value))


def _weight(quality: str) -> float:
    """The q of a language range, 1 when it has none, 0 when it is no number."""
    name, _, value = quality.partition("=")
    if not name.strip():
        return 1.0
    try:
        return float(value) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0
