"""Keyword search over a dozen films, English and Chinese."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.errors import ArtifactError, ConfigError
from tailwise.retrieve.words import MOST_ASKED, Words, WordsConfig, word_columns, words_of
from tailwise.types import Request

FILMS = [
    ("a", "Toy Story", "Animation|Comedy", 1995, "Pixar"),
    ("b", "Heat", "Crime|Thriller", 1995, "Regency"),
    ("c", "Toy Soldiers", "Action", 1991, None),
    ("d", "黑客帝国", "科幻|动作", 1999, "华纳"),
    ("e", "帝国的毁灭", "剧情", 2004, None),
    ("f", "", None, None, None),
]
Asked = Callable[..., Request]


def catalogue_of(frame: pl.DataFrame) -> Catalogue:
    nothing = np.zeros(frame.height, np.float32)
    return Catalogue(frame, popularity=nothing, recent=nothing, vectors=np.zeros((frame.height, 1)), tail_cut=0.2)


def fitted(catalogue: Catalogue, **settings: object) -> Words:
    events = pl.DataFrame(schema={"user_id": str, "item_id": str, "time": float, "event": str, "value": float})
    training = Training(Interactions.of(events, catalogue), catalogue, 0, exclude_seen=True)
    return Words.fit(WordsConfig.model_validate(settings), training)


@pytest.fixture(scope="module")
def films() -> Catalogue:
    columns = ["item_id", "title", "genres", "year", "studio"]
    return catalogue_of(pl.DataFrame(FILMS, schema=columns, orient="row"))


@pytest.fixture(scope="module")
def words(films: Catalogue) -> Words:
    return fitted(films)


def found(words: Words, **fields: object) -> list[str]:
    return list(words(Request("r", **fields), 10).item_ids)  # type: ignore[arg-type]  # fields as tests type them


def test_a_query_finds_titles_labels_numbers_and_other_texts_whatever_their_case(words: Words) -> None:
    assert found(words, query="toy STORY") == ["a", "c"]
    assert found(words, query="thriller") == ["b"]
    assert set(found(words, query="1995")) == {"a", "b"}
    assert found(words, query="pixar") == ["a"]


def test_chinese_is_found_by_any_part_of_a_title_and_pairs_count_more_than_signs(words: Words) -> None:
    assert found(words, query="黑客") == ["d"]
    assert set(found(words, query="帝国")) == {"d", "e"}
    assert found(words, query="黑客帝国") == ["d", "e"]
    assert found(words, query="毁") == ["e"]


def test_what_a_person_liked_finds_what_shares_its_words(words: Words, asked: Asked) -> None:
    slate = words(asked(0, excluded=(0,)), 10)

    assert list(slate.item_ids) == ["c", "b"]  # "toy" is rarer than 1995 in so short a text


def test_a_past_has_its_say_beside_a_query(words: Words, asked: Asked) -> None:
    both = asked(1, query="1995 animation thriller")

    alone = words.scores(asked(query="1995 animation thriller"), np.array([0, 1]))
    scores = words.scores(both, np.array([0, 1]))

    assert scores[1] - scores[0] > alone[1] - alone[0]


def test_nothing_is_said_where_no_word_is_shared_and_of_unknown_items(words: Words, asked: Asked) -> None:
    assert found(words, query="xylophone") == []
    assert np.isnan(words.scores(asked(query="xylophone"), np.array([0, 1]))).all()
    assert np.isnan(words.scores(asked(query="toy"), np.array([-1]))).all()
    assert words.scores(asked(query="toy"), np.array([5])).tolist() == [0.0]


def test_a_dislike_asks_for_nothing(words: Words, asked: Asked) -> None:
    assert len(words(asked((0, "dislike")), 10)) == 0


@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=6).map(" ".join), min_size=1, max_size=9))
def test_scores_are_those_of_bm25_written_out(titles: list[str]) -> None:
    catalogue = catalogue_of(pl.DataFrame({"item_id": [str(n) for n in range(len(titles))], "title": titles}))

    scores = fitted(catalogue).scores(Request("r", query="a b"), np.arange(len(titles)))

    lists = [title.split() for title in titles]
    among = Counter(word for own in lists for word in set(own))
    usual = sum(map(len, lists)) / len(lists)
    asked_for = [word for word in "ab" if word in among]
    for own, score in zip(lists, scores, strict=True):
        if not asked_for:
            assert math.isnan(score)
            continue
        expected = 0.0
        for word in asked_for:
            rarity = math.log(1 + (len(lists) - among[word] + 0.5) / (among[word] + 0.5))
            times = own.count(word)
            expected += rarity * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * len(own) / usual)) if times else 0.0
        assert score == pytest.approx(expected / math.sqrt(len(asked_for)), rel=1e-4)


def test_an_endless_history_asks_for_its_weightiest_words_alone(asked: Asked) -> None:
    titles = [" ".join(f"w{n}x{m}" for m in range(40)) for n in range(10)]
    catalogue = catalogue_of(pl.DataFrame({"item_id": [str(n) for n in range(10)], "title": titles}))
    words = fitted(catalogue, decay=1.0)

    scores = words.scores(asked(*range(10)), np.arange(10))

    assert (scores > 0).sum() == math.ceil(MOST_ASKED / 40)
    assert scores[9] == scores.max()


def test_saved_and_opened_it_says_the_same(films: Catalogue, words: Words, tmp_path: Path) -> None:
    words.save(tmp_path)

    opened = Words.open(words.config, films, tmp_path)

    for query in ("toy", "帝国 1995"):
        np.testing.assert_array_equal(
            opened.scores(Request("r", query=query), np.arange(6)),
            words.scores(Request("r", query=query), np.arange(6)),
        )
    np.testing.assert_array_equal(opened._own, words._own)


def test_a_damaged_vocabulary_is_named(films: Catalogue, words: Words, tmp_path: Path) -> None:
    words.save(tmp_path)
    (tmp_path / "words.json").write_text("[")

    with pytest.raises(ArtifactError, match=r"^.*words\.json cannot be read \(.*\); fit the model again$"):
        Words.open(words.config, films, tmp_path)


def test_columns_are_those_that_are_named_or_every_text(films: Catalogue) -> None:
    assert word_columns(films.frame.with_columns(image=pl.lit("x.png"))) == ["title", "year", "genres", "studio"]
    assert found(fitted(films, columns=["studio"]), query="toy pixar") == ["a"]
    with pytest.raises(ConfigError, match=r"^columns names 'colour', but the items have: .*$"):
        fitted(films, columns=["colour"])


def test_a_catalogue_without_a_word_is_silent() -> None:
    silent = fitted(catalogue_of(pl.DataFrame({"item_id": ["a", "b"]})))

    assert found(silent, query="toy") == []
    assert json.dumps(words_of("...")) == "[]"


def test_full_width_and_composed_letters_are_one_word() -> None:
    assert words_of("ＴＯＹ cafe\u0301") == words_of("toy café") == ["toy", "café"]
