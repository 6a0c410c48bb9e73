import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.config import Step
from tailwise.errors import RequestError
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.serve import forms, wire
from tailwise.types import EVENT_KINDS, Event, Request, Slate, StageTrace, ids_of

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def encoded(engine: Engine, *, explain: bool = False, **fields: Any) -> dict[str, Any]:
    answer = engine.answer(Request("r", **fields))
    out: dict[str, Any] = json.loads(wire.encode_answer(engine, answer, explain=explain))
    return out


def test_every_field_of_the_contract_reaches_the_request() -> None:
    fields = {"request_id": "r", "user_id": "u", "k": 3, "candidates": ["b", "a"], "query": "q", "exclude_seen": True}
    more = {"time": 9.5, "context": {"place": [1]}, "diversity": 0.25, "tail_share": 1, "seed": 4, "whatever": {"x": 1}}
    more["blend"] = {"rating": 1, "score": 0.5}

    request = wire.decode_request(body(**fields, **more))

    expected = Request("r", user_id="u", time=9.5, k=3, candidates=("b", "a"), query="q", exclude_seen=True)
    assert request == replace(
        expected, context={"place": [1]}, diversity=0.25, tail_share=1.0, seed=4, blend={"rating": 1.0, "score": 0.5}
    )


def test_a_history_is_sorted_by_time_and_keeps_kinds_and_values() -> None:
    events = [
        {"item_id": "b", "time": 2, "event": "rating", "value": 4},
        {"item_id": "a", "time": "1970-01-01T00:00:01Z"},
    ]

    past = wire.decode_request(body(history=events)).past

    assert past.item_ids.tolist() == ["a", "b"]
    assert past.times.tolist() == [1.0, 2.0]
    assert past.events.tolist() == ["view", "rating"]
    assert past.values[1] == 4
    assert np.isnan(past.values[0])


def test_a_request_without_an_id_gets_one_of_its_own() -> None:
    ids = {wire.decode_request(body(user_id="u")).request_id for _ in range(3)}

    assert len(ids) == 3


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [(0, 0.0), ("2001-09-09T01:46:40", 1e9), ("2001-09-09T03:46:40+02:00", 1e9), ("2001-09-09", 999993600.0)],
)
def test_times_are_seconds_or_iso_8601_in_utc(given_time: float | str, expected: float) -> None:
    assert wire.seconds(given_time, "time") == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"k": "ten"}, "request.k: Expected `int`, got `str`"),
        ({"candidates": ["a", 7]}, "request.candidates[1]: Expected `str`, got `int`"),
        ({"user_id": ""}, "request.user_id: Expected `str` of length >= 1"),
        ({"diversity": 1.5}, "request.diversity: Expected `float` <= 1.0"),
        ({"history": [{"item_id": "a", "event": "sniff"}]}, "request.history[0].event: Invalid enum value 'sniff'"),
        ({"history": [{}]}, "request.history[0]: Object missing required field `item_id`"),
        ({"time": "soon"}, "time is 'soon', but it must be seconds since epoch (UTC, not milliseconds) or ISO 8601"),
        (
            {"time": 1700000000000},
            "time is 1700000000000.0, but it must be seconds since epoch (UTC, not milliseconds) or ISO 8601",
        ),
        (
            {"history": [{"item_id": "a", "time": "x"}]},
            "request.history[0].time is 'x', but it must be seconds since epoch (UTC, not milliseconds) or ISO 8601",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_rule(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        wire.decode_request(body(**raw))

    assert str(caught.value) == message
    assert not wire.is_malformed(caught.value)


@pytest.mark.parametrize("raw", [b"", b"{", b'{"k": NaN}', b"\xff\xfe", b'{"user_id": "\xff"}', b"{} {}", b'{"k": 01}'])
def test_what_is_not_json_is_told_apart_from_what_is_wrong(raw: bytes) -> None:
    with pytest.raises(RequestError, match=r"^the request is not JSON: .*; send one UTF-8 JSON value$") as caught:
        wire.decode_request(raw)

    assert wire.is_malformed(caught.value)


def test_deep_nesting_is_refused_without_exhausting_the_stack() -> None:
    with pytest.raises(RequestError, match=r"^the request is nested too deeply to read; leave the nested part out$"):
        wire.decode_request(b'{"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}")


@settings(max_examples=150)
@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_request_or_a_request_error(raw: bytes) -> None:
    for decode, kind in ((wire.decode_request, Request), (lambda raw: wire.decode_events(raw, now=0.0), list)):
        with suppress(RequestError):  # anything else fails the test
            assert isinstance(decode(raw), kind)


@settings(max_examples=80)
@given(st.dictionaries(st.sampled_from(forms.RequestForm.__struct_fields__), json_values))
def test_any_values_in_known_fields_are_a_request_or_a_request_error(fields: dict[str, Any]) -> None:
    try:
        request = wire.decode_request(json.dumps(fields).encode())
    except RequestError:
        return
    assert request.k == fields.get("k", 10)


def test_the_kinds_of_the_wire_are_those_of_the_engine() -> None:
    assert tuple(forms.Kind.__args__) == EVENT_KINDS  # type: ignore[attr-defined]  # of a Literal


def test_one_event_or_a_list_become_events() -> None:
    one = {"user_id": "u", "item_id": "i", "event": "click", "position": 2, "propensity": 0.5, "event_id": "e"}

    single = wire.decode_events(body(**one), now=7.0)
    many = wire.decode_events(json.dumps([one, {**one, "time": 1, "value": 2.5, "request_id": "r"}]).encode(), now=7.0)

    assert single == [Event("u", "i", 7.0, "click", None, None, 2, 0.5, "e")]
    assert many == [*single, Event("u", "i", 1.0, "click", 2.5, "r", 2, 0.5, "e")]


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("user_id", "x" * 513, ": Expected `str` of length <= 512"),
        ("event", "sniff", ": Invalid enum value 'sniff'"),
        ("propensity", 0, ": Expected `float` > 0.0"),
        ("propensity", 1.01, ": Expected `float` <= 1.0"),
        ("position", 0, ": Expected `int` >= 1"),
        ("value", 1e300, ": Expected `float` <= 1000000000000.0"),
        ("time", "then", " is 'then', but it must be seconds since epoch (UTC, not milliseconds) or ISO 8601"),
    ],
)
def test_one_bad_event_is_named_by_place_and_field(field: str, value: Any, rule: str) -> None:
    good = {"user_id": "u", "item_id": "i"}

    with pytest.raises(RequestError) as caught:
        wire.decode_events(json.dumps([good, {**good, field: value}]).encode(), now=0.0)

    assert str(caught.value) == f"event[1].{field}{rule}"


def test_too_many_events_at_once_are_refused() -> None:
    raw = b"[" + b",".join([b'{"user_id":"u","item_id":"i"}'] * 10_001) + b"]"

    with pytest.raises(RequestError, match=r"^10001 events came at once, but at most 10000 may; send them in parts$"):
        wire.decode_events(raw, now=0.0)


def test_what_heads_tell_stands_beside_each_item(engine: Engine) -> None:
    @dataclass(frozen=True)
    class Told:
        heads: Mapping[str, str]
        needs: frozenset[str] = frozenset({"row"})
        gives: frozenset[str] = frozenset({"p_click", "rating"})

        def __call__(self, request: Request, slate: Slate) -> Slate:
            if request.seed:
                raise RuntimeError("it broke")
            n = len(slate)
            return slate.add(p_click=np.linspace(0.25, 0.5, n, dtype=np.float32), rating=np.full(n, np.nan, np.float32))

    bound = Bound("told", Step(name="told"), Told({"click": "p_click", "rating": "rating"}))
    able = replace(engine, stages=(*engine.stages, bound))

    shown = encoded(able, user_id="fan01", k=1)["items"][0]
    blended = encoded(able, user_id="fan01", k=1, blend={"click": 1.0})["items"][0]
    broken = encoded(able, user_id="fan01", k=1, seed=1)["items"][0]

    assert shown["told"] == blended["told"] == {"p_click": 0.25, "rating": None}
    assert "told" not in broken
    assert "told" not in encoded(engine, user_id="fan01", k=1)["items"][0]
    with pytest.raises(
        RequestError, match=r"^blend names 'buy', but the heads of this model are: click, rating, score$"
    ):
        encoded(able, user_id="fan01", blend={"buy": 1.0})


def test_an_answer_has_the_form_of_the_contract(engine: Engine) -> None:
    answer = encoded(engine, user_id="u1", candidates=("i3", "i1", "i2"), k=2)

    assert answer["request_id"] == "r"
    assert answer["version"] == "c1ne3a00"
    assert len(answer["items"]) == 2
    first = answer["items"][0]
    assert set(first) == {"item_id", "title", "score", "reasons", "propensity", "first_rank", "tail"}
    assert all(isinstance(reason, str) for reason in first["reasons"])
    assert first["propensity"] == 1.0
    assert ("i3", "i1", "i2")[first["first_rank"] - 1] == first["item_id"]
    assert [step["name"] for step in answer["trace"]][:3] == ["person", "retrieve", "hydrate"]
    assert {"name", "ms", "rows_in", "rows_out"} == set(answer["trace"][0])


def test_explaining_adds_the_first_stage_the_history_and_labels(engine: Engine) -> None:
    answer = encoded(engine, user_id="u1", candidates=("i3", "i1", "i2"), k=2, explain=True)

    assert [place["item_id"] for place in answer["first_stage"]] == ["i3", "i1"]
    assert answer["history"][-1]["time"] == max(event["time"] for event in answer["history"])
    assert answer["history"][0]["value"] is None
    assert "Space" in answer["items"][0]["labels"]


def test_an_unknown_item_goes_by_its_id(engine: Engine) -> None:
    answer = encoded(engine, candidates=("i1", "never seen"), explain=True)

    unknown = next(item for item in answer["items"] if item["item_id"] == "never seen")
    assert unknown["title"] == "never seen"
    assert unknown["labels"] == []


def test_missing_columns_have_sane_values_and_nan_is_null(engine: Engine) -> None:
    answer = engine.answer(Request("r", candidates=("i1", "i2")))
    bare = replace(
        answer.slate, columns={"row": answer.slate.columns["row"]}, scores=np.array([np.nan, np.inf], np.float32)
    )

    items = json.loads(wire.encode_answer(engine, replace(answer, slate=bare), explain=False))["items"]

    assert [(item["reasons"], item["propensity"], item["score"]) for item in items] == [([], 1.0, None)] * 2


def test_a_skipped_step_says_why(engine: Engine) -> None:
    answer = engine.answer(Request("r", candidates=("i1",)))
    late = replace(answer, trace=(StageTrace("slow", 120.0, 1, 1, "late: over 100 ms"),))

    trace = json.loads(wire.encode_answer(engine, late, explain=False))["trace"]

    assert trace == [{"name": "slow", "ms": 120.0, "rows_in": 1, "rows_out": 1, "skipped": "late: over 100 ms"}]


def test_a_stage_that_gave_no_reasons_leaves_none(engine: Engine) -> None:
    answer = engine.answer(Request("r", candidates=("i1",)))
    slate = answer.slate.add(reasons=ids_of([None]))  # what a careless stage might leave

    items = json.loads(wire.encode_answer(engine, replace(answer, slate=slate), explain=False))["items"]

    assert items[0]["reasons"] == []
