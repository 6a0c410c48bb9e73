"""Which weights learn, and that what was learned comes back whole: the head's too."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tailwise.errors import ArtifactError, ConfigError, UnavailableError
from tailwise.nets import language
from tailwise.nets.adapting import (
    OWN,
    adapt,
    after_step,
    layers_of,
    learned,
    load_learned,
    merged,
    save_learned,
    width_of,
)
from tailwise.nets.candidates import CandidateReader, padded_rows
from tailwise.nets.language import open_backbone
from tailwise.nets.settings_language import Tuning

METHODS = ("full", "top_layers", "lora", "adalora", "adapter", "prefix", "prompt", "frozen")
TEXTS = ([2, 40, 41, 42, 3], [2, 50, 3], [2, 60, 61, 3])
BATCH = padded_rows([(np.array(own), np.ones(len(own), int)) for own in TEXTS], 0, multiple=1)


def reader(folder: Path, method: str, seed: int = 0, **settings: Any) -> CandidateReader:
    model, _ = open_backbone(str(folder))
    model.set_attn_implementation("eager")
    torch.manual_seed(seed + 100)
    settings = {"rank": 4, "layers": 1, "virtual_tokens": 3, **settings}
    adapted = adapt(model, Tuning(method=method, **settings), seed=seed, steps=20)
    return CandidateReader(adapted, "mean", nn.Linear(16, 1), together=False)


def taught(net: CandidateReader, steps: int = 8) -> CandidateReader:
    """Some steps towards logits of 1, 0 and 1."""
    optimizer = torch.optim.AdamW([own for own in net.parameters() if own.requires_grad], lr=0.02)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        (net(*BATCH)[:, 0] - torch.tensor([1.0, 0.0, 1.0])).square().mean().backward()
        optimizer.step()
        after_step(net, step)
    return net.eval()


def alone(model: nn.Module) -> CandidateReader:
    return CandidateReader(model, "mean", None, together=False)


def said(net: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return net(*BATCH)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("prefix", "prompt")])
def test_before_it_learned_a_model_says_what_it_said(tiny_backbone: Path, method: str) -> None:
    plain, _ = open_backbone(str(tiny_backbone))

    torch.testing.assert_close(said(alone(reader(tiny_backbone, method).model)), said(alone(plain)))


@pytest.mark.parametrize("method", METHODS)
def test_peft_is_asked_for_by_the_methods_that_need_it(
    tiny_backbone: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = language.util.find_spec
    monkeypatch.setattr(language.util, "find_spec", lambda name: None if name == "peft" else there(name))

    if method in OWN:
        reader(tiny_backbone, method)
    else:
        with pytest.raises(
            UnavailableError,
            match=r"^fine-tuning a language model needs peft: pip install 'tailwise\[finetune\]'$",
        ):
            reader(tiny_backbone, method)


@pytest.mark.parametrize("method", METHODS)
def test_only_what_the_method_names_learns_and_it_does_learn(tiny_backbone: Path, method: str) -> None:
    net = reader(tiny_backbone, method)
    before = copy.deepcopy(net.state_dict())
    names = {name for name, own in net.named_parameters() if own.requires_grad}

    taught(net)

    moved = {name for name, own in net.state_dict().items() if not torch.equal(own, before[name])}
    parts = {
        "full": "model.e", "top_layers": "model.encoder.layer.1.", "lora": "lora_", "adalora": "lora_",
        "adapter": "bottleneck", "prefix": "prompt_encoder", "prompt": "prompt_encoder", "frozen": "head",
    }  # fmt: skip
    assert {name for name in moved if "ranknum" not in name} <= names
    assert "head.weight" in moved
    assert any(parts[method] in name for name in moved)
    assert all(parts[method] in name or name.startswith("head") for name in names) or method == "full"


@pytest.mark.parametrize("method", METHODS)
def test_what_was_learned_comes_back_with_its_head(tiny_backbone: Path, tmp_path: Path, method: str) -> None:
    net = taught(reader(tiny_backbone, method))
    save_learned(net, tmp_path / "learned.safetensors")

    fresh = reader(tiny_backbone, method, seed=9)  # other fresh weights, another head
    assert not torch.equal(said(fresh), said(net))  # or the next line would show nothing
    load_learned(fresh, tmp_path / "learned.safetensors")

    torch.testing.assert_close(said(fresh.eval()), said(net), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_merged_is_the_same_function(tiny_backbone: Path, method: str) -> None:
    net = taught(reader(tiny_backbone, method))
    before = said(net)

    net.model = merged(net.model)

    torch.testing.assert_close(said(net), before, atol=1e-5, rtol=1e-4)
    if method in ("lora", "adalora"):
        assert not [name for name, _ in net.named_parameters() if "lora" in name]


@pytest.mark.parametrize("method", ["lora", "adapter", "prompt"])
def test_the_seed_decides_what_is_fresh(tiny_backbone: Path, method: str) -> None:
    first, again, other = (learned(reader(tiny_backbone, method, seed=seed)) for seed in (1, 1, 2))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first if "head" not in name)


def test_a_missing_head_is_an_error_and_no_fresh_one(tiny_backbone: Path, tmp_path: Path) -> None:
    net = reader(tiny_backbone, "lora")
    kept = {name: own for name, own in learned(net).items() if not name.startswith("head")}
    save_file(kept, tmp_path / "odd.safetensors")

    with pytest.raises(
        ArtifactError, match=r"^the learned weights do not fit the model: head\.bias differs; fit the model again$"
    ):
        load_learned(net, tmp_path / "odd.safetensors")


def test_weights_of_another_rank_and_a_damaged_file_are_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    save_learned(reader(tiny_backbone, "lora", rank=2), tmp_path / "two.safetensors")
    (tmp_path / "odd.safetensors").write_bytes(b"no such thing")
    net = reader(tiny_backbone, "lora")

    with pytest.raises(ArtifactError, match=r"^the learned weights do not fit the model: .*lora_A.* differs; fit "):
        load_learned(net, tmp_path / "two.safetensors")
    with pytest.raises(
        ArtifactError, match=rf"^{tmp_path}/odd\.safetensors cannot be read \(.*\); fit the model again$"
    ):
        load_learned(net, tmp_path / "odd.safetensors")


def test_targets_choose_the_linear_parts(tiny_backbone: Path) -> None:
    net = reader(tiny_backbone, "lora", targets=("query", "value"))

    places = {name.split(".lora_")[0].rpartition(".")[2] for name in learned(net) if "lora" in name}
    assert places == {"query", "value"}


def test_a_target_that_is_not_there_is_refused(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigError, match=r"^BertModel has no linear part whose name ends in qqq$"):
        reader(tiny_backbone, "lora", targets=("qqq",))


def test_the_table_of_tokens_learns_too_and_comes_back(tiny_backbone: Path, tmp_path: Path) -> None:
    net = reader(tiny_backbone, "lora", targets=("query",), embeddings=True)
    plain, _ = open_backbone(str(tiny_backbone))
    torch.testing.assert_close(said(alone(net.model)), said(alone(plain)))

    before = said(taught(net))
    save_learned(net, tmp_path / "learned.safetensors")
    fresh = reader(tiny_backbone, "lora", seed=9, targets=("query",), embeddings=True)
    load_learned(fresh, tmp_path / "learned.safetensors")

    (rows,) = (own for name, own in learned(net).items() if "word_embeddings.lora_embedding_A" in name)
    assert set(rows.abs().sum(0).nonzero()[:, 0].tolist()) == set(BATCH[0].flatten().tolist()) - {0}
    torch.testing.assert_close(said(fresh.eval()), before, atol=1e-6, rtol=1e-5)
    net.model = merged(net.model)
    torch.testing.assert_close(said(net), before, atol=1e-5, rtol=1e-4)


def test_a_table_that_also_tells_the_next_token_is_refused(tiny_causal: Path) -> None:
    model, _ = open_backbone(str(tiny_causal), causal=True)

    with pytest.raises(
        ConfigError, match=r"^GPT2LMHeadModel tells tokens by the table that it reads; set embeddings = false$"
    ):
        adapt(model, Tuning(embeddings=True))


def test_checkpointing_changes_no_gradient(tiny_backbone: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        net = reader(tiny_backbone, "lora", checkpointing=checkpointing)
        net.train()
        parameters = [own for own in net.parameters() if own.requires_grad]
        gradients.append(torch.autograd.grad(net(*BATCH).square().sum(), parameters, allow_unused=True))

    assert any(own is not None and own.any() for own in gradients[0])
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other)


def test_what_has_no_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^Linear has no list of layers; choose method full, lora or frozen$"):
        layers_of(nn.Linear(2, 2))


def test_a_causal_model_is_adapted_with_its_head(tiny_causal: Path) -> None:
    model, _ = open_backbone(str(tiny_causal), causal=True)

    net = adapt(model, Tuning(rank=2))

    assert width_of(model) == 16
    assert net(input_ids=BATCH[0], attention_mask=(BATCH[1] > 0).long()).logits.shape == (3, 5, 260)
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in learned(net)} == {"c_attn", "c_proj", "c_fc"}
