"""Fine-tune an encoder as two towers: what a person liked lately near what they like next, far from the rest."""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.batch import shared_negatives
from tailwise.data.interactions import Training
from tailwise.data.scores import gains
from tailwise.encode.exported import OnnxEncoder
from tailwise.encode.text import item_texts
from tailwise.learn.loop import side_by_side, train
from tailwise.learn.losses import Contest, sampled_softmax
from tailwise.learn.optimise import lowered
from tailwise.learn.peft import loop_of, until_over
from tailwise.nets.adapting import adapt, merged
from tailwise.nets.export import export_model
from tailwise.nets.language import TextReader, open_backbone, prepare_for_short, reading_of, texts_to_batches
from tailwise.rank.language_towers import TITLE_LETTERS, LanguageTowers, LanguageTowersConfig, person_text
from tailwise.types import Floats, Rows

NAME = "language towers"
"""As the progress calls it."""
MOST_JUDGED = 400
"""People who choose the epoch."""
BUDGET = 4096
"""Texts × longest text of one batch that is only read."""


@dataclass(frozen=True)
class _Part:
    """A batch: what people liked before, what they liked then, and others; it is one part, for all are compared."""

    pasts: list[str]
    targets: Rows
    drawn: tuple[Rows, np.ndarray]


@dataclass(frozen=True)
class _Texts:
    """A network with the texts that it reads."""

    net: TextReader
    tokenizer: Any
    max_tokens: int
    items: list[str]
    titles: tuple[str, ...]

    def vectors(self, texts: list[str]) -> Tensor:
        """(N,) texts, none empty, to (N, D) unit rows."""
        parts = list(texts_to_batches(self.tokenizer, texts, max_tokens=self.max_tokens, budget=BUDGET))
        order = torch.tensor([row for rows, _, _ in parts for row in rows]).argsort()
        return F.normalize(torch.cat([self.net(ids, mask) for _, ids, mask in parts]), dim=-1)[order]


def fit_language_towers(config: LanguageTowersConfig, training: Training) -> LanguageTowers:
    """
    Learn a space in which a person's newest titles are near the text of what they like next.

    Each choice is compared with those of the others in its batch and with items drawn by popularity, every one less the
    log of its chance of being there. When it is fitted again on all events it stays as it is: what was held out is one
    act in ten, and learning again would take as long again.

    Args:
        config: Settings.
        training: Events, and who is held out to choose the epoch.

    Raises:
        UnavailableError: A package or the model is missing.
        ConfigError: A column that makes the text is not there.

    Source: Yi et al., RecSys 2019, doi:10.1145/3298689.3346996 (the correction); Reimers & Gurevych, EMNLP 2019.
    """
    if training.before is not None:
        return training.before
    catalogue = training.catalogue
    items = item_texts(catalogue.frame, config.columns)
    if not any(text.strip() for text in items):
        nothing = np.zeros((len(catalogue), 1), np.float32)
        return LanguageTowers(config, catalogue.item_ids, titles=("",) * len(items), vectors=nothing, encoder=None)
    model, tokenizer = open_backbone(config.model)
    prepare_for_short(model)
    reading = reading_of(model, config.model)
    named = (catalogue.title(row)[:TITLE_LETTERS] if text.strip() else "" for row, text in enumerate(items))
    steps = max(1, config.train.epochs * _batch_count(config, training) // config.train.accumulate)
    net = TextReader(adapt(model, config.tuning, seed=training.seed, steps=steps), reading)
    texts = _Texts(net, tokenizer, config.max_tokens, items, tuple(named))
    if config.tuning.method != "frozen":
        _tune(texts, config, training)
    encoder = _exported(texts, config, reading)
    vectors = encoder.encode(items)
    return LanguageTowers(config, catalogue.item_ids, titles=texts.titles, vectors=vectors, encoder=encoder)


def _tune(texts: _Texts, config: LanguageTowersConfig, training: Training) -> None:
    """Train the network in place."""
    told = np.array([bool(text.strip()) for text in texts.items])
    sequences = [rows[told[rows]] for rows in training.interactions.liked_sequences()]
    until = time.monotonic() + config.train.minutes * 60
    loop = loop_of(config.train)
    chance = training.interactions.counts() * told
    log_chance = np.log(np.maximum(chance / max(chance.sum(), 1.0), 1e-12))
    batches = _batches(texts, config, sequences, log_chance, training.seed)
    total = _batch_count(config, training)
    if not total:
        return
    with side_by_side(training.threads) as pool:
        train(
            texts.net,
            config=loop,
            seed=training.seed,
            batches=until_over(batches, texts.net, loop, name=NAME, total=total, until=until, report=training.report),
            loss=_loss(texts, config, log_chance),
            judge=_judge(texts, config, training, loop.precision, pool) if training.targets is not None else None,
            pool=pool,
            report=training.report,
            name=NAME,
            until=until,
        )


def _batch_count(config: LanguageTowersConfig, training: Training) -> int:
    """Batches of an epoch, about: items without a text are no choices."""
    choices = (min(config.choices, max(0, len(own) - 1)) for own in training.interactions.liked_sequences())
    return -(-sum(choices) // config.batch)


def _batches(
    texts: _Texts, config: LanguageTowersConfig, sequences: list[Rows], log_chance: np.ndarray, seed: int
) -> Callable[[int], Iterator[list[_Part]]]:
    """An epoch's number to its batches: for each person some choices, and what they liked before."""

    def each(epoch: int) -> Iterator[list[_Part]]:
        rng = np.random.default_rng((seed, epoch))
        choices = [
            (rows, int(end))
            for rows in sequences
            if len(rows) > 1
            for end in rng.choice(np.arange(1, len(rows)), min(config.choices, len(rows) - 1), replace=False)
        ]
        order = rng.permutation(len(choices))
        for start in range(0, len(order), config.batch):
            own = [choices[place] for place in order[start : start + config.batch]]
            pasts = [person_text(texts.titles, rows[:end], config.titles) for rows, end in own]
            targets = np.array([rows[end] for rows, end in own])
            yield [_Part(pasts, targets, shared_negatives(log_chance, config.negatives, rng))]

    return each


def _loss(
    texts: _Texts, config: LanguageTowersConfig, log_chance: np.ndarray
) -> Callable[[_Part, torch.Generator], Tensor]:
    """What a batch costs: each choice against the batch's others and what was drawn."""

    def loss(part: _Part, noise: torch.Generator) -> Tensor:  # noqa: ARG001  nothing is dropped
        people = texts.vectors(part.pasts)  # (B, D)
        rows = np.concatenate([part.targets, part.drawn[0]])
        unique, back = np.unique(rows, return_inverse=True)
        items = texts.vectors([texts.items[row] for row in unique])[torch.from_numpy(back)]  # (B + N, D)
        scores = people @ items.T / config.temperature
        rival = torch.from_numpy(part.targets[:, None] != rows)
        chance = torch.from_numpy(log_chance[rows]).float()
        here = len(part.targets)
        contest = Contest(scores.diagonal(), scores, rival, (chance[:here], chance))
        return sampled_softmax(contest).mean()

    return loss


def _judge(
    texts: _Texts, config: LanguageTowersConfig, training: Training, precision: str, pool: Executor
) -> Callable[[], float]:
    """NDCG@10 of the held-out items among all that the person has not had."""
    people, targets = training.judged()
    sequences = training.interactions.liked_sequences()
    pasts = [person_text(texts.titles, sequences[person], config.titles) for person in people]
    chosen = np.array([place for place, past in enumerate(pasts) if past], np.int64)
    chosen = np.random.default_rng(training.seed).permutation(chosen)[:MOST_JUDGED]
    told = np.flatnonzero([bool(text.strip()) for text in texts.items])
    seen = training.seen(people[chosen])

    def embedded(own: list[str]) -> Floats:
        def some(start: int) -> Tensor:
            with torch.no_grad():  # each thread has its own say in this
                return texts.vectors(own[start : start + 128])

        return torch.cat(list(pool.map(some, range(0, len(own), 128)))).float().numpy()

    def judge() -> float:
        if not len(chosen):
            return 0.0
        with lowered(texts.net, precision):
            table, own = embedded([texts.items[row] for row in told]), embedded([pasts[place] for place in chosen])
        scores = np.full((len(chosen), len(texts.items)), -np.inf, np.float32)
        scores[:, told] = own @ table.T
        return float(gains(scores, targets[chosen], seen).mean())

    return judge


def _exported(texts: _Texts, config: LanguageTowersConfig, reading: str) -> OnnxEncoder:
    """The encoder in a folder that goes when nothing refers to the encoder any more."""
    place = Path(tempfile.mkdtemp(prefix="tailwise-towers-"))
    model = merged(texts.net.model).requires_grad_(requires_grad=False)
    folder = export_model(
        model, texts.tokenizer, place / "encoder", name=config.model, int8=config.int8, pooling=reading
    )
    encoder = OnnxEncoder.open(folder, max_tokens=config.max_tokens)
    weakref.finalize(encoder, shutil.rmtree, place, ignore_errors=True)
    return encoder
