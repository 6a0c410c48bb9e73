"""Measures and curves of a classifier, on answers that are known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'tailwise[train]'")

from tailwise.data.labelled import Labelled
from tailwise.learn.text_judge import calibrated, measured, taught
from tailwise.rank.texts import ClassifierCard, HeadCard, Read, TextClassifier
from tailwise.types import Floats

ROWS, DIM = 2000, 6


class Told(TextClassifier):
    """Says what it is told to, whatever the vectors: the answers stand in them."""

    def raw(self, read: Read, head: str) -> list[Floats]:
        columns = {"sentiment": slice(0, 2), "topic": slice(2, 4)}[head]
        return list(read.vectors[:, columns])


def world(sharpness: float, seed: int = 0) -> tuple[Told, Read, Labelled]:
    """Answers whose log-odds are ``sharpness`` times the true ones."""
    random = np.random.default_rng(seed)
    log_odds = random.normal(0, 1.5, (ROWS, 3))
    happened = random.random((ROWS, 3)) < 1 / (1 + np.exp(-log_odds))
    vectors = np.zeros((ROWS, DIM), np.float32)
    vectors[:, 1:4] = sharpness * log_odds
    labels = {
        "sentiment": tuple(("good" if own else "bad",) for own in happened[:, 0]),
        "intent": (None,) * ROWS,
        "topic": tuple(tuple(np.array(["a", "b"])[own]) for own in happened[:, 1:]),
    }
    heads = {"sentiment": HeadCard(labels=("bad", "good")), "topic": HeadCard(labels=("a", "b"))}
    card = ClassifierCard(encoder="none", max_tokens=8, heads=heads)
    model = Told(card, None, {})  # type: ignore[arg-type]  # nothing is encoded
    return model, Read(vectors, (), ()), Labelled(("x",) * ROWS, labels, (None,) * ROWS)


def test_answers_that_are_too_sure_are_calmed_and_their_chances_come_true() -> None:
    model, read, data = world(sharpness=4.0)

    heads = calibrated(model, read, data)

    assert heads["sentiment"].slope == pytest.approx(0.25, abs=0.05)
    assert heads["topic"].slope == pytest.approx(0.25, abs=0.05)
    assert heads["topic"].shift == pytest.approx(0.0, abs=0.2)
    before = measured(model, read, data)
    model.card = model.card.model_copy(update={"heads": heads})
    after = measured(model, read, data)
    assert float(after["sentiment: ece"]) < float(before["sentiment: ece"]) / 2
    assert after["sentiment: accuracy"] == before["sentiment: accuracy"]
    assert float(after["topic: micro F1"]) >= float(before["topic: micro F1"])


def test_answers_that_are_true_are_left_as_they_are() -> None:
    model, read, data = world(sharpness=1.0)

    heads = calibrated(model, read, data)

    assert heads["sentiment"].slope == pytest.approx(1.0, abs=0.2)


def test_a_few_texts_choose_nothing() -> None:
    model, read, data = world(sharpness=4.0)
    few = np.arange(10)

    heads = calibrated(model, Read(read.vectors[few], (), ()), data.take(few))

    assert heads == model.card.heads


def test_measures_by_hand() -> None:
    model, _, data = world(1.0)
    vectors = np.zeros((4, DIM), np.float32)
    vectors[:, 1] = [3, 3, -3, -3]  # says good, good, bad, bad
    vectors[:, 2:4] = [[3, -3], [3, 3], [-3, -3], [-3, -3]]  # says a; a and b; none; none
    labels = {
        "sentiment": (("good",), ("bad",), ("bad",), None),
        "intent": (None,) * 4,
        "topic": (("a",), ("a",), ("b",), ()),
    }

    notes = measured(model, Read(vectors, (), ()), Labelled(("x",) * 4, labels, (None,) * 4))

    assert notes["sentiment: texts"] == 3
    assert notes["sentiment: accuracy"] == pytest.approx(2 / 3, abs=1e-3)
    assert notes["sentiment: accuracy, most frequent label"] == pytest.approx(2 / 3, abs=1e-3)
    assert notes["topic: micro F1"] == pytest.approx(2 * 2 / (3 + 3), abs=1e-3)
    assert notes["topic: average precision"] == pytest.approx((1 + 1 / 4) / 2, abs=0.3)
    assert taught(data, model.card.heads) == {"sentiment: learned from": ROWS, "topic: learned from": ROWS}


def test_a_head_without_labels_among_the_held_out_says_so() -> None:
    model, read, data = world(1.0)
    bare = Labelled(data.texts, {**data.labels, "sentiment": (None,) * ROWS}, data.spans)

    assert measured(model, read, bare)["sentiment: held out"] == "no labels"


def test_where_no_held_out_text_has_any_of_the_labels_that_is_said() -> None:
    model, read, data = world(1.0)
    none = Labelled(data.texts, {**data.labels, "topic": ((),) * ROWS}, data.spans)

    notes = measured(model, read, none)

    assert notes["topic: texts"] == ROWS
    assert notes["topic: held out"] == "no text has any of its labels"
    assert "topic: macro F1" not in notes
