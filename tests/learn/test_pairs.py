"""Lessons of a cross-encoder: their tokens, their batches and their losses, each by hand."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tailwise.encode.pairs import TITLE_TOKENS, Frame, Words
from tailwise.learn import pairs
from tailwise.learn.pairs import (
    TAUGHT_ROOM,
    Lesson,
    Reader,
    epoch_batches,
    frame_of,
    lessons_of,
    list_auc,
    loss_of,
    title_words,
    words_of,
)
from tailwise.learn.slates import Example
from tailwise.nets.language import open_backbone
from tailwise.types import Event, History, Request, Slate, ids_of

FRAME = Frame(start=(2,), comma=(9,), middle=(3,), end=(3,), history=8, item=4)
ITEMS = Words.join([[10], [20, 20], [], [30]])


class First(nn.Module):
    """Stands for a network: an item's logit is its first token over ten."""

    def forward(self, ids: Any, part: Any, which: Any, noise: Any = None) -> Any:
        first = (part.unsqueeze(1) == which[:, None]).int().argmax(2)  # (B, S)
        return ids.gather(1, first) / 10.0


def lesson(rows: list[int], labels: list[float], past: tuple[int, ...] = (7,)) -> Lesson:
    return Lesson(np.array(past), np.array(rows), np.array(labels, np.float32))


def reader(*, together: bool = True) -> Reader:
    return Reader(First(), FRAME.model_copy(update={"together": together}), ITEMS, ITEMS, 0)  # type: ignore[arg-type]


def cost(kind: str, lessons: list[Lesson], of: int | None = None) -> float:
    return float(loss_of(reader(), kind)((lessons, of or len(lessons)), torch.Generator()))


def test_marks_of_an_encoder_stand_where_it_was_taught(tiny_backbone: Path) -> None:
    _, tokenizer = open_backbone(str(tiny_backbone))

    frame = frame_of(tokenizer, history=8, item=4)

    assert (frame.start, frame.middle, frame.end) == ((2,), (3,), (3,))
    assert tokenizer.decode(list(frame.comma)) == ";"


def test_a_model_that_has_no_marks_gets_a_line_break(tiny_causal: Path) -> None:
    _, tokenizer = open_backbone(str(tiny_causal))
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()

    frame = frame_of(tokenizer, history=8, item=4)

    assert (frame.start, frame.end) == ((), ())
    assert tokenizer.decode(list(frame.middle)) == "\n"


def test_a_title_that_reads_like_a_mark_is_letters(tiny_backbone: Path) -> None:
    _, tokenizer = open_backbone(str(tiny_backbone))

    words = words_of(tokenizer, ["[SEP][CLS]", "", "\ud800", "abcdefgh"], 6)

    assert words.lengths(np.arange(4)).tolist() == [6, 0, 1, 6]
    assert not {2, 3} & set(words.tokens.tolist())


def test_an_item_without_a_title_is_called_by_the_start_of_its_text(tiny_backbone: Path) -> None:
    _, tokenizer = open_backbone(str(tiny_backbone))

    words = title_words(tokenizer, ["ab", None, "", None], ["abc. long", "x" * 99, "yy", ""])

    assert words.lengths(np.arange(4)).tolist() == [2, TITLE_TOKENS, 2, 0]


def test_a_case_becomes_a_lesson_without_what_has_no_text() -> None:
    past = History.of([Event("", "a", 1.0), Event("", "b", 2.0)]).place(np.array([0, 3]))
    rows = np.array([2, 1, -1, 3])
    slate = Slate(ids_of(["c", "d", "?", "b"]), np.zeros(4, np.float32), {"row": rows})
    example = Example(0, Request("r", history=past), slate, np.array([False, True, False, False]), 1)

    (found,) = lessons_of(reader(), [example, example], np.array([False, True]))

    assert found.past.tolist() == [30, 9, 10]
    assert found.rows.tolist() == [1, 3]
    assert found.labels.tolist() == [1.0, 0.0]


def test_a_case_that_tells_nothing_is_no_lesson() -> None:
    past = History.of([Event("", "a", 1.0)]).place(np.array([0]))
    slate = Slate(ids_of(["d", "b"]), np.zeros(2, np.float32), {"row": np.array([1, 3])})
    none, all_, blank = (np.array(own) for own in ([False, False], [True, True], [True, False]))
    stranger = Request("r", history=past.place(np.array([2])))
    cases = [
        Example(0, Request("r", history=past), slate, none, 1),
        Example(0, Request("r", history=past), slate, all_, 1),
        Example(0, stranger, slate, blank, 1),
    ]

    assert lessons_of(reader(), cases, np.ones(3, bool)) == []


def test_of_a_lesson_what_was_taken_stays_and_others_are_drawn() -> None:
    drawn = lesson([0, 1, 3, 0, 1], [0, 1, 0, 0, 0]).drawn(2, np.random.default_rng(0))

    assert drawn.labels.tolist().count(1.0) == 1
    assert len(drawn.rows) == 3
    assert drawn.rows[drawn.labels > 0].tolist() == [1]


def test_binary_cross_entropy_by_hand() -> None:
    expected = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(2.0))) / 2

    assert cost("bce", [lesson([0, 1], [1, 0])]) == pytest.approx(expected, rel=1e-6)


def test_the_pairwise_loss_by_hand() -> None:
    expected = (math.log1p(math.exp(-(2.0 - 1.0))) + math.log1p(math.exp(-(2.0 - 3.0)))) / 2

    assert cost("pairwise", [lesson([0, 1, 3], [0, 1, 0])]) == pytest.approx(expected, rel=1e-6)


def test_the_listwise_loss_by_hand() -> None:
    expected = -math.log(math.exp(2.0) / (math.exp(1.0) + math.exp(2.0) + math.exp(3.0)))

    assert cost("listwise", [lesson([0, 1, 3], [0, 1, 0])]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["bce", "pairwise", "listwise"])
def test_parts_of_a_batch_add_up_to_the_batch(kind: str) -> None:
    lessons = [lesson([0, 1, 3], [0, 1, 0]), lesson([3, 0], [0, 1], (7, 7, 7)), lesson([1, 0], [0, 1])]

    whole = cost(kind, lessons)

    assert cost(kind, lessons[:1], 3) + cost(kind, lessons[1:], 3) == pytest.approx(whole, rel=1e-6)
    assert sum(cost(kind, [own]) for own in lessons) / 3 == pytest.approx(whole, rel=1e-6)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_teaches_every_lesson_once(count: int, batch: int, epoch: int) -> None:
    lessons = [lesson([0, 1], [1, 0], (n,) * (n % 7 + 1)) for n in range(count)]
    each = epoch_batches(lessons, ITEMS, batch=batch, negatives=5, seed=1)

    groups = list(each(epoch))

    assert sorted(int(own.past[0]) for parts in groups for part, _ in parts for own in part) == list(range(count))
    assert all(of == sum(len(part) for part, _ in parts) <= batch for parts in groups for _, of in parts)
    again = [own.past[0] for parts in each(epoch) for part, _ in parts for own in part]
    assert again == [own.past[0] for parts in groups for part, _ in parts for own in part]


def test_lessons_that_are_as_long_to_read_stand_together() -> None:
    long, short = lesson([1] * 8, [1, *[0] * 7]), lesson([0, 3], [1, 0])  # behind the same history

    groups = list(epoch_batches([long, short] * 6, ITEMS, batch=3, negatives=9, seed=1)(0))

    assert len(groups) == 4
    assert all(len({len(own.rows) for part, _ in parts for own in part}) == 1 for parts in groups)


def test_a_row_that_teaches_has_more_room_than_one_that_is_only_read() -> None:
    own = lesson([1] * 120, [1, *[0] * 119])  # 360 tokens

    assert len(reader().rows([own])) == 2
    assert len(reader().rows([own], TAUGHT_ROOM)) == 1


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=12))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], np.float32)
    own = lesson([0] * len(pairs), [float(label) for _, label in pairs])

    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, x in pairs if x for b, y in pairs if not y]
    assert list_auc([scores], [own]) == pytest.approx(sum(wins) / len(wins) if wins else 0.5)


@pytest.mark.parametrize("together", [True, False])
def test_a_lesson_is_judged_as_it_is_alone(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "BUDGET", 12)  # some batches
    lessons = [lesson([0, 1, 3], [0, 1, 0]), lesson([3], [1], (7, 7, 7)), lesson([1, 0], [0, 1])]
    own = reader(together=together)

    with ThreadPoolExecutor(2) as pool:
        assert [said.tolist() for said in own.judged(lessons, pool)] == [[1.0, 2.0, 3.0], [3.0], [2.0, 1.0]]
        assert own.judged(lessons[1:2], pool)[0].tolist() == [3.0]


def test_what_shares_a_history_is_read_in_one_row() -> None:
    lessons = [lesson([0, 1, 3], [0, 1, 0]), lesson([3], [1], (7, 7, 7))]

    assert [part.tolist() for _, part in reader().rows(lessons)] == [[0, 0, 0, 1, 1, 2, 2, 2, 3, 3], [0] * 5 + [1, 1]]
    assert len(reader(together=False).rows(lessons)) == 4
