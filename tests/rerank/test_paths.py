"""Paths of a graph: the rarest link in common, and a plain search finds the same."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import ArtifactError
from tailwise.rerank.paths import Paths
from tailwise.types import Rows

ITEMS = 8


def rows_of(names: object) -> Rows:
    return np.array([int(n[1:]) if str(n).startswith("i") and str(n)[1:].isdigit() else -1 for n in names], np.int64)  # type: ignore[attr-defined]  # any names


def paths_of(*edges: tuple[str, str, str]) -> Paths:
    return Paths.of(
        pl.DataFrame(edges, schema=dict.fromkeys(("head", "relation", "tail"), pl.String), orient="row"), rows_of, ITEMS
    )


def test_the_rarest_link_is_named_with_the_newest_event_that_has_it() -> None:
    paths = paths_of(
        *[(f"i{n}", "genre", "crime") for n in range(5)], *[(f"i{n}", "director", "Jo Lee") for n in (0, 1, 2)]
    )

    found = paths.shared(np.array([0, 4, 7, -1]), np.array([1, 3, 2, 6, -1]))

    assert found == [(2, "director", "Jo Lee"), (2, "genre", "crime"), None, None]


def test_no_item_is_linked_to_itself() -> None:
    paths = paths_of(("i0", "director", "Jo Lee"), ("i1", "director", "Jo Lee"))

    assert paths.shared(np.array([0]), np.array([0])) == [None]
    assert paths.shared(np.array([0]), np.array([1])) == [(0, "director", "Jo Lee")]


def test_links_are_found_from_either_end() -> None:
    paths = paths_of(("Jo Lee", "directed", "i0"), ("Jo Lee", "directed", "i1"))

    assert paths.shared(np.array([0]), np.array([1])) == [(0, "directed", "Jo Lee")]


@pytest.mark.parametrize("name", ["m.013tjc", "Q42", "12345", "http://x.y/z", "/m/0abc", "...", ""])
def test_a_name_that_nobody_can_read_explains_nothing(name: str) -> None:
    assert len(paths_of(("i0", "of", name), ("i1", "of", name))) == 0


@pytest.mark.parametrize("name", ["Jo Lee", "1980s", "2001: A Space Odyssey", "group:3", "宫崎骏", "U2 fans"])
def test_a_name_that_people_can_read_does(name: str) -> None:
    assert len(paths_of(("i0", "of", name), ("i1", "of", name))) == 2


def test_what_one_item_alone_has_links_nothing() -> None:
    assert len(paths_of(("i0", "director", "Jo Lee"), ("i0", "cast", "Jo Lee"))) == 0


EDGES = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.sampled_from("rs"), st.sampled_from("uvwxyz")), max_size=20)


@given(EDGES, st.lists(st.integers(-1, ITEMS - 1), max_size=5), st.lists(st.integers(-1, ITEMS - 1), max_size=5))
@settings(max_examples=80)
def test_it_equals_a_plain_search(edges: list[tuple[int, str, str]], wanted: list[int], past: list[int]) -> None:
    paths = paths_of(*[(f"i{row}", relation, f"entity {name}") for row, relation, name in edges])
    of = {row: {(r, f"entity {n}") for own, r, n in edges if own == row} for row in range(ITEMS)}
    count = {end: sum(end in own for own in of.values()) for own in of.values() for end in own}

    found = paths.shared(np.array(wanted, np.int64), np.array(past, np.int64))

    for row, path in zip(wanted, found, strict=True):
        newest = {end: n for n, event in enumerate(past) for end in of.get(event, ())}
        both = {e for e in of.get(row, set()) & newest.keys() if count[e] > 1 and past[newest[e]] != row}
        assert (path is None) == (not both)
        if path is not None:
            assert path[1:] in both
            assert path[0] == newest[path[1:]]
            assert count[path[1:]] == min(count[end] for end in both)


def test_saved_and_opened_it_says_the_same(tmp_path: Path) -> None:
    paths = paths_of(("i0", "director", "李安"), ("i1", "director", "李安"))
    paths.save(tmp_path)

    again = Paths.open(tmp_path)

    assert again is not None
    assert again.shared(np.array([0]), np.array([1])) == [(0, "director", "李安")]
    assert Paths.open(tmp_path / "nothing") is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "paths.json").write_text("[1]")

    with pytest.raises(ArtifactError, match=r"^.*paths\.json cannot be read \(.*\); fit the model again$"):
        Paths.open(tmp_path)
