"""Loose fields become requests and events, or one line that says what is wrong."""

from typing import Any

import numpy as np
import pytest

from tailwise.errors import RequestError
from tailwise.pipeline.asking import MOST_CANDIDATES, MOST_K, check_request, event_of, request_of
from tailwise.types import EVENT_KINDS, NO_HISTORY, Event, Request


def test_a_request_gets_an_id_of_its_own() -> None:
    first, second = request_of({"user_id": "u"}), request_of({"user_id": "u"})

    assert first.request_id != second.request_id
    assert request_of({"user_id": "u", "request_id": "r1"}).request_id == "r1"


def test_candidates_of_any_sequence_become_a_tuple() -> None:
    assert request_of({"candidates": ["a", "b"]}).candidates == ("a", "b")
    assert request_of({"candidates": iter("ab")}).candidates == ("a", "b")
    assert request_of({"candidates": None, "user_id": "u"}).candidates is None


def test_a_history_may_be_item_ids_oldest_first() -> None:
    assert request_of({"history": ["b", "a"]}).past.item_ids.tolist() == ["b", "a"]


def test_a_history_may_be_events_in_any_order() -> None:
    events = (Event("u", "late", 9.0, "click"), Event("u", "early", 1.0))

    past = request_of({"history": events}).past

    assert past.item_ids.tolist() == ["early", "late"]
    assert past.events.tolist() == ["view", "click"]


def test_a_history_that_is_one_stays() -> None:
    assert request_of({"history": NO_HISTORY}).history is NO_HISTORY


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"candidates": "i17"}, "candidates is 'i17', but it must be a list of item ids"),
        ({"history": "i1"}, "history holds 'i', but it must be a list of item ids or events"),
        (
            {"history": [{"item_id": "i1"}]},
            "history holds {'item_id': 'i1'}, but it must be a list of item ids or events",
        ),
    ],
)
def test_a_field_of_another_form_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        request_of(fields)

    assert str(caught.value) == message


def test_an_unknown_field_is_named_beside_the_known_ones() -> None:
    with pytest.raises(
        RequestError, match=r"^request got an unexpected keyword argument 'user'; its fields are request_id, "
    ):
        request_of({"user": "u1"})


def test_an_event_is_now_unless_it_says_when() -> None:
    assert event_of({"user_id": "u", "item_id": "i"}).time > 1.7e9
    assert event_of({"user_id": "u", "item_id": "i", "time": 5.0}) == Event("u", "i", 5.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"user_id": "u"},
            r"event missing 1 required positional argument: 'item_id'; its fields are user_id, item_id, .+",
        ),
        ({"user_id": "u", "item_id": "i", "x": 1}, r"event got an unexpected keyword argument 'x'; its fields are .+"),
        (
            {"user_id": "u", "item_id": "i", "event": "eat"},
            f"event is 'eat', but it must be one of: {', '.join(EVENT_KINDS)}",
        ),
    ],
)
def test_an_event_that_is_none_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=rf"^{message}$"):
        event_of(fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "a request needs one of: user_id, history, candidates, query"),
        ({"user_id": "u", "k": 0}, f"k is 0, but it must be between 1 and {MOST_K}"),
        ({"user_id": "u", "k": MOST_K + 1}, f"k is {MOST_K + 1}, but it must be between 1 and {MOST_K}"),
        (
            {"candidates": ("a",) * (MOST_CANDIDATES + 1)},
            f"candidates holds {MOST_CANDIDATES + 1} items, but at most {MOST_CANDIDATES} are ranked at once",
        ),
        ({"user_id": "u", "diversity": 1.5}, "diversity is 1.5, but it must be between 0 and 1"),
        ({"user_id": "u", "tail_share": -0.1}, "tail_share is -0.1, but it must be between 0 and 1"),
        ({"user_id": "u", "diversity": float("nan")}, "diversity is nan, but it must be between 0 and 1"),
    ],
)
def test_what_cannot_be_answered_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_request(Request("r", **fields))

    assert str(caught.value) == message


HEADS = {"click": "p_click", "rating": "rating"}


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ({"buy": 1.0}, "blend names 'buy', but the heads of this model are: click, rating, score"),
        ({"dislike": 1.0}, "blend names 'dislike', but the heads of this model are: click, rating, score"),
        ({"click": float("nan")}, "blend gives click the weight nan, but it must be a finite number"),
        ({"score": float("inf")}, "blend gives score the weight inf, but it must be a finite number"),
        ({"rating": "much"}, "blend gives rating the weight 'much', but it must be a finite number"),
        ({"rating": True}, "blend gives rating the weight True, but it must be a finite number"),
        (["click"], "blend is ['click'], but it must be a table of heads and what each weighs"),
    ],
)
def test_a_blend_of_what_is_not_there_is_refused(blend: Any, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_request(Request("r", user_id="u", blend=blend), HEADS)

    assert str(caught.value) == message


def test_a_model_without_heads_says_how_to_get_some() -> None:
    with pytest.raises(
        RequestError, match=r"^blend names 'click', but this model has no heads: fit a pipeline with .+$"
    ):
        check_request(Request("r", user_id="u", blend={"click": 1.0}))


@pytest.mark.parametrize("blend", [{}, {"click": 1, "rating": -0.5}, {"score": 0.0}, {"click": np.float32(1.5)}])
def test_a_blend_of_heads_and_the_order_passes(blend: dict[str, float]) -> None:
    check_request(Request("r", user_id="u", blend=blend), HEADS)


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": "u", "k": 1},
        {"user_id": "u", "k": MOST_K},
        {"candidates": ()},
        {"candidates": ("a",) * MOST_CANDIDATES},
        {"query": "heat"},
        {"history": NO_HISTORY},
        {"user_id": "u", "diversity": 0, "tail_share": 1},
    ],
)
def test_what_can_be_answered_passes(fields: dict[str, Any]) -> None:
    check_request(Request("r", **fields))
