"""From spans to tags and back, and the likeliest row of tags beside trying all."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.labelled import Span
from tailwise.rank.spans import best_tags, joined, spans_of, tag_names, tags_of

NAMES = tag_names(["cast", "film"])
TEXT = "Is Toy Story with Hanks?"
OFFSETS = [(0, 0), (0, 2), (3, 6), (7, 10), (10, 12), (13, 17), (18, 23), (23, 24), (0, 0)]
SPANS = [Span(3, 12, "film"), Span(18, 23, "cast")]


def sure(tags: np.ndarray, chance: float = 0.9) -> np.ndarray:
    out = np.full((len(tags), len(NAMES)), (1 - chance) / (len(NAMES) - 1), np.float32)
    out[np.arange(len(tags)), tags] = chance
    return out


def test_spans_to_tags_and_back() -> None:
    tags = tags_of(SPANS, OFFSETS, NAMES)

    assert [NAMES[tag] for tag in tags] == ["O", "O", "B-film", "I-film", "I-film", "O", "B-cast", "O", "O"]
    found = spans_of(TEXT, sure(tags), OFFSETS, NAMES)
    assert [span for span, _ in found] == SPANS
    assert all(abs(chance - 0.9) < 1e-6 for _, chance in found)


def test_a_part_of_a_word_takes_the_word() -> None:
    tags = tags_of([Span(7, 10, "film")], OFFSETS, NAMES)

    assert [span for span, _ in spans_of(TEXT, sure(tags), OFFSETS, NAMES)] == [Span(7, 12, "film")]


def allowed(tags: tuple[int, ...]) -> bool:
    before = 0
    for tag in tags:
        if NAMES[tag].startswith("I-") and NAMES[before][2:] != NAMES[tag][2:]:
            return False
        before = tag
    return True


@given(seed=st.integers(0, 60), length=st.integers(1, 4))
def test_the_best_tags_are_the_best_of_all_that_are_allowed(seed: int, length: int) -> None:
    chances = np.random.default_rng(seed).dirichlet(np.ones(len(NAMES)), size=length).astype(np.float32)

    best = max(
        (tags for tags in product(range(len(NAMES)), repeat=length) if allowed(tags)),
        key=lambda tags: sum(float(np.log(chances[at, tag])) for at, tag in enumerate(tags)),
    )

    assert tuple(best_tags(chances).tolist()) == best


def test_no_token_has_no_tag() -> None:
    assert best_tags(np.zeros((0, 5), np.float32)).tolist() == []
    assert spans_of("", np.zeros((0, 5), np.float32), [], NAMES) == []


def test_names_come_before_guesses_and_nothing_overlaps() -> None:
    named, guessed = [(Span(3, 12, "item"), 1.0)], [(Span(7, 12, "film"), 0.8), (Span(18, 23, "cast"), 0.7)]

    assert joined(named, guessed) == [(Span(3, 12, "item"), 1.0), (Span(18, 23, "cast"), 0.7)]
