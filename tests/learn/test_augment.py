"""Copies of texts: what changes, what never does, and what the seed fixes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import ConfigError, DataError
from tailwise.learn.augment import (
    WORD,
    augmented,
    masked_span,
    near_words,
    replaced,
    swapped,
    translated_back,
    without_span,
)
from tailwise.nets.settings_texts import Augmentation

TEXTS = ["A slow film about a fast car", "", "Heat", "一部关于汽车的电影", "Two old friends, one new plan"]
SYNONYMS = {"film": ("movie",), "car": ("automobile", "motor"), "影": ("片",)}


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def words(text: str) -> list[str]:
    return WORD.findall(text)


def test_a_synonym_takes_the_case_and_the_place_of_its_word() -> None:
    assert replaced("Film: the CAR of the film.", SYNONYMS, share=1.0, rng=rng()) in {
        "Movie: the Automobile of the movie.",
        "Movie: the Motor of the movie.",
    }


def test_a_share_of_zero_replaces_nothing() -> None:
    assert replaced("film car", SYNONYMS, share=0.0, rng=rng()) == "film car"


def test_signs_of_a_script_without_spaces_are_words() -> None:
    assert replaced("电影", SYNONYMS, share=1.0, rng=rng()) == "电片"
    assert len(words("电影 car")) == 3


@given(text=st.text(max_size=60), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_span_goes_and_the_other_words_stay_in_order(text: str, share: float, seed: int) -> None:
    before = words(text)

    left = words(without_span(text, share=share, rng=np.random.default_rng(seed)))

    gone = len(before) - len(left)
    assert 0 <= gone <= max(0, len(before) - 1)
    assert any(before[:at] + before[at + gone :] == left for at in range(len(left) + 1))


@given(text=st.text(max_size=60), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_swapping_keeps_every_sign_and_everything_between_words(text: str, share: float, seed: int) -> None:
    after = swapped(text, share=share, rng=np.random.default_rng(seed))

    assert sorted(after) == sorted(text)
    assert WORD.sub("", after) == WORD.sub("", text)


def test_a_mask_hides_one_run_of_words() -> None:
    found = masked_span("one two three four five", "[MASK]", share=0.4, rng=rng())

    assert found.count("[MASK]") == 1
    assert len(found.split()) == 4


def test_a_word_alone_is_neither_hidden_nor_left_out() -> None:
    assert without_span("Heat", share=1.0, rng=rng()) == masked_span("Heat", "[MASK]", share=1.0, rng=rng()) == "Heat"


def test_near_words_are_near_and_no_forms_of_each_other() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [1, 0.2], [0, 1], [0, 0]], np.float32)

    found = near_words(["film", "films", "movie", "shoe", "nowhere"], vectors, neighbours=2, least=0.9)

    assert found == {"film": ("movie",), "films": ("movie",), "movie": ("films", "film")}


def by_reversing(texts: Sequence[str]) -> list[str]:
    return [" ".join(reversed(text.split())) for text in texts]


def test_a_translation_there_and_back_that_gives_the_same_is_no_new_text() -> None:
    assert translated_back(["one two", "x"], by_reversing, by_reversing) == [None, None]


def test_what_a_model_translates_into_something_else_is_kept_unless_it_is_too_long_or_empty() -> None:
    def back(texts: Sequence[str]) -> list[str]:
        return ["a slow movie", "", "I am sorry, I cannot translate this text for you"]

    assert translated_back(["a slow film", "a car", "Heat"], by_reversing, back) == ["a slow movie", None, None]


def test_a_model_that_loses_texts_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the model that translates gave 1 texts for 2; it must give one each$"):
        translated_back(["a", "b"], lambda texts: list(texts)[:1], by_reversing)


EVERY = Augmentation(ways=("synonyms", "delete", "mask", "swap", "back_translation"), copies=2, share=0.4)


def test_copies_point_to_their_rows_differ_from_them_and_are_the_same_for_the_same_seed() -> None:
    translations = [None, None, "Warmth", None, None]

    made = [
        augmented(TEXTS, EVERY, seed=seed, synonyms=SYNONYMS, mask="[MASK]", translations=translations)
        for seed in (1, 1, 2)
    ]

    assert made[0] == made[1] != made[2]
    assert all(copy != TEXTS[row] for row, copy in made[0])
    assert len(set(made[0])) == len(made[0])
    assert {row for row, _ in made[0]} == {0, 2, 3, 4}
    assert (2, "Warmth") in made[0]


def test_a_row_draws_alone_so_that_others_change_nothing() -> None:
    config = Augmentation(ways=("delete",), copies=3)

    alone = augmented(TEXTS[:1], config, seed=1)

    assert [pair for pair in augmented(TEXTS, config, seed=1) if pair[0] == 0] == alone


def test_a_table_of_the_settings_comes_before_the_encoders_words() -> None:
    config = Augmentation(ways=("synonyms",), share=1.0, table={"film": ("picture",)})

    assert augmented(["film"], config, seed=0, synonyms=SYNONYMS) == [(0, "picture")]


@pytest.mark.parametrize(
    ("way", "needs"),
    [
        ("synonyms", "a table of synonyms"),
        ("mask", "an encoder that knows a mask token"),
        ("back_translation", "a model that translates, augment.translator"),
    ],
)
def test_a_way_that_lacks_what_it_needs_is_refused(way: str, needs: str) -> None:
    config = Augmentation.model_validate({"ways": [way]})

    with pytest.raises(
        ConfigError,
        match=rf"^augment\.ways has '{way}', which needs {re.escape(needs)}; give one, or leave the way out$",
    ):
        augmented(TEXTS, config, seed=0)


def test_no_way_makes_no_copy() -> None:
    assert augmented(TEXTS, Augmentation(), seed=0) == []
