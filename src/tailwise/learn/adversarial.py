"""
Training against the worst small change of what a network reads: FGM and PGD on embeddings.

What changes is what the table gives, never the table: the weights are the same bit for bit while and after the attack,
a frozen table can be attacked too, and nothing has to be put back when a step fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tailwise.nets.settings_texts import Attack

Loss = Callable[[Any, torch.Generator], Tensor]
"""A part of a batch and where dropout draws from to a scalar, as ``loop.train`` takes it."""
Shifts = list[Tensor]
"""What is added to each lookup of the table, in the order of the lookups, each (…, D)."""


def hardened(loss: Loss, table: nn.Module, config: Attack) -> Loss:
    """
    A loss that counts the attacked texts beside the clean ones.

    Every lookup of ``table`` is shifted in the direction that raises the loss the most, by at most ``config.size`` for
    each row of the batch: one step for FGM, several with a projection for PGD. The value is the clean loss plus
    ``config.weight`` times the attacked one.

    Args:
        loss: What is learned, through ``table``. It must draw dropout from its generator, or not at all: both passes
            then drop the same.
        table: Any module that gives embeddings, (…, D).
        config: How.

    Returns:
        ``loss`` itself when ``config.kind`` is ``none``.

    Cost: FGM two passes instead of one, PGD ``1 + steps``.
    Source: Miyato, Dai & Goodfellow, ICLR 2017, arXiv 1605.07725 (FGM); Madry et al., ICLR 2018, arXiv 1706.06083
    (PGD).
    """
    if config.kind == "none":
        return loss
    probe = Probe(table)

    def both(part: Any, noise: torch.Generator) -> Tensor:
        state = noise.get_state()

        def again() -> Tensor:
            noise.set_state(state)
            return loss(part, noise)

        clean, attacked = attack(again, probe, config)
        return clean + config.weight * attacked

    return both


def attack(loss: Callable[[], Tensor], probe: Probe, config: Attack) -> tuple[Tensor, Tensor]:
    """
    The clean loss and the attacked one, both with their graphs.

    Args:
        loss: Computes it, the same way each time.
        probe: Of the table that is attacked.
        config: How.
    """
    with probe.shifted(None) as seen:
        clean = loss()
    shifts = [torch.zeros_like(one) for one in seen]
    gradients = torch.autograd.grad(clean, seen, retain_graph=True, allow_unused=True)
    steps = 1 if config.kind == "fgm" else config.steps
    stride = config.size if config.kind == "fgm" else config.stride * config.size
    for step in range(steps):
        shifts = [
            projected(shift + stride * towards(gradient), config.size) if gradient is not None else shift
            for shift, gradient in zip(shifts, gradients, strict=True)
        ]
        with probe.shifted(shifts) as seen:
            attacked = loss()
        if step + 1 < steps:
            gradients = torch.autograd.grad(attacked, seen, allow_unused=True)
    return clean, attacked


def towards(gradient: Tensor) -> Tensor:
    """(B, …) to the same with each row of the batch of length 1; a row without a gradient stays 0."""
    return gradient / _lengths(gradient).clamp(min=1e-12)


def projected(shift: Tensor, size: float) -> Tensor:
    """(B, …) with each row of the batch no longer than ``size``."""
    return shift * (size / _lengths(shift).clamp(min=1e-12)).clamp(max=1)


def _lengths(values: Tensor) -> Tensor:
    """(B, …) to each row's Euclidean length, with as many dimensions."""
    flat = values.flatten(1).norm(dim=1)  # (B,)
    return flat.view(-1, *[1] * (values.ndim - 1))


class Probe:
    """Sees and shifts what a table gives, for the thread that asks and while it asks."""

    def __init__(self, table: nn.Module) -> None:
        self._table = table

    @contextmanager
    def shifted(self, shifts: Shifts | None) -> Iterator[Shifts]:
        """Within, every lookup gets its shift (zeros for None); what was added, to take gradients of."""
        seen: Shifts = []
        own = threading.get_ident()

        def shift(_: nn.Module, __: Any, given: Tensor) -> Tensor | None:
            if threading.get_ident() != own:
                return None
            added = torch.zeros_like(given) if shifts is None else shifts[len(seen)].detach().clone()
            seen.append(added.requires_grad_())
            return given + added

        handle = self._table.register_forward_hook(shift)
        try:
            yield seen
        finally:
            handle.remove()
