"""Labelled texts as lessons: what is held out, what gaps teach (nothing), and parts that add up."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.data.labelled import Labelled, Span  # noqa: E402  after the package that may be absent
from tailwise.data.load import Dataset  # noqa: E402
from tailwise.errors import DataError  # noqa: E402
from tailwise.learn.text_lessons import (  # noqa: E402
    Targets,
    label_names,
    liked_pairs,
    nearness,
    parts_of,
    split,
    steps_of,
    weighed,
)

OFFSETS = [[(0, 0), (0, 3), (0, 0)]] * 4
DATA = Labelled(
    ("abc", "def", "ghi", "jkl"),
    {
        "sentiment": (("p",), None, ("n",), ("p",)),
        "intent": (None,) * 4,
        "topic": (("x", "y"), (), None, ("y",)),
    },
    ((Span(0, 3, "film"),), None, (), None),
)
NAMES = {"sentiment": ("n", "p"), "topic": ("x", "y"), "entities": ("O", "B-film", "I-film")}


def many(rows: int) -> Labelled:
    return Labelled(
        tuple(f"t{n}" for n in range(rows)),
        {"sentiment": tuple(("a",) if n % 10 else ("rare",) for n in range(rows)), "intent": (None,) * rows},
        (None,) * rows,
    )


def test_parts_share_nothing_and_leave_every_label_something_to_learn_from() -> None:
    data = many(40)

    learn, choose, judge = split(data, 0.5, seed=3)

    assert sorted([*learn, *choose, *judge]) == list(range(40))
    assert len(choose) == len(judge) == 10
    assert {own[0] for own in data.take(learn).labels["sentiment"] if own} == {"a", "rare"}
    assert [part.tolist() for part in split(data, 0.5, seed=3)] == [learn.tolist(), choose.tolist(), judge.tolist()]


def test_a_label_that_stands_once_is_never_held_out() -> None:
    learn, choose, judge = split(many(10), 0.5, seed=0)

    assert 0 in learn
    assert len(choose) + len(judge) == 5


def test_no_share_holds_nothing_out() -> None:
    assert [len(part) for part in split(many(10), 0.0, seed=0)] == [10, 0, 0]


def test_heads_without_weight_or_labels_are_left_out() -> None:
    assert label_names(DATA, {"sentiment": 0.0}) == {"topic": ("x", "y"), "entities": NAMES["entities"]}
    with pytest.raises(DataError, match=r"^no head is left to learn: every weight is 0$"):
        label_names(DATA, {"sentiment": 0.0, "topic": 0.0, "entities": 0.0})
    message = "sentiment: the texts have only 'a', but it takes two to learn from; label more texts, or set "
    with pytest.raises(DataError, match=rf"^{message}weights\.sentiment = 0 in --config$"):
        label_names(many(3).take(np.array([1, 2])), {})


def test_what_is_not_known_teaches_nothing() -> None:
    targets = Targets.of(DATA, NAMES, OFFSETS)
    answers = {
        "sentiment": torch.zeros(4, 2),
        "topic": torch.zeros(4, 2),
        "entities": torch.zeros(4, 3, 3),
    }

    losses = targets.losses(answers, [0, 1, 2, 3])

    assert [targets.taught(name) for name in NAMES] == [[0, 2, 3], [0, 1, 3], [0, 2]]
    assert targets.known([0, 1, 2, 3]) == {"sentiment": 3, "topic": 3, "entities": 6}
    assert float(losses["sentiment"]) == pytest.approx(3 * np.log(2), rel=1e-5)
    assert float(losses["topic"]) == pytest.approx(3 * np.log(2), rel=1e-5)
    assert float(losses["entities"]) == pytest.approx(6 * np.log(3), rel=1e-5)


def test_parts_of_a_step_add_up_to_the_step() -> None:
    targets, draw = Targets.of(DATA, NAMES, OFFSETS), torch.Generator().manual_seed(1)
    answers = {"sentiment": torch.randn(4, 2, generator=draw), "topic": torch.randn(4, 2, generator=draw)}

    def total(count: int) -> float:
        parts = parts_of([0, 1, 2, 3], targets, {"topic": 2.0}, count)
        own = [({name: told[part.rows] for name, told in answers.items()}, part) for part in parts]
        return sum(float(weighed(targets.losses(told, part.rows), part.shares)) for told, part in own)

    assert total(1) == pytest.approx(total(2), rel=1e-5) == pytest.approx(total(4), rel=1e-5)


def test_steps_hold_each_row_once_and_texts_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 300).tolist()

    steps = steps_of(lengths, 8, np.random.default_rng(1))

    assert sorted(row for step in steps for row in step) == list(range(300))
    assert np.mean([np.ptp([lengths[row] for row in step]) for step in steps]) < 10


def test_pairs_are_what_a_person_liked_one_after_the_other() -> None:
    events = pl.DataFrame(
        {
            "user_id": ["u", "u", "u", "u", "v"],
            "item_id": ["a", "b", "d", "c", "a"],
            "time": [1.0, 2.0, 3.0, 4.0, 1.0],
            "event": ["click", "click", "dislike", "click", "click"],
        }
    )
    items = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "title": ["Heat", "Up", "Her", "Cars"]})

    assert liked_pairs(Dataset.of("films", events=events, items=items)) == [("Heat", "Up"), ("Up", "Her")]
    with pytest.raises(
        DataError, match=r"^films has no two items with texts that one person liked one after the other$"
    ):
        liked_pairs(Dataset.of("films", events=events.tail(1), items=items))


def test_nearness_by_hand_and_what_is_a_partner_too_is_no_wrong_answer() -> None:
    first = torch.eye(2)
    apart, twins = torch.eye(2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)

    own = nearness(first, first, apart, temperature=1.0)

    assert float(own) == pytest.approx(np.log(np.e + 1) - 1, rel=1e-5)
    assert float(nearness(first, first, twins, temperature=1.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(nearness(first, first.flip(0), apart, temperature=1.0)) > float(own)
