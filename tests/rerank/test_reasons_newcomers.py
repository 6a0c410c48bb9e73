"""What is said of an item that nobody has had: that it is new, and for those who like which item of the history."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tailwise.fakes import DictFacts
from tailwise.rerank.reasons import Reasons
from tailwise.types import Event, History, Request, Slate, ids_of

FACTS = DictFacts(
    {
        "title": {"toys": "Toy Story", "heat": "Heat", "up": "Up"},
        "vector": {"toys": [1.0, 0.0], "heat": [0.0, 1.0], "up": [0.9, 0.1]},
    }
)


def said(newcomer: list[int], *past: tuple[str, str], locale: str = "en", most: int = 1) -> list[list[str]]:
    """The texts of the reasons for Up, and for a film that nothing is known of."""
    names = ids_of(["up", "toys"][: len(newcomer)])
    vectors = np.array([FACTS.facts["vector"][name] for name in names])
    events = [Event("", item_id, float(time), kind) for time, (item_id, kind) in enumerate(past)]
    slate = Slate(names, np.ones(len(names), np.float32), {"vector": vectors, "newcomer": np.array(newcomer)})
    history = History.of(events)
    request = Request("r", history=history.place(np.arange(len(history))), context={"locale": locale})
    answer = Reasons.open(Reasons.Config(most=most), FACTS, Path())(request, slate)
    return [[reason["text"] for reason in reasons] for reasons in answer.columns["reasons"]]


def test_a_newcomer_is_for_those_who_like_what_speaks_for_it() -> None:
    assert said([1], ("heat", "view"), ("toys", "view")) == [["New here, for those who like Toy Story"]]
    assert said([0], ("toys", "view"), locale="zh") == [["新上架，适合喜欢“Toy Story”的人"]]


def test_places_count_all_events_and_not_the_liked_ones_alone() -> None:
    assert said([1], ("heat", "dislike"), ("toys", "view")) == [["New here, for those who like Toy Story"]]


def test_to_call_it_similar_to_the_same_item_says_nothing_new() -> None:
    assert said([0], ("toys", "view"), most=9) == [["New here, for those who like Toy Story"]]


def test_where_nobody_speaks_for_it_it_is_only_new() -> None:
    assert said([-1]) == [["New here"]]
    assert said([-1], ("heat", "view"), locale="zh") == [["新上架"]]


def test_other_items_are_not_called_new() -> None:
    assert said([-2, -2], ("heat", "view")) == [["Fits your history"], ["Fits your history"]]
