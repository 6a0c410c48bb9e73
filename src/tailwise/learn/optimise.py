"""What moves weights: optimisers, the rate from step to step, and arithmetic in fewer bits."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tailwise.nets.settings import LoopConfig
from tailwise.nets.settings_language import TextLoop

log = logging.getLogger(__name__)

FAST = ("avx512_bf16", "amx_bf16", "bf16")
"""What a processor calls it when it multiplies numbers of 16 bits itself."""


def optimizer_of(net: nn.Module, config: LoopConfig) -> Optimizer:
    """
    The optimiser that the settings name, over all parameters of ``net`` that learn.

    Biases, norms and other vectors are never decayed: they are few, and small is no better for them. A group that
    learns at another rate says ``times`` how many.

    Source: Loshchilov & Hutter, ICLR 2019, arXiv 1711.05101 (AdamW); Shazeer & Stern, ICML 2018, arXiv 1804.04235
    (Adafactor).
    """
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": learning}]
    if config.weight_decay:
        matrices = [parameter for parameter in learning if parameter.ndim > 1]
        vectors = [parameter for parameter in learning if parameter.ndim <= 1]
        split = ({"params": matrices}, {"params": vectors, "weight_decay": 0.0})
        groups = [group for group in split if group["params"]]
    if isinstance(config, TextLoop) and config.head_rate != 1.0:
        head = {parameter for name, parameter in net.named_parameters() if name.startswith("head")}
        groups = [
            {**group, "params": [own for own in group["params"] if (own in head) == fresh], "times": times}
            for group in groups
            for fresh, times in ((False, 1.0), (True, config.head_rate))
        ]
        groups = [group for group in groups if group["params"]]
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, weight_decay=decay)
    if config.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=rate, weight_decay=decay)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate, weight_decay=decay)


def learning_rate(config: LoopConfig, step: int, epoch: float) -> float:
    """
    The rate of one step.

    It rises over the warm-up; then it stays, or falls with the epochs, so that it would be zero after the last.

    Args:
        config: Which schedule, and how many epochs.
        step: From 1, over all epochs.
        epoch: From 0; within an epoch with what of it is done, where that is known.

    >>> config = LoopConfig(learning_rate=0.1, warm_up_steps=2, schedule="linear", epochs=10)
    >>> [round(learning_rate(config, step, epoch), 3) for step, epoch in ((1, 0), (2, 0), (30, 5), (60, 9))]
    [0.05, 0.1, 0.05, 0.01]
    """
    rate = config.learning_rate * min(1.0, step / max(1, config.warm_up_steps))
    done = epoch / config.epochs
    if config.schedule == "cosine":
        return rate * (1 + math.cos(math.pi * done)) / 2
    return rate * (1 - done) if config.schedule == "linear" else rate


@contextmanager
def lowered(net: nn.Module, precision: str) -> Iterator[None]:
    """
    For a while ``net`` works in ``precision`` and answers in float32, so that the loss and the weights stay exact.

    Several threads may call the net at once. What is called of it beside ``forward`` is not touched. Products with
    weights that do not learn find them in ``precision`` already: to turn them anew in every pass takes a sixth of it.
    """
    if precision == "float32":
        yield
        return
    if not fast_bfloat16():
        log.warning("slow arithmetic: precision=bfloat16 reason=this processor has no instructions for it")
    plain = net.forward

    def forward(*inputs: Any, **named: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):  # one of its own for each call: it keeps state
            return _widened(plain(*inputs, **named))

    net.forward = forward
    exact = {part: part.data for part in _resting(net)}
    for part, data in exact.items():
        part.data = data.to(torch.bfloat16)
    try:
        yield
    finally:
        for part, data in exact.items():
            part.data = data
        del net.forward  # what the class has shows again


def _resting(net: nn.Module) -> set[nn.Parameter]:
    """The matrices and biases of linear parts alone that do not learn."""
    linear = [part for part in net.modules() if isinstance(part, nn.Linear)]
    others = [part for part in net.modules() if not isinstance(part, nn.Linear)]
    shared = {own for part in others for own in part.parameters(recurse=False)}  # a table that is a matrix as well
    found = {own for part in linear for own in part.parameters(recurse=False) if not own.requires_grad}
    return found - shared


def fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by itself; elsewhere it takes several times as long as float32."""
    ask = getattr(torch.cpu, "get_capabilities", None)  # older versions of torch cannot tell
    known: dict[str, Any] = {} if ask is None else ask()
    return any(known.get(name) for name in FAST)


def _widened(answer: Any) -> Any:
    """Every tensor in an answer, however deep, as float32 when it has fewer bits."""
    if isinstance(answer, Tensor):
        return answer.float() if answer.dtype == torch.bfloat16 else answer
    if isinstance(answer, dict):
        wide = {name: _widened(one) for name, one in answer.items()}
        return wide if type(answer) is dict else type(answer)(**wide)  # what transformers answer has names as well
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return type(answer)(*map(_widened, answer))
    if isinstance(answer, (list, tuple)):
        return type(answer)(map(_widened, answer))
    return answer
