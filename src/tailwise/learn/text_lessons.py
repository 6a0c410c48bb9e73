"""Labelled texts as what a network learns from: parts held out, targets with gaps, batches, pairs of liked items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.data.labelled import ONE, SPANS, Labelled
from tailwise.data.load import Dataset
from tailwise.encode.text import item_texts
from tailwise.errors import DataError
from tailwise.nets.texts import Answers
from tailwise.rank.spans import Offsets, tag_names, tags_of
from tailwise.types import Rows

UNKNOWN = -100
"""A target that teaches nothing."""


def split(data: Labelled, share: float, seed: int) -> tuple[Rows, Rows, Rows]:
    """
    Rows to learn from, to choose by and to judge by; the last two are half of ``share`` each.

    A row is held out only when another with each of its labels is left to learn from.
    """
    left = Counter(_labels_of(data, range(len(data))))
    want = round(share * len(data))
    held: list[int] = []
    for row in np.random.default_rng(seed).permutation(len(data)):
        own = Counter(_labels_of(data, [int(row)]))
        if len(held) < want and all(left[label] > count for label, count in own.items()):
            held.append(int(row))
            left -= own
    rest = np.setdiff1d(np.arange(len(data)), held)
    return rest, np.array(sorted(held[0::2]), np.int64), np.array(sorted(held[1::2]), np.int64)


def _labels_of(data: Labelled, rows: Sequence[int] | range) -> Iterator[tuple[str, str]]:
    for row in rows:
        yield from ((head, label) for head, own in data.labels.items() for label in own[row] or ())
        yield from {(SPANS, span.label) for span in data.spans[row] or ()}


def label_names(data: Labelled, weights: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    """
    What each head tells apart; of ``entities`` the tags. Heads of weight 0 are left out.

    Raises:
        DataError: No head is left, or one has a single label where another is needed.
    """
    found = {}
    for head in data.heads:
        if weights.get(head, 1.0) <= 0:
            continue
        names = data.names(head)
        if len(names) < (2 if head in ONE else 1):
            told = f"only {names[0]!r}" if names else "no label"
            raise DataError(
                f"{head}: the texts have {told}, but it takes {'two' if head in ONE else 'one'} to learn from; label "
                f"more texts, or set weights.{head} = 0 in --config"
            )
        found[head] = tag_names(names) if head == SPANS else names
    if not found:
        raise DataError("no head is left to learn: every weight is 0")
    return found


@dataclass(frozen=True)
class Targets:
    """What is wanted of N texts, by head; a text that nothing is known of teaches nothing."""

    single: dict[str, Tensor]  # (N,) int64, UNKNOWN where nothing is known
    several: dict[str, Tensor]  # (N, C) float32, NaN where nothing is known
    tags: list[Rows | None]  # N of (T,)

    @classmethod
    def of(cls, data: Labelled, names: Mapping[str, tuple[str, ...]], offsets: Sequence[Offsets]) -> Targets:
        """Targets of ``data``; ``offsets`` say where the tokens of each text stand, where there are tags."""
        single, several = {}, {}
        for head, labels in names.items():
            place = {label: code for code, label in enumerate(labels)}
            if head == SPANS:
                continue
            own = data.labels[head]
            if head in ONE:
                single[head] = torch.tensor([UNKNOWN if one is None else place.get(one[0], UNKNOWN) for one in own])
            else:
                wanted = np.full((len(data), len(labels)), np.nan, np.float32)
                for row, one in enumerate(own):
                    if one is not None:
                        wanted[row] = [label in one for label in labels]
                several[head] = torch.from_numpy(wanted)
        tags: list[Rows | None] = [None] * len(data)
        if SPANS in names:
            for row, spans in enumerate(data.spans):
                tags[row] = None if spans is None else tags_of(spans, offsets[row], names[SPANS])
        return cls(single, several, tags)

    def taught(self, head: str) -> list[int]:
        """The rows that teach a head, in order."""
        if head in self.single:
            return torch.nonzero(self.single[head] != UNKNOWN)[:, 0].tolist()
        if head in self.several:
            return torch.nonzero(torch.isfinite(self.several[head][:, 0]))[:, 0].tolist()
        return [row for row, own in enumerate(self.tags) if own is not None and len(own)]

    def known(self, rows: Sequence[int]) -> dict[str, int]:
        """How many of some rows teach each head; of ``entities`` how many tokens."""
        chosen = torch.as_tensor(list(rows))
        counts = {head: int((own[chosen] != UNKNOWN).sum()) for head, own in self.single.items()}
        counts |= {head: int(torch.isfinite(own[chosen, 0]).sum()) for head, own in self.several.items()}
        tags = [self.tags[row] for row in rows]
        return {**counts, SPANS: sum(len(own) for own in tags if own is not None)}

    def losses(self, answers: Answers, rows: Sequence[int]) -> dict[str, Tensor]:
        """The sum of each head's losses over some rows, in nats; those of several labels are means over the labels."""
        chosen, out = torch.as_tensor(list(rows)), {}
        for head in (name for name in self.single if name in answers):
            own = self.single[head]
            out[head] = torch.nn.functional.cross_entropy(
                answers[head], own[chosen], ignore_index=UNKNOWN, reduction="sum"
            )
        for head in (name for name in self.several if name in answers):
            wanted = self.several[head][chosen]
            told = torch.nn.functional.binary_cross_entropy_with_logits(
                answers[head], wanted.nan_to_num(), reduction="none"
            )
            out[head] = told.mean(1)[torch.isfinite(wanted[:, 0])].sum()
        if SPANS in answers:
            told = answers[SPANS]  # (B, T, tags)
            wanted = torch.full(told.shape[:2], UNKNOWN)
            for place, row in enumerate(rows):
                own_tags = self.tags[row]
                if own_tags is not None:
                    wanted[place, : len(own_tags)] = torch.from_numpy(own_tags)
            out[SPANS] = torch.nn.functional.cross_entropy(
                told.flatten(0, 1), wanted.flatten(), ignore_index=UNKNOWN, reduction="sum"
            )
        return out


@dataclass(frozen=True)
class Part:
    """A part of one step: some rows, what each row's loss counts, and how to get what the network reads."""

    rows: list[int]
    shares: dict[str, float]
    """By head: what a known row of it counts, so that the parts of a step add up to its means."""


def parts_of(rows: Sequence[int], targets: Targets, weights: Mapping[str, float], count: int) -> list[Part]:
    """One step's rows in ``count`` parts."""
    known = targets.known(rows)
    shares = {head: weights.get(head, 1.0) / number for head, number in known.items() if number}
    return [Part(own.tolist(), shares) for own in np.array_split(np.asarray(rows), min(count, len(rows)))]


def weighed(losses: Mapping[str, Tensor], shares: Mapping[str, float]) -> Tensor:
    """The sum of the heads' losses, as the shares say."""
    return torch.stack([loss * shares[head] for head, loss in losses.items() if head in shares]).sum()


def steps_of(lengths: Sequence[int], batch: int, rng: np.random.Generator) -> list[list[int]]:
    """Rows in a drawn order, in steps of texts of nearly like length, each row once."""
    order = rng.permutation(len(lengths))
    steps: list[list[int]] = []
    for start in range(0, len(order), 16 * batch):
        near = sorted(order[start : start + 16 * batch].tolist(), key=lengths.__getitem__)
        steps += [near[at : at + batch] for at in range(0, len(near), batch)]
    return [steps[at] for at in rng.permutation(len(steps))]


def liked_pairs(data: Dataset, columns: Sequence[str] = ()) -> list[tuple[str, str]]:
    """
    The texts of each two items that a person liked one after the other.

    Raises:
        DataError: No two of them have texts.
    """
    texts = item_texts(data.items, columns)
    nothing = np.zeros(data.items.height, np.float32)
    catalogue = Catalogue(data.items, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    runs = Interactions.of(data.events, catalogue).liked_sequences()
    both = ((texts[one], texts[other]) for run in runs for one, other in pairwise(run))
    pairs = [(one, other) for one, other in both if one and other and one != other]
    if not pairs:
        raise DataError(f"{data.name} has no two items with texts that one person liked one after the other")
    return pairs


def nearness(first: Tensor, second: Tensor, same: Tensor, temperature: float) -> Tensor:
    """
    How well each vector finds its own partner among all, both ways, in nats.

    Args:
        first: (P, D) unit rows.
        second: (P, D) unit rows, partners.
        same: (P, P) bool; where a row is another's partner too, so that it is no wrong answer.
        temperature: Of the cosines.

    Source: van den Oord, Li & Vinyals, arXiv 1807.03748 (InfoNCE).
    """
    cosine = first @ second.T / temperature
    cosine = cosine.masked_fill(same & ~torch.eye(len(first), dtype=torch.bool), float("-inf"))
    own = torch.arange(len(first))
    loss: Callable[[Tensor, Tensor], Tensor] = torch.nn.functional.cross_entropy
    return (loss(cosine, own) + loss(cosine.T, own)) / 2
