"""Reading labelled texts: what each form means, and what is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwise.data.labelled import Span, read_labelled, read_rows
from tailwise.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"text": "Great film", "sentiment": "positive", "topic": ["war", "comedy", "war"]},
    {"text": "Where is Heat?", "intent": "find_item", "entities": [{"start": 9, "end": 13, "label": "film"}], "id": 7},
    {"text": "nothing", "topic": [], "entities": []},
]


def write(folder: Path, *rows: Any, name: str = "texts.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_what_a_line_leaves_out_is_not_known_and_an_empty_list_says_none(tmp_path: Path) -> None:
    data = read_labelled(write(tmp_path, *ROWS))

    assert data.heads == ("sentiment", "intent", "topic", "entities")
    assert data.labels["topic"] == (("comedy", "war"), None, ())
    assert data.labels["sentiment"] == (("positive",), None, None)
    assert data.spans == (None, (Span(9, 13, "film"),), ())
    assert data.names("topic") == ("comedy", "war")
    assert data.names("entities") == ("film",)


def test_rows_are_taken_in_order_and_copies_know_all_but_spans(tmp_path: Path) -> None:
    data = read_labelled(write(tmp_path, *ROWS)).take(np.array([1, 0]))

    more = data.with_copies([(1, "Fine film"), (0, "Where's Heat?")])

    assert data.texts == ("Where is Heat?", "Great film")
    assert more.texts[2:] == ("Fine film", "Where's Heat?")
    assert more.labels["sentiment"] == (None, ("positive",), ("positive",), None)
    assert more.spans == (*data.spans, None, None)


def test_a_csv_file_divides_topics_and_reads_spans_as_json(tmp_path: Path) -> None:
    spans = '"[{""start"": 0, ""end"": 4, ""label"": ""film""}]"'
    path = write(tmp_path, "text,topic,sentiment,entities,note", f'"Heat,\nagain",a | b,,{spans},x', name="t.csv")

    data = read_labelled(path)

    assert data.texts == ("Heat,\nagain",)
    assert data.labels["topic"] == (("a", "b"),)
    assert data.labels["sentiment"] == (None,)
    assert data.spans == ((Span(0, 4, "film"),),)


def test_blank_lines_line_separators_and_a_mark_at_the_beginning_are_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('\ufeff{"text": "a\u2028b", "intent": "x"}\n\n{"text": "c"}\n', encoding="utf-8")

    assert [row["text"] for _, row in read_rows(path)] == ["a\u2028b", "c"]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("{", r" is not JSON: .*"),
        ([1], r" is \[1\], but it must be an object with a text"),
        ({"text": 5}, r": text is 5, but it must be a string"),
        ({"sentiment": "p"}, r": text is None, but it must be a string"),
        ({"text": "a", "sentiment": ["p"]}, r": sentiment is \['p'\], but it must be a label"),
        ({"text": "a", "topic": 3}, r": topic is 3, but it must be a list of labels"),
        ({"text": "a", "topic": [3]}, r": topic has 3, but a label is 1 to 200 characters"),
        ({"text": "a", "intent": " "}, r": intent has ' ', but a label is 1 to 200 characters"),
        ({"text": "a", "entities": 1}, r": entities is 1, but it must be a list of spans"),
        ({"text": "a", "entities": ["x"]}, r": entities has 'x', but a span is an object with start, end and label"),
        (
            {"text": "ab", "entities": [{"start": 0, "end": 3, "label": "x"}]},
            r": a span from 0 to 3 is not within the text's 2 characters",
        ),
        (
            {"text": "ab", "entities": [{"start": True, "end": 2, "label": "x"}]},
            r": entities has \{'start': True, .*\}, but a span is an object with start, end and label",
        ),
        (
            {"text": "abc", "entities": [{"start": 1, "end": 3, "label": "x"}, {"start": 0, "end": 2, "label": "x"}]},
            r": the spans at 0 and 1 overlap; keep one of them",
        ),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, row: Any, what: str) -> None:
    path = write(tmp_path, ROWS[0], row)

    with pytest.raises(DataError, match=rf"^{path}, line 2{what}$"):
        read_labelled(path)


def test_files_that_say_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"texts\.jsonl has no line; each must be an object with a text$"):
        read_labelled(write(tmp_path))
    with pytest.raises(
        DataError,
        match=r"texts\.jsonl has no text with a label: each line may have sentiment, intent, topic, entities$",
    ):
        read_labelled(write(tmp_path, {"text": "a"}))
    with pytest.raises(DataError, match=r"t\.csv has no column text; it has: a, b$"):
        read_labelled(write(tmp_path, "a,b", "1,2", name="t.csv"))
    with pytest.raises(DataError, match=r"t\.txt ends in \.txt, but texts are read from \.jsonl or \.csv$"):
        read_labelled(write(tmp_path, "a", name="t.txt"))
    with pytest.raises(DataError, match=r"none\.jsonl cannot be read: No such file or directory$"):
        read_labelled(tmp_path / "none.jsonl")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b'{"text": "\xe9"}')

    with pytest.raises(DataError, match=r"t\.jsonl is not UTF-8, at byte 10; save it as UTF-8$"):
        read_labelled(tmp_path / "t.jsonl")


def test_a_blank_text_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "texts.jsonl"
    lines = [{"text": " ", "sentiment": "good"}, {"text": "Fine.", "sentiment": "good"}]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    found = read_labelled(path)

    assert found.texts == ("Fine.",)
    assert found.labels["sentiment"] == (("good",),)
    assert [record.getMessage() for record in caplog.records] == [
        f"1 blank texts say nothing and are left out, first: {path}, line 1"
    ]
