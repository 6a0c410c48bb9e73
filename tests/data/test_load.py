"""One data set from any format and order, and one clear error for anything that is none."""

import gzip
import os
import random
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.load import Dataset, load, ordered, validate, write
from tailwise.errors import DataError, UnavailableError

EVENTS = pl.DataFrame(
    {
        "user_id": ["02", "01", "01", "02"],
        "item_id": ["b", "a", "c", "a"],
        "time": [1.6e9 + 5, 1.6e9, 1.6e9 + 5, 1.6e9 + 7.5],
        "event": ["rating", "view", "click", "rating"],
        "value": pl.Series([4.5, None, None, 1.0], dtype=pl.Float32),
        "device": ["phone", "", None, "tv"],
    }
)
ITEMS = pl.DataFrame(
    {"item_id": ["c", "b", "a"], "title": ["1984", "B", None], "price": [1.0, 2.5, None], "n": [3, 1, 2]}
)
FORMATS = {
    "csv": pl.DataFrame.write_csv,
    "csv.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_csv().encode())),
    "parquet": pl.DataFrame.write_parquet,
    "jsonl": pl.DataFrame.write_ndjson,
}


def save(folder: Path, kind: str, frame: pl.DataFrame, suffix: str = "csv") -> None:
    folder.mkdir(exist_ok=True)
    FORMATS[suffix](frame, folder / f"{kind}.{suffix}")


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_and_order_of_rows_gives_the_same_data_set(tmp_path: Path, suffix: str) -> None:
    save(tmp_path, "events", EVENTS.reverse().select(reversed(EVENTS.columns)), suffix)
    save(tmp_path, "items", ITEMS, suffix)

    data = load(tmp_path)

    assert data.digest() == Dataset.of("any", events=EVENTS, items=ITEMS).digest()
    assert data.events.columns[:5] == ["user_id", "item_id", "time", "event", "value"]
    assert data.events.drop("time", "value").rows() == [
        ("01", "a", "view", None),
        ("01", "c", "click", None),
        ("02", "b", "rating", "phone"),
        ("02", "a", "rating", "tv"),
    ]
    assert data.items.rows() == [("a", None, None, 2), ("b", "B", 2.5, 1), ("c", "1984", 1.0, 3)]
    assert (data.events.schema["time"], data.events.schema["value"]) == (pl.Float64, pl.Float32)
    assert (data.name, data.folder) == (tmp_path.name, tmp_path)


def test_defaults_fill_what_a_small_folder_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("item_id,time,user_id\n10,2020-01-01,u\n9,2020-01-01T00:00:01+01:00,u\n")

    data = load(str(tmp_path))

    assert data.events.rows() == [("u", "9", 1577833201.0, "view", None), ("u", "10", 1577836800.0, "view", None)]
    assert data.items.rows() == [("10",), ("9",)]
    assert (data.users, data.graph, data.social, data.named_graph()) == (None, None, None, None)


def test_whole_number_ids_and_dates_of_parquet_and_lists_of_json_are_understood(tmp_path: Path) -> None:
    when = pl.Series(["2020-01-01 00:00:00"]).str.to_datetime()
    pl.DataFrame({"user_id": [7], "item_id": [8], "time": when, "event": [None]}).write_parquet(
        tmp_path / "events.parquet"
    )
    (tmp_path / "items.jsonl").write_text('{"item_id":8,"genres":["x","y"],"year":"1999","nan":null}\n')

    data = load(tmp_path)

    assert data.events.rows() == [("7", "8", 1577836800.0, "view", None)]
    assert data.items.rows() == [("8", "x|y", 1999, None)]


def test_all_five_tables_are_read_and_sorted_by_their_keys(tmp_path: Path) -> None:
    tables = {
        "events": EVENTS,
        "items": ITEMS,
        "users": pl.DataFrame({"user_id": ["b", "a"], "zip": ["07030", "94043"]}),
        "graph": pl.DataFrame({"head": ["c", "a"], "relation": ["is", "is"], "tail": ["x", "y"]}),
        "social": pl.DataFrame({"user_id": ["b", "a"], "friend_id": ["a", "b"], "weight": [1, 2]}),
    }
    for kind, frame in tables.items():
        save(tmp_path, kind, frame)

    data = load(tmp_path)

    assert list(data.tables()) == list(tables)
    assert data.tables()["users"].rows() == [("a", "94043"), ("b", "07030")]
    assert data.tables()["graph"].rows() == [("a", "is", "y"), ("c", "is", "x")]
    assert data.tables()["social"].rows() == [("a", "b", 2.0), ("b", "a", 1.0)]


def test_the_first_failing_check_is_the_error_and_the_others_are_counted(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,time\nu,a,1600000000\nu,,soon\n,b,1600000000\n")

    with pytest.raises(
        DataError,
        match=r"^events\.csv row 3 user_id: null is no id; ids are text or whole numbers, of 1 to 512 letters "
        rf"\(and 2 more\); see: tailwise validate {tmp_path}$",
    ):
        load(tmp_path)


def test_failing_rows_that_are_not_shown_are_counted_too() -> None:
    with pytest.raises(DataError, match=r"^events row 1 time: 'x' is no time; .*, in UTC \(and 99 more\)$"):
        Dataset.of("x", events=pl.DataFrame({"user_id": ["u"] * 100, "item_id": ["i"] * 100, "time": ["x"] * 100}))


def test_a_file_that_cannot_be_read_is_the_error(tmp_path: Path) -> None:
    save(tmp_path, "events", EVENTS)
    (tmp_path / "items.parquet").write_bytes(b"PAR1 not really")

    with pytest.raises(DataError, match=r"^items\.parquet: cannot be read \(parquet: .*\); write it again; see: .*$"):
        load(tmp_path)


def test_a_folder_that_is_none_is_one_error_without_a_remark_on_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^{tmp_path}/x: is no folder; give one that holds an events file$"):
        load(tmp_path / "x")


def test_frames_in_memory_are_checked_too() -> None:
    with pytest.raises(DataError, match=r"^items row 2 item_id: 'a' is there twice; ids must be unique$"):
        Dataset.of("x", events=EVENTS, items=pl.DataFrame({"item_id": ["a", "a"]}))


@given(st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_order_and_digest_do_not_depend_on_the_order_of_rows(rng: random.Random) -> None:
    rows = [
        (user, item, 1.6e9 + time, kind)
        for user in "uv"
        for item in ("1", "10", "2")
        for time in (0, 0, 1)
        for kind in ("purchase", "view")
    ]
    names = ["user_id", "item_id", "time", "event"]
    expected = Dataset.of("x", events=pl.DataFrame(rows, schema=names, orient="row"))
    rng.shuffle(rows)

    shuffled = Dataset.of("x", events=pl.DataFrame(rows, schema=names, orient="row"))

    assert shuffled.events.equals(expected.events)
    assert shuffled.digest() == expected.digest()


def test_events_of_one_moment_are_ordered_as_text_and_from_view_to_purchase() -> None:
    frame = pl.DataFrame(
        {
            "user_id": ["u"] * 4,
            "item_id": ["9", "10", "10", "10"],
            "time": [5.0] * 4,
            "event": ["view", "purchase", "click", "view"],
            "value": [None] * 4,
        }
    )

    assert ordered(frame).select("item_id", "event").rows() == [
        ("10", "view"),
        ("10", "click"),
        ("10", "purchase"),
        ("9", "view"),
    ]


def test_with_events_puts_them_in_order_and_keeps_the_rest() -> None:
    data = Dataset.of("x", events=EVENTS, items=ITEMS)

    other = data.with_events(data.events.reverse().head(3))

    assert other.events.equals(data.events.tail(3))
    assert other.items is data.items


def test_the_digest_does_not_depend_on_the_order_of_events_that_only_extra_columns_tell_apart() -> None:
    twins = pl.concat([EVENTS, EVENTS.with_columns(device=pl.lit("watch"))])

    assert Dataset.of("x", events=twins).digest() == Dataset.of("x", events=twins.reverse()).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"value": pl.Series([4.5, None, None, 2.0])},
        {"value": pl.Series([None, 4.5, None, 1.0])},
        {"value": pl.Series([4.5, 0.0, None, 1.0])},
        {"item_id": pl.Series(["b", "a", "c", "aa"])},
        {"time": pl.Series([1.6e9 + 5, 1.6e9, 1.6e9 + 5, 1.6e9 + 7.4])},
        {"device": pl.Series(["phone", None, "t", "v"])},
    ],
)
def test_the_digest_changes_with_any_value(change: dict[str, pl.Series]) -> None:
    assert Dataset.of("x", events=EVENTS.with_columns(**change)).digest() != Dataset.of("x", events=EVENTS).digest()


def test_the_digest_tells_apart_what_only_joins_to_the_same_text() -> None:
    one = pl.DataFrame({"item_id": ["a", "b"], "x": ["12", "3"]})
    two = pl.DataFrame({"item_id": ["a", "b"], "x": ["1", "23"]})

    assert Dataset.of("x", events=EVENTS, items=one).digest() != Dataset.of("x", events=EVENTS, items=two).digest()


def test_the_digest_is_the_same_in_another_process(tmp_path: Path) -> None:
    data = Dataset.of(
        "x", events=EVENTS, items=ITEMS.with_columns(tags=pl.Series([["a"], [], None]), f=[True, False, None])
    )
    write(data, tmp_path)
    code = f"from tailwise.data.load import load; print(load({str(tmp_path)!r}).digest())"
    path = os.pathsep.join(sys.path)

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )

    assert done.stdout.strip() == data.digest()


def test_writing_and_loading_gives_the_same_frames(tmp_path: Path) -> None:
    data = Dataset.of("x", events=EVENTS, items=ITEMS)

    write(data, tmp_path / "new" / "folder")
    again = load(tmp_path / "new" / "folder")

    assert again.events.equals(data.events)
    assert again.items.equals(data.items)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["events.parquet", "items.parquet"]


def test_writing_never_mixes_with_a_table_that_is_there(tmp_path: Path) -> None:
    save(tmp_path, "users", pl.DataFrame({"user_id": ["a"]}))

    with pytest.raises(
        DataError,
        match=rf"^{tmp_path}/users\.csv is there already and is not part of this data; choose an empty folder$",
    ):
        write(Dataset.of("x", events=EVENTS), tmp_path)


def test_writing_where_a_file_is_in_the_way_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UnavailableError, match=rf"^{tmp_path}/file cannot be written to: File exists$"):
        write(Dataset.of("x", events=EVENTS), tmp_path / "file")


def test_writing_to_a_full_disk_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / ".events.parquet").symlink_to("/dev/full")

    with pytest.raises(UnavailableError, match=rf"^{tmp_path} cannot be written to: .*No space left on device.*$"):
        write(Dataset.of("x", events=EVENTS), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_validate_gives_one_line_a_check_and_never_raises(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,time\nu,a,1600000000\nu,z,1900000000\n")
    save(tmp_path, "items", ITEMS)
    (tmp_path / "users.jsonl").write_text("{")

    lines = [str(finding) for finding in validate(tmp_path, now=1.8e9)]

    assert [line for line in lines if not line.startswith("PASS")] == [
        "FAIL users.jsonl row 1: is no JSON (Input data was truncated)",
        "WARN events.csv row 2 time: '1900000000' is before 1990 or after now; is it in seconds?",
        "WARN events.csv row 2 item_id: 'z' is not in items.csv",
    ]
    assert "PASS items.csv item_id: every id is unique" in lines


def test_validate_warns_where_items_are_missing_and_fails_without_a_folder(tmp_path: Path) -> None:
    save(tmp_path, "events", EVENTS)

    found = [str(finding) for finding in validate(tmp_path) if finding.level != "PASS"]

    assert found == [f"WARN {tmp_path}: there is no items file; the items are those that events name"]
    assert [str(finding) for finding in validate(tmp_path / "x")] == [
        f"FAIL {tmp_path}/x: is no folder; give one that holds an events file"
    ]


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3), st.floats() | st.text(max_size=5)), max_size=6))
@settings(max_examples=50)
def test_any_table_is_either_loaded_whole_or_refused_with_one_line(rows: list[tuple[str, str, object]]) -> None:
    users, items, times = ([row[n] for row in rows] for n in range(3))
    frame = pl.DataFrame({"user_id": users, "item_id": items, "time": [str(time) for time in times]})

    try:
        data = Dataset.of("x", events=frame)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017  an error is one of two good outcomes
        return
    assert sorted(data.events["item_id"]) == sorted(items)
    assert data.events["time"].is_finite().all()


def test_items_alone_are_worth_a_warning_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,Toys\nb,Heat\n", encoding="utf-8")

    found = validate(tmp_path)

    assert [finding.level for finding in found if "has no events" in finding.message] == ["WARN"]
    assert not [finding for finding in found if finding.level == "FAIL"]


def test_entities_give_the_graph_its_names(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,time\nu,a,1\n")
    (tmp_path / "items.csv").write_text("item_id\na\n")
    (tmp_path / "graph.csv").write_text("head,relation,tail\na,director,m.01\nm.01,born in,m.02\na,cast,m.09\n")
    (tmp_path / "entities.csv").write_text("entity,label\nm.01,Agnès Varda\nm.02,Ixelles\na,not an entity\n")

    data = load(tmp_path)

    named = data.named_graph()
    assert named is not None
    assert sorted(named.rows()) == [
        ("Agnès Varda", "born in", "Ixelles"),
        ("a", "cast", "m.09"),
        ("a", "director", "Agnès Varda"),
    ]
    assert data.tables().keys() == {"events", "items", "graph", "entities"}


def test_the_first_day_of_a_shop_is_warned_of_and_no_fault(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,Heat\n")
    (tmp_path / "events.csv").write_text("user_id,item_id,time\n")

    found = [str(finding) for finding in validate(tmp_path) if finding.level != "PASS"]

    assert found == ["WARN events.csv: has no events: texts and attributes alone can rank until there are some"]
    (tmp_path / "items.csv").unlink()
    assert "FAIL events.csv: has no rows" in [str(finding) for finding in validate(tmp_path)]
