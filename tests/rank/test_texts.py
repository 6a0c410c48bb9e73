"""The classifier that serves: numbers by hand with the hashing encoder, and its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tailwise.errors import ArtifactError, ConfigError
from tailwise.fakes import HashEncoder
from tailwise.rank.gazetteer import Gazetteer
from tailwise.rank.texts import ClassifierCard, HeadCard, TextClassifier, softmax, standard
from tailwise.types import Floats

TEXTS = ["great film", "", "poor shoe", "一部电影"]
CARD = ClassifierCard(
    encoder="hash",
    max_tokens=64,
    heads={
        "sentiment": HeadCard(labels=("bad", "good"), slope=2.0),
        "topic": HeadCard(labels=("a", "b", "c"), slope=1.5, shift=-0.5, threshold=0.4),
    },
)


def weights() -> dict[str, tuple[Floats, Floats]]:
    random = np.random.default_rng(1)
    sizes = {"sentiment": 2, "topic": 3}
    return {
        name: (random.standard_normal((size, 256)).astype(np.float32), random.standard_normal(size).astype(np.float32))
        for name, size in sizes.items()
    }


def model(names: Gazetteer | None = None) -> TextClassifier:
    return TextClassifier(CARD, HashEncoder(256), weights(), names)


def test_answers_are_products_curves_and_thresholds() -> None:
    told = list(model().classify(TEXTS))

    vector = HashEncoder(256).encode(["great film"])[0]
    own = (vector - vector.mean()) / np.sqrt(vector.var() + 1e-5)
    answers = {name: weight @ own + bias for name, (weight, bias) in weights().items()}
    good = 1 / (1 + np.exp(2.0 * (answers["sentiment"][0] - answers["sentiment"][1])))
    topics = 1 / (1 + np.exp(-(1.5 * answers["topic"] - 0.5)))
    assert told[0]["text"] == "great film"
    assert told[0]["sentiment"] == ("good" if good > 0.5 else "bad")
    assert told[0]["chances"]["sentiment"]["good"] == pytest.approx(good, abs=1e-3)
    assert list(told[0]["chances"]["topic"].values()) == pytest.approx(topics, abs=1e-3)
    assert told[0]["topic"] == [label for label, chance in zip("abc", topics, strict=True) if chance >= 0.4]


def test_a_blank_text_says_nothing_and_a_batch_is_its_texts() -> None:
    own = model()

    told = list(own.classify(TEXTS))

    assert told[1] == {"text": ""}
    assert told == [next(own.classify([text])) for text in TEXTS]


def test_progress_is_told_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailwise.rank.texts.BLOCK", 3)
    seen: list[tuple[int, int]] = []

    list(model().classify(TEXTS, report=lambda done, total: seen.append((done, total))))

    assert seen == [(3, 4), (4, 4)]


def test_names_are_found_without_a_head_that_looks_for_them() -> None:
    told = next(model(Gazetteer({"Toy Story": "film"})).classify(["I saw toy story"]))

    assert told["entities"] == [{"start": 6, "end": 15, "text": "toy story", "label": "film", "chance": 1.0}]


def test_a_folder_gives_the_same_answers_back(tmp_path: Path) -> None:
    own = model(Gazetteer({"Toy Story": "film"}))

    own.save(tmp_path / "model", {"seed": 0})

    again = TextClassifier.open(tmp_path / "model")
    assert list(again.classify(TEXTS)) == list(own.classify(TEXTS))
    assert json.loads((tmp_path / "model" / "manifest.json").read_text())["kind"] == "classifier"


def test_a_folder_that_is_something_else_or_damaged_is_refused(tmp_path: Path) -> None:
    model().save(tmp_path / "model", {})
    with pytest.raises(ArtifactError, match=r"is not a model folder: it has no manifest\.json; .*$"):
        TextClassifier.open(tmp_path)
    (tmp_path / "model" / "classifier.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"classifier\.json has 1 bytes, but the manifest says \d+; copy it again$"):
        TextClassifier.open(tmp_path / "model")


def test_entities_need_an_encoder_of_tokens() -> None:
    card = CARD.model_copy(update={"heads": {"entities": HeadCard(labels=("O", "B-x", "I-x"))}})

    with pytest.raises(ConfigError, match=r"^entities need an encoder of tokens, but hash reads texts whole$"):
        TextClassifier(card, HashEncoder(256), {})


def test_an_encoder_of_one_script_warns_of_texts_in_others() -> None:
    latin = TextClassifier(CARD.model_copy(update={"latin": True}), HashEncoder(256), weights())

    assert latin.warning(["一部电影", "龙猫", "Heat"]) == "2 of 3 texts are not English, but hash reads nothing else"
    assert latin.warning(["一部电影", "Heat"]) == ""
    assert model().warning(["一部电影", "龙猫", "Heat"]) == ""


def test_numbers_by_hand() -> None:
    assert softmax(np.array([0.0, np.log(3)], np.float32)).tolist() == pytest.approx([0.25, 0.75])
    assert standard(np.array([[1.0, 3.0]], np.float32))[0].tolist() == pytest.approx([-1, 1], abs=1e-4)
    assert standard(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]
