"""The two ways in which heads learn: alone, from what a frozen encoder says once, or with the encoder, from texts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailwise.data.batch import token_batches
from tailwise.data.labelled import SPANS, Labelled
from tailwise.learn.adversarial import hardened
from tailwise.learn.loop import Progress, side_by_side, train
from tailwise.learn.peft import loop_of, until_over
from tailwise.learn.pretrain import token_table
from tailwise.learn.text_judge import LEAST
from tailwise.learn.text_lessons import Part, Targets, nearness, parts_of, steps_of, weighed
from tailwise.nets.adapting import learned, load_learned
from tailwise.nets.language import padded
from tailwise.nets.settings_language import Tuning
from tailwise.nets.settings_texts import ClassifierConfig, HeadLoop
from tailwise.nets.texts import Heads, TextNet
from tailwise.rank.texts import Read

Report = Callable[[str, int, int], None]
Names = Mapping[str, tuple[str, ...]]
Seen = tuple[Read, Targets]
TOKEN_BUDGET = 2048
"""Rows × longest text of one batch that is only read."""
STEPS, MOST_ROWS = 16, 256
"""Of an epoch where the encoder is frozen: about so many steps, of at least 8 and at most so many texts each."""


@dataclass(frozen=True)
class Pairs:
    """Texts of items that the same people liked, (2 P,) in one: first all of the one, then all of the other."""

    tokens: list[list[int]]
    same: Tensor
    """(P, P) bool."""


def learn_heads(
    seen: Seen, held: Seen, names: Names, config: ClassifierConfig, *, seed: int, threads: int, report: Report
) -> Heads:
    """
    Heads on the vectors of a frozen encoder.

    Args:
        seen: What the encoder says of the texts to learn from, and what is wanted.
        held: The same of those that stop the training.
        names: Labels by head.
        config: Settings.
        seed: Of what is drawn and dropped.
        threads: Cores to use.
        report: Progress.
    """
    heads = Heads(seen[0].vectors.shape[1], {name: len(own) for name, own in names.items()}, config.dropout)
    with side_by_side(threads) as pool:
        for name, labels in names.items():  # they share nothing, so each stops when it is at its own best
            alone = Heads(seen[0].vectors.shape[1], {name: len(labels)}, config.dropout)
            _learn_head(alone, name, seen, held, config.loop(), seed=seed, pool=pool, report=report)
            heads.linear[name] = alone.linear[name]
    return heads


def _learn_head(
    head: Heads, name: str, seen: Seen, held: Seen, loop: HeadLoop, *, seed: int, pool: Executor, report: Report
) -> None:
    """One head, from the texts that it has labels of."""
    weight = {name: 1.0}
    learning, judging = seen[1].taught(name), held[1].taught(name)

    def answers(read: Read, rows: Sequence[int], noise: torch.Generator | None) -> Any:
        tokens = padded_vectors([read.tokens[row] for row in rows]) if name == SPANS else None
        return head(torch.from_numpy(read.vectors[list(rows)]), tokens, noise)

    def batches(epoch: int) -> Iterator[list[Part]]:
        order = np.random.default_rng((seed, epoch)).permutation(learning)
        size = min(max(8, len(order) // STEPS), MOST_ROWS)
        for start in range(0, len(order), size):
            yield parts_of(order[start : start + size].tolist(), seen[1], weight, 1)

    def loss(part: Part, noise: torch.Generator) -> Tensor:
        return weighed(seen[1].losses(answers(seen[0], part.rows, noise), part.rows), part.shares)

    def value() -> float:
        return -_mean(held[1], judging, weight, lambda rows: answers(held[0], rows, None))

    judge = value if len(judging) >= LEAST else None
    train(head, config=loop, seed=seed, batches=batches, loss=loss, judge=judge, pool=pool, report=report, name=name)


def learn_net(  # noqa: PLR0913  one argument each of what a fit has at hand
    net: TextNet,
    tokenizer: Any,
    lesson: Labelled,
    choose: Labelled,
    pairs: Sequence[tuple[str, str]],
    names: Names,
    config: ClassifierConfig,
    *,
    seed: int,
    threads: int,
    report: Report,
) -> Progress:
    """
    Heads and what of the encoder may learn, in place: all heads' losses, and that of the pairs, together.

    The heads learn first, alone: from heads that know nothing an encoder is told nothing but noise. Where no epoch is
    better than these heads, for the texts that stop the training, that is how it stays.

    Args:
        net: The encoder, adapted, with its heads.
        tokenizer: The encoder's.
        lesson: What is learned from.
        choose: What stops the training.
        pairs: Texts of items that the same people liked; each step draws a batch of them. None: no such loss.
        names: Labels by head.
        config: Settings.
        seed: Of what is drawn and dropped.
        threads: Cores to use; each works on a part of a step.
        report: Progress.

    Returns:
        What the epochs were worth; 0 is the best epoch when none helped.

    Source: Kumar et al., ICLR 2022, arXiv 2202.10054 (heads first).
    """
    tokens, targets = _tokenised(tokenizer, lesson, names, config.max_tokens)
    held, wanted = _tokenised(tokenizer, choose, names, config.max_tokens)
    pad_id, weights = int(tokenizer.pad_token_id), config.weights.model_dump()
    before = [
        (read_by(net, own, pad_id, marked=[spans is not None for spans in data.spans]), goal)
        for own, goal, data in ((tokens, targets, lesson), (held, wanted, choose))
    ]
    alone = config.model_copy(update={"tuning": Tuning(method="frozen"), "train": HeadLoop()})
    heads = learn_heads(before[0], before[1], names, alone, seed=seed, threads=threads, report=report)
    net.heads.load_state_dict(heads.state_dict())
    loop: HeadLoop = loop_of(config.loop())  # type: ignore[assignment]  # a copy of what it was given

    def batches(epoch: int) -> Iterator[list[Part | Pairs]]:
        rng = np.random.default_rng((seed, epoch))
        for rows in steps_of([len(own) for own in tokens], config.batch, rng):
            parts: list[Part | Pairs] = [*parts_of(rows, targets, weights, threads)]
            if pairs:
                drawn = [pairs[at] for at in rng.choice(len(pairs), min(config.batch, len(pairs)), replace=False)]
                parts.append(_paired(tokenizer, drawn, config.max_tokens))
            yield parts

    def loss(part: Part | Pairs, noise: torch.Generator) -> Tensor:
        if isinstance(part, Pairs):
            _, vectors = net(*padded(part.tokens, pad_id), noise)
            half = len(part.tokens) // 2
            return config.ranking * nearness(vectors[:half], vectors[half:], part.same, config.temperature)
        answers, _ = net(*padded([tokens[row] for row in part.rows], pad_id), noise)
        return weighed(targets.losses(answers, part.rows), part.shares)

    def value() -> float:
        return -_mean(
            wanted, range(len(held)), weights, lambda rows: net(*padded([held[r] for r in rows], pad_id), None)[0]
        )

    total = -(-len(tokens) // config.batch)
    until = time.monotonic() + loop.minutes * 60
    start, judged = learned(net), len(held) >= LEAST
    with side_by_side(threads) as pool:
        least = value() if judged else -math.inf
        progress = train(
            net,
            config=loop,
            seed=seed,
            batches=until_over(batches, net.model, loop, total=total, until=until, report=report),
            loss=hardened(loss, token_table(net.model), config.attack),
            judge=value if judged else None,
            pool=pool,
            report=report,
            name="classifier",
            until=until,
        )
    if judged and progress.best_value <= least:
        load_learned(net, start)
        progress.best_epoch = 0
    return progress


@torch.no_grad()
def read_by(net: TextNet, tokens: Sequence[list[int]], pad_id: int, *, marked: Sequence[bool]) -> Read:
    """What an encoder says of texts, in torch: their vectors, and those of the tokens of ``marked`` texts."""
    net.eval()
    vectors = np.zeros((len(tokens), net.dim), np.float32)
    own = [np.zeros((0, net.dim), np.float32)] * len(tokens)
    for rows in token_batches([len(one) for one in tokens], budget=TOKEN_BUDGET):
        found, hidden = net.read(*padded([tokens[row] for row in rows], pad_id))
        vectors[rows] = found.numpy()
        for place, row in enumerate(rows):
            if marked[row]:
                own[row] = hidden[place, : len(tokens[row])].numpy().copy()
    return Read(vectors, own, ())


def padded_vectors(tokens: Sequence[Any]) -> Tensor:
    """B of (T, D) arrays to (B, longest T, D), zeros at the end; at least one token long."""
    longest = max(1, *(len(own) for own in tokens))
    out = torch.zeros(len(tokens), longest, tokens[0].shape[1])
    for row, own in enumerate(tokens):
        out[row, : len(own)] = torch.from_numpy(np.ascontiguousarray(own))
    return out


def _tokenised(tokenizer: Any, data: Labelled, names: Names, max_tokens: int) -> tuple[list[list[int]], Targets]:
    """Tokens of each text, and what is wanted of it."""
    if not len(data):
        return [], Targets.of(data, names, [])
    clean = [text.encode(errors="replace").decode() for text in data.texts]
    found = tokenizer(clean, truncation=True, max_length=max_tokens, return_offsets_mapping=True)
    return found["input_ids"], Targets.of(data, names, found["offset_mapping"])


def _paired(tokenizer: Any, drawn: Sequence[tuple[str, str]], max_tokens: int) -> Pairs:
    ones, others = ([text.encode(errors="replace").decode() for text in side] for side in zip(*drawn, strict=True))
    tokens = tokenizer([*ones, *others], truncation=True, max_length=max_tokens)["input_ids"]
    same = torch.tensor([[a == c or b == d for c, d in drawn] for a, b in drawn])
    return Pairs(tokens, same)


@torch.no_grad()
def _mean(
    targets: Targets, rows: Sequence[int], weights: Mapping[str, float], answer: Callable[[list[int]], Any]
) -> float:
    """The heads' mean losses over some rows, weighed and added up."""
    known = targets.known(rows)
    shares = {head: weights.get(head, 1.0) / number for head, number in known.items() if number}
    total = 0.0
    for start in range(0, len(rows), 64):
        own = list(rows[start : start + 64])
        total += sum(
            float(loss) * shares[head] for head, loss in targets.losses(answer(own), own).items() if head in shares
        )
    return total
