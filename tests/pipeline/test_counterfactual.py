"""The smallest set first, every list ranked once, and no more of them than allowed."""

from collections.abc import Callable

from tailwise.pipeline.counterfactual import Trials, falls
from tailwise.types import Ids, ids_of

SHOWN = ("a", "b", "c")


def world(**reordered: str) -> tuple[Callable[[frozenset[str]], Ids], list[str]]:
    """Lists by what is gone (its letters in order); what is not named changes nothing. And what was asked, in turn."""
    asked: list[str] = []

    def order(gone: frozenset[str]) -> Ids:
        asked.append("".join(sorted(gone)))
        return ids_of(list(reordered.get(asked[-1], "abc")))

    return order, asked


def test_one_item_that_moves_it_is_found_and_where_to() -> None:
    order, asked = world(y="bca")

    found = falls(SHOWN, {"a": ["x", "y", "z"]}, Trials(order, tries=9, seconds=60))

    assert found == {"a": (frozenset("y"), 3)}
    assert asked == ["x", "y"]


def test_leaving_the_list_counts_as_falling() -> None:
    order, _ = world(x="bc")

    assert falls(SHOWN, {"a": ["x"]}, Trials(order, tries=9, seconds=60)) == {"a": (frozenset("x"), None)}


def test_rising_does_not() -> None:
    order, _ = world(x="bac")

    assert falls(SHOWN, {"b": ["x"]}, Trials(order, tries=9, seconds=60)) == {}


def test_twos_come_only_after_every_single_one() -> None:
    order, asked = world(xz="bca", xyz="cba")

    found = falls(SHOWN, {"a": ["x", "y", "z"]}, Trials(order, tries=9, seconds=60))

    assert found == {"a": (frozenset("xz"), 3)}
    assert asked == ["x", "y", "z", "xy", "xz"]


def test_threes_come_last() -> None:
    order, asked = world(xyz="bca")

    assert falls(SHOWN, {"a": ["x", "y", "z"]}, Trials(order, tries=9, seconds=60)) == {"a": (frozenset("xyz"), 3)}
    assert asked[-1] == "xyz"


def test_one_ranking_tells_of_the_whole_list() -> None:
    order, asked = world(x="bca")

    found = falls(SHOWN, {"a": ["x"], "b": ["y"], "c": ["x"]}, Trials(order, tries=9, seconds=60))

    assert found == {"a": (frozenset("x"), 3)}
    assert asked == ["x", "y"]


def test_no_list_is_ranked_more_often_than_allowed() -> None:
    order, asked = world(z="bca")
    trials = Trials(order, tries=2, seconds=60)

    assert falls(SHOWN, {"a": ["x", "y", "z"]}, trials) == {}
    assert asked == ["x", "y"]
    assert len(trials) == 2
    assert falls(SHOWN, {"a": ["x"]}, Trials(order, tries=0, seconds=60)) == {}


def test_when_time_is_up_no_further_list_is_ranked() -> None:
    order, asked = world()

    assert falls(SHOWN, {"a": ["x"]}, Trials(order, tries=9, seconds=-1)) == {}
    assert asked == []


def test_nothing_to_take_away_is_nothing_found() -> None:
    order, _ = world()

    assert falls(SHOWN, {"a": []}, Trials(order, tries=9, seconds=60)) == {}
    assert falls((), {}, Trials(order, tries=9, seconds=60)) == {}
