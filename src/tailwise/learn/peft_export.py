"""From a fine-tuned reader of texts to ONNX: what was learned merged into the weights, compared, quantised."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tailwise.encode.pairs import INPUTS
from tailwise.errors import UnavailableError
from tailwise.nets.adapting import merged
from tailwise.nets.candidates import CandidateReader, padded_rows
from tailwise.nets.export import OPSET, _quiet
from tailwise.nets.quantise import quantise_onnx
from tailwise.nets.session import open_session

DRIFT = 1e-3
"""Largest difference between torch and ONNX in one logit; more is a broken export."""


def exported_reader(net: CandidateReader, name: str, *, int8: bool) -> bytes:
    """
    A reader as ONNX: ``input_ids`` and ``part``, both (B, T) int64, and ``which``, (S,) int64, to (B, S) float32.

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
    with tempfile.TemporaryDirectory() as place, _quiet():
        path = Path(place) / "model.onnx"
        try:
            torch.onnx.export(
                plain,
                _sample(((0, 0, 1, 1, 1), (0, 0, 0, 1, 1, 1, 1))),
                str(path),
                dynamo=False,  # the newer exporter takes ten times as long for the same graph
                opset_version=OPSET,
                input_names=list(INPUTS),
                output_names=["logits"],
                dynamic_axes={
                    **{key: {0: "batch", 1: "length"} for key in INPUTS[:2]},
                    INPUTS[2]: {0: "items"},
                    "logits": {0: "batch", 1: "items"},
                },
            )
        except (RuntimeError, TypeError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise UnavailableError(f"model {name} cannot be exported: {why}") from error
        _compare(plain, path.read_bytes(), name)
        if int8:
            quantise_onnx(path, path)
        return path.read_bytes()


def _sample(parts: Sequence[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of some tokens; a shorter one is padded, so that a trace cannot take what is seen for a constant."""
    rows = [(np.arange(len(own)) % 7 + 3, np.array(own)) for own in parts]
    return padded_rows(rows, 3, multiple=1)


def _compare(plain: CandidateReader, onnx: bytes, name: str) -> None:
    """Refuse a graph that does not give torch's numbers for a batch of another shape than the traced one."""
    more = ((2, 2), (2,), ()) if plain.together else ((), (), ())
    inputs = _sample([(0, 0, 1, *own) for own in more])
    with torch.no_grad():
        expected = plain(*inputs).numpy()
    session = open_session(onnx, f"model {name}")
    found = session.run(None, {key: own.numpy() for key, own in zip(INPUTS, inputs, strict=True)})[0]
    drift = float(abs(found - expected).max())
    if not drift <= DRIFT:  # NaN is no agreement either
        raise UnavailableError(f"model {name} changes by {drift:.2g} when exported, more than {DRIFT}; choose another")
