"""Newcomers get their places, those who suit the person first; what stands above is as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.attributes import Attributes
from tailwise.data.catalogue import Catalogue
from tailwise.errors import ArtifactError
from tailwise.rerank.newcomers import FILE, NOBODY, NOT_ONE, Newcomers, NewcomersConfig, Tastes, placed_order, slots
from tailwise.types import QUERY, Event, History, Request, Rows, Slate

OLD, NEW = 12, 6
EVERY_OTHER = NewcomersConfig(share=0.5, after=2, least=0.0)


@pytest.fixture
def facts() -> Catalogue:
    """12 items that somebody had; of 6 that nobody had i12 to i14 are of kind 0, the others of kind 1, ever less so."""
    kinds = np.zeros((OLD + NEW, 2), np.float32)
    kinds[: OLD // 2, 0] = kinds[OLD // 2 : OLD, 1] = 1
    kinds[OLD : OLD + 3, 0] = kinds[OLD + 3 :, 1] = [1.0, 0.9, 0.8]
    events = np.where(np.arange(OLD + NEW) < OLD, 5, 0).astype(np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row}" for row in range(OLD + NEW)]})
    return Catalogue(frame, popularity=events, recent=events, vectors=kinds, tail_cut=0.2)


@pytest.fixture
def tastes(facts: Catalogue) -> Tastes:
    """Who likes a kind likes it; a stranger likes kind 0 a little more."""
    likers = np.where(np.arange(OLD + NEW)[:, None] < OLD, facts.vectors, np.float32(0))
    usual = np.array([0.3, 0.1], np.float32)
    middle, one = np.full(2, 0.4, np.float32), np.eye(2, dtype=np.float32)
    return Tastes(Attributes.of(facts), middle, one, likers, usual, one / 4)


@pytest.fixture
def stage(facts: Catalogue, tastes: Tastes) -> Newcomers:
    return Newcomers(EVERY_OTHER, facts, tastes)


def asks(facts: Catalogue, *item_ids: str, k: int = 8, **more: object) -> Request:
    past = History.of([Event("", item_id, float(time)) for time, item_id in enumerate(item_ids)])
    return Request("r", k=k, history=past.place(facts.rows(past.item_ids)), **more)  # type: ignore[arg-type]  # a test's


def slate_of(facts: Catalogue, rows: list[int]) -> Slate:
    own = np.array(rows)
    return Slate(facts.item_ids[own], np.linspace(9, 1, len(own), dtype=np.float32), {"row": own})


def test_every_second_place_from_the_third_on_goes_to_those_that_suit(facts: Catalogue, stage: Newcomers) -> None:
    given_slate = slate_of(facts, [*range(OLD), 15, 13, 12, 16])

    answer = stage(asks(facts, "i0"), given_slate)

    # By hand: places 4, 6 and 8; who likes kind 0 gets i12 and i13, and kind 1 suits less than the usual item does.
    assert answer.columns["row"].tolist() == [0, 1, 2, 12, 3, 13, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16]
    assert answer.columns["newcomer"].tolist() == [NOT_ONE] * 3 + [0, NOT_ONE, 0] + [NOT_ONE] * 10
    assert answer.scores[3] == answer.scores[2]
    assert (np.diff(answer.scores[:8]) <= 0).all()


def test_what_likers_of_the_other_kind_get_is_of_the_other_kind(facts: Catalogue, stage: Newcomers) -> None:
    one, other = asks(facts, "i0", "i1"), asks(facts, "i7")

    assert stage.brings(one, slate_of(facts, [3, 4])).tolist() == [12, 13, 14]
    assert stage.brings(other, slate_of(facts, [3, 4])).tolist() == [15, 16, 17]


def test_who_asks_for_no_more_than_the_places_above_gets_the_slate_as_it_was(
    facts: Catalogue, stage: Newcomers
) -> None:
    slate = slate_of(facts, [0, 1, 2, 12])
    request = asks(facts, "i0", k=2)

    assert stage(request, slate) is slate
    assert stage.brings(request, slate).tolist() == []
    assert not request.cache


def test_those_that_are_there_or_must_not_be_shown_are_not_brought(facts: Catalogue, stage: Newcomers) -> None:
    request = replace(asks(facts, "i0"), excluded=np.array([13, 2]))

    assert stage.brings(request, slate_of(facts, [0, 12])).tolist() == [14]


def test_given_candidates_are_all_there_is(facts: Catalogue, stage: Newcomers) -> None:
    request = asks(facts, "i0", candidates=("i1", "i2", "i3", "i4", "i12"))
    slate = slate_of(facts, [1, 2, 3, 4, 12])

    assert stage.brings(request, slate).tolist() == []
    assert stage(request, slate).columns["row"].tolist() == [1, 2, 3, 12, 4]


def test_one_that_stands_better_by_merit_stays_there(facts: Catalogue, stage: Newcomers) -> None:
    slate = slate_of(facts, [0, 1, 12, 2, 3, 4, 5, 6, 7])

    assert stage(asks(facts, "i0"), slate) is slate


def test_a_stranger_is_shown_what_suits_most_people_and_no_event_speaks_for_it(
    facts: Catalogue, stage: Newcomers
) -> None:
    answer = stage(asks(facts), slate_of(facts, [0, 1, 2, 15, 12]))

    assert answer.columns["row"].tolist() == [0, 1, 2, 12, 15]
    assert answer.columns["newcomer"].tolist() == [NOT_ONE, NOT_ONE, NOT_ONE, NOBODY, NOT_ONE]


def test_the_event_that_says_most_speaks_and_a_dislike_never_does(facts: Catalogue, stage: Newcomers) -> None:
    request = asks(facts, "i0", "i7", "i1", "i0")
    past = replace(request.past, events=np.array(["dislike", "view", "view", "view"], object))

    answer = stage(replace(request, history=past), slate_of(facts, [*range(2, 9), 12]))

    assert answer.columns["newcomer"].tolist()[3] == 2


@pytest.mark.parametrize("asked", [{"query": "war"}, {"cache": {QUERY: np.ones(2, np.float32)}}])
def test_a_query_is_left_to_the_sources_that_read_it(
    facts: Catalogue, stage: Newcomers, asked: dict[str, object]
) -> None:
    slate = slate_of(facts, [*range(OLD), 13])
    request = asks(facts, "i0", **asked)

    assert stage(request, slate) is slate
    assert stage.brings(request, slate).tolist() == []


def test_only_what_suits_more_than_the_settings_ask_gets_a_place(facts: Catalogue, tastes: Tastes) -> None:
    request = asks(facts, "i0")
    suits = (facts.vectors[12:] - 0.4) @ tastes.person(request.past)[0]

    stage = Newcomers(EVERY_OTHER.model_copy(update={"least": float(suits[1])}), facts, tastes)

    assert stage.brings(request, slate_of(facts, [0])).tolist() == [12, 13]


def test_a_person_s_products_with_items_are_in_deviations(facts: Catalogue, tastes: Tastes) -> None:
    whole, parts = tastes.person(asks(facts, "i0", "i12", "i99").past)

    # By hand: 1 + 0.3 and 0.1; of i12 and of an unknown item nothing is known; deviation √(w · I/4 · w).
    deviation = np.sqrt((1.3**2 + 0.1**2) / 4)
    assert whole == pytest.approx(np.array([1.3, 0.1]) / deviation, rel=1e-5)
    assert parts == pytest.approx(np.array([[1, 0], [0, 0], [0, 0]]) / deviation, rel=1e-5)


def test_items_that_came_after_the_fit_are_newcomers_and_those_that_got_events_are_none(
    facts: Catalogue, tastes: Tastes, tmp_path: Path
) -> None:
    Newcomers(EVERY_OTHER, facts, tastes).save(tmp_path)
    frame = pl.concat([facts.frame, pl.DataFrame({"item_id": ["late"]})])
    events = np.append(facts.popularity, 0).astype(np.float32)
    events[12] = 1
    vectors = np.vstack([facts.vectors, [[1.0, 0.0]]]).astype(np.float32)
    grown = Catalogue(frame, popularity=events, recent=events, vectors=vectors, tail_cut=0.2)

    stage = Newcomers.open(EVERY_OTHER, grown, tmp_path)

    assert stage.rows.tolist() == [13, 14, 15, 16, 17, 18]
    past = asks(grown, "i0", "late").past  # the model never met the second
    assert stage.brings(asks(grown, "i0"), slate_of(grown, [0])).tolist() == [18, 13, 14]
    assert stage.tastes is not None
    assert stage.tastes.person(past)[1][1].tolist() == [0, 0]


def test_what_was_saved_ranks_as_before(facts: Catalogue, stage: Newcomers, tmp_path: Path) -> None:
    stage.save(tmp_path)
    again = Newcomers.open(stage.config, facts, tmp_path)

    for request in (asks(facts, "i0", "i8", k=9), asks(facts)):
        slate = slate_of(facts, [*range(OLD), 12, 13, 15])
        one, other = stage(replace(request, cache={}), slate), again(replace(request, cache={}), slate)
        assert one.item_ids.tolist() == other.item_ids.tolist()
        assert one.columns["newcomer"].tolist() == other.columns["newcomer"].tolist()


def test_an_item_of_which_nothing_is_known_is_no_newcomer(facts: Catalogue, tastes: Tastes) -> None:
    vectors = facts.vectors.copy()
    vectors[12] = 0
    events = facts.popularity
    bare = Catalogue(facts.frame, popularity=events, recent=events, vectors=vectors, tail_cut=0.2)

    assert Newcomers(EVERY_OTHER, bare, tastes).rows.tolist() == [13, 14, 15, 16, 17]


def test_without_anything_learned_nobody_gets_a_place(facts: Catalogue, tmp_path: Path) -> None:
    stage = Newcomers(EVERY_OTHER, facts, None)
    stage.save(tmp_path / "newcomers")

    stage = Newcomers.open(EVERY_OTHER, facts, tmp_path / "newcomers")

    slate = slate_of(facts, [*range(OLD), 12])
    assert stage(asks(facts, "i0"), slate) is slate
    assert stage.brings(asks(facts, "i0"), slate).tolist() == []


def test_items_with_other_attributes_are_refused(facts: Catalogue, tastes: Tastes) -> None:
    narrow = replace(tastes, middle=np.zeros(3, np.float32), directions=np.zeros((3, 2), np.float32))

    rule = "^newcomers: the items have 2 attributes, but the stage learned from 3; fit the model again$"
    with pytest.raises(ArtifactError, match=rule):
        Newcomers(EVERY_OTHER, facts, narrow)


def test_a_damaged_file_is_named(facts: Catalogue, stage: Newcomers, tmp_path: Path) -> None:
    stage.save(tmp_path)
    (tmp_path / FILE).write_bytes(b"x")

    with pytest.raises(ArtifactError, match=r"newcomers\.safetensors cannot be read \(.*\); fit the model again$"):
        Newcomers.open(EVERY_OTHER, facts, tmp_path)


def test_a_share_of_zero_gives_nothing(facts: Catalogue, tastes: Tastes) -> None:
    stage = Newcomers(EVERY_OTHER.model_copy(update={"share": 0.0}), facts, tastes)
    slate = slate_of(facts, [*range(OLD), 12])

    assert stage(asks(facts, "i0"), slate) is slate
    assert stage.brings(asks(facts, "i0"), slate).tolist() == []


SHARES = st.sampled_from([0.0, 0.07, 0.2, 1 / 3, 0.5, 0.9, 1.0])


@given(SHARES, st.integers(1, 12), st.integers(1, 120))
def test_after_any_number_of_places_newcomers_have_their_share_and_not_one_more(
    share: float, after: int, k: int
) -> None:
    places = slots(share=share, after=after, k=k)

    for shown in range(1, k + 1):  # by counting, place by place
        assert (places < shown).sum() == int(max(shown - after, 0) * share + 1e-9)
    assert len(set(places.tolist())) == len(places)


@given(st.data(), st.integers(1, 15))
def test_all_rows_stay_and_those_that_were_not_chosen_keep_their_order(data: st.DataObject, n: int) -> None:
    chosen = data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=n))
    places = data.draw(st.lists(st.integers(0, 20), unique=True, min_size=len(chosen), max_size=20)) if chosen else []
    wanted: Rows = np.sort(np.array(places, np.int64))

    order, given_places = placed_order(n, np.array(chosen, np.int64), wanted)

    assert sorted(order.tolist()) == list(range(n))
    assert order[given_places].tolist() == chosen
    assert (np.diff(order[~given_places]) > 0).all()
    fits = wanted[: len(chosen)] <= n - len(chosen) + np.arange(len(chosen))
    assert (np.flatnonzero(given_places)[fits] == wanted[: len(chosen)][fits]).all()
