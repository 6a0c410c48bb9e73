"""The fast scorer: a history through a small transformer (ONNX) to a vector, and one product with the item table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.scores import best_slate
from tailwise.errors import ArtifactError
from tailwise.nets.settings import LoopConfig, SequenceShape
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate


class SequenceConfig(Closed):
    """Settings of the sequence model."""

    shape: SequenceShape = SequenceShape()
    """Of the network."""
    train: LoopConfig = LoopConfig()
    """How it learns."""
    text: bool = True
    """Whether an item's vector starts from its text; without, an item that nobody touched cannot be scored."""
    batch_tokens: Annotated[int, Field(ge=64)] = 6_400
    """Cells of a batch, padding included."""
    epoch_positions: Annotated[int, Field(ge=1)] = 200_000
    """Of a log with more positions to predict, an epoch takes about so many; the next goes on with others."""
    full_softmax_up_to: Annotated[int, Field(ge=1)] = 20_000
    """Items up to which the loss compares with the whole catalogue; above, with shared negatives."""
    negatives: Annotated[int, Field(ge=1)] = 512
    """Shared by a batch, drawn by popularity to the power of three quarters."""
    finish: Annotated[float, Field(ge=0)] = 0.4
    """After the best epoch is known, training goes on with the held-out events for this share of the epochs."""
    judged_people: Annotated[int, Field(ge=1)] = 2_000
    """At most so many held-out people judge an epoch."""


@dataclass(frozen=True)
class Trained:
    """What training can go on from; not saved."""

    weights: Mapping[str, NDArray[Any]]
    epochs: int
    """To the best one."""


class SequenceScorer:
    """
    Scores items by their product with the vector of the person's latest liked items.

    Args:
        config: What it was trained with.
        table: (M, D) item vectors; rows of items without any knowledge are zero.
        onnx: The network, (1, T, D) item vectors to (1, D).
        item_ids: (M,).
        trained: What training can go on from.
    """

    Config = SequenceConfig

    def __init__(
        self, config: SequenceConfig, table: Floats, onnx: bytes, item_ids: Ids, trained: Trained | None = None
    ) -> None:
        self.trained = trained
        self.config = config
        self.table = table
        self._onnx = onnx
        self._item_ids = item_ids
        # (M,) A row of zeros would score 0, which is more than most items get.
        self._known: NDArray[np.bool_] = np.asarray(table.any(axis=1), bool)
        self._session = _session(onnx)

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
        return cls(config, load_arrays(folder / "sequence.safetensors")["table"], onnx, facts.item_ids)

    def save(self, folder: Path) -> None:
        """Write the network and the item table."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sequence.onnx").write_bytes(self._onnx)
        save_arrays(folder / "sequence.safetensors", table=self.table)

    def __call__(self, request: Request, k: int) -> Slate:
        vector = self.person(request)
        scores = np.where(self._known & bool(vector.any()), self.table @ vector, np.float32("nan"))
        return best_slate(scores, k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        vector = self.person(request)
        known = (rows >= 0) & self._known[rows] & bool(vector.any())
        return np.where(known, self.table[rows] @ vector, np.float32("nan"))

    def person(self, request: Request) -> Floats:
        """The vector of a request's history, (D,); zeros when nothing in it is known. Made once a request."""
        if self not in request.cache:
            liked = request.past.liked()[-self.config.shape.max_length :]
            if len(liked):
                (out,) = self._session.run(None, {"vectors": self.table[liked][None]})
                request.cache[self] = out[0]
            else:
                request.cache[self] = np.zeros(self.table.shape[1], np.float32)
        return request.cache[self]


def _session(onnx: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a request is too small to share out
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public class
        raise ArtifactError(f"the sequence network cannot be run ({error}); fit the model again") from error
