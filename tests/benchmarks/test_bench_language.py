"""The table of the language benchmark: each case judged by a gate that did not learn from its person."""

from __future__ import annotations

import numpy as np
import pytest
from bench_language import DEPTH, Row, of_people, rows_of, table

from tailwise.learn.slates import Example
from tailwise.types import Event, History, Request, Slate, ids_of

LENGTHS = (3, 12, 30, 80)


def examples(people: int) -> list[Example]:
    """Everybody with a history of every length; the last people have short ones alone."""
    rng = np.random.default_rng(0)
    made = []
    for person in range(people):
        for length in LENGTHS if person < people - 5 else LENGTHS[:1]:
            past = History.of([Event("", f"h{time}", time) for time in range(length)]).place(np.arange(length))
            scores = np.linspace(1, 0, DEPTH, dtype=np.float32)
            slate = Slate(ids_of([f"i{n}" for n in range(DEPTH)]), scores, {"row": np.arange(DEPTH)})
            relevant = np.arange(DEPTH) == rng.integers(DEPTH)
            made.append(Example(person, Request("r", history=past), slate, relevant, 1))
    return made


def test_an_opinion_that_knows_short_histories_is_blended_in_for_those_alone() -> None:
    made, rng = examples(60), np.random.default_rng(1)
    short = [len(example.request.past) < 10 for example in made]
    said = [
        (rng.standard_normal(DEPTH) + (6.0 if known else -6.0) * example.relevant).astype(np.float32)
        for example, known in zip(made, short, strict=True)
    ]

    rows = {row.name: row for row in rows_of(made, said, 7)}

    assert rows["1-5 events"].blend > rows["1-5 events"].fast + 0.3
    assert rows["1-5 events"].cases == 60
    assert rows["51 events and more"].blend == rows["51 events and more"].fast
    assert rows["51 events and more"].alone < rows["51 events and more"].fast
    assert rows["51 events and more"].asked == 0
    assert rows["all"].cases == len(made)
    for row in rows.values():
        assert row.blend >= max(row.fast, row.alone) - 2 * row.error


def test_those_are_asked_about_who_have_histories_of_every_length() -> None:
    found = of_people(examples(20), 10, 0)

    assert len({example.person for example in found}) == 10
    assert len(found) == 10 * len(LENGTHS)


def test_the_table_shows_each_figure_under_its_name() -> None:
    row = Row("1-5 events", 60, 0.1, 0.05, 0.12, 0.011, 0.5, 0.25)

    lines = table([row]).splitlines()

    assert lines[2] == "| 1-5 events | 60 | 0.1000 | 0.0500 | 0.1200 | +0.0200 ± 0.0110 | 25% |"
    assert lines[0].count("|") == lines[2].count("|") == pytest.approx(8)
