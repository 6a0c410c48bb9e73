"""What a cross-encoder learns from: histories with candidates that were taken and such that were not, as tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.data.batch import token_batches
from tailwise.encode.pairs import ROOM, TITLE_TOKENS, Frame, Row, Tokens, Words
from tailwise.learn.listwise_losses import listnet_loss
from tailwise.learn.losses import Contest, bpr
from tailwise.learn.slates import Example
from tailwise.nets.candidates import CandidateReader, padded_rows
from tailwise.types import Floats, Rows

PARTS = 2
"""Of a batch, worked on side by side; fixed, so that the number of threads changes no result."""
BUDGET = 2048
"""Rows × longest row of one batch that is only read."""
TAUGHT_ROOM = 512
"""Tokens of a row that teaches, about: what is read twice is also paid for twice on the way back."""


@dataclass(frozen=True)
class Lesson:
    """One history, and candidates with what came of each."""

    past: Tokens
    rows: Rows  # (N,) items with a text
    labels: Floats  # (N,) in [0, 1]: 1 was taken

    @property
    def telling(self) -> bool:
        """Whether something was taken and something else was not."""
        return bool(self.labels.max(initial=0) > self.labels.min(initial=1))

    def drawn(self, negatives: int, rng: np.random.Generator) -> Lesson:
        """What was taken, and so many of the others, drawn."""
        others = np.flatnonzero(self.labels == 0)
        if len(others) <= negatives:
            return self
        kept = np.concatenate([np.flatnonzero(self.labels > 0), rng.choice(others, negatives, replace=False)])
        return Lesson(self.past, self.rows[kept], self.labels[kept])


@dataclass(frozen=True)
class Reader:
    """A network with what makes its inputs."""

    net: CandidateReader
    frame: Frame
    items: Words
    titles: Words
    pad_id: int

    def lesson(self, example: Example) -> Lesson:
        """A case as a lesson: candidates without a text are left out."""
        rows = example.slate.columns["row"]
        told = (rows >= 0) & (self.items.lengths(rows) > 0)
        past = self.frame.past(self.titles, example.request.past.liked())
        return Lesson(past, rows[told], example.relevant[told].astype(np.float32))

    def rows(self, lessons: Sequence[Lesson], room: int = ROOM) -> list[Row]:
        """What some lessons read, one below the other; a lesson has as many rows as it needs."""
        return [
            row
            for own in lessons
            for row in self.frame.rows(own.past, [self.items.of(int(item)) for item in own.rows], room=room)
        ]

    def read(self, rows: Sequence[Row], noise: torch.Generator | None = None) -> Tensor:
        """What the network says of every candidate of some rows, (ΣN,), row by row."""
        ids, part, which = padded_rows(rows, self.pad_id)
        return self.net(ids, part, which, noise)[which <= part.amax(1, keepdim=True)]

    def judged(self, lessons: Sequence[Lesson], pool: Executor) -> list[Floats]:
        """What the network says of each lesson's candidates, each (N,)."""
        rows = self.rows(lessons)

        def one(places: list[int]) -> tuple[list[int], Floats]:
            with torch.no_grad():  # each thread has its own say in this
                return places, self.read([rows[place] for place in places]).float().numpy()

        ends = np.cumsum([int(part[-1]) for _, part in rows])
        out = np.zeros(ends[-1] if len(ends) else 0, np.float32)
        for places, said in pool.map(one, token_batches([len(ids) for ids, _ in rows], budget=BUDGET)):
            out[np.concatenate([np.arange(ends[place] - rows[place][1][-1], ends[place]) for place in places])] = said
        return np.split(out, np.cumsum([len(own.rows) for own in lessons])[:-1])


def words_of(tokenizer: Any, texts: Sequence[str], most: int) -> Words:
    """
    Texts as tokens, at most ``most`` each, without the model's own marks.

    What reads like such a mark, ``[SEP]`` in a title, becomes the letters that it is made of.
    """
    clean = [text.encode(errors="replace").decode() for text in texts]
    found = tokenizer(clean, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return Words.join([own[:most] for own in found])


def frame_of(tokenizer: Any, *, history: int, item: int, together: bool = True) -> Frame:
    """Where a model's own marks stand in a row; one that has none, as causal models, gets a line break between."""
    plain = {"add_special_tokens": False}
    own = tokenizer("a", "b")
    sides = own.sequence_ids()
    ids = np.array(own["input_ids"])
    first, second = sides.index(0), sides.index(1)
    last = len(sides) - sides[::-1].index(0)
    middle = tuple(ids[last:second].tolist()) or tuple(tokenizer("\n", **plain)["input_ids"])
    return Frame(
        start=tuple(ids[:first].tolist()),
        comma=tuple(tokenizer(";", **plain)["input_ids"]),
        middle=middle,
        end=tuple(ids[second + 1 :].tolist()),
        history=history,
        item=item,
        together=together,
    )


def title_words(tokenizer: Any, titles: Sequence[str | None], texts: Sequence[str]) -> Words:
    """What stands for an item in a history: its title, and the start of its text where it has none."""
    return words_of(tokenizer, [title or text for title, text in zip(titles, texts, strict=True)], TITLE_TOKENS)


def list_auc(scores: Sequence[Floats], lessons: Sequence[Lesson]) -> float:
    """
    Mean over the telling lessons of the chance that something taken is above something that was not; ties count half.

    >>> lesson = Lesson(np.array([1]), np.array([4, 5, 6]), np.array([0, 1, 0], np.float32))
    >>> list_auc([np.array([0.1, 0.5, 0.9], np.float32)], [lesson])
    0.5
    """
    each = []
    for said, own in zip(scores, lessons, strict=True):
        taken, left = said[own.labels > 0], said[own.labels == 0]
        if len(taken) and len(left):
            ahead = np.sign(taken[:, None].astype(np.float64) - left)
            each.append(float((1 + ahead).mean() / 2))
    return float(np.mean(each)) if each else 0.5


def epoch_batches(
    lessons: Sequence[Lesson], words: Words, *, batch: int, negatives: int, seed: int
) -> Callable[[int], Iterator[list[tuple[list[Lesson], int]]]]:
    """
    An epoch's number to its batches, each in ``PARTS`` parts: lessons, and how many the batch has.

    Lessons that are as long to read stand together, jittered, so that little is padded and epochs differ.

    Args:
        lessons: That teach.
        words: The items' texts.
        batch: Lessons a step.
        negatives: Others, of each lesson, that an epoch draws.
        seed: Of what is drawn.
    """

    def each(epoch: int) -> Iterator[list[tuple[list[Lesson], int]]]:
        rng = np.random.default_rng((seed, epoch))
        drawn = [own.drawn(negatives, rng) for own in lessons]
        lengths = np.array([len(own.past) + int(words.lengths(own.rows).sum()) for own in drawn], np.float64)
        order = rng.permutation(len(drawn))
        order = order[np.argsort(lengths[order] * rng.uniform(0.95, 1.05, len(order)), kind="stable")]
        groups = [order[start : start + batch] for start in range(0, len(order), batch)]
        for place in rng.permutation(len(groups)):
            own = [drawn[lesson] for lesson in groups[place]]
            yield [(own[part::PARTS], len(own)) for part in range(PARTS) if own[part::PARTS]]

    return each


def loss_of(reader: Reader, kind: str) -> Callable[[tuple[list[Lesson], int], torch.Generator], Tensor]:
    """What a part costs; the parts of a batch add up to its mean over lessons."""

    def loss(part: tuple[list[Lesson], int], noise: torch.Generator) -> Tensor:
        lessons, of = part
        said = reader.read(reader.rows(lessons, TAUGHT_ROOM), noise)  # (ΣN,)
        longest = max(len(own.rows) for own in lessons)
        mask, labels = torch.zeros(len(lessons), longest, dtype=torch.bool), torch.zeros(len(lessons), longest)
        for place, own in enumerate(lessons):
            mask[place, : len(own.rows)] = True
            labels[place, : len(own.rows)] = torch.from_numpy(own.labels)
        scores = torch.zeros(mask.shape).masked_scatter(mask, said)  # (J, N)
        if kind == "listwise":
            return listnet_loss(scores, labels, mask, of=of)
        if kind == "bce":
            each = F.binary_cross_entropy_with_logits(scores, labels, reduction="none").masked_fill(~mask, 0.0)
            return (each.sum(1) / mask.sum(1)).sum() / of
        owner, taken = (labels > 0).nonzero(as_tuple=True)
        contest = Contest(scores[owner, taken], scores[owner], mask[owner] & (labels[owner] == 0))
        return bpr(contest).sum() / of

    return loss


def lessons_of(reader: Reader, examples: Sequence[Example], chosen: NDArray[np.bool_]) -> list[Lesson]:
    """Telling lessons with a history, of the chosen cases."""
    made = (reader.lesson(example) for example, own in zip(examples, chosen, strict=True) if own)
    return [lesson for lesson in made if lesson.telling and len(lesson.past)]
