"""Continued pretraining of a tiny encoder: it learns what the texts repeat, and its folder opens everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
pytest.importorskip("peft", reason="needs peft: pip install 'tailwise[finetune]'")

from tailwise.encode.exported import OnnxEncoder  # noqa: E402  after the packages that may be absent
from tailwise.errors import ConfigError, DataError  # noqa: E402
from tailwise.learn.pretrain import MaskedTokens, dropping, pretrain, token_table  # noqa: E402
from tailwise.nets.export import export_encoder  # noqa: E402
from tailwise.nets.language import TextReader, open_backbone, padded  # noqa: E402
from tailwise.nets.settings_texts import Pretraining  # noqa: E402

FACTS = ["the film is {} toy story", "a shoe is {} heat"]
QUICK = {"epochs": 6, "batch": 8, "max_tokens": 12, "learning_rate": 3e-3}


def texts() -> list[str]:
    """Sentences that always go on in the same way, so that a hidden word can be known."""
    fillers = ["great", "lovely", "awful", "poor", "the", "a", "find", "compare"]
    ends = ["", " great", " poor", " lovely"]
    return [fact.format(word) + end for fact in FACTS for word in fillers for end in ends]


@pytest.mark.parametrize("task", ["mlm", "simcse"])
def test_the_loss_on_texts_held_out_falls_and_the_same_seed_gives_the_same_folder(
    task: str, tiny_bert: Path, tmp_path: Path
) -> None:
    config = Pretraining.model_validate({"task": task, "temperature": 0.5, **QUICK})

    notes = [pretrain(str(tiny_bert), texts(), tmp_path / name, config, seed=4) for name in ("one", "two")]

    assert notes[0] == notes[1]
    assert notes[0]["texts"] == 61
    assert float(notes[0]["held-out loss after"]) < 0.9 * float(notes[0]["held-out loss before"])
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two != (tiny_bert / "model.safetensors").read_bytes()


def test_the_folder_is_an_encoder_for_a_pipeline_and_a_backbone(tiny_bert: Path, tmp_path: Path) -> None:
    pretrain(str(tiny_bert), texts(), tmp_path / "out", Pretraining.model_validate(QUICK | {"epochs": 1}))

    encoder = OnnxEncoder.open(export_encoder(str(tmp_path / "out"), tmp_path / "onnx", int8=False))
    model, tokenizer = open_backbone(str(tmp_path / "out"))

    ids, mask = padded([tokenizer("the toy story")["input_ids"]], 0)
    with torch.no_grad():
        vector = torch.nn.functional.normalize(TextReader(model, "mean")(ids, mask), dim=-1)
    np.testing.assert_allclose(encoder.encode(["the toy story"])[0], vector[0].numpy(), atol=1e-4)
    assert '"hidden_dropout_prob": 0.1' in (tmp_path / "out" / "config.json").read_text()


def test_hidden_tokens_are_never_special_and_about_as_many_as_asked(tiny_bert: Path) -> None:
    backbone, tokenizer = open_backbone(str(tiny_bert))
    net = MaskedTokens(backbone, tokenizer, Pretraining(masked=0.3))
    ids = torch.tensor([[2, *range(5, 19), 3, 0]] * 200)
    mask = (ids != 0).long()

    shown, wanted = net._hide(ids, mask, 19, torch.Generator().manual_seed(1))

    asked = wanted != -100
    assert not asked[:, [0, -2, -1]].any()
    assert float(asked[:, 1:-2].float().mean()) == pytest.approx(0.3, abs=0.02)
    assert float((shown[asked] == 4).float().mean()) == pytest.approx(0.8, abs=0.03)
    assert torch.equal(shown[~asked], ids[~asked])
    assert torch.equal(wanted[asked], ids[asked])


def test_a_batch_of_special_tokens_still_asks_one(tiny_bert: Path) -> None:
    backbone, tokenizer = open_backbone(str(tiny_bert))
    net = MaskedTokens(backbone, tokenizer, Pretraining())
    ids = torch.tensor([[2, 3]])

    value = net(ids, torch.ones_like(ids), torch.Generator().manual_seed(0))

    assert bool(torch.isfinite(value))


def test_dropout_is_drawn_from_its_generator_and_gone_afterwards(tiny_bert: Path) -> None:
    backbone, _ = open_backbone(str(tiny_bert))
    reader, ids = TextReader(backbone, "mean"), torch.tensor([[2, 5, 6, 3]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        plain = reader(ids, mask)
        with dropping(reader, 0.3, torch.Generator().manual_seed(1)):
            one = reader(ids, mask)
        with dropping(reader, 0.3, torch.Generator().manual_seed(1)):
            again = reader(ids, mask)
        after = reader(ids, mask)

    assert torch.equal(one, again)
    assert not torch.allclose(one, plain)
    assert torch.equal(after, plain)


def test_too_few_texts_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^there are 2 different texts, but pretraining needs at least two batches of 32$"
    ):
        pretrain(str(tiny_bert), ["a", "a", "the", " "], tmp_path / "out", Pretraining())


def test_a_module_without_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^Linear has no table of token embeddings; choose another model$"):
        token_table(torch.nn.Linear(2, 2))
