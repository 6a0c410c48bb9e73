from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tailwise.fakes import DictFacts
from tailwise.pipeline import Engine
from tailwise.rerank.paths import Paths
from tailwise.rerank.reasons import Reasons
from tailwise.types import QUERY, Column, Event, History, Ids, Request, Slate, ids_of

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
    history = History.of(events)
    rows = [list(FILMS).index(item) if item in FILMS else -1 for item in history.item_ids]
    return Request("r", k=k, history=history.place(np.array(rows, np.int64)))


def explain(request: Request, slate: Slate, **settings: Any) -> list[list[str]]:
    """The texts of each row's reasons."""
    answer = Reasons.open(Reasons.Config(**settings), Films(), Path())(request, slate)
    assert answer.item_ids.tolist() == slate.item_ids.tolist()
    return [[reason["text"] for reason in reasons] for reasons in answer.columns["reasons"]]


def test_the_nearest_liked_item_is_named() -> None:
    stage = Reasons.open(Reasons.Config(most=1), Films(), Path())

    answer = stage(asking("heat", "toys"), slate_of("toys2", "ronin"))

    assert answer.columns["reasons"].tolist() == [
        ({"kind": "similar", "item_id": "toys", "name": "Toy Story", "text": "Similar to Toy Story"},),
        ({"kind": "similar", "item_id": "heat", "name": "Heat", "text": "Similar to Heat"},),
    ]


def test_an_item_without_a_title_is_named_by_its_id() -> None:
    assert explain(asking("nameless"), slate_of("ronin")) == [["Similar to nameless"]]


def test_below_the_least_cosine_nothing_is_similar() -> None:
    request, slate = asking("nameless"), slate_of("ronin")  # cosine 0.6

    assert explain(request, slate, similar=0.59) == [["Similar to nameless"]]
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

    assert texts == [["Rule: new first, a mix", "Similar to Toy Story"]]


def test_the_long_tail_is_named_where_nothing_else_is() -> None:
    slate = slate_of("toys2", "x", tail=[True, True])

    assert explain(asking("toys"), slate, most=1) == [["Similar to Toy Story"], ["From the long tail"]]


@pytest.mark.parametrize("request_", [Request("r"), asking()])
def test_a_stranger_gets_a_reason_too(request_: Request) -> None:
    assert explain(request_, slate_of("x", "y", tail=[False, True])) == [["Liked by many"], ["From the long tail"]]


@pytest.mark.parametrize(("most", "count"), [(1, 1), (2, 2), (9, 3)])
def test_no_more_reasons_than_asked_for(most: int, count: int) -> None:
    texts = explain(asking("toys"), slate_of("toys2", recent=[1.0]), most=most)

    expected = ["Similar to Toy Story", "Shares Animation, Comedy with your latest", "Popular now"]
    assert texts == [expected[:count]]


@pytest.mark.parametrize("n", [0, 1, 3, 8])
def test_only_what_is_shown_is_explained(n: int) -> None:
    texts = explain(asking("toys", k=3), slate_of(*["toys2"] * n))

    assert [len(reasons) > 0 for reasons in texts] == [row < 3 for row in range(n)]


def test_items_and_events_that_nobody_knows_do_no_harm() -> None:
    assert explain(asking("gone", "toys", "gone"), slate_of("new", "toys2"), most=1) == [
        ["Fits your history"],
        ["Similar to Toy Story"],
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

    assert answer.columns["reasons"].tolist() == [
        ({"kind": "similar", "item_id": "a", "name": "a", "text": "Similar to a"},)
    ]


def test_what_carried_most_is_cited_before_all_but_rules() -> None:
    slate = slate_of("toys2", "ronin", "void", carried=[1, -1, 0])

    texts = explain(asking("toys", "heat"), slate)

    assert texts == [
        ["Because of Heat", "Similar to Toy Story"],
        ["Similar to Heat"],
        ["Because of Toy Story", "Shares Drama with your latest"],
    ]


def test_an_item_that_is_cited_is_not_called_similar_as_well() -> None:
    texts = explain(asking("toys"), slate_of("toys2", carried=[0]), most=9)

    assert texts == [["Because of Toy Story", "Shares Animation, Comedy with your latest"]]


def test_the_place_that_is_cited_counts_what_was_disliked_too() -> None:
    history = History.of([Event("ann", "heat", 0.0, "dislike"), Event("ann", "toys", 1.0)])

    assert explain(Request("r", history=history), slate_of("void", carried=[1]), most=1) == [["Because of Toy Story"]]


def test_what_a_graph_links_both_to_is_named() -> None:
    rows = {name: place for place, name in enumerate(FILMS)}
    graph = pl.DataFrame(
        {"head": ["toys", "void", "heat"], "relation": ["director"] * 3, "tail": ["Jo Lee", "Jo Lee", "Di Wu"]}
    )
    paths = Paths.of(graph, lambda ids: np.array([rows.get(i, -1) for i in ids], np.int64), len(FILMS))
    stage = Reasons(Reasons.Config(most=1), Films(), paths)
    past = asking("toys", "heat").past
    request = Request("r", history=past.place(np.array([rows["toys"], rows["heat"]])))

    (reasons,) = stage(request, slate_of("void", row=[rows["void"]])).columns["reasons"]

    assert reasons == (
        {
            "kind": "path",
            "item_id": "toys",
            "name": "Toy Story",
            "relation": "director",
            "entity": "Jo Lee",
            "text": "Director: Jo Lee, as in Toy Story",
        },
    )


def test_reasons_come_in_the_language_of_the_request_with_titles_in_it() -> None:
    class Chinese(Films):
        names = Films.names | {"title_zh"}

        def columns(self, item_ids: Ids, names: frozenset[str]) -> Mapping[str, Column]:
            titles = ids_of(["玩具总动员" if item_id == "toys" else None for item_id in item_ids])
            return {**super().columns(item_ids, names - {"title_zh"}), "title_zh": titles}

    stage = Reasons.open(Reasons.Config(), Chinese(), Path())
    request = replace(asking("heat", "toys"), context={"locale": "zh-CN"})

    reasons = stage(request, slate_of("toys2", "ronin")).columns["reasons"]

    texts = [[reason["text"] for reason in own] for own in reasons]
    assert texts == [["与“玩具总动员”相似", "与你最近所选同属：Animation、Comedy"], ["与“Heat”相似"]]


@pytest.mark.parametrize("locale", ["xx", "", 7, None, ["zh"], "zh" * 10_000])
def test_a_locale_that_nobody_speaks_gets_english(locale: object) -> None:
    request = replace(asking("toys"), context={"locale": locale})

    assert explain(request, slate_of("toys2"), most=1) == [["Similar to Toy Story"]]


def test_a_title_is_never_a_template_and_stays_on_one_line() -> None:
    class Hostile(Films):
        def columns(self, item_ids: Ids, names: frozenset[str]) -> Mapping[str, Column]:
            return {
                **super().columns(item_ids, names),
                "title": ids_of(["{name}{0}%s\n\x1b[31m" + "x" * 500] * len(item_ids)),
            }

    (reasons,) = Reasons.open(Reasons.Config(most=1), Hostile(), Path())(asking("toys"), slate_of("toys2")).columns[
        "reasons"
    ]

    text = reasons[0]["text"]
    assert text.startswith("Similar to {name}{0}%s [31mxxx")
    assert text.isprintable()
    assert len(text) < 140


def test_the_fit_keeps_the_graph_and_a_saved_stage_says_the_same(tiny_engine: Engine, tmp_path: Path) -> None:
    (stage,) = (bound.run for bound in tiny_engine.stages if bound.step.name == "reasons")
    stage.save(tmp_path)

    again = Reasons.open(stage.config, tiny_engine.catalogue, tmp_path)

    assert len(stage.paths) > 0  # or this says nothing
    assert again.paths.ends == stage.paths.ends
    assert again.paths.links.tolist() == stage.paths.links.tolist()


class NewFilms(Films):
    """The same on the first day: nobody has done anything."""

    names = frozenset({*Films.names, "popularity"})

    def columns(self, item_ids: Ids, names: frozenset[str]) -> Mapping[str, Column]:
        return {**super().columns(item_ids, names & Films.names), "popularity": np.zeros(len(item_ids), np.float32)}


def test_on_the_first_day_nothing_is_liked_by_many_and_there_is_no_long_tail() -> None:
    slate = slate_of("toys", "heat", tail=[True, False])

    said = Reasons(Reasons.Config(), NewFilms())(asking(), slate).columns["reasons"]

    assert [[reason["text"] for reason in reasons] for reasons in said] == [["From the catalogue"]] * 2


def test_on_the_first_day_what_a_query_found_is_among_the_nearest_and_what_was_given_is_not() -> None:
    reasons, slate = Reasons(Reasons.Config(), NewFilms()), slate_of("toys", "heat")
    found, given = (
        reasons(replace(asking(), query="car chase", candidates=own), slate).columns["reasons"].tolist()
        for own in (None, ("toys", "heat"))
    )

    assert [[reason["text"] for reason in own] for own in found] == [["Among the nearest to your search"]] * 2
    assert [[reason["text"] for reason in own] for own in given] == [["From the catalogue"]] * 2


def test_what_a_search_found_is_said_to_be_where_nothing_else_is() -> None:
    slate = slate_of("heat", tail=[True])
    query = np.array([0.0, 0.0, 1.0], np.float32)  # near to neither, in meaning

    read = explain(replace(asking(), query="car chase", cache={QUERY: query}), slate)
    unread = explain(replace(asking(), query="car chase"), slate)

    assert read == [["Among the nearest to your search"]]
    assert unread == [["From the long tail"]]


def test_only_what_is_near_to_the_query_is_said_to_match_it() -> None:
    request = replace(asking(), cache={QUERY: np.array([1.0, 0.0, 0.0], np.float32)})

    said = explain(request, slate_of("toys", "heat", "toys2", tail=[False, False, True]))

    assert said == [["Matches your search"], ["Liked by many"], ["Matches your search"]]


def test_what_a_language_model_put_higher_says_so_behind_what_carried_it() -> None:
    slate = slate_of("toys2", "heat", "ronin", advised=[True, False, True], carried=[0, -1, -1])

    told = Reasons(Reasons.Config(), Films())(asking("toys"), slate).columns["reasons"].tolist()

    assert [[reason["kind"] for reason in own] for own in told] == [["history", "gate"], ["score"], ["gate"]]
    assert told[2][0]["text"] == "Put here with the help of a language model"


def test_a_model_that_was_not_asked_is_no_reason() -> None:
    told = explain(asking("heat"), slate_of("toys", "void", advised=[False, False]))

    assert told == explain(asking("heat"), slate_of("toys", "void"))


@pytest.mark.parametrize("asked", [{"query": "  "}, {"history": History.of([Event("", "nobody-knows", 0.0)])}])
def test_on_the_first_day_who_says_nothing_gets_no_false_reason(asked: dict[str, Any]) -> None:
    said = Reasons(Reasons.Config(), NewFilms())(replace(asking(), **asked), slate_of("toys")).columns["reasons"]

    assert [[reason["text"] for reason in reasons] for reasons in said] == [["From the catalogue"]]


def test_an_item_with_a_title_in_another_language_alone_is_called_by_it() -> None:
    class Foreign(Films):
        names = (Films.names - {"title"}) | {"title_zh"}

        def columns(self, item_ids: Ids, names: frozenset[str]) -> Mapping[str, Column]:
            titles = np.array(["玩具总动员" if item_id == "toys" else None for item_id in item_ids], object)
            return {**super().columns(item_ids, names - {"title_zh"}), "title_zh": titles}

    said = Reasons.open(Reasons.Config(), Foreign(), Path())(asking("toys"), slate_of("toys2")).columns["reasons"]

    assert said[0][0]["text"] == "Similar to 玩具总动员"
