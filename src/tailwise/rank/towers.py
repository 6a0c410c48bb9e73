"""Classic small models as sources: a person's vector (ONNX), and its product or comparison with the item table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.scores import best_slate, unit_rows
from tailwise.errors import ArtifactError
from tailwise.nets.session import open_session
from tailwise.nets.settings import LoopConfig
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate, ids_of

NAME = "the network of towers"
BLOCK = 8192
"""Items that the plain network compares at once: 2 MB of activations a layer."""
PATIENCE = 4
"""Epochs without a better value, of models that learn in ten."""
OF_PERSON: Mapping[str, Mapping[str, Any]] = {
    "mf": {"train": {"learning_rate": 5e-3}},
    "dnn": {"negatives": 24, "batch_positions": 256, "train": {"patience": 2}},
}
"""Defaults of a kind of person that are not those of the class: few negatives must change often (LOG.md)."""
OF_LOSS: Mapping[str, Mapping[str, Any]] = {
    **{loss: {"negative_power": 0.0} for loss in ("bce", "gbce", "bpr", "hinge", "listwise")},
    "mse": {"negative_power": 0.0, "temperature": 1.0},
}
"""Of a loss: without correction, what is drawn by popularity is pushed down for it (LOG.md); and what is likened to
ratings is the cosine itself."""


class TowersConfig(Closed):
    """Settings of the classic models."""

    person: Literal["mf", "pooled", "dnn", "attention", "gru", "lstm"] = "pooled"
    """What makes a person: matrix factorisation, a mean of their items through a tower, the same before a plain network
    that compares, attention over their items, or a recurrent net."""
    loss: Literal["softmax", "sampled_softmax", "bce", "gbce", "bpr", "hinge", "mse", "listwise"] = "sampled_softmax"
    """What is learned from: the choice among the whole catalogue, or against drawn items."""
    dim: Annotated[int, Field(ge=4)] = 64
    """Width D of people and items."""
    max_length: Annotated[int, Field(ge=1)] = 50
    """Newest liked items of a person that are read."""
    text: bool = True
    """Whether an item's vector starts from its text; without, an item that nobody touched cannot be scored."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of activations dropped while training."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """What cosines are divided by while training (``pooled``)."""
    negatives: Annotated[int, Field(ge=1)] = 256
    """Items drawn for a batch to share (every loss but ``softmax``)."""
    negative_power: Annotated[float, Field(ge=0)] = 0.75
    """They are drawn by popularity to this power; 0 draws all alike, and is the default of losses that do not correct
    for it."""
    calibration: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Of ``gbce``: 0 is plain binary cross-entropy, 1 gives scores that are probabilities."""
    batch_positions: Annotated[int, Field(ge=16)] = 2048
    """Events to predict in a batch, padding included."""
    epoch_positions: Annotated[int, Field(ge=1)] = 200_000
    """Of a log with more events to predict, an epoch takes about so many; the next goes on with others."""
    judged_people: Annotated[int, Field(ge=1)] = 2_000
    """At most so many held-out people judge an epoch."""
    train: LoopConfig = LoopConfig(patience=PATIENCE)
    """How it learns."""

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, raw: Any) -> Any:
        """What is not said is what suits the kind of person and the loss."""
        if not isinstance(raw, dict):
            return raw
        person, loss = str(raw.get("person", "pooled")), str(raw.get("loss", ""))
        own = {**OF_PERSON.get(person, {}), **OF_LOSS.get(loss, {})}
        train = raw.get("train", {})
        if isinstance(train, dict):
            train = {**own.get("train", {}), **train}
        return {**own, **raw, "train": train}


@dataclass(frozen=True)
class Acquaintances:
    """People with a vector of their own (``mf``): what it has beyond the one that their items give."""

    user_ids: Ids  # (U,)
    beyond: Floats  # (U, D)
    rows: Rows  # (U,) the newest liked item that it was learned from, -1 without one
    times: NDArray[np.float64]  # (U,) when that was

    @cached_property
    def _index(self) -> dict[str, int]:
        return {user_id: place for place, user_id in enumerate(self.user_ids)}

    def of(self, request: Request) -> Floats:
        """
        (D,) of the person who asks; zeros for strangers.

        It counts only while the history still holds what it was learned from: a request from before that time, one
        with a history of its own and one of an erased person get nothing of it.
        """
        place = self._index.get(request.user_id or "")
        past = request.past
        if place is None or not ((past.rows == self.rows[place]) & (past.times == self.times[place])).any():
            return np.zeros(self.beyond.shape[1], np.float32)
        own: Floats = self.beyond[place]
        return own


@dataclass(frozen=True)
class Towers:
    """What a fitted model consists of."""

    read: Floats  # (M, D) items as histories read them; rows of items without any knowledge are zero
    offered: Floats  # (M, D) items as people are compared with them
    person: bytes
    """ONNX: (1, T, D) items as read to (1, D)."""
    comparison: bytes | None = None
    """ONNX: (1, D) and (N, D) offered items to (1, N); None: their product."""
    known_people: Acquaintances | None = None


class TowerScorer:
    """
    Scores items by what a person's vector and the items' vectors have to do with each other.

    Args:
        config: What it was trained with.
        towers: What training left.
        item_ids: (M,).
        epochs: To the best one; None when opened from a folder.
    """

    Config = TowersConfig

    def __init__(self, config: TowersConfig, towers: Towers, item_ids: Ids, epochs: int | None = None) -> None:
        self.config, self.towers, self.epochs = config, towers, epochs
        self._item_ids = item_ids
        # (M,) What nothing is known of would score like an average item, which is more than most items get.
        self._known: NDArray[np.bool_] = np.asarray(towers.read.any(axis=1), bool)
        self._person = open_session(towers.person, NAME)
        self._comparison = None if towers.comparison is None else open_session(towers.comparison, NAME)

    @classmethod
    def open(cls, config: TowersConfig, facts: Facts, folder: Path) -> Self:
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or is no network that onnxruntime can run.
        """
        arrays = load_arrays(folder / "towers.safetensors")
        known = None
        if config.person == "mf":
            path = folder / "people.parquet"
            try:
                people = pl.read_parquet(path)
            except (OSError, pl.exceptions.PolarsError) as error:
                raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
            known = Acquaintances(
                ids_of(people["user_id"].to_list()),
                arrays["beyond"],
                people["row"].to_numpy().astype(np.int64),
                people["time"].to_numpy(),
            )
        comparison = _read(folder / "comparison.onnx") if config.person == "dnn" else None
        towers = Towers(arrays["read"], arrays["offered"], _read(folder / "person.onnx"), comparison, known)
        return cls(config, towers, facts.item_ids)

    def save(self, folder: Path) -> None:
        """Write the networks, the item tables and, of ``mf``, the people."""
        folder.mkdir(parents=True, exist_ok=True)
        towers, more = self.towers, {}
        (folder / "person.onnx").write_bytes(towers.person)
        if towers.comparison is not None:
            (folder / "comparison.onnx").write_bytes(towers.comparison)
        if towers.known_people is not None:
            people = towers.known_people
            columns = {"user_id": people.user_ids.tolist(), "row": people.rows, "time": people.times}
            pl.DataFrame(columns, schema_overrides={"user_id": pl.String}).write_parquet(folder / "people.parquet")
            more = {"beyond": people.beyond}
        save_arrays(folder / "towers.safetensors", read=towers.read, offered=towers.offered, **more)

    def __call__(self, request: Request, k: int) -> Slate:
        vector = self.person(request)
        if not vector.any():
            return best_slate(np.full(len(self._known), np.nan, np.float32), k, request, self._item_ids)
        scores = np.where(self._known, self._against(vector, self.towers.offered), np.float32("nan"))
        return best_slate(scores, k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        vector = self.person(request)
        known = (rows >= 0) & self._known[rows]
        if not vector.any() or not known.any():
            return np.full(len(rows), np.nan, np.float32)
        return np.where(known, self._against(vector, self.towers.offered[rows]), np.float32("nan"))

    @cached_property
    def vectors(self) -> Floats:
        """(M, D) items as people are compared with them, at unit length."""
        return unit_rows(self.towers.offered)

    def person(self, request: Request) -> Floats:
        """The vector of the one who asks, (D,); zeros when nothing in the history is known. Made once a request."""
        if self not in request.cache:
            liked = request.past.liked()
            liked = liked[self._known[liked]][-self.config.max_length :]
            vector = np.zeros(self.towers.read.shape[1], np.float32)
            if len(liked):
                (out,) = self._person.run(None, {"vectors": self.towers.read[liked][None]})
                vector = out[0]
                if self.towers.known_people is not None:
                    vector = vector + self.towers.known_people.of(request)
            request.cache[self] = vector
        return request.cache[self]

    def _against(self, vector: Floats, items: Floats) -> Floats:
        """(N,) scores of (N, D) offered items."""
        if self._comparison is None:
            return items @ vector
        parts = [
            self._comparison.run(None, {"person": vector[None], "items": items[start : start + BLOCK]})[0][0]
            for start in range(0, len(items), BLOCK)
        ]
        return np.concatenate(parts)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); fit the model again") from error
