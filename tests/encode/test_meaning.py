"""What a model keeps of its encoder gives new texts the vectors that the items have."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from tailwise.config import EncodeConfig
from tailwise.encode.exported import OnnxEncoder
from tailwise.encode.meaning import CARD, Meaning
from tailwise.encode.reduce import Whitening
from tailwise.errors import ArtifactError
from tailwise.fakes import HashEncoder
from tailwise.types import Encoder

TEXTS = ["red fox", "green owl", "blue elk", "red owl", "green elk", "grey fox"]
HASH = EncodeConfig(model="hash", whiten_dim=3)


def meaning(encoder: Encoder, config: EncodeConfig = HASH) -> Meaning:
    return Meaning(config, encoder, Whitening.fit(encoder.encode(TEXTS), dim=config.whiten_dim))


def exported(folder: Path) -> OnnxEncoder:
    """An encoder folder of a vocabulary of words: the mean of their vectors."""
    folder.mkdir()
    words = ["[PAD]", "[UNK]", *sorted({word for text in TEXTS for word in text.split()})]
    table = np.random.default_rng(0).normal(size=(len(words), 5)).astype(np.float32)
    shapes = [helper.make_tensor_value_info(n, TensorProto.INT64, ["B", "T"]) for n in ("input_ids", "attention_mask")]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
            helper.make_node("ReduceMean", ["tokens"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("LpNormalization", ["mean"], ["embedding"], axis=-1, p=2),
        ],
        "words",
        shapes,
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", 5])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    tokenizer = Tokenizer(models.WordLevel({word: code for code, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    card = {"kind": "tailwise-encoder", "format": 1, "source": "words", "dim": 5, "max_tokens": 8, "pooling": "mean"}
    (folder / "config.json").write_text(json.dumps({**card, "int8": False, "pad_id": 0, "weights_sha256": "0" * 64}))
    return OnnxEncoder.open(folder)


def test_texts_are_encoded_and_whitened() -> None:
    made = meaning(HashEncoder(32))

    vectors = made.encode(["red fox", "", "blue elk"])

    assert made.dim == vectors.shape[1] == 3
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1])
    assert (vectors == made.whitening.transform(HashEncoder(32).encode(["red fox", "", "blue elk"]))).all()


def test_the_fingerprint_is_the_encoders() -> None:
    assert meaning(HashEncoder(32)).fingerprint != meaning(HashEncoder(64)).fingerprint


def test_an_encoder_without_files_opens_by_its_name(tmp_path: Path) -> None:
    before = meaning(HashEncoder(256))

    before.save(tmp_path / "encoder")
    after = Meaning.open(tmp_path / "encoder")

    assert (after.encode(TEXTS) == before.encode(TEXTS)).all()
    assert sorted(path.name for path in (tmp_path / "encoder").iterdir()) == [CARD, "whitening.safetensors"]


def test_an_exported_encoder_goes_along_with_the_model(tmp_path: Path) -> None:
    encoder = exported(tmp_path / "words")
    before = meaning(encoder, EncodeConfig(model="somewhere/words", whiten_dim=3))
    wanted = before.encode([*TEXTS, ""])

    before.save(tmp_path / "encoder")
    (tmp_path / "words").rename(tmp_path / "gone")
    after = Meaning.open(tmp_path / "encoder")

    assert (after.encode([*TEXTS, ""]) == wanted).all()
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize("text", [None, "{", "[]", '{"model": 3}', '{"colour": 1}'])
def test_a_missing_or_damaged_card_is_told(tmp_path: Path, text: str | None) -> None:
    meaning(HashEncoder(256)).save(tmp_path)
    (tmp_path / CARD).unlink() if text is None else (tmp_path / CARD).write_text(text)

    with pytest.raises(ArtifactError) as caught:
        Meaning.open(tmp_path)

    assert str(caught.value).startswith(f"{tmp_path / CARD} cannot be read (")
    assert str(caught.value).endswith("; fit the model again")
    assert "\n" not in str(caught.value)


def test_a_model_that_lost_its_encoder_is_told(tmp_path: Path) -> None:
    before = meaning(exported(tmp_path / "words"), EncodeConfig(model="somewhere/words", whiten_dim=3))
    before.save(tmp_path / "encoder")
    (tmp_path / "encoder" / "model").rename(tmp_path / "gone")

    with pytest.raises(
        ArtifactError, match=r"^\S+/encoder holds no copy of the encoder somewhere/words; fit the model again$"
    ):
        Meaning.open(tmp_path / "encoder")
