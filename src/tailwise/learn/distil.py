"""
Teach a small network what a slow model thinks, and use it only where held-out people say that it helps.

    teacher, asked about a few hundred slates ─▶ weights: how sure it is, how often it was right
      └▶ P networks over signals, each taught by the others' people ─▶ gate, judged by its own
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from tailwise import registry
from tailwise.config import settings_of
from tailwise.data.interactions import Training
from tailwise.errors import ConfigError, UnavailableError
from tailwise.learn.gate import LEAST_CASES, cases_by_length, fit_gate
from tailwise.learn.loop import side_by_side
from tailwise.learn.slates import Example, folds_of
from tailwise.learn.teacher import (
    Judgement,
    asker,
    concordance,
    correctness,
    judgements_of,
    known_mean,
    unlabelled,
    weights_of,
)
from tailwise.pipeline import Engine
from tailwise.pipeline.signals import signal_names
from tailwise.rank.distilled import Distilled, DistilledConfig, Pupils, table_of
from tailwise.rank.fusion import standardised
from tailwise.rank.gate import Gate
from tailwise.types import Floats

log = logging.getLogger(__name__)
Notes = dict[str, float | str]


def fit_distilled(config: DistilledConfig, training: Training, engine: Engine) -> tuple[Distilled, Notes]:
    """
    Ask the teacher, teach the networks, learn the gate.

    Args:
        config: Settings; its teacher is fitted here, on the same cases.
        training: With held-out cases.
        engine: With the sources, and the stages before this one.

    Returns:
        The stage, and notes for the model card.

    Raises:
        ConfigError: The teacher is no other stage that learns, or its settings are wrong.

    Cost: the teacher's time for ``cases + unlabelled`` slates, and seconds for the rest.
    """
    settings = teacher_settings(config)
    names, nobody = signal_names(engine.sources, training.catalogue, engine.contexts), Gate(depth=config.depth, query=0)
    examples = cases_by_length(training, engine, most=max(config.judged, config.cases), depth=config.depth)
    telling = sum(bool(example.relevant.any()) for example in examples)
    if telling < LEAST_CASES:
        decision = f"not used: {telling} cases could teach it, fewer than {LEAST_CASES}"
        return Distilled(config, names, nobody, None), {"decision": decision}
    asked = examples[: config.cases] + unlabelled(training, engine, config.unlabelled, config.depth)
    try:
        ask = asker(config.teacher, settings, training, engine, config.depth)
        judgements = judgements_of(asked, ask, training)
    except UnavailableError as error:
        log.warning("distilled is not used: %s", error)
        return Distilled(config, names, nobody, None), {"decision": f"not used: {error}"}
    pupils, gate, notes = taught(config, training, examples, judgements)
    return Distilled(config, names, gate, pupils), notes


def teacher_settings(config: DistilledConfig) -> BaseModel:
    """
    The settings of the teacher.

    Raises:
        ConfigError: It is no other stage that learns, or its settings are wrong.
    """
    kind = registry.component(config.teacher)
    settings = settings_of(kind.Config, config.of_teacher, where=f"distilled: of_teacher: {config.teacher}")
    if config.teacher not in (registry.STAGES.keys() & registry.TRAINERS.keys()) - {"distilled"}:
        raise ConfigError(f"distilled: the teacher is {config.teacher!r}, but it must be another stage that learns")
    return settings


def taught(
    config: DistilledConfig, training: Training, examples: list[Example], judgements: list[Judgement]
) -> tuple[Pupils | None, Gate, Notes]:
    """
    The networks, the gate and the notes, from cases and what the teacher thinks.

    Each network learns from what was said of the other folds' people and judges its own fold's cases; the gate is
    learned from those opinions.

    Args:
        config: Settings.
        training: For its seed.
        examples: Held-out cases with signals.
        judgements: Some of their people's among them.
    """
    fold = folds_of([*examples, *(judgement.example for judgement in judgements)], training.seed, config.committee)
    own, taught_by = fold[: len(examples)], fold[len(examples) :]
    weights = weights_of(judgements)

    def member(part: int) -> Pupils:
        chosen = np.flatnonzero(taught_by != part)
        return _learned(config, [judgements[n] for n in chosen], weights[chosen], training.seed * 100 + part)

    with side_by_side(training.threads) as pool:
        members = list(pool.map(member, range(config.committee)))
    pupils = Pupils(*(np.concatenate([getattr(each, part.name) for each in members]) for part in fields(Pupils)))

    def honest(example: Example, part: int) -> Floats:
        return pupils.opinions(table_of(example.slate))[part]

    opinions = [honest(example, part) for example, part in zip(examples, own, strict=True)]
    gate, notes = fit_gate(
        examples, opinions, depth=config.depth, seed=training.seed, facts=training.catalogue, query=0.0
    )
    alike = [
        concordance(honest(each.example, part), each.opinion) for each, part in zip(judgements, taught_by, strict=True)
    ]
    notes |= {
        "lists of the teacher": len(judgements),
        "teacher on what was taken": round(known_mean([correctness(judgement) for judgement in judgements]), 4),
        "pupil on the teacher's order": round(known_mean(alike), 4),
    }
    if not any(gate.weights):
        return None, gate, {**notes, "decision": "not used: it helps nobody"}
    return pupils, gate, {**notes, "decision": "used where it helps"}


def _learned(config: DistilledConfig, judgements: Sequence[Judgement], weights: Floats, seed: int) -> Pupils:
    """One network, P = 1: the weighted mean over lists of the cross-entropy with the teacher and what was taken."""
    tables = [torch.from_numpy(table_of(judgement.example.slate)) for judgement in judgements]
    table = torch.nn.utils.rnn.pad_sequence(tables, batch_first=True)  # (J, N, 1 + F)
    mask, wanted = torch.zeros(table.shape[:2], dtype=torch.bool), torch.zeros(table.shape[:2])
    for place, judgement in enumerate(judgements):
        share, said = _wanted(judgement, config)
        wanted[place, : len(share)], mask[place, : len(share)] = torch.from_numpy(share), torch.from_numpy(said)
    seen = table[mask]  # (ΣN, 1 + F)
    centre, spread = seen.mean(0), seen.std(0).clamp_min(1e-3)
    table = (table - centre) / spread
    net = _Pupil(table.shape[-1], config.hidden, torch.Generator().manual_seed(seed))
    adam = torch.optim.AdamW(net.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    counts = torch.from_numpy(weights / max(float(weights.sum()), 1e-9))
    for _ in range(config.steps):
        adam.zero_grad()
        logs = net(table).masked_fill(~mask, torch.finfo(table.dtype).min).log_softmax(1)
        loss: Tensor = -(counts * (wanted * logs.masked_fill(~mask, 0.0)).sum(1)).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        adam.step()
    parts = [centre, spread, net.linear, net.inner, net.offset, net.outer]
    return Pupils(*(part.detach().numpy()[None].astype(np.float32) for part in parts))


class _Pupil(torch.nn.Module):
    """What ``Pupils`` is in numpy, for one network. It begins at no opinion."""

    def __init__(self, width: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = torch.nn.Parameter(torch.zeros(width))
        self.inner = torch.nn.Parameter(torch.randn(width, hidden, generator=generator) / width**0.5)
        self.offset = torch.nn.Parameter(torch.zeros(hidden))
        self.outer = torch.nn.Parameter(torch.zeros(hidden))

    def forward(self, table: Tensor) -> Tensor:  # (J, N, 1 + F) to (J, N)
        return table @ self.linear + torch.tanh(table @ self.inner + self.offset) @ self.outer


def _wanted(judgement: Judgement, config: DistilledConfig) -> tuple[Floats, NDArray[np.bool_]]:
    """Each candidate's share of what is to be learned, (N,), and of which the teacher said something, (N,)."""
    said = np.isfinite(judgement.opinion)
    scaled = standardised([judgement.opinion[said]])[:, 0] / config.temperature
    share = np.zeros(len(said), np.float32)
    share[said] = np.exp(scaled - scaled.max())
    share /= share.sum()
    taken = (judgement.example.relevant[: len(said)] & said).astype(np.float32)
    if taken.any():
        share = (1 - config.clicks) * share + config.clicks * taken / taken.sum()
    return share, said
