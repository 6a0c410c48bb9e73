"""
Which encoder suits a catalogue, told by its letters alone: no model, no list of words, no dependency.

The default encoder reads English. Its words are plain Latin letters; those of other languages mostly show themselves:
by another script, or by letters that English lacks (é, ß, ñ, ł).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

ENGLISH = "all-MiniLM-L6-v2"
MULTILINGUAL = "multilingual"
FAIR_SHARE = 0.15
"""Of the texts: from here on the multilingual encoder reads them. Foreign names in an English catalogue stay below."""
OTHER_LETTERS = 0.1
"""Of a text's letters, from which on it is in another script: product names mix them."""
LOOKED_AT = 5_000
"""Texts, evenly spread; more would say the same."""

_LETTERS = re.compile(r"[^\W\d_]")
_OTHER_SCRIPT = re.compile(r"[^\W\d_\u0000-\u024f\u1e00-\u1eff\u2c60-\u2c7f\ua720-\ua7ff\uff21-\uff3a\uff41-\uff5a]")
_ACCENTED = re.compile(r"[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]")


def chosen_encoder(texts: Sequence[str]) -> tuple[str, str]:
    """
    The encoder for a catalogue, and why, as a line for people.

    A text is foreign when a tenth of its letters are of another script than Latin, or any letter is one that English
    lacks. What is written in plain Latin letters alone, as Dutch is, cannot be told from English.

    Args:
        texts: One an item; blank ones do not count.

    Cost: some 5 ms a thousand short texts; at most ``LOOKED_AT`` are looked at.

    >>> chosen_encoder(["千与千寻", "龙猫", "Heat"])
    ('multilingual', '67% of the texts are not in plain Latin letters')
    >>> chosen_encoder(["Heat", "Toy Story"])[0]
    'all-MiniLM-L6-v2'
    """
    told = [text for text in texts if text.strip()]
    step = max(1, len(told) // LOOKED_AT)
    share = float(np.mean([is_foreign(text) for text in told[::step]])) if told else 0.0
    model = MULTILINGUAL if share >= FAIR_SHARE else ENGLISH
    return model, f"{share:.0%} of the texts are not in plain Latin letters"


def is_foreign(text: str) -> bool:
    """
    Whether a text's letters say that it is not English.

    >>> [is_foreign(text) for text in ("Heat", "Les Misérables", "iPhone 15 手机壳", "1984", "")]
    [False, True, True, False, False]
    """
    letters = len(_LETTERS.findall(text))
    other = len(_OTHER_SCRIPT.findall(text))
    return letters > 0 and (other >= OTHER_LETTERS * letters or bool(_ACCENTED.search(text)))
