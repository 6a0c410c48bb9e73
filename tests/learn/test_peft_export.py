"""A fine-tuned reader as ONNX says what torch says, in float and about so in eight bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tailwise.encode.pairs import INPUTS
from tailwise.errors import UnavailableError
from tailwise.learn import peft_export
from tailwise.learn.peft import ADDING
from tailwise.learn.peft_export import exported_reader
from tailwise.nets.adapting import adapt
from tailwise.nets.candidates import CandidateReader, padded_rows
from tailwise.nets.language import open_backbone, prepare_for_short
from tailwise.nets.session import open_session
from tailwise.nets.settings_language import Tuning

ROWS = [
    (np.array([2, *range(40, 60), 3, 70, 71, 3, 72, 3]), np.array([*[0] * 22, 1, 1, 1, 2, 2])),
    (np.array([2, 50, 3, 80, 3]), np.array([0, 0, 0, 1, 1])),
    (np.array([2, 60, 61, 3, 90, 3]), np.array([0, 0, 0, 0, 1, 1])),
]


def batch(net: CandidateReader) -> tuple[torch.Tensor, ...]:
    return padded_rows(ROWS[0 if net.together else 1 :], 0)


def reader(folder: Path, method: str, *, embeddings: bool = False) -> CandidateReader:
    model, _ = open_backbone(str(folder))
    prepare_for_short(model)
    tuning = Tuning(method=method, rank=4, virtual_tokens=3, embeddings=embeddings)
    net = CandidateReader(adapt(model, tuning), "mean", nn.Linear(16, 1), together=method not in ADDING)
    with torch.no_grad():  # as if it had learned
        for own in net.parameters():
            if own.requires_grad:
                own.add_(torch.randn(own.shape, generator=torch.Generator().manual_seed(own.numel())) * 0.2)
    return net.eval()


def said(onnx: bytes, inputs: tuple[torch.Tensor, ...]) -> np.ndarray:
    named = {key: own.numpy() for key, own in zip(INPUTS, inputs, strict=True)}
    return open_session(onnx, "it").run(None, named)[0]


@pytest.mark.parametrize(
    ("method", "embeddings"),
    [*((name, False) for name in ("full", "lora", "adalora", "adapter", "prefix", "prompt", "frozen")), ("lora", True)],
)
def test_every_method_exports_to_what_torch_says(tiny_backbone: Path, method: str, embeddings: bool) -> None:
    net = reader(tiny_backbone, method, embeddings=embeddings)
    with torch.no_grad():
        expected = net(*batch(net)).numpy()

    assert said(exported_reader(net, "tiny", int8=False), batch(net)) == pytest.approx(expected, abs=1e-4)
    with torch.no_grad():
        assert net(*batch(net)).numpy().tolist() == expected.tolist()  # it was not changed


def test_a_causal_model_exports_too(tiny_causal: Path) -> None:
    model, _ = open_backbone(str(tiny_causal))
    net = CandidateReader(adapt(model, Tuning(rank=2)), "last", nn.Linear(16, 1)).eval()
    with torch.no_grad():
        expected = net(*batch(net)).numpy()

    assert said(exported_reader(net, "tiny", int8=False), batch(net)) == pytest.approx(expected, abs=1e-4)


def test_eight_bits_say_about_the_same_and_a_row_is_what_it_is_alone(tiny_backbone: Path) -> None:
    net = reader(tiny_backbone, "lora")
    plain, small = (exported_reader(net, "tiny", int8=int8) for int8 in (False, True))

    exact, rough = said(plain, batch(net)), said(small, batch(net))

    assert b"MatMulIntegerToFloat" in small
    assert np.abs(exact - rough).max() < 0.1 * np.abs(exact).max()
    assert said(small, padded_rows(ROWS[1:2], 0, multiple=1))[0, 0] == pytest.approx(rough[1, 0], abs=1e-4)


def test_an_export_that_says_something_else_is_refused(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peft_export, "DRIFT", -1.0)

    with pytest.raises(
        UnavailableError, match=r"^model tiny changes by .* when exported, more than -1\.0; choose anoth"
    ):
        exported_reader(reader(tiny_backbone, "lora"), "tiny", int8=False)
