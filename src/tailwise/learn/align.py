"""
Contrastive alignment: while it learns, the item table is asked to tell items apart as their texts do.

    learned rows (S, D) ─┐
                         ├─ cosines / temperature ─▶ each row finds its own text, and each text its own row
    texts ─▶ map ────────┘

The map from texts to the table is a guest in the network: it learns with it, and leaves when training ends. What is
saved, exported and served has nothing of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.nets.sequence import SequenceNet
from tailwise.types import Floats, Rows

__all__ = ["alignment_loss", "with_alignment"]

log = logging.getLogger(__name__)

TEMPERATURE = 0.2
"""Of the contrast: cosines that differ by this much differ by a factor of e."""
SAMPLE = 512
"""Items contrasted with each other at a time, all as likely: the long tail is most of them."""
GUEST = "alignment"
"""What the map is called within the network while it is there."""


def alignment_loss(learned: Tensor, told: Tensor) -> Tensor:
    """
    Mean cross-entropy of finding an item's text among the others', and its row among the others' (symmetric InfoNCE).

    Args:
        learned: (S, D) rows of the item table.
        told: (S, D) where the same items' texts would put them.

    Returns:
        Scalar; the log of S when nothing tells the items apart.

    Cost: O(S² D).
    Source: van den Oord, Li & Vinyals, 2018, arXiv 1807.03748; between what people do and what texts say: Ren et al.
    (RLMRec), WWW 2024, arXiv 2310.15950; both ways: Radford et al. (CLIP), ICML 2021, arXiv 2103.00020.

    >>> two = torch.eye(2)
    >>> round(float(alignment_loss(two, two)), 4), round(float(alignment_loss(two, torch.ones(2, 2))), 4)
    (0.0067, 0.6931)
    """
    logits = F.normalize(learned, dim=1) @ F.normalize(told, dim=1).T / TEMPERATURE  # (S, S)
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@contextmanager
def with_alignment(
    net: SequenceNet, loss: Callable[[Any, torch.Generator], Tensor], *, weight: float, vectors: Floats, touched: Rows
) -> Iterator[Callable[[Any, torch.Generator], Tensor]]:
    """
    For a while ``net`` has a map from texts to its item table, and a part of a batch costs the alignment too.

    Each time ``SAMPLE`` items are drawn from where dropout draws. The map starts as the one that comes nearest to the
    table as it stands, which may be another domain's, or one that has learned before: so that alignment never begins
    by pulling the table towards a map that knows nothing.

    Args:
        net: What learns.
        loss: A part and where chance comes from to a scalar; those of a batch's parts add up to the batch's.
        weight: Of the alignment beside it, for each part of a batch; 0 leaves net and loss as they are.
        vectors: (M, W) texts, zeros where an item has none.
        touched: Items that learn; of the others the table knows nothing that could be aligned.

    Returns:
        What a part costs while the context lasts. With fewer than two texts that is ``loss``, and the log says so.

    Cost: O(M W²) once, O(S² D + S W D) a part.
    """
    rows = touched[vectors[touched].any(axis=1)]
    if weight and len(rows) < 2:
        log.warning("no alignment: reason=%d items that people touched have a text", len(rows))
    if not weight or len(rows) < 2:
        yield loss
        return
    texts, places = torch.from_numpy(vectors[rows]), torch.from_numpy(rows)
    guest = _nearest(vectors[rows], net.table().detach().numpy()[rows])

    def both(part: Any, noise: torch.Generator) -> Tensor:
        own = torch.randperm(len(rows), generator=noise)[:SAMPLE]
        learned = F.embedding(places[own], net.table())
        return loss(part, noise) + weight * alignment_loss(learned, guest(texts[own]))

    net.add_module(GUEST, guest)
    try:
        yield both
    finally:
        delattr(net, GUEST)


def _nearest(texts: Floats, table: Floats) -> nn.Linear:
    """The linear map from (S, W) texts that comes nearest to (S, D) rows, by least squares."""
    # numpy's, because torch's answer differs in the last bits with where in memory its arrays lie.
    nearest = np.linalg.lstsq(texts.T @ texts, texts.T @ table, rcond=None)[0]  # (W, D)
    width, dim = nearest.shape
    guest = nn.Linear(width, dim, bias=False, device="meta").to_empty(device="cpu")  # so that nothing is drawn
    with torch.no_grad():
        guest.weight.copy_(torch.from_numpy(nearest.T))
    return guest
