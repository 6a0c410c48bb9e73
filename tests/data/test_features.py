"""The moment of a request as numbers, worked by hand, and lifts beside plain counting."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.catalogue import Catalogue
from tailwise.data.features import MOST_VALUES, NO_CONTEXTS, PRIOR, Contexts, Feature, check_context
from tailwise.data.interactions import Interactions
from tailwise.data.load import Dataset
from tailwise.errors import ArtifactError, ConfigError, RequestError
from tailwise.types import Event, History, Request

ITEMS = 4
MONDAY_7_AM = 1_699_858_800.0  # 2023-11-13 07:00 UTC
NAN = float("nan")


def interactions(context: tuple[str, ...], **columns: list[Any]) -> Interactions:
    """Events of the items in turn, an hour apart, by two people in turn."""
    n = len(next(iter(columns.values())))
    events = pl.DataFrame(
        {
            "user_id": [f"u{place % 2}" for place in range(n)],
            "item_id": [f"i{place % ITEMS}" for place in range(n)],
            "time": [MONDAY_7_AM + 3600.0 * place for place in range(n)],
            **columns,
        }
    )
    frame = pl.DataFrame({"item_id": [f"i{row}" for row in range(ITEMS)]})
    nothing = np.zeros(ITEMS, np.float32)
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=np.zeros((ITEMS, 1)), tail_cut=0.2)
    return Interactions.of(Dataset.of("moments", events=events).events, catalogue, context)


def at(time: float | None = None, **context: object) -> Request:
    past = History.of([Event("u", "i0", MONDAY_7_AM - 3600)])
    return Request("r", time=time, context=context, history=past)


def own(contexts: Contexts, request: Request, row: int = 0) -> dict[str, float]:
    return dict(zip(contexts.names, contexts.signals(request, np.array([row]))[0].tolist(), strict=True))


def test_hour_and_weekday_are_places_on_a_circle() -> None:
    contexts = Contexts.of(("hour", "weekday"), interactions((), event=["click"] * 8))

    found = own(contexts, at(MONDAY_7_AM - 3600))

    assert found["context hour known"] == found["context weekday known"] == 1.0
    assert found["context hour sin"] == pytest.approx(1.0)  # six o'clock
    assert found["context hour cos"] == pytest.approx(0.0, abs=1e-6)
    assert found["context weekday sin"] == pytest.approx(0.0, abs=1e-6)  # Monday
    assert found["context weekday cos"] == pytest.approx(1.0)


def test_recency_is_the_log_of_the_seconds_since_the_last_event_in_spreads() -> None:
    contexts = Contexts.of(("recency",), interactions((), event=["click"] * 8))  # each person acts every two hours

    found = own(contexts, at(MONDAY_7_AM))

    assert found["context recency known"] == 1.0
    assert found["context recency value"] == pytest.approx(math.log1p(3600) - math.log1p(7200))
    assert list(found) == ["context recency known", "context recency value"]  # no item is counted by it
    bare = Request("r", time=MONDAY_7_AM, history=History.of([Event("", "i0", 0.0)]))
    assert not np.any(contexts.signals(bare, np.array([0])))


def test_a_category_is_one_of_its_frequent_values() -> None:
    device = ["phone", "phone", "phone", "web", "web", None, "phone", "web"]
    contexts = Contexts.of(("device",), interactions(("device",), device=device))

    assert contexts.features[0].values == ("phone", "web")
    assert contexts.features[0].numbers("web") == [1.0, 0.0, 1.0]
    found = own(contexts, at(device="web"), row=3)
    assert (found["context device phone"], found["context device web"]) == (0.0, 1.0)
    assert found["taken by device"] > 0  # item 3 was taken on the web twice
    assert own(contexts, at(device="phone"), row=3)["taken by device"] < 0


def test_rare_values_of_a_category_are_not_kept() -> None:
    many = [f"d{min(place, 2 * place % 17):02d}" for place in range(60)]

    (feature,) = Contexts.of(("device",), interactions(("device",), device=many)).features

    assert len(feature.values) == MOST_VALUES
    assert feature.of(at(device="d99")) is None


def test_a_number_is_standardised_and_counted_by_fifths() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, NAN, None]
    contexts = Contexts.of(("degrees",), interactions(("degrees",), degrees=values))

    (feature,) = contexts.features

    assert feature.numbers(3.5) == [1.0, 0.0]
    assert feature.numbers(6.0)[1] == pytest.approx(2.5 / np.std([1, 2, 3, 4, 5, 6]))
    assert [feature.bucket(value) for value in (0.0, 2.0, 3.5, 9.0)] == [0, 1, 2, 4]
    assert feature.numbers(1e9)[1] == 5.0  # one wild value stays bounded


def test_what_never_varies_says_nothing() -> None:
    contexts = Contexts.of(
        ("degrees", "device"), interactions(("degrees", "device"), degrees=[3] * 8, device=["a"] * 8)
    )

    found = own(contexts, at(degrees=3, device="a"))

    assert found["context degrees value"] == found["taken by degrees"] == found["taken by device"] == 0.0


def test_a_column_without_any_value_says_nothing() -> None:
    empty = pl.Series([None] * 8, dtype=pl.String)
    contexts = Contexts.of(("device",), interactions(("device",), device=empty))

    assert own(contexts, at(device="phone")) == {"context device known": 0.0}


@pytest.mark.parametrize("request_", [at(), at(device="fridge"), at(device=None), at(NAN, device=NAN, degrees=NAN)])
def test_what_a_request_does_not_tell_is_zero(request_: Request) -> None:
    columns = {"device": ["phone", "web"] * 4, "degrees": [1.0, 2.0] * 4}
    contexts = Contexts.of(("hour", "weekday", "recency", "device", "degrees"), interactions(tuple(columns), **columns))

    found = contexts.signals(request_, np.array([0, -1, 2]))

    assert found.shape == (3, len(contexts.names))
    assert found.dtype == np.float32
    assert not found.any()


def test_an_item_that_the_catalogue_does_not_know_is_taken_as_usual() -> None:
    contexts = Contexts.of(("device",), interactions(("device",), device=["phone", "web"] * 4))

    assert own(contexts, at(device="web"), row=-1)["taken by device"] == 0.0
    assert own(contexts, at(device="web"), row=0)["taken by device"] < 0.0


@given(
    device=st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=40),
    kinds=st.lists(st.sampled_from(["click", "dislike"]), min_size=40, max_size=40),
)
@settings(max_examples=30)
def test_lifts_equal_plain_counting(device: list[str | None], kinds: list[str]) -> None:
    column = pl.Series(device, dtype=pl.String)
    contexts = Contexts.of(("device",), interactions(("device",), device=column, event=kinds[: len(device)]))

    told = [(value, n % ITEMS) for n, value in enumerate(device) if value is not None and kinds[n] == "click"]
    for value in contexts.features[0].values:
        share = sum(v == value for v, _ in told) / max(len(told), 1)
        for row in range(ITEMS):
            there = sum(pair == (value, row) for pair in told)
            usual = share * sum(r == row for _, r in told)
            wanted = math.log((there + PRIOR * share) / (usual + PRIOR * share)) if share else 0.0
            assert own(contexts, at(device=value), row)["taken by device"] == pytest.approx(wanted, abs=1e-5)


def test_lifts_by_the_hour_count_parts_of_the_day() -> None:
    (feature,) = Contexts.of(("hour",), interactions((), event=["click"] * 24)).features

    parts = feature.buckets_of(interactions((), event=["click"] * 24))

    hours = interactions((), event=["click"] * 24).times / 3600 % 24
    assert parts.tolist() == (hours // 4).astype(int).tolist()
    assert [feature.bucket(hour) for hour in (0.0, 3.99, 4.0, 23.9)] == [0, 0, 1, 5]


def test_weekdays_of_events_and_of_requests_are_the_same() -> None:
    (feature,) = Contexts.of(("weekday",), interactions((), event=["click"] * 200)).features
    events = interactions((), event=["click"] * 200)

    parts = feature.buckets_of(events)

    assert parts.tolist() == [feature.bucket(feature.of(at(time))) for time in events.times]
    assert set(parts) == set(range(7))


def test_counted_again_the_features_stay() -> None:
    first = Contexts.of(("device",), interactions(("device",), device=["phone", "web"] * 4))

    again = first.recounted(interactions(("device",), device=["tv", "web"] * 4))

    assert again.features == first.features
    assert again.names == first.names
    assert own(again, at(device="phone"), 0)["taken by device"] == 0.0  # nobody did


@pytest.mark.parametrize("value", [["phone"], {"a": 1}])
def test_a_context_that_is_no_text_is_refused(value: object) -> None:
    contexts = Contexts.of(("device",), interactions(("device",), device=["phone", "web"] * 4))

    with pytest.raises(RequestError, match=r"^context gives device the value .+, but it must be a text$"):
        contexts.check(at(device=value))


@pytest.mark.parametrize("value", ["hot", True, [1]])
def test_a_context_that_is_no_number_is_refused(value: object) -> None:
    contexts = Contexts.of(("degrees",), interactions(("degrees",), degrees=[1.0, 2.0] * 4))

    with pytest.raises(RequestError, match=r"^context gives degrees the value .+, but it must be a number$"):
        contexts.check(at(degrees=value))


def test_a_truth_value_reads_as_it_stands_in_the_events() -> None:
    contexts = Contexts.of(("member",), interactions(("member",), member=[True, False] * 4))

    assert own(contexts, at(member=True))["context member true"] == 1.0


def test_a_column_that_the_events_lack_is_told() -> None:
    message = r"^context names 'devise', but the events have no such column; there are: hour, weekday, recency, device$"

    with pytest.raises(ConfigError, match=message):
        Contexts.of(("devise",), interactions(("device",), device=["phone"] * 4))


def test_what_is_saved_opens_equal(tmp_path: Path) -> None:
    columns = {"device": ["phone", "web"] * 4, "degrees": [1.0, 2.0] * 4}
    before = Contexts.of(("hour", "recency", "device", "degrees"), interactions(tuple(columns), **columns))

    before.save(tmp_path / "context")
    after = Contexts.open(tmp_path / "context")

    asked = at(MONDAY_7_AM, device="web", degrees=1.5)
    assert after.names == before.names
    assert after.signals(asked, np.arange(ITEMS)).tolist() == before.signals(asked, np.arange(ITEMS)).tolist()


def test_no_context_is_no_folder(tmp_path: Path) -> None:
    NO_CONTEXTS.save(tmp_path / "context")

    assert not (tmp_path / "context").exists()
    assert Contexts.open(tmp_path / "context") == NO_CONTEXTS
    assert NO_CONTEXTS.signals(at(), np.arange(3)).shape == (3, 0)
    assert NO_CONTEXTS.names == ()


@pytest.mark.parametrize("name", ["context.json", "lifts.safetensors"])
def test_a_missing_file_is_told(tmp_path: Path, name: str) -> None:
    Contexts.of(("hour",), interactions((), event=["click"] * 4)).save(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(ArtifactError, match=rf"^\S+/{name} cannot be read \(.+\); fit the model again$"):
        Contexts.open(tmp_path)


def test_names_say_what_each_number_is() -> None:
    feature = Feature(name="device", kind="category", values=("phone",))

    assert feature.signals == ("device known", "device phone")
    assert len(feature.numbers(None)) == len(feature.signals)


@pytest.mark.parametrize("name", ["item_id", "user_id", "event", "value", "time"])
def test_what_is_to_be_told_is_no_context(name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^context names '{name}', which is what is to be told, not the moment; there"
    ):
        check_context([name], ["user_id", "item_id", "time", "event", "value", "device"])


def test_a_number_beyond_all_bounds_is_refused() -> None:
    contexts = Contexts.of(("degrees",), interactions(("degrees",), degrees=[1.0, 2.0] * 4))

    with pytest.raises(RequestError, match=r"^context gives degrees a number of more than 308 digits$"):
        contexts.check(at(degrees=10**400))
