"""Which encoder a catalogue's letters ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.encode.language import ENGLISH, FAIR_SHARE, MULTILINGUAL, chosen_encoder, is_foreign


@pytest.mark.parametrize(
    "text",
    [
        "千与千寻",
        "となりのトトロ",
        "기생충",
        "Война и мир",
        "ألف ليلة وليلة",
        "iPhone 15 手机壳 透明",
        "Les Misérables",
        "Straße",
        "Miłość",
    ],
)
def test_other_scripts_and_letters_that_english_lacks_are_foreign(text: str) -> None:
    assert is_foreign(text)


@pytest.mark.parametrize(
    "text", ["Heat. 1995. Crime", "", "1984", "™ × 3 — “quoted” 100 %", "ＦＵＬＬ ＷＩＤＴＨ", "α version of a toy"]
)
def test_plain_latin_letters_numbers_and_signs_are_not(text: str) -> None:
    assert not is_foreign(text)


@pytest.mark.parametrize(("foreign", "model"), [(0, ENGLISH), (14, ENGLISH), (15, MULTILINGUAL), (100, MULTILINGUAL)])
def test_a_fair_share_of_foreign_texts_takes_the_multilingual_encoder(foreign: int, model: str) -> None:
    texts = ["龙猫"] * foreign + ["My Neighbour Totoro"] * (100 - foreign)

    chosen, why = chosen_encoder(texts)

    assert FAIR_SHARE == 0.15
    assert (chosen, why) == (model, f"{foreign}% of the texts are not in plain Latin letters")


@given(st.lists(st.text(max_size=12), max_size=30))
def test_blank_texts_never_count(texts: list[str]) -> None:
    assert chosen_encoder([*texts, "", " \n"]) == chosen_encoder(texts)


def test_without_any_text_it_is_the_default() -> None:
    assert chosen_encoder([])[0] == chosen_encoder(["", " "])[0] == ENGLISH
