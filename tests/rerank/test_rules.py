from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.rerank.rules import Rules, read_rules
from tailwise.types import Column, Ids, Request, Slate, ids_of

EXAMPLE = Path(__file__).parents[2] / "pipelines" / "rules.toml"
GENRES = ("Comedy", "Drama", "Film-Noir", "Horror")
FILMS: dict[str, tuple[float, str, str | None]] = {
    # year, genres, country, best first
    "toys": (1995, "Comedy", "us"),
    "scream": (1996, "Horror", "us"),
    "titanic": (1997, "Drama", "us"),
    "amelie": (2001, "Comedy|Drama", "fr"),
    "vertigo": (1958, "Drama|Film-Noir", "us"),
    "ikiru": (1952, "Drama", "jp"),
    "unknown": (np.nan, "", None),
}


class Films:
    """Facts as the engine gives them."""

    names = frozenset({"year", "genres", "country", "vector"})
    item_ids = ids_of(list(FILMS))
    labels: Mapping[str, tuple[str, ...]] = {"genres": GENRES}

    def columns(self, item_ids: Ids, names: frozenset[str]) -> Mapping[str, Column]:
        facts = [FILMS.get(item_id, (np.nan, "", None)) for item_id in item_ids]
        made = {
            "year": np.array([year for year, _, _ in facts], np.float32),
            "genres": np.array([[label in genres.split("|") for label in GENRES] for _, genres, _ in facts], bool),
            "country": ids_of([country for _, _, country in facts]),
            "vector": np.zeros((len(facts), 3), np.float32),
        }
        return {name: made[name] for name in names}


def slate_of(*item_ids: str) -> Slate:
    names = ids_of(item_ids or list(FILMS))
    scores = np.arange(len(names), 0, -1, dtype=np.float32)
    return Slate(names, scores, Films().columns(names, frozenset({"year", "genres", "country"})))


def open_rules(*rules: dict[str, Any], file: str | None = None) -> Rules:
    return Rules.open(Rules.Config(rule=rules, file=file), Films(), Path())  # type: ignore[arg-type]  # as from TOML


def names_of(slate: Slate) -> list[str]:
    return list(slate.item_ids)


def fired_of(slate: Slate) -> dict[str, tuple[str, ...]]:
    return {item: fired for item, fired in zip(slate.item_ids, slate.columns["fired"], strict=True) if fired}


def year(op: str, value: float | None = None) -> dict[str, Any]:
    return {"column": "year", "op": op, "value": value}


def test_without_rules_nothing_changes() -> None:
    stage, slate = open_rules(), slate_of()

    answer = stage(Request("r"), slate)

    assert names_of(answer) == names_of(slate)
    assert answer.columns["fired"].tolist() == [()] * 7
    assert stage.needs == frozenset()
    assert stage.gives == {"fired"}


@pytest.mark.parametrize(
    ("action", "left"),
    [("drop", ["toys", "vertigo", "ikiru", "unknown"]), ("keep", ["scream", "titanic", "amelie"])],
)
def test_a_filter_drops_or_keeps(action: str, left: list[str]) -> None:
    stage = open_rules({"kind": "filter", "action": action, "where": [year("at_least", 1996)]})

    answer = stage(Request("r"), slate_of())

    assert names_of(answer) == left
    assert stage.needs == {"year"}


def test_conditions_of_a_rule_all_hold_and_filters_add_up() -> None:
    drama = {"column": "genres", "op": "contains", "value": "Drama"}
    stage = open_rules(
        {"kind": "filter", "where": [drama, year("at_most", 1955)]},
        {"kind": "filter", "where": [{"column": "item_id", "op": "in", "value": ["toys", "absent"]}]},
    )

    answer = stage(Request("r"), slate_of())

    assert names_of(answer) == ["scream", "titanic", "amelie", "vertigo", "unknown"]
    assert stage.needs == {"year", "genres"}


def test_a_filter_may_leave_nothing() -> None:
    stage = open_rules(
        {"kind": "filter", "action": "keep", "where": [year("at_least", 2050)]},
        {"kind": "boost", "where": [year("at_least", 2000)]},
        {"kind": "cap", "column": "genres", "most": 1},
        {"kind": "pin", "position": 1, "where": [year("at_least", 2000)]},
    )

    assert len(stage(Request("r"), slate_of())) == 0


@pytest.mark.parametrize(("action", "screen"), [("drop", "family"), ("keep", "family"), ("drop", "night")])
def test_what_it_says_it_drops_is_what_it_drops(action: str, screen: str) -> None:
    when = [{"column": "screen", "op": "is", "value": "family"}]
    stage = open_rules(
        {"kind": "filter", "action": action, "where": [year("at_least", 1996)], "when": when},
        {"kind": "pin", "position": 1, "where": [year("at_most", 1960)]},
    )
    request, slate = Request("r", context={"screen": screen}), slate_of()

    said = stage.drops(request, slate)

    assert {*slate.item_ids[~said]} == {*names_of(stage(request, slate))}
    assert said.any() == (screen == "family")


def test_a_rule_with_when_waits_for_its_context() -> None:
    when = [{"column": "device", "op": "is", "value": "phone"}]
    stage = open_rules({"kind": "filter", "action": "keep", "where": [year("at_least", 2000)], "when": when})

    on_phone = stage(Request("r", context={"device": "phone"}), slate_of())
    elsewhere = stage(Request("r", context={"device": "tv"}), slate_of())

    assert names_of(on_phone) == ["amelie"]
    assert len(elsewhere) == 7


def test_a_boost_lifts_by_standard_deviations() -> None:
    boost = {"kind": "boost", "name": "old gold", "by": 1.0, "where": [year("at_most", 1955)]}

    answer = open_rules(boost)(Request("r"), slate_of())

    # By hand: scores 7 … 1 have a deviation of 2, so ikiru goes from 2 to 4 and stays below amelie, who had it first.
    assert names_of(answer) == ["toys", "scream", "titanic", "amelie", "ikiru", "vertigo", "unknown"]
    assert answer.scores.tolist() == [7, 6, 5, 4, 2, 3, 1]
    assert fired_of(answer) == {"ikiru": ("old gold",)}


def test_burying_lowers_and_several_boosts_add_up() -> None:
    where = [{"column": "item_id", "op": "is", "value": "toys"}]
    bury, boost = {"kind": "bury", "by": 2.1, "where": where}, {"kind": "boost", "by": 1.7, "where": where}

    buried = open_rules(bury)(Request("r"), slate_of())
    both = open_rules(bury, boost)(Request("r"), slate_of())

    assert names_of(buried).index("toys") == 4  # 7 - 4.2 = 2.8, below vertigo with 3
    assert names_of(both).index("toys") == 0  # 7 - 0.8 is still more than 6
    assert fired_of(both) == {"toys": ("bury 1", "boost 2")}


def test_a_boost_keeps_the_order_that_earlier_steps_made() -> None:
    mixed = slate_of().take(np.array([0, 4, 1, 5, 2, 6, 3]))  # as after diversity: scores do not fall
    tiny = {"kind": "boost", "by": 0.01, "where": [year("at_least", 1900)]}

    answer = open_rules(tiny)(Request("r"), mixed)

    assert names_of(answer) == names_of(mixed)


def test_a_cap_sends_the_excess_below_and_drops_nothing() -> None:
    cap = {"kind": "cap", "name": "one each", "column": "country", "most": 1, "within": 3}

    answer = open_rules(cap)(Request("r"), slate_of())

    # By hand: toys (us), then the first of another country, amelie (fr), then ikiru (jp); the others follow.
    assert names_of(answer) == ["toys", "amelie", "ikiru", "scream", "titanic", "vertigo", "unknown"]
    assert fired_of(answer) == dict.fromkeys(["scream", "titanic", "vertigo"], ("one each",))


def test_a_cap_counts_an_item_in_its_first_group_and_none_without_one() -> None:
    cap = {"kind": "cap", "column": "genres", "most": 1}

    answer = open_rules(cap)(Request("r", k=4), slate_of("amelie", "toys", "titanic", "ikiru", "unknown"))

    # amelie is a comedy, as toys is; titanic is the drama; unknown is nothing, so it may follow; then nobody has room.
    assert names_of(answer) == ["amelie", "titanic", "unknown", "toys", "ikiru"]


def test_a_cap_holds_whatever_was_boosted() -> None:
    boost = {"kind": "boost", "by": 9.0, "where": [{"column": "item_id", "op": "in", "value": ["vertigo", "ikiru"]}]}
    cap = {"kind": "cap", "column": "genres", "most": 1, "within": 3}

    answer = open_rules(cap, boost)(Request("r"), slate_of())

    # By hand: boosted, vertigo and ikiru lead; both are drama, so ikiru and titanic wait for toys and scream.
    assert names_of(answer) == ["vertigo", "toys", "scream", "ikiru", "titanic", "amelie", "unknown"]
    assert fired_of(answer) == {"vertigo": ("boost 2",), "ikiru": ("boost 2", "cap 1")}


def test_a_cap_holds_for_what_it_names() -> None:
    cap = {"kind": "cap", "column": "country", "most": 1, "where": [year("at_least", 1996)]}

    answer = open_rules(cap)(Request("r", k=3), slate_of())

    assert names_of(answer)[:4] == ["toys", "scream", "amelie", "titanic"]  # toys is older: no matter


def test_pins_stand_where_they_should_whatever_their_order() -> None:
    def pin(position: int, item: str) -> dict[str, Any]:
        return {"kind": "pin", "position": position, "where": [{"column": "item_id", "op": "is", "value": item}]}

    late_first = open_rules(pin(4, "toys"), pin(1, "ikiru"))(Request("r"), slate_of())
    early_first = open_rules(pin(1, "ikiru"), pin(4, "toys"))(Request("r"), slate_of())

    expected = ["ikiru", "scream", "titanic", "toys", "amelie", "vertigo", "unknown"]
    assert names_of(late_first) == names_of(early_first) == expected
    assert fired_of(late_first) == {"toys": ("pin 1",), "ikiru": ("pin 2",)}


def test_a_pin_takes_the_best_that_match_one_below_the_other() -> None:
    drama = [{"column": "genres", "op": "contains", "value": "Drama"}]

    answer = open_rules({"kind": "pin", "position": 1, "most": 2, "where": drama})(Request("r"), slate_of())

    assert names_of(answer)[:3] == ["titanic", "amelie", "toys"]


def test_an_item_is_pinned_once_and_a_pin_beats_a_boost_and_a_cap() -> None:
    old = [year("at_most", 1960)]
    stage = open_rules(
        {"kind": "bury", "by": 9.0, "where": old},
        {"kind": "cap", "column": "genres", "most": 1},
        {"kind": "pin", "position": 1, "where": old},
        {"kind": "pin", "position": 1, "where": old},
    )

    answer = stage(Request("r"), slate_of())

    assert names_of(answer)[:2] == ["vertigo", "ikiru"]
    assert fired_of(answer)["vertigo"][-1] == "pin 3"
    assert fired_of(answer)["ikiru"][-1] == "pin 4"


CONDITIONS = st.sampled_from(
    [year("at_least", 1996), year("missing"), {"column": "genres", "op": "contains", "value": "Drama"}]
)
RULES = st.one_of(
    st.builds(lambda where: {"kind": "filter", "where": [where]}, CONDITIONS),
    st.builds(lambda where, kind: {"kind": kind, "where": [where]}, CONDITIONS, st.sampled_from(["boost", "bury"])),
    st.builds(lambda most: {"kind": "cap", "column": "genres", "most": most}, st.integers(1, 2)),
    st.builds(lambda where, at: {"kind": "pin", "position": at, "where": [where]}, CONDITIONS, st.integers(1, 9)),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(RULES, max_size=4), st.lists(st.sampled_from(list(FILMS)), unique=True), st.integers(1, 9))
def test_rules_never_invent_or_double_an_item(rules: list[dict[str, Any]], items: list[str], k: int) -> None:
    slate = slate_of(*items)

    answer = open_rules(*rules)(Request("r", k=k), slate)

    assert len(set(names_of(answer))) == len(answer)
    assert set(names_of(answer)) <= set(names_of(slate))
    if not any(rule["kind"] == "filter" for rule in rules):
        assert sorted(names_of(answer)) == sorted(names_of(slate))
    scores = dict(zip(slate.item_ids, slate.scores, strict=True))
    assert answer.scores.tolist() == [scores[item] for item in answer.item_ids]
    assert all(type(fired) is tuple for fired in answer.columns["fired"])


def test_the_example_file_does_what_it_says() -> None:
    stage = open_rules(file=str(EXAMPLE))

    at_home = stage(Request("r", k=5, context={"page": "home"}), slate_of())
    child = stage(Request("r", k=5, context={"profile": "child"}), slate_of())

    assert names_of(at_home)[2] == "vertigo"  # a classic on the third place
    assert names_of(at_home)[-1] == "unknown"
    assert fired_of(at_home) == {
        "vertigo": ("a classic on the third place",),
        "titanic": ("new films first",),
        "amelie": ("new films first",),
        "unknown": ("films without a year later",),
    }
    assert {"scream", "vertigo"}.isdisjoint(names_of(child))
    assert stage.needs == {"year", "genres"}
    assert read_rules(EXAMPLE) == stage.rules
