"""Fitting a classifier whole: from labelled texts to a folder that serves without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
pytest.importorskip("peft", reason="needs peft: pip install 'tailwise[finetune]'")

from tailwise.config import Settings
from tailwise.data.labelled import Labelled, Span
from tailwise.data.load import Dataset
from tailwise.encode.exported import OnnxEncoder
from tailwise.errors import ConfigError
from tailwise.learn.classify import fit_classifier, known_names, knows_latin_alone
from tailwise.nets.settings_texts import ClassifierConfig
from tailwise.rank.texts import TextClassifier

GOOD, BAD = ("great", "lovely"), ("awful", "poor")
REVIEWS = [
    (f"{start} {thing} {end}".strip(), "positive" if start in GOOD else "negative")
    for start in (*GOOD, *BAD)
    for thing in ("film", "shoe", "toy", "heat", "a story")
    for end in ("", "the film", "is a toy")
]
"""60 short reviews, written for this test."""


def data(*, spans: bool = False) -> Labelled:
    texts = tuple(text for text, _ in REVIEWS)
    return Labelled(
        texts,
        {
            "sentiment": tuple((said,) for _, said in REVIEWS),
            "intent": tuple(("find_item",) if "film" in text else ("support",) for text in texts),
            "topic": tuple(("clothes",) if "shoe" in text else () for text in texts),
        },
        tuple((Span(text.index("toy"), text.index("toy") + 3, "toy"),) if "toy" in text else () for text in texts)
        if spans
        else (None,) * len(texts),
    )


def films() -> Dataset:
    events = pl.DataFrame(
        {"user_id": ["u", "u", "v", "v"], "item_id": ["a", "b", "b", "c"], "time": [1.0, 2.0, 1.0, 2.0]}
    )
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": ["great film", "toy story", "Matrix, The"],
            "title_zh": [None, "玩具总动员", None],
        }
    )
    graph = pl.DataFrame({"head": ["a", "b"], "relation": ["cast", "like"], "tail": ["Tom Hanks", "a"]})
    return Dataset.of("films", events=events, items=items, graph=graph)


def fitted(tmp_path: Path, raw: dict[str, Any], labelled: Labelled | None = None, **more: Any) -> TextClassifier:
    settings = Settings(cache=tmp_path / "cache", threads=1)
    config = ClassifierConfig.model_validate(raw)
    return fit_classifier(labelled or data(), config, tmp_path / "model", settings=settings, seed=2, **more)


def notes(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "model" / "manifest.json").read_text())["metrics"]


def test_a_frozen_encoder_with_heads_is_right_about_texts_it_did_not_learn_from(tmp_path: Path) -> None:
    model = fitted(tmp_path, {"model": "hash"})

    told = notes(tmp_path)
    assert told["sentiment: accuracy"] >= 0.8 > told["sentiment: accuracy, most frequent label"]
    assert told["intent: accuracy"] >= 0.8
    assert told["sentiment: learned from"] == 48
    assert next(model.classify(["lovely shoe"]))["sentiment"] == "positive"


def test_the_same_seed_gives_the_same_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fitted(tmp_path / name, {"model": "hash"})

    one, two = ((tmp_path / name / "model" / "heads.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("method", ["frozen", "lora"])
def test_every_head_of_an_encoder_serves_from_its_folder(method: str, tmp_path: Path, tiny_bert: Path) -> None:
    raw = {"model": str(tiny_bert), "tuning": {"method": method}, "batch": 16, "int8": False}
    more = {"train": {"epochs": 3, "learning_rate": 3e-3}} if method == "lora" else {"train": {"epochs": 100}}

    model = fitted(tmp_path, raw | more, data(spans=True))

    told = next(model.classify(["a great toy is heat"]))
    assert told["sentiment"] == "positive"
    assert [(own["text"], own["label"]) for own in told["entities"]] == [("toy", "toy")]
    assert notes(tmp_path)["entities: F1"] >= 0.7
    assert list(TextClassifier.open(tmp_path / "model").classify(["poor shoe", "heat"])) == [
        next(model.classify([text])) for text in ("poor shoe", "heat")
    ]
    encoder = OnnxEncoder.open(tmp_path / "model" / "encoder")  # what ``[encode] model`` takes
    assert encoder.encode(["heat"]).shape == (1, 32)


@pytest.mark.parametrize("method", ["top_layers", "adalora", "adapter", "prompt"])
def test_every_way_to_learn_serves_what_it_learned(method: str, tmp_path: Path, tiny_bert: Path) -> None:
    raw = {"model": str(tiny_bert), "tuning": {"method": method, "virtual_tokens": 2}, "train": {"epochs": 2}}

    fitted(tmp_path, raw | {"int8": False})

    assert notes(tmp_path)["sentiment: accuracy"] >= 0.8


def test_copies_attacks_and_people_teach_too(tmp_path: Path, tiny_bert: Path) -> None:
    raw = {
        "model": str(tiny_bert),
        "tuning": {"method": "lora"},
        "train": {"epochs": 1},
        "augment": {"ways": ["delete", "synonyms", "mask"], "table": {"great": ["lovely"]}},
        "attack": {"kind": "fgm"},
        "ranking": 0.5,
        "pretrain": {"batch": 8, "epochs": 1},
    }

    model = fitted(tmp_path, raw, catalogue=films())

    told = notes(tmp_path)
    assert told["texts with copies"] > 2 * told["sentiment: learned from"]
    assert told["pretrained by"] == "mlm"
    named = next(model.classify(["看玩具总动员 and great film with tom hanks"]))["entities"]
    assert [(own["text"], own["label"]) for own in named] == [
        ("玩具总动员", "item"),
        ("great film", "item"),
        ("tom hanks", "cast"),
    ]


def test_names_of_a_catalogue_are_its_titles_and_what_its_graph_names() -> None:
    assert known_names(films()).names == {
        "great film": "item",
        "toy story": "item",
        "The Matrix": "item",
        "玩具总动员": "item",
        "Tom Hanks": "cast",
    }


def test_texts_in_another_script_get_a_warning_where_the_encoder_knows_none(tmp_path: Path, tiny_bert: Path) -> None:
    labelled = Labelled(
        ("一部电影", "龙猫", "千与千寻", "heat") * 3,
        {"sentiment": (("a",), ("b",), ("a",), ("b",)) * 3, "intent": (None,) * 12, "topic": (None,) * 12},
        (None,) * 12,
    )

    fitted(tmp_path, {"model": str(tiny_bert), "held_out": 0.0, "train": {"epochs": 1}}, labelled)

    assert notes(tmp_path)["warning"] == f"9 of 12 texts are not English, but {tiny_bert} reads nothing else"
    assert knows_latin_alone(tmp_path / "model" / "encoder")


def test_auto_takes_the_encoder_that_suits_the_letters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    def noted(model: str, **more: Any) -> Any:
        seen.append(model)
        raise ConfigError("enough")

    monkeypatch.setattr("tailwise.learn.classify.open_encoder", noted)
    chinese = Labelled(
        ("一部电影", "龙猫") * 5,
        {"sentiment": (("a",), ("b",)) * 5, "intent": (None,) * 10, "topic": (None,) * 10},
        (None,) * 10,
    )
    with pytest.raises(ConfigError, match=r"^enough$"):
        fitted(tmp_path, {}, chinese)

    assert seen == ["multilingual"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {"model": "hash", "tuning": {"method": "lora"}},
            r"hash cannot learn; set tuning\.method = 'frozen', or choose another encoder",
        ),
        ({"ranking": 1.0}, r"ranking teaches the encoder, but tuning\.method is 'frozen'; choose 'lora', say"),
        (
            {"attack": {"kind": "pgd"}},
            r"attack teaches the encoder, but tuning\.method is 'frozen'; choose 'lora', say",
        ),
        (
            {"tuning": {"method": "lora"}, "ranking": 1.0},
            r"ranking needs people to learn from; give their data folder with --catalogue",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(raw: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^{message}$"):
        fitted(tmp_path, raw)


def test_entities_need_an_encoder_of_tokens(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^hash reads texts whole, so it cannot tell entities; choose another encoder$"
    ):
        fitted(tmp_path, {"model": "hash"}, data(spans=True))
