from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwise.fakes import DictFacts
from tailwise.rerank.reasons import Reasons
from tailwise.types import Column, Event, History, Ids, Request, Slate, ids_of

GENRES = ("Action", "Animation", "Comedy", "Drama", "Family")
FILMS: dict[str, tuple[str | None, list[float], str]] = {
    "toys": ("Toy Story", [1.0, 0.0, 0.0], "Animation|Comedy"),
    "toys2": ("Toy Story 2", [0.9, 0.1, 0.0], "Animation|Comedy"),
    "heat": ("Heat", [0.0, 1.0, 0.0], "Action|Drama"),
    "nameless": (None, [0.0, 0.0, 1.0], ""),
    "ronin": ("Ronin", [0.0, 0.8, 0.6], ""),
    "void": ("Void", [0.0, 0.0, 0.0], "Drama"),
}


class Films:
    """Facts as the engine gives them."""

    names = frozenset({"title", "vector", "genres", "recent", "tail"})
    item_ids = ids_of(list(FILMS))
    labels: Mapping[str, tuple[str, ...]] = {"genres": GENRES}

    def columns(self, item_ids: Ids, names: frozenset[str]) -> Mapping[str, Column]:
        facts = [FILMS.get(item_id, (None, [0.0] * 3, "")) for item_id in item_ids]
        made = {
            "title": ids_of([title for title, _, _ in facts]),
            "vector": np.array([vector for _, vector, _ in facts], np.float32).reshape(-1, 3),
            "genres": np.array([g in genres.split("|") for _, _, genres in facts for g in GENRES], bool).reshape(-1, 5),
            "recent": np.zeros(len(facts), np.float32),
            "tail": np.zeros(len(facts), bool),
        }
        return {name: made[name] for name in names}


def slate_of(*item_ids: str, **columns: list[Any]) -> Slate:
    names = ids_of(item_ids)
    facts = {**Films().columns(names, Films.names), **{name: np.array(c) for name, c in columns.items()}}
    return Slate(names, np.arange(len(names), 0, -1, dtype=np.float32), facts)


def asking(*past: str, k: int = 10, event: str = "click") -> Request:
    events = [Event("ann", item, float(time), event) for time, item in enumerate(past)]
    return Request("r", k=k, history=History.of(events))


def explain(request: Request, slate: Slate, **settings: Any) -> list[list[str]]:
    """The texts of each row's reasons."""
    answer = Reasons.open(Reasons.Config(**settings), Films(), Path())(request, slate)
    assert answer.item_ids.tolist() == slate.item_ids.tolist()
    return [[reason["text"] for reason in reasons] for reasons in answer.columns["reasons"]]


def test_the_nearest_liked_item_is_named() -> None:
    stage = Reasons.open(Reasons.Config(most=1), Films(), Path())

    answer = stage(asking("heat", "toys"), slate_of("toys2", "ronin"))

    assert answer.columns["reasons"].tolist() == [
        ({"kind": "similar", "item_id": "toys", "text": "Because of Toy Story"},),
        ({"kind": "similar", "item_id": "heat", "text": "Because of Heat"},),
    ]


def test_an_item_without_a_title_is_named_by_its_id() -> None:
    assert explain(asking("nameless"), slate_of("ronin")) == [["Because of nameless"]]


def test_below_the_least_cosine_nothing_is_similar() -> None:
    request, slate = asking("nameless"), slate_of("ronin")  # cosine 0.6

    assert explain(request, slate, similar=0.59) == [["Because of nameless"]]
    assert explain(request, slate, similar=0.61) == [["Fits your history"]]


def test_no_item_is_a_reason_for_itself() -> None:
    assert explain(asking("ronin"), slate_of("ronin")) == [["Fits your history"]]


def test_shared_labels_are_those_of_the_latest_likes() -> None:
    slate = slate_of("void")  # Drama, and no vector

    assert explain(asking("heat", "toys"), slate, latest=1) == [["Fits your history"]]
    assert explain(asking("heat", "toys"), slate, latest=2) == [["Shares Drama with your latest"]]


def test_at_most_three_labels_are_named() -> None:
    everything = slate_of("x", genres=[[True] * 5])

    assert explain(asking("toys", "heat"), everything) == [["Shares Action, Animation, Comedy with your latest"]]


def test_what_was_disliked_is_no_reason() -> None:
    assert explain(asking("toys", event="dislike"), slate_of("toys2")) == [["Liked by many"]]


def test_popularity_counts_from_its_quantile() -> None:
    slate = slate_of("x", "y", recent=[0.95, 0.94])

    assert explain(asking("toys"), slate) == [["Popular now"], ["Fits your history"]]


def test_rules_that_fired_come_first() -> None:
    slate = slate_of("toys2")
    fired = np.empty(1, object)
    fired[0] = ("new first", "a mix")

    texts = explain(asking("toys"), slate.add(fired=fired))

    assert texts == [["Rule: new first, a mix", "Because of Toy Story"]]


def test_the_long_tail_is_named_where_nothing_else_is() -> None:
    slate = slate_of("toys2", "x", tail=[True, True])

    assert explain(asking("toys"), slate, most=1) == [["Because of Toy Story"], ["From the long tail"]]


@pytest.mark.parametrize("request_", [Request("r"), asking()])
def test_a_stranger_gets_a_reason_too(request_: Request) -> None:
    assert explain(request_, slate_of("x", "y", tail=[False, True])) == [["Liked by many"], ["From the long tail"]]


@pytest.mark.parametrize(("most", "count"), [(1, 1), (2, 2), (9, 3)])
def test_no_more_reasons_than_asked_for(most: int, count: int) -> None:
    texts = explain(asking("toys"), slate_of("toys2", recent=[1.0]), most=most)

    expected = ["Because of Toy Story", "Shares Animation, Comedy with your latest", "Popular now"]
    assert texts == [expected[:count]]


@pytest.mark.parametrize("n", [0, 1, 3, 8])
def test_only_what_is_shown_is_explained(n: int) -> None:
    texts = explain(asking("toys", k=3), slate_of(*["toys2"] * n))

    assert [len(reasons) > 0 for reasons in texts] == [row < 3 for row in range(n)]


def test_items_and_events_that_nobody_knows_do_no_harm() -> None:
    assert explain(asking("gone", "toys", "gone"), slate_of("new", "toys2"), most=1) == [
        ["Fits your history"],
        ["Because of Toy Story"],
    ]


def test_it_asks_for_what_the_facts_have() -> None:
    rich = Reasons(Reasons.Config(), Films())
    poor = Reasons(Reasons.Config(), DictFacts({"vector": {}, "price": {}}))

    assert rich.needs == {"vector", "genres", "recent", "tail"}
    assert poor.needs == {"vector"}
    assert rich.gives == {"reasons"}


def test_without_titles_labels_or_popularity_it_still_answers() -> None:
    facts = DictFacts({"vector": {"a": [1.0, 0.0], "b": [0.8, 0.6]}})
    names = ids_of(["b"])
    slate = Slate(names, np.ones(1, np.float32), facts.columns(names, frozenset({"vector"})))

    answer = Reasons(Reasons.Config(), facts)(asking("a"), slate)

    assert answer.columns["reasons"].tolist() == [({"kind": "similar", "item_id": "a", "text": "Because of a"},)]
