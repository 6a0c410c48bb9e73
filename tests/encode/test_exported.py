"""A tiny encoder whose answer is known: the sum of its tokens' vectors, brought to unit length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from tailwise.encode.exported import BLOCK, EncoderCard, OnnxEncoder, equal_batches, is_exported
from tailwise.errors import ArtifactError

WORDS = ("[PAD]", "[UNK]", "toy", "story", "heat", "golden", "eye")
TABLE = np.random.default_rng(5).normal(size=(len(WORDS), 4)).astype(np.float32)
CARD = {
    "kind": "tailwise-encoder",
    "format": 1,
    "source": "tiny",
    "dim": 4,
    "max_tokens": 6,
    "pooling": "mean",
    "int8": False,
    "pad_id": 0,
    "weights_sha256": "ab" * 32,
}


def write_tiny(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shape = ["B", "T"]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["tokens", "wide"], ["shown"]),
        helper.make_node("ReduceSum", ["shown", "middle"], ["summed"], keepdims=0),
        helper.make_node("LpNormalization", ["summed"], ["embedding"], axis=-1, p=2),
    ]
    constants = {"table": TABLE, "last": np.array([-1]), "middle": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", 4])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, str(folder / "model.onnx"))
    tokenizer = Tokenizer(models.WordLevel({word: code for code, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({**CARD, **changes}))
    return folder


def by_hand(text: str, limit: int = 6) -> np.ndarray:
    codes = [WORDS.index(word) if word in WORDS else 1 for word in text.split()[:limit]]
    total = TABLE[codes].sum(axis=0)
    return total / np.linalg.norm(total)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("encoders") / "tiny")


def test_texts_of_any_length_come_back_in_their_order(tiny: Path) -> None:
    texts = ["heat", "toy story heat eye", "golden eye", "something unknown", "toy"]

    vectors = OnnxEncoder.open(tiny).encode(texts)

    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [by_hand(text) for text in texts], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.lists(st.sampled_from(WORDS[2:]), min_size=1, max_size=6).map(" ".join), max_size=20))
def test_a_vector_does_not_depend_on_the_texts_beside_it(tiny: Path, texts: list[str]) -> None:
    together = OnnxEncoder.open(tiny, threads=2).encode(texts)

    alone = OnnxEncoder.open(tiny, threads=1)
    np.testing.assert_allclose(together, [alone.encode([text])[0] for text in texts] or np.zeros((0, 4)), atol=1e-6)


def test_empty_and_blank_texts_give_zero_rows(tiny: Path) -> None:
    vectors = OnnxEncoder.open(tiny).encode(["", "heat", " \n\t"])

    assert vectors.any(axis=1).tolist() == [False, True, False]


def test_no_texts_give_no_rows(tiny: Path) -> None:
    assert OnnxEncoder.open(tiny).encode([]).shape == (0, 4)


def test_a_text_is_cut_at_the_fewest_tokens_of_setting_and_model(tiny: Path) -> None:
    text = "toy story heat golden eye toy story heat"

    short, long = (OnnxEncoder.open(tiny, max_tokens=n).encode([text])[0] for n in (2, 99))

    np.testing.assert_allclose(short, by_hand(text, limit=2), atol=1e-6)
    np.testing.assert_allclose(long, by_hand(text, limit=6), atol=1e-6)


def test_a_lone_surrogate_does_not_stop_the_rest(tiny: Path) -> None:
    vectors = OnnxEncoder.open(tiny).encode(["\ud800", "heat"])

    np.testing.assert_allclose(vectors[1], by_hand("heat"), atol=1e-6)


def test_progress_ends_at_the_number_of_texts(tiny: Path) -> None:
    seen: list[tuple[int, int]] = []

    OnnxEncoder.open(tiny).encode(["heat"] * (BLOCK + 1), report=lambda done, total: seen.append((done, total)))

    assert seen == [(BLOCK, BLOCK + 1), (BLOCK + 1, BLOCK + 1)]


def test_opening_loads_nothing(tiny: Path) -> None:
    encoder = OnnxEncoder.open(tiny)

    assert encoder.dim == 4
    assert not {"_session", "_tokenizer"} & vars(encoder).keys()


@pytest.mark.parametrize(
    "changes", [{"weights_sha256": "cd" * 32}, {"pooling": "cls"}, {"int8": True}, {"max_tokens": 5}]
)
def test_the_fingerprint_changes_with_what_changes_vectors(
    tiny: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    other = OnnxEncoder.open(write_tiny(tmp_path, **changes))

    assert other.fingerprint != OnnxEncoder.open(tiny).fingerprint
    assert OnnxEncoder.open(tiny, threads=2).fingerprint == OnnxEncoder.open(tiny).fingerprint


@pytest.mark.parametrize(("format_", "sizes"), [(1, [1, 1, 1]), (2, [2, 1])])
def test_a_quantised_model_of_one_scale_a_batch_takes_one_text_at_a_time(
    tmp_path: Path, format_: int, sizes: list[int]
) -> None:
    encoder = OnnxEncoder.open(write_tiny(tmp_path, int8=True, format=format_))
    batches: list[int] = []
    run = encoder._run
    encoder._run = lambda batch: batches.append(len(batch)) or run(batch)  # type: ignore[method-assign]  # a spy

    vectors = encoder.encode(["heat", "toy story", "eye"])

    assert batches == sizes
    np.testing.assert_allclose(vectors, [by_hand("heat"), by_hand("toy story"), by_hand("eye")], atol=1e-6)


@pytest.mark.parametrize("name", ["config.json", "model.onnx", "tokenizer.json"])
def test_a_folder_without_one_of_its_files_is_no_encoder(tmp_path: Path, name: str) -> None:
    (write_tiny(tmp_path) / name).unlink()

    assert not is_exported(tmp_path)
    with pytest.raises(ArtifactError, match=rf"^.* is not an exported encoder: it has no {name}; fit the model again$"):
        OnnxEncoder.open(tmp_path)


def test_a_model_folder_of_hugging_face_is_no_exported_encoder(tmp_path: Path) -> None:
    (write_tiny(tmp_path) / "config.json").write_text('{"model_type": "bert", "hidden_size": 4}')

    with pytest.raises(
        ArtifactError,
        match=r"^.*config\.json is not the card of an encoder that this version reads; fit the model again$",
    ):
        EncoderCard.read(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_damaged_file_is_named_when_the_first_text_comes(tmp_path: Path, name: str) -> None:
    (write_tiny(tmp_path) / name).write_bytes(b"half")

    encoder = OnnxEncoder.open(tmp_path)

    with pytest.raises(ArtifactError, match=rf"^.*{name} cannot be read \(.*\); delete .* and fit the model again$"):
        encoder.encode(["heat"])


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(0, 40), max_size=60), budget=st.integers(1, 100))
def test_batches_hold_every_text_once_and_texts_of_one_length_within_the_budget(
    lengths: list[int], budget: int
) -> None:
    batches = equal_batches(lengths, budget=budget)

    assert sorted(row for batch in batches for row in batch) == [row for row, n in enumerate(lengths) if n]
    assert all(len({lengths[row] for row in batch}) == 1 for batch in batches)
    assert all(len(batch) == 1 or sum(lengths[row] for row in batch) <= budget for batch in batches)
    flat = [lengths[row] for batch in batches for row in batch]
    assert flat == sorted(flat)
