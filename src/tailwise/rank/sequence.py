"""The fast scorer: a history through a small transformer (ONNX) to a vector, and one product with the item table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.scores import best_slate, unit_rows
from tailwise.errors import ArtifactError
from tailwise.nets.session import open_session
from tailwise.nets.settings import LoopConfig, SequenceShape
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate

NET = "net{}."
"""What the names of a network's weights begin with, in a model folder: ``net.``, of a second one ``net1.``."""
INPUTS = ("vectors", "times")
"""Of the exported networks."""
ITEMS = "ids.weight"
"""The one weight that belongs to the items, not to the network."""


class SequenceConfig(Closed):
    """Settings of the sequence model."""

    shape: SequenceShape = SequenceShape()
    """Of a network."""
    train: LoopConfig = LoopConfig(judge_from=6)
    """How it learns."""
    members: Annotated[int, Field(ge=1, le=32)] = 1
    """Networks, each with a seed of its own, whose scores add up; left out: 3 for a small log. A fit takes as many
    times as long, and an answer a little longer."""
    distil: bool = False
    """Whether one of several networks learns from all of them and serves alone, as fast as one."""
    imitate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of its loss that is then about what all think; the rest is about what came next."""
    text: bool = True
    """Whether items start from their texts; without, an item that nobody touched cannot be scored."""
    new_items: Annotated[float, Field(ge=0)] = 0.0
    """How wanted an item without events is: 0 as the usual item like it, 1 as the usual event with one; left out: the
    most of 0, 0.5 and 1 that held-out people do not pay for, within a standard error."""
    batch_tokens: Annotated[int, Field(ge=64)] = 6_400
    """Cells of a batch, padding included; left out: so many that an epoch has about 30 batches, at most 6,400."""
    epoch_positions: Annotated[int, Field(ge=1)] = 200_000
    """Of a log with more positions to predict, an epoch takes about so many; the next goes on with others."""
    loss: Literal["softmax", "sampled_softmax", "gbce"] = "softmax"
    """``softmax`` compares with the whole catalogue up to ``full_softmax_up_to`` items and with shared negatives above,
    as ``sampled_softmax`` always does; ``gbce`` makes scores that are closer to probabilities."""
    full_softmax_up_to: Annotated[int, Field(ge=1)] = 20_000
    """Items up to which ``softmax`` compares with the whole catalogue."""
    negatives: Annotated[int, Field(ge=1)] = 512
    """Shared by a batch, drawn by popularity to the power of three quarters; for ``gbce`` all are as likely."""
    calibration: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Of ``gbce``: 0 is plain binary cross-entropy, 1 gives scores that are probabilities."""
    align: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a loss, while it learns alone, by which each item's vector and its text find each other among those of
    other items (symmetric InfoNCE); 0: none."""
    self_distil: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the long tail's moments that teach, instead of the item that followed, a tail item that followed the
    like moment of another person, as the network itself finds it while it learns; 0: none."""
    finish: Annotated[float, Field(ge=0)] = 0.4
    """After the best epoch is known, training goes on with the held-out events for this share of the epochs."""
    judged_people: Annotated[int, Field(ge=1)] = 2_000
    """At most so many held-out people judge an epoch."""


@dataclass(frozen=True)
class Trained:
    """What the training of one network can go on from, here or in another domain."""

    weights: Mapping[str, NDArray[Any]]
    epochs: int
    """To the best one."""


class SequenceScorer:
    """
    Scores items by their product with the vector of the person's latest liked items.

    Several networks stand side by side in it: the items' vectors, and a person's, are those of each in turn, D = K D',
    so that one product adds up what all of them think.

    Args:
        config: What it was trained with.
        table: (M, D) item vectors; rows of items without any knowledge are zero.
        onnx: The networks: ``INPUTS``, (1, T, D) item vectors and (1, T) times, in seconds, to (1, D).
        item_ids: (M,).
        trained: What the training of each can go on from.
    """

    Config = SequenceConfig

    def __init__(
        self, config: SequenceConfig, table: Floats, onnx: bytes, item_ids: Ids, trained: Sequence[Trained] = ()
    ) -> None:
        self.trained = tuple(trained)
        self.config = config
        self.table = table
        self._onnx = onnx
        self._item_ids = item_ids
        # (M,) A row of zeros would score 0, which is more than most items get.
        self._known: NDArray[np.bool_] = np.asarray(table.any(axis=1), bool)
        self._session = open_session(onnx, "the sequence network", INPUTS)

    @classmethod
    def open(cls, config: SequenceConfig, facts: Facts, folder: Path) -> Self:
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or is no network that onnxruntime can run.
        """
        path = folder / "sequence.onnx"
        try:
            onnx = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read ({error.strerror}); fit the model again") from error
        arrays = load_arrays(folder / "sequence.safetensors")
        table = arrays.pop("table")
        each: list[Trained] = []
        while own := {name: array for name, array in arrays.items() if name.startswith(_prefix(len(each)))}:
            weights = {name.removeprefix(_prefix(len(each))): array for name, array in own.items()}
            each.append(Trained(weights, epochs=0))
        return cls(config, table, onnx, facts.item_ids, each)

    def save(self, folder: Path) -> None:
        """Write the networks, to run (ONNX) and to learn on from (their weights), and the item table."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sequence.onnx").write_bytes(self._onnx)
        kept = {
            _prefix(place) + name: array
            for place, own in enumerate(self.trained)
            for name, array in own.weights.items()
            if name != ITEMS
        }
        save_arrays(folder / "sequence.safetensors", table=self.table, **kept)

    def with_table(self, table: Floats, item_ids: Ids) -> Self:
        """The same networks over another item table, (M, D)."""
        return type(self)(self.config, table, self._onnx, item_ids, self.trained)

    def __call__(self, request: Request, k: int) -> Slate:
        vector = self.person(request)
        scores = np.where(self._known & bool(vector.any()), self.table @ vector, np.float32("nan"))
        return best_slate(scores, k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        vector = self.person(request)
        known = (rows >= 0) & self._known[rows] & bool(vector.any())
        return np.where(known, self.table.take(rows, axis=0) @ vector, np.float32("nan"))

    @cached_property
    def vectors(self) -> Floats:
        """(M, D) the item table at unit length."""
        return unit_rows(self.table)

    def person(self, request: Request) -> Floats:
        """The vector of a request's history, (D,); zeros when nothing in it is known. Made once a request."""
        if self not in request.cache:
            past = request.past
            liked = past.liked()[-self.config.shape.max_length :]
            if len(liked):
                times = np.nan_to_num(past.times[past.speaks_for & (past.rows >= 0)][-len(liked) :])
                given = dict(zip(INPUTS, (self.table[liked][None], times[None]), strict=True))
                (out,) = self._session.run(None, given)
                request.cache[self] = out[0]
            else:
                request.cache[self] = np.zeros(self.table.shape[1], np.float32)
        return request.cache[self]


def _prefix(place: int) -> str:
    return NET.format(place or "")
