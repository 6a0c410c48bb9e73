"""What the checks say, word for word, and what they let pass."""

import datetime as dt
import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.data.schema import (
    Finding,
    check_across,
    check_entities,
    check_events,
    check_graph,
    check_items,
    check_social,
    check_users,
    number,
    seconds,
    text,
)
from tailwise.types import EVENT_KINDS

GOOD = {"user_id": ["u", "v"], "item_id": ["a", "b"], "time": [1.6e9, 1.7e9]}


def problems(findings: list[Finding]) -> list[str]:
    """The lines that are no PASS."""
    return [str(finding) for finding in findings if finding.level != "PASS"]


def events(**columns: list[object]) -> list[str]:
    return problems(check_events(pl.DataFrame({**GOOD, **columns}, strict=False), "events.csv", now=1.8e9))


def test_good_events_pass_every_check_by_name() -> None:
    findings = check_events(pl.DataFrame(GOOD), "events.csv")

    assert [str(finding) for finding in findings] == [
        "PASS events.csv: has user_id, item_id, time",
        "PASS events.csv: has 2 rows",
        "PASS events.csv user_id: every id is given",
        "PASS events.csv item_id: every id is given",
        "PASS events.csv time: every time is readable",
        "PASS events.csv time: no odd years",
        "PASS events.csv: no event is there twice",
        "PASS events.csv: times differ",
    ]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"user_id": ["u", ""]},
            "FAIL events.csv row 2 user_id: '' is no id; ids are text or whole numbers, of 1 to 512 letters",
        ),
        (
            {"user_id": ["u" * 512, "u" * 513]},
            f"FAIL events.csv row 2 user_id: '{'u' * 76}… is no id; ids are text or whole numbers, of 1 to 512 letters",
        ),
        (
            {"item_id": [None, "b"]},
            "FAIL events.csv row 1 item_id: null is no id; ids are text or whole numbers, of 1 to 512 letters",
        ),
        (
            {"time": ["2020-01-01", "soon"]},
            "FAIL events.csv row 2 time: 'soon' is no time; give seconds since epoch or ISO 8601, in UTC",
        ),
        (
            {"time": [1.6e9, math.nan]},
            "FAIL events.csv row 2 time: nan is no time; give seconds since epoch or ISO 8601, in UTC",
        ),
        (
            {"time": [None, 1.6e9]},
            "FAIL events.csv row 1 time: null is no time; give seconds since epoch or ISO 8601, in UTC",
        ),
        (
            {"time": [1.6e9, math.inf]},
            "FAIL events.csv row 2 time: inf is no time; give seconds since epoch or ISO 8601, in UTC",
        ),
        ({"time": [1.6e9, 5.0]}, "WARN events.csv row 2 time: 5.0 is before 1990 or after now; is it in seconds?"),
        (
            {"time": [1.6e9, 1.9e9]},
            "WARN events.csv row 2 time: 1900000000.0 is before 1990 or after now; is it in seconds?",
        ),
        ({"time": [0, 0]}, "WARN events.csv: all times are the same"),
        (
            {"event": ["view", "play"]},
            "WARN events.csv row 2 event: 'play' is no kind of event and counts as a view; known: "
            + ", ".join(EVENT_KINDS),
        ),
        ({"event": ["rating", "view"]}, "WARN events.csv row 1 event: 'rating' comes without a value"),
        (
            {"value": ["4", "four"]},
            "FAIL events.csv row 2 value: 'four' is no finite number; leave it empty where there is none",
        ),
        (
            {"value": [4.0, math.nan]},
            "FAIL events.csv row 2 value: nan is no finite number; leave it empty where there is none",
        ),
        (
            {"value": [4.0, 1e39]},
            "FAIL events.csv row 2 value: 1e+39 is no finite number; leave it empty where there is none",
        ),
        ({"propensity": [0.0, 1.0]}, "FAIL events.csv row 1 propensity: 0.0 is no propensity in (0, 1]"),
        ({"propensity": [0.5, 1.1]}, "FAIL events.csv row 2 propensity: 1.1 is no propensity in (0, 1]"),
        ({"position": [1, 0]}, "FAIL events.csv row 2 position: 0 is no position; give a whole number from 1"),
        ({"position": [1.5, 1]}, "FAIL events.csv row 1 position: 1.5 is no position; give a whole number from 1"),
        (
            {"user_id": ["u", "u"], "item_id": ["a", "a"], "time": [1.6e9, 1.6e9]},
            "WARN events.csv row 2: the same event as an earlier row",
        ),
    ],
)
def test_each_slip_in_an_event_is_named_with_its_row_and_value(columns: dict[str, list[object]], expected: str) -> None:
    found = events(**columns)

    assert expected in found
    assert [line for line in found if line != expected] in ([], ["WARN events.csv: all times are the same"])


def test_empty_optional_values_are_no_slip() -> None:
    found = events(event=["rating", None], value=["3.5", ""], position=[None, 2], propensity=["", "1"])

    assert found == []


def test_a_missing_column_is_named_with_the_nearest_that_is_there() -> None:
    findings = check_events(pl.DataFrame({"UserId": ["u"], " item_id": ["a"], "timestamp": [1.6e9]}), "events.csv")

    assert problems(findings) == [
        "FAIL events.csv item_id: the column is missing; rename ' item_id'?",
        "FAIL events.csv time: the column is missing; rename 'timestamp'?",
        "FAIL events.csv user_id: the column is missing; rename 'UserId'?",
    ]


def test_a_missing_column_with_nothing_near_lists_what_is_there() -> None:
    findings = check_users(pl.DataFrame({"age": [3], "zip": [4]}), "users.csv")

    assert problems(findings) == ["FAIL users.csv user_id: the column is missing; there are: age, zip"]


def test_ids_that_are_fractions_are_refused_since_they_have_no_one_spelling() -> None:
    assert events(user_id=[1.0, 2.0])[0] == (
        "FAIL events.csv row 1 user_id: 1.0 is no id; ids are text or whole numbers, of 1 to 512 letters"
    )


def test_a_list_in_the_place_of_an_id_is_shown_on_one_line() -> None:
    assert events(user_id=[["a"], ["b"]])[0] == (
        "FAIL events.csv row 1 user_id: ['a'] is no id; ids are text or whole numbers, of 1 to 512 letters"
    )


def test_five_rows_are_shown_and_the_others_counted() -> None:
    findings = check_items(pl.DataFrame({"item_id": ["a"] * 9}), "items.csv")

    assert problems(findings)[0] == "FAIL items.csv row 2 item_id: 'a' is there twice; ids must be unique"
    assert problems(findings)[5:] == ["FAIL items.csv item_id: 3 more rows like these"]
    assert sum(finding.count for finding in findings if finding.level == "FAIL") == 8


def test_whole_numbers_and_text_that_spell_the_same_id_are_the_same() -> None:
    assert problems(check_items(pl.DataFrame({"item_id": pl.Series([7, 8])}), "i")) == []
    assert problems(check_items(pl.DataFrame({"item_id": ["7", "07"]}), "i")) == []


def test_no_rows_fail_for_events_and_warn_for_items() -> None:
    assert problems(check_events(pl.DataFrame({name: [] for name in GOOD}), "events.csv")) == [
        "FAIL events.csv: has no rows"
    ]
    assert problems(check_items(pl.DataFrame({"item_id": []}), "items.csv")) == ["WARN items.csv: has no rows"]


def test_items_may_come_without_a_time_but_not_with_a_wrong_one() -> None:
    frame = pl.DataFrame({"item_id": ["a", "b", "c"], "time": ["", None, "x"], "price": ["1", "", "N/A"]})

    assert problems(check_items(frame, "items.csv")) == [
        "FAIL items.csv row 3 time: 'x' is no time; give seconds since epoch or ISO 8601, in UTC",
        "WARN items.csv row 3 price: 'N/A' is no number, so that the whole column is read as text",
    ]


def test_graph_and_social_need_their_ids_and_numbers() -> None:
    graph = pl.DataFrame({"head": ["a"], "relation": [""], "tail": ["b"]})
    social = pl.DataFrame({"user_id": ["a"], "friend_id": [None], "weight": ["much"]})

    assert problems(check_graph(graph, "graph.csv")) == [
        "FAIL graph.csv row 1 relation: '' is no id; ids are text or whole numbers, of 1 to 512 letters"
    ]
    assert problems(check_social(social, "social.csv")) == [
        "FAIL social.csv row 1 friend_id: null is no id; ids are text or whole numbers, of 1 to 512 letters",
        "FAIL social.csv row 1 weight: 'much' is no finite number; leave it empty where there is none",
    ]


def test_entities_are_named_once() -> None:
    entities = pl.DataFrame({"entity": ["m.1", "m.1"], "label": ["Drama", ""]})

    assert problems(check_entities(entities, "entities.csv")) == [
        "FAIL entities.csv row 2 label: '' is no id; ids are text or whole numbers, of 1 to 512 letters",
        "FAIL entities.csv row 2 entity: 'm.1' is there twice; ids must be unique",
    ]


def test_events_of_unknown_items_and_a_graph_about_nothing_are_warned_of() -> None:
    frames = {
        "events": pl.DataFrame({**GOOD, "item_id": [1, 9]}),
        "items": pl.DataFrame({"item_id": ["1"]}),
        "graph": pl.DataFrame({"head": ["x", "y"], "relation": ["is", "is"], "tail": ["y", "z"]}),
    }

    found = check_across(frames, {"events": "events.csv", "items": "items.csv", "graph": "graph.csv"})

    assert [str(finding) for finding in found] == [
        "WARN events.csv row 2 item_id: 9 is not in items.csv",
        "WARN graph.csv: no head or tail is in items.csv",
    ]


def test_a_long_value_is_cut_to_fit_a_line() -> None:
    finding = check_events(pl.DataFrame({**GOOD, "time": ["x" * 500, "1"]}), "e")

    assert max(len(str(line)) for line in finding) < 180


def test_a_finding_reads_as_one_line() -> None:
    assert str(Finding("WARN", "rows", "users.csv", None, None, "has no rows")) == "WARN users.csv: has no rows"


@pytest.mark.parametrize(
    "spelling",
    [
        "2020-01-01T00:00:00Z",
        "2020-01-01T00:00:00z",
        "2020-01-01",
        "2020-01-01 00:00",
        "2020-01-01 00:00:00.000",
        "2020-01-01T01:00:00+01:00",
        "2019-12-31T18:30:00.0-0530",
        "2020-01-01T05:00+05",
        "1577836800",
        " 1577836800.0 ",
        "1.5778368e9",
    ],
)
def test_one_moment_is_read_from_every_spelling_even_in_one_column(spelling: str) -> None:
    frame = pl.DataFrame({"time": ["never", spelling, "2021-01-01"]})

    read = frame.select(seconds(frame, "time")).to_series().to_list()

    assert read == [None, 1577836800.0, 1609459200.0]


@pytest.mark.parametrize("spelling", ["2020-13-01", "2020-02-30", "1/2/2020", "", "12:00", "2020-01-01T", "yesterday"])
def test_what_is_no_time_is_never_guessed(spelling: str) -> None:
    frame = pl.DataFrame({"time": [spelling]})

    assert frame.select(seconds(frame, "time")).to_series().to_list() == [None]


def test_dates_and_zones_of_a_dtype_are_read_in_utc() -> None:
    local = pl.Series([dt.datetime(2020, 1, 1)]).dt.replace_time_zone("Asia/Tokyo")  # noqa: DTZ001  the zone follows
    frame = pl.DataFrame({"naive": [dt.datetime(2020, 1, 1)], "day": [dt.date(2020, 1, 1)], "local": local})  # noqa: DTZ001  naive is the case
    read = frame.select(seconds(frame, name).alias(name) for name in frame.columns)

    assert read.row(0) == (1577836800.0, 1577836800.0, 1577836800.0 - 9 * 3600)


@given(st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2100, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001  the zone is drawn too
def test_iso_times_are_read_as_the_standard_library_reads_them(moment: dt.datetime, offset: int) -> None:
    spelled = moment.replace(tzinfo=dt.timezone(dt.timedelta(minutes=offset))).isoformat()
    frame = pl.DataFrame({"time": [spelled]})

    read = frame.select(seconds(frame, "time")).item()

    assert read == pytest.approx(dt.datetime.fromisoformat(spelled).timestamp(), abs=1e-6)


def test_ids_keep_their_spelling_and_what_has_no_one_spelling_is_none() -> None:
    frame = pl.DataFrame({"s": ["007"], "i": [7], "l": [["a", "b"]], "f": [7.0], "b": [True]})

    read = frame.select(text(frame, name).alias(name) for name in frame.columns)

    assert read.row(0) == ("007", "7", None, None, None)


def test_numbers_are_read_from_text_and_nothing_from_what_is_none() -> None:
    frame = pl.DataFrame({"t": [" 1.5", "x"], "i": [2, None], "b": [True, False]})

    read = frame.select(number(frame, name).alias(name) for name in frame.columns)

    assert read.rows() == [(1.5, 2.0, None), (None, None, None)]
