"""Neighbours in meaning: exact and indexed, of a history or of a query."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Training
from tailwise.retrieve.vectors import TextNeighbours, TextNeighboursConfig
from tailwise.types import QUERY, Floats, Request

Asked = Callable[..., Request]


def catalogue(vectors: Floats) -> Catalogue:
    nothing = np.zeros(len(vectors), np.float32)
    frame = pl.DataFrame({"item_id": [str(row) for row in range(len(vectors))]})
    return Catalogue(frame, popularity=nothing, recent=nothing, vectors=vectors, tail_cut=0.2)


def unit(rng: np.random.Generator, count: int) -> Floats:
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def items() -> Catalogue:
    """Sixty items in the plane of meaning, of which the last two have no text."""
    vectors = unit(np.random.default_rng(0), 60)
    vectors[58:] = 0
    return catalogue(vectors)


@pytest.fixture(scope="module")
def near(items: Catalogue) -> TextNeighbours:
    return TextNeighbours(TextNeighboursConfig(decay=0.5), items)


def test_the_nearest_items_to_the_decayed_mean_come_first(items: Catalogue, near: TextNeighbours, asked: Asked) -> None:
    slate = near(asked(3, 5, (7, "dislike"), excluded=(3, 5, 7)), 4)

    weights = np.exp(-0.5 * np.array([2, 1, 0])) * [1, 1, -0.5]
    profile = weights @ items.vectors[[3, 5, 7]]
    cosine = items.vectors @ (profile / np.linalg.norm(profile))
    cosine[[3, 5, 7]] = -np.inf
    assert slate.columns["row"].tolist() == np.argsort(-cosine)[:4].tolist()
    assert slate.scores == pytest.approx(np.sort(cosine)[::-1][:4], abs=1e-6)


def test_a_query_stands_in_for_the_history(items: Catalogue, near: TextNeighbours, asked: Asked) -> None:
    request = asked(3, 5)
    request.cache[QUERY] = items.vectors[9]

    slate = near(request, 2)

    assert slate.columns["row"][0] == 9
    assert slate.scores[0] == pytest.approx(1.0)


def test_scores_agree_with_what_was_returned(near: TextNeighbours, asked: Asked) -> None:
    request = asked(3)

    slate = near(request, 5)
    scores = near.scores(request, np.append(slate.columns["row"], -1))

    assert scores[:-1] == pytest.approx(slate.scores)
    assert np.isnan(scores[-1])


@pytest.mark.parametrize("history", [(), (-1,), (58, 59)])
def test_without_a_text_to_start_from_nothing_is_known(
    history: tuple[int, ...], near: TextNeighbours, asked: Asked
) -> None:
    request = asked(*history, excluded=tuple(row for row in history if row >= 0))

    assert len(near(request, 5)) == 0
    assert np.isnan(near.scores(request, np.array([0, 1, -1]))).all()


def test_two_decays_do_not_answer_for_each_other(items: Catalogue, near: TextNeighbours, asked: Asked) -> None:
    request = asked(3, 5)

    flat = TextNeighbours(TextNeighboursConfig(decay=0.0), items)

    assert near.scores(request, np.array([3]))[0] < flat.scores(request, np.array([3]))[0]


def test_fit_and_open_take_the_vectors_of_the_catalogue(board: Training, asked: Asked) -> None:
    fitted = TextNeighbours.fit(TextNeighboursConfig(), board)

    found = fitted(asked(0, 2, excluded=(0, 2)), 4)

    assert set(found.columns["row"] % 2) == {0}


@pytest.mark.parametrize("count", [50, 3000])
def test_the_index_finds_what_an_exact_search_finds(count: int, asked: Asked) -> None:
    items = catalogue(unit(np.random.default_rng(1), count))
    exact = TextNeighbours(TextNeighboursConfig(), items)
    indexed = TextNeighbours(TextNeighboursConfig(exact_up_to=1, probes=200), items)
    assert indexed._index is not None
    request = asked(1, 2, 3, excluded=(1, 2, 3))

    found, wanted = indexed(request, 20), exact(request, 20)

    assert len(set(found.item_ids) & set(wanted.item_ids)) >= 18  # 8-bit codes are not exact
    assert len(found) == 20
    assert not {1, 2, 3} & set(found.columns["row"])
    assert indexed.scores(request, found.columns["row"]) == pytest.approx(found.scores, abs=0.02)
    assert np.isnan(indexed.scores(request, np.array([-1]))).all()


def test_an_index_gives_no_more_than_there_is(asked: Asked) -> None:
    indexed = TextNeighbours(TextNeighboursConfig(exact_up_to=1), catalogue(unit(np.random.default_rng(1), 45)))

    found = indexed(asked(1, excluded=(1,)), 100)

    assert sorted(found.columns["row"].tolist()) == [0, *range(2, 45)]
