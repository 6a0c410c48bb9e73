"""Take personal data out of a text before it leaves the process: addresses, numbers of people, cards and accounts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

EMAIL = re.compile(r"[\w.+'-]{1,64}\s?(?:@|＠|\(at\)|\[at\])\s?[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}", re.IGNORECASE)
ADDRESS = re.compile(r"\bhttps?://[^\s/@]{1,256}@\S+", re.IGNORECASE)
IP = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b")
UUID = re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", re.IGNORECASE)
CHINESE_ID = re.compile(r"(?<![0-9A-Za-z])\d{17}[\dXx](?![0-9A-Za-z])")
SOCIAL = re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)")
CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
PHONE = re.compile(r"(?<![\w.])(?:\+|00)?\(?\d{1,4}\)?(?:[ ./-]?\(?\d{2,5}\)?){2,5}(?!\w)")
LONG = re.compile(r"(?<!\d)\d{9,}(?!\d)")
LEAST_DIGITS = 9
"""Of a telephone number with its area code; years, prices and counts have fewer."""


def redacted(text: str) -> str:
    """
    The text with what may tell who somebody is replaced by a word in braces.

    Better too much than too little: a long number in a title loses its meaning, and nobody their privacy.

    >>> redacted("mail ann@example.org or +49 30 1234 5678, card 4111 1111 1111 1111; 1984, 2001")
    'mail {email} or {phone}, card {card}; 1984, 2001'
    """
    text = unicodedata.normalize("NFKC", text)  # full-width and decorated digits are digits
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")  # invisible ones hide
    text = ADDRESS.sub("{address}", text)
    text = EMAIL.sub("{email}", text)
    text = UUID.sub("{id}", text)
    text = CHINESE_ID.sub("{id}", text)
    text = IBAN.sub(_where(_enough, "{account}"), text)
    text = CARD.sub(_where(is_card, "{card}"), text)
    text = SOCIAL.sub("{id}", text)
    text = IP.sub("{address}", text)
    text = PHONE.sub(_where(_enough, "{phone}"), text)
    return LONG.sub("{id}", text)


def is_card(number: str) -> bool:
    """
    Whether the digits of a text have the check digit of payment cards.

    >>> is_card("4111 1111 1111 1111"), is_card("4111 1111 1111 1112")
    (True, False)

    Source: Luhn, US patent 2,950,048.
    """
    digits = [int(character) for character in number if character in "0123456789"]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _enough(found: str) -> bool:
    return sum(character.isdigit() for character in found) >= LEAST_DIGITS


def _where(holds: Callable[[str], bool], word: str) -> Callable[[re.Match[str]], str]:
    """What replaces a match by ``word`` where a rule holds for it, and leaves it otherwise."""

    def replace(match: re.Match[str]) -> str:
        return word if holds(match[0]) else match[0]

    return replace
