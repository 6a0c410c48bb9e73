"""Nothing that tells who somebody is stays in a text; years, prices and titles do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.rank.redact import is_card, redacted

PRIVATE = {
    "ann.lee+shop@mail.example.co.uk": "{email}",
    "ann@exam\u200bple.org": "{email}",
    "ann (at) example.org": "{email}",
    "ａｎｎ＠ｅｘａｍｐｌｅ．ｏｒｇ": "{email}",
    "+49 30 12345678": "{phone}",
    "(415) 555-2671 22": "{phone}",
    "+1-415-555-2671": "{phone}",
    "13812345678": "{phone}",
    "138 1234 5678": "{phone}",
    "０１３８ １２３４ ５６７８": "{phone}",
    "4111 1111 1111 1111": "{card}",
    "5500-0000-0000-0004": "{card}",
    "378282246310005": "{card}",
    "11010519491231002X": "{id}",
    "078-05-1120": "{id}",
    "DE89 3704 0044 0532 0130 00": "{account}",
    "123e4567-e89b-12d3-a456-426614174000": "{id}",
    "192.168.0.17": "{address}",
    "https://ann:secret@shop.example/x": "{address}",
}
KEPT = [
    "2001: A Space Odyssey (1968)",
    "Se7en",
    "1984",
    "The 400 Blows",
    "300",
    "10,000 BC",
    "Apollo 13; Ocean's 11, 12 and 13",
    "iPhone 15 Pro Max 256 GB, 1.299,00 €",
    "太空漫游 2001",
    "12 Angry Men @ the movies",
    "9 1/2 Weeks",
    "from 2019-2024",
    "",
]


@pytest.mark.parametrize(("secret", "word"), PRIVATE.items())
def test_what_is_private_goes(secret: str, word: str) -> None:
    assert redacted(f"ask {secret} now") == f"ask {word} now"


@pytest.mark.parametrize("text", KEPT)
def test_what_is_not_private_stays(text: str) -> None:
    assert redacted(text) == text


@given(st.text(max_size=40), st.sampled_from(list(PRIVATE)), st.text(max_size=40))
def test_a_secret_goes_whatever_stands_around_it(before: str, secret: str, after: str) -> None:
    text = redacted(f"{before} {secret} {after}")

    assert secret not in text


@given(st.text(max_size=120))
def test_twice_is_once(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


@given(st.lists(st.integers(0, 9), min_size=12, max_size=18))
def test_the_check_digit_is_the_one_that_a_plain_sum_gives(digits: list[int]) -> None:
    def total(number: list[int]) -> int:
        return sum(d if place % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for place, d in enumerate(number[::-1]))

    good = [check for check in range(10) if total([*digits, check]) % 10 == 0]

    assert [check for check in range(10) if is_card("".join(map(str, [*digits, check])))] == good


@pytest.mark.parametrize("text", ["1 " * 20_000, "a@" * 20_000, "a." * 20_000 + "@", "AB12 " * 10_000])
def test_no_text_takes_long(text: str) -> None:
    assert len(redacted(text)) > 0  # a pattern that backtracks without end would never get here
