"""Names found in texts: the longest, from the left, and none inside other words."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.labelled import Span
from tailwise.errors import ArtifactError
from tailwise.rank.gazetteer import Gazetteer

FILMS = Gazetteer.of(
    [
        ("Toy Story", "film"),
        ("Toy Story 2", "film"),
        ("Her", "film"),
        ("千与千寻", "film"),
        ("Up", "film"),
        ("Tom Hanks", "cast"),
        ("toy story", "toy"),
        (None, "film"),
        (" ", "film"),
    ]
)


def found(text: str) -> list[tuple[str, str]]:
    return [(text[span.start : span.end], span.label) for span in FILMS.find(text)]


def test_the_longest_name_counts_whatever_its_case_and_spaces() -> None:
    assert found("is TOY  story 2 with tom hanks?") == [("TOY  story 2", "film"), ("tom hanks", "cast")]


def test_of_twins_the_first_counts() -> None:
    assert FILMS.find("Toy story") == [Span(0, 9, "film")]


def test_a_name_of_one_word_is_found_as_it_is_written_alone() -> None:
    assert found("I liked Her, not her; HER neither") == [("Her", "film")]


def test_very_short_names_and_parts_of_words_are_not_found() -> None:
    assert found("Up we go, Heroes of a toystory") == []


def test_a_script_without_spaces_is_found_within_a_sentence() -> None:
    assert found("我想看千与千寻这样的电影") == [("千与千寻", "film")]


@given(text=st.text(max_size=80))
def test_what_is_found_lies_in_order_and_never_overlaps(text: str) -> None:
    spans = FILMS.find(text + " Toy Story " + text)

    assert spans == sorted(spans)
    assert all(before.end <= after.start for before, after in pairwise(spans))


def test_names_come_back_from_their_file(tmp_path: Path) -> None:
    FILMS.save(tmp_path / "names.json")

    again = Gazetteer.open(tmp_path / "names.json")

    assert again.names == FILMS.names
    assert again.find("Toy Story 2") == FILMS.find("Toy Story 2")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text("[1]")

    with pytest.raises(ArtifactError, match=r"names\.json cannot be read \(.*\); fit the classifier again$"):
        Gazetteer.open(tmp_path / "names.json")
