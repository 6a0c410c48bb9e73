"""Lessons from the log, against what was done in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.learn.log_lessons import OTHERS, STRETCH, TRIES, log_lessons
from tailwise.learn.pairs import Lesson, Reader
from tailwise.learn.peft import reader_of
from tailwise.nets.settings_language import Tuning
from tailwise.rank.language import CrossEncoderConfig

ITEMS = 120
BLANK, BAD = 5, 6
"""An item without a text, and one that everybody dislikes."""
SCHEMA = {"user_id": pl.String, "item_id": pl.String, "time": pl.Float64, "event": pl.String, "value": pl.Float32}


def name(row: int) -> str:
    return f"i{row:03d}"


def training_of(*sequences: list[int], exclude_seen: bool = True, blank: bool = False) -> Training:
    texts = ["" if blank or row == BLANK else f"item {row}" for row in range(ITEMS)]
    frame = pl.DataFrame({"item_id": [name(row) for row in range(ITEMS)], "title": texts})
    nothing = np.zeros(ITEMS, np.float32)
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    events = [
        (f"u{person:02d}", name(row), float(n), "dislike" if row == BAD else "click", None)
        for person, own in enumerate(sequences)
        for n, row in enumerate(own)
    ]
    whole = Interactions.of(pl.DataFrame(events, schema=SCHEMA, orient="row"), catalogue)
    return Training(whole, catalogue, 0, exclude_seen=exclude_seen)


def made(training: Training, folder: Path, most: int = 1000) -> tuple[Reader, list[Lesson]]:
    config = CrossEncoderConfig(model=str(folder), tuning=Tuning(method="frozen"))
    texts = training.catalogue.frame["title"].to_list()
    reader = reader_of(config, training, texts)
    return reader, log_lessons(reader, training, most)


def crowd(people: int = 30, length: int = 20) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.permutation(ITEMS)[:length].tolist() for _ in range(people)]


def test_a_lesson_is_what_followed_a_history(tiny_backbone: Path) -> None:
    steps = [*range(10, 10 + STRETCH + 4)]
    reader, lessons = made(training_of(steps, [*range(60, 100)]), tiny_backbone)

    found = {tuple(own.past): own.rows[own.labels > 0].tolist() for own in lessons}

    for place in range(1, len(steps)):
        past = reader.frame.past(reader.titles, np.array(steps[:place]))
        assert found[tuple(past)] == steps[place : place + STRETCH]


def test_others_are_none_that_was_taken_by_then_and_as_popular_as_they_are(tiny_backbone: Path) -> None:
    often = [[*range(20, 40)]] * 8
    _, lessons = made(training_of(*crowd(), *often), tiny_backbone)

    counts, met = np.zeros(ITEMS), 0
    for own in lessons:
        new, others = own.rows[own.labels > 0], own.rows[own.labels == 0]
        assert 0 < len(others) <= OTHERS
        assert len(np.unique(own.rows)) == len(own.rows)
        counts[others] += 1
        if len(new) == STRETCH and np.array_equal(new, np.arange(new[0], new[0] + STRETCH)):
            met += 1  # of those who take 20 to 39 in turn
            assert not ((others >= 20) & (others <= new.max())).any()
    assert met == 8 * (20 - STRETCH)
    assert counts[20:40].mean() > 1.3 * counts[40:].mean()  # though 8 people never meet them again
    assert len(lessons) == 30 * 19 + 8 * 19


@pytest.mark.parametrize(("exclude_seen", "expected"), [(True, [[8, 9], [9], [9], [9]]), (False, [[7, 8, 9]] * 2)])
def test_what_was_had_before_is_an_answer_where_it_is_shown_again(
    tiny_backbone: Path, exclude_seen: bool, expected: list[list[int]]
) -> None:
    others = [[row for row in own if row not in (7, 8, 9)] for own in crowd()]
    _, lessons = made(training_of([7, 8, 7, 8, 9], *others, exclude_seen=exclude_seen), tiny_backbone)

    found = [own.rows[own.labels > 0].tolist() for own in lessons]
    assert sorted(own for own in found if 7 <= own[0] <= 9)[: len(expected)] == expected


def test_what_was_disliked_or_has_no_text_teaches_nothing(tiny_backbone: Path) -> None:
    sequences = [[1, BLANK, BAD, *own[:6]] for own in crowd()]

    _, lessons = made(training_of(*sequences), tiny_backbone)

    assert lessons
    assert not {BLANK, BAD} & {int(row) for own in lessons for row in own.rows}


def test_no_more_than_asked_for_and_the_same_again(tiny_backbone: Path) -> None:
    training = training_of(*crowd())

    _, some = made(training, tiny_backbone, most=25)
    _, again = made(training, tiny_backbone, most=25)

    assert len(some) == 25
    assert [own.rows.tolist() for own in some] == [own.rows.tolist() for own in again]


@pytest.mark.parametrize("sequences", [[], [[3]], [[3], [4]]])
def test_who_did_one_thing_has_no_history(tiny_backbone: Path, sequences: list[list[int]]) -> None:
    assert made(training_of(*sequences), tiny_backbone)[1] == []


def test_items_without_texts_teach_nothing(tiny_backbone: Path) -> None:
    assert made(training_of(*crowd(), blank=True), tiny_backbone)[1] == []


def test_a_log_that_tells_little_is_not_read_to_its_end(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    nothing = np.empty(0, np.int64)
    monkeypatch.setattr(
        "tailwise.learn.log_lessons._stretch", lambda *_, **__: (looked.append(1), (nothing, nothing))[1]
    )

    assert made(training_of(*crowd()), tiny_backbone, most=3)[1] == []
    assert len(looked) == 3 * TRIES
