"""From a fine-tuned reader of texts to ONNX: what was learned merged into the weights, compared, quantised."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch

from tailwise.errors import UnavailableError
from tailwise.nets.adapting import merged
from tailwise.nets.export import OPSET, _quiet, _sample
from tailwise.nets.language import TextReader
from tailwise.nets.quantise import quantise_onnx
from tailwise.nets.session import open_session

DRIFT = 1e-3
"""Largest difference between torch and ONNX in one logit; more is a broken export."""


def exported_reader(net: TextReader, name: str, *, int8: bool) -> bytes:
    """
    A reader as ONNX: ``input_ids`` and ``attention_mask``, both (B, T) int64, to (B, K) float32.

    Args:
        net: With its head; it is not changed.
        name: Of the model, for the error.
        int8: Quantised: a quarter of the size, a third of the time.

    Raises:
        UnavailableError: It cannot be exported, or does not give the same numbers afterwards.
    """
    plain = copy.deepcopy(net).eval()
    plain.model = merged(plain.model)
    plain.requires_grad_(requires_grad=False)
    names = ["input_ids", "attention_mask"]
    with tempfile.TemporaryDirectory() as place, _quiet():
        path = Path(place) / "model.onnx"
        try:
            torch.onnx.export(
                plain,
                _sample(rows=2, tokens=8),
                str(path),
                dynamo=False,  # the newer exporter takes ten times as long for the same graph
                opset_version=OPSET,
                input_names=names,
                output_names=["logits"],
                dynamic_axes={**{key: {0: "batch", 1: "length"} for key in names}, "logits": {0: "batch"}},
            )
        except (RuntimeError, TypeError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise UnavailableError(f"model {name} cannot be exported: {why}") from error
        _compare(plain, path.read_bytes(), name)
        if int8:
            quantise_onnx(path, path)
        return path.read_bytes()


def _compare(plain: TextReader, onnx: bytes, name: str) -> None:
    """Refuse a graph that does not give torch's numbers for a batch of another shape than the traced one."""
    ids, mask = _sample(rows=3, tokens=5)
    with torch.no_grad():
        expected = plain(ids, mask).numpy()
    session = open_session(onnx, f"model {name}")
    found = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    drift = float(abs(found - expected).max())
    if not drift <= DRIFT:  # NaN is no agreement either
        raise UnavailableError(f"model {name} changes by {drift:.2g} when exported, more than {DRIFT}; choose another")
