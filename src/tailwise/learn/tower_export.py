"""What serves of the classic models: item tables, networks as ONNX, and people folded in by ridge regression."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]  # public, but not in its __all__

from tailwise.data.interactions import Training
from tailwise.nets.towers import TowerNet
from tailwise.rank.towers import Acquaintances, Towers, TowersConfig
from tailwise.types import Floats

RIDGE = 0.01
"""Of folding people in, as a share of the mean square of what their items give."""


def towers_of(net: TowerNet, config: TowersConfig, training: Training) -> Towers:
    """What serves: an item that training never saw keeps its text alone."""
    reader: nn.Module = _Last(net)
    known = None
    with torch.no_grad():
        read = net.table().clone()
        unseen = torch.from_numpy(training.interactions.counts() == 0)
        read[unseen] -= net.ids.weight[unseen]
        offered = net.offered(read)
    if net.people is not None:
        known, reader = _acquaintances(net.people.weight.detach().numpy(), read.numpy(), config, training)
    history, one, some = (torch.zeros(*shape, config.dim) for shape in ((1, 7), (1,), (3,)))
    person = _onnx(reader, (history,), ["vectors"], {"vectors": {1: "time"}})
    comparison = None
    if net.comparison is not None:
        comparison = _onnx(_Compare(net), (one, some), ["person", "items"], {"items": {0: "items"}})
    return Towers(read.numpy(), offered.numpy(), person, comparison, known)


def _acquaintances(
    vectors: Floats, read: Floats, config: TowersConfig, training: Training
) -> tuple[Acquaintances, nn.Module]:
    """
    People of ``mf``, and what makes a vector of anybody's items: a ridge regression from the mean of items to people.

    So strangers, and people with new events, get the vector that people with such items have, whatever the loss.
    """
    interactions = training.interactions
    sequences = [rows[-config.max_length :] for rows in interactions.liked_sequences()]
    means = np.stack([read[rows].mean(0) if len(rows) else np.zeros(config.dim, np.float32) for rows in sequences])
    gram = means.T.astype(np.float64) @ means
    gram += (RIDGE * np.trace(gram) / config.dim + 1e-12) * np.eye(config.dim)
    weights = np.linalg.solve(gram, means.T.astype(np.float64) @ vectors).astype(np.float32)  # (D, D)
    liked = interactions.pick(interactions.likes)
    newest = np.where(np.diff(liked.offsets) > 0, liked.offsets[1:] - 1, -1)  # (U,)
    rows, times = (np.append(column, unset)[newest] for column, unset in ((liked.rows, -1), (liked.times, np.nan)))
    known = Acquaintances(interactions.user_ids, (vectors - means @ weights).astype(np.float32), rows, times)
    return known, _Mean(torch.from_numpy(weights))


class _Mean(nn.Module):
    """A person of ``mf`` from the mean of their items."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Buffer(weights)

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors.mean(1) @ self.weights


class _Last(nn.Module):
    """The person at the last place."""

    def __init__(self, net: TowerNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, vectors: Tensor) -> Tensor:
        return self.net(vectors)[:, -1]


class _Compare(nn.Module):
    """The plain network alone."""

    def __init__(self, net: TowerNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, person: Tensor, items: Tensor) -> Tensor:
        return self.net.compare(person, items)


def _onnx(module: nn.Module, example: tuple[Tensor, ...], names: list[str], free: dict[str, dict[int, str]]) -> bytes:
    """A module as ONNX, with the dimensions that are free."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the older exporter is six times as fast here
        warnings.simplefilter("ignore", TracerWarning)  # recurrent nets check a width, which is fixed
        warnings.filterwarnings("ignore", "Exporting a model to ONNX with a batch_size", UserWarning)  # it is 1
        torch.onnx.export(
            module.eval(),
            example,
            buffer,  # type: ignore[arg-type]  # a buffer is taken too
            input_names=names,
            output_names=["out"],
            dynamic_axes=free,
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()
