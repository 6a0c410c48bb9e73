"""Damaged files of every kind: one finding each, with the row, and never a lost row."""

import gzip
import random
from pathlib import Path

import polars as pl
import pytest

from tailwise.data.files import find_tables, inferred, read_all, read_table
from tailwise.data.schema import Finding

CSV = b"user_id,item_id,time\nu1,007,1\nu2,i2,2\n"


def read(folder: Path, name: str, data: bytes, kind: str = "events") -> pl.DataFrame | Finding:
    (folder / name).write_bytes(data)
    return read_table(folder / name, kind)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "FAIL events.csv: is empty"),
        (b"\xef\xbb\xbf\r\n\r\n", "FAIL events.csv: is empty"),
        (
            b"user_id,item_id,time,event,event\nu,i,1,view,purchase\n",
            "FAIL events.csv event: is there twice; keep one of the columns",
        ),
        (CSV + b"u3,i3,3,4\n", "FAIL events.csv row 3: has 4 fields, but the header has 3"),
        (
            CSV + b'u3,"i3,3\nu4,i4,4\n',
            "FAIL events.csv row 3: cannot be read (unexpected end of data); is a quote missing?",
        ),
        (CSV + b'u3,"i"3,3\n', "FAIL events.csv row 3: cannot be read (',' expected after '\"'); is a quote missing?"),
        (CSV + b"u3,\xff,3\n", "FAIL events.csv row 3: is not UTF-8 (byte 0xff); save it as UTF-8"),
        (CSV.decode().encode("utf-16"), "FAIL events.csv row 0: is not UTF-8 (byte 0xff); save it as UTF-8"),
    ],
)
def test_a_broken_csv_file_is_one_finding_with_its_row(tmp_path: Path, data: bytes, line: str) -> None:
    assert str(read(tmp_path, "events.csv", data)) == line


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"\n", "FAIL events.jsonl: is empty"),
        (b'{"a":1}\n{"a":\n', "FAIL events.jsonl row 2: is no JSON (Input data was truncated)"),
        (b'{"a":1}\n\n[1]\n', "FAIL events.jsonl row 2: is no JSON object; give one object a line"),
        (
            b'{"a":1}\n{"a":NaN}\n',
            "FAIL events.jsonl row 2: is no JSON (JSON is malformed: invalid character (byte 5))",
        ),
        (b'{"a":1}\n{"a":"\xff"}\n', "FAIL events.jsonl row 2: is not UTF-8 (byte 0xff); save it as UTF-8"),
    ],
)
def test_a_broken_json_file_is_one_finding_with_its_row(tmp_path: Path, data: bytes, line: str) -> None:
    assert str(read(tmp_path, "events.jsonl", data)) == line


def test_a_cut_gzip_file_is_one_finding(tmp_path: Path) -> None:
    found = read(tmp_path, "events.csv.gz", gzip.compress(CSV * 50)[:-12])

    assert str(found).startswith("FAIL events.csv.gz: cannot be read (Compressed file ended before")


def test_a_parquet_file_that_is_cut_or_flipped_never_raises(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"user_id": [str(n) for n in range(50)]}).write_parquet(tmp_path / "whole.parquet")
    whole, rng = (tmp_path / "whole.parquet").read_bytes(), random.Random(7)
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        for data in (bytes(damaged), whole[: rng.randrange(len(whole))]):
            assert isinstance(read(tmp_path, "events.parquet", data), Finding | pl.DataFrame)


def test_csv_ids_keep_their_zeros_and_other_columns_find_their_dtype(tmp_path: Path) -> None:
    data = b"user_id,item_id,time,age,ratio,zip,note\n01,007,1,30,1e-3,07030,x\n02,008,2,,2.5,94043,\n"

    frame = read(tmp_path, "events.csv", data)

    assert frame.rows() == [("01", "007", "1", 30, 0.001, "07030", "x"), ("02", "008", "2", None, 2.5, "94043", None)]


def test_a_mark_of_byte_order_and_blank_last_lines_are_no_data(tmp_path: Path) -> None:
    frame = read(tmp_path, "events.csv", b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n") + b"\r\n\r\n")

    assert frame.rows() == [("u1", "007", "1"), ("u2", "i2", "2")]


def test_a_blank_line_within_is_kept_as_a_row_for_the_checks_to_find(tmp_path: Path) -> None:
    assert read(tmp_path, "events.csv", b"user_id,item_id,time\nu,i,1\n\nv,i,2\n").height == 3


def test_a_newline_in_quotes_and_a_title_that_is_a_number_are_text(tmp_path: Path) -> None:
    frame = read(tmp_path, "items.csv", b'item_id,title,description\na,1984,"two\nlines"\n', "items")

    assert frame.rows() == [("a", "1984", "two\nlines")]


def test_json_keys_that_come_late_and_ids_of_mixed_type_are_not_lost(tmp_path: Path) -> None:
    data = b'{"item_id":1}\n' * 300 + b'{"item_id":"x","late":5}\n'

    frame = read(tmp_path, "items.jsonl", data, "items")

    assert frame.row(0) == ("1", None)
    assert frame.row(-1) == ("x", 5)


def test_a_folder_must_be_there_and_have_one_file_of_events(tmp_path: Path) -> None:
    assert find_tables(tmp_path / "no").text == f"{tmp_path}/no: is no folder; give one that holds an events file"
    assert find_tables(tmp_path).text == (
        f"{tmp_path}: has no events; add one of events.csv, events.csv.gz, events.parquet, events.jsonl, "
        "events-*.parquet"
    )
    (tmp_path / "events.csv").touch()
    (tmp_path / "events.jsonl").touch()
    assert find_tables(tmp_path).text == f"{tmp_path}: has events.csv and events.jsonl; keep one file of events"


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "-20", None, ""], [1, -20, None, None]),
        (["1", "2.50", "1e3"], [1.0, 2.5, 1000.0]),
        (["1", "007"], ["1", "007"]),
        (["12345678901234567890"], ["12345678901234567890"]),
        (["1", "nan"], ["1", "nan"]),
        ([None, None], [None, None]),
    ],
)
def test_a_column_becomes_numbers_only_when_no_spelling_is_lost(texts: list[str | None], values: list[object]) -> None:
    assert inferred(pl.Series(texts, dtype=pl.String)).to_list() == values


def test_the_segments_of_a_log_are_one_table_after_the_file_beside_them(tmp_path: Path) -> None:
    base = pl.DataFrame({"user_id": ["u"], "item_id": [7], "time": [1]})
    base.write_parquet(tmp_path / "events.parquet")
    for number in (2, 1):
        row = {"user_id": "u", "item_id": f"i{number}", "time": 1.5 + number, "value": None, "event_id": "e"}
        pl.DataFrame([row], schema_overrides={"value": pl.Float64}).write_parquet(tmp_path / f"events-{number}.parquet")

    tables, findings = read_all(find_tables(tmp_path))
    (tmp_path / "events.parquet").unlink()
    alone, _ = read_all(find_tables(tmp_path))

    assert findings == []
    assert tables["events"]["item_id"].to_list() == ["7", "i1", "i2"]
    assert tables["events"]["time"].to_list() == [1.0, 2.5, 3.5]
    assert alone["events"]["item_id"].to_list() == ["i1", "i2"]


def test_a_damaged_segment_is_named(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "time": [1.0]}).write_parquet(tmp_path / "events-1.parquet")
    (tmp_path / "events-2.parquet").write_bytes(b"PAR1 cut short")

    tables, findings = read_all(find_tables(tmp_path))

    assert tables == {}
    assert str(findings[0]).startswith("FAIL events-2.parquet: cannot be read (")


def test_a_log_does_not_go_with_text(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,time\nu,i,1\n")
    (tmp_path / "events-1.parquet").write_bytes(b"")

    assert str(find_tables(tmp_path)) == (
        f"FAIL {tmp_path}: has events.csv and events-*.parquet; write events.csv as events.parquet, to go before them"
    )
