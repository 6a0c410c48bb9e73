"""Every language has every sentence, and names stay names."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.rerank.phrases import JOINED, MOST_LETTERS, RELATIONS, SENTENCES, language_of, plain, preferred, sentence

FIELDS = {"name": "Heat", "relation": "director", "entity": "Jo", "labels": ["Crime"], "rules": ["new first"]}


def test_every_language_says_the_same_kinds_with_the_same_names() -> None:
    fields = [
        {kind: sorted(name for _, name, _, _ in string.Formatter().parse(text) if name) for kind, text in own.items()}
        for own in SENTENCES.values()
    ]

    assert all(own == fields[0] for own in fields)
    assert SENTENCES.keys() == JOINED.keys() == RELATIONS.keys()


@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize("kind", SENTENCES["en"])
def test_every_sentence_can_be_said(language: str, kind: str) -> None:
    text = sentence({"kind": kind, "item_id": "i1", **FIELDS}, language)

    assert text
    assert "{" not in text
    assert any("\u4e00" <= letter <= "\u9fff" for letter in text) == (language == "zh")


@given(st.text())
def test_a_name_is_short_printable_and_on_one_line(name: str) -> None:
    shown = plain(name)

    assert shown.isprintable()
    assert len(shown) <= MOST_LETTERS
    assert plain(shown) == shown


@given(st.text())
def test_whatever_a_name_says_it_stands_in_the_sentence(name: str) -> None:
    assert sentence({"kind": "similar", "name": name}, "en") == f"Similar to {plain(name)}"


@given(st.text())
def test_any_header_is_read(header: str) -> None:
    assert preferred(header) in {None, *SENTENCES}
    assert language_of(header) in SENTENCES


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB, zh;q=0.9", "en"),
        ("zh;q=0.1,en;q=0.5", "en"),
        ("*", None),
        ("", None),
    ],
)
def test_the_language_that_is_liked_best_wins(header: str, language: str | None) -> None:
    assert preferred(header) == language
