"""Two towers of one fine-tuned encoder as a source: a history's titles, or a query, near the texts of items (ONNX)."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.scores import best_slate
from tailwise.encode.exported import OnnxEncoder
from tailwise.errors import ArtifactError
from tailwise.nets.settings_language import TextLoop, Tuning
from tailwise.types import Facts, Floats, Ids, Request, Rows, Slate

TITLE_LETTERS = 80
"""Of one title in a history, at most: a title that is a page long must not be all that is read."""


class LanguageTowersConfig(Closed):
    """Settings of the two towers."""

    model: str = "all-MiniLM-L6-v2"
    """What is fine-tuned, an encoder or a causal model, whose last token is read: a Hugging Face name, a folder, an
    installed package or a GGUF file."""
    tuning: Tuning = Tuning()
    """Which of its weights learn."""
    train: TextLoop = TextLoop(epochs=5, learning_rate=5e-4)
    """How they learn."""
    titles: Annotated[int, Field(ge=1, le=500)] = 10
    """Newest liked items that make a person's text."""
    columns: tuple[str, ...] = ()
    """Item columns that make an item's text, in order; empty takes title, year, genres, tags, categories, description
    and text, as far as the items have them."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 64
    """Longer texts are cut, in tokens."""
    batch: Annotated[int, Field(ge=2)] = 32
    """People a step; each has the others' items as negatives."""
    negatives: Annotated[int, Field(ge=0)] = 32
    """Items that a batch shares beside, drawn by popularity."""
    choices: Annotated[int, Field(ge=1)] = 4
    """Of each person and epoch at most, drawn."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """What cosines are divided by while training."""
    int8: bool = True
    """Whether the exported model is quantised."""
    remembered: Annotated[int, Field(ge=0)] = 10_000
    """People's texts whose vectors are kept in memory."""

    @model_validator(mode="after")
    def _can_be_exported(self) -> Self:
        if self.tuning.method == "prompt":
            raise ValueError("tuning.method is prompt, which an exported encoder cannot have; choose prefix or lora")
        return self


class LanguageTowers:
    """
    Scores items by the cosine of their text's vector to that of what the person liked lately, or asks for.

    Args:
        config: Settings.
        item_ids: (M,) of the catalogue.
        titles: M names of items, as a history calls them; empty where an item has no text.
        vectors: (M, D) unit rows, zeros where an item has no text.
        encoder: Makes the vector of a person's text; None when no item has a text.

    Cost: some 3 ms for a text that is not remembered, then O(M D).
    """

    Config = LanguageTowersConfig

    def __init__(
        self,
        config: LanguageTowersConfig,
        item_ids: Ids,
        *,
        titles: tuple[str, ...],
        vectors: Floats,
        encoder: OnnxEncoder | None,
    ) -> None:
        self.config, self._item_ids, self._titles = config, item_ids, titles
        self._vectors, self.encoder = vectors, encoder
        self._told = np.append(vectors.any(axis=1), False)  # and of row -1 nothing is known
        self._memory: OrderedDict[str, Floats] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def open(cls, config: LanguageTowersConfig, facts: Facts, folder: Path) -> Self:
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        path = folder / "titles.json"
        try:
            titles = tuple(map(str, json.loads(path.read_text(encoding="utf-8"))))
            vectors = load_arrays(folder / "vectors.safetensors")["vectors"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        encoder = None
        if (folder / "encoder").is_dir():
            encoder = OnnxEncoder.open(folder / "encoder", max_tokens=config.max_tokens)
        return cls(config, facts.item_ids, titles=titles, vectors=vectors, encoder=encoder)

    def save(self, folder: Path) -> None:
        """Write the items' names and vectors, and the encoder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "titles.json").write_text(json.dumps(self._titles), encoding="utf-8")
        save_arrays(folder / "vectors.safetensors", vectors=self._vectors)
        if self.encoder is not None:
            shutil.copytree(self.encoder.folder, folder / "encoder")

    @property
    def vectors(self) -> Floats:
        """(M, D) where the items are."""
        return self._vectors

    def __call__(self, request: Request, k: int) -> Slate:
        return best_slate(self.scores(request, np.arange(len(self._item_ids))), k, request, self._item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        vector = self._vector(request)
        known = self._told[rows] & bool(vector.any())
        return np.where(known, self._vectors[rows] @ vector, np.float32("nan")).astype(np.float32)

    def _vector(self, request: Request) -> Floats:
        """What the request is about, (D,); zeros when nothing is known."""
        if self not in request.cache:
            text = request.query or person_text(self._titles, request.past.liked(), self.config.titles)
            request.cache[self] = self._embedded(text)
        return request.cache[self]

    def _embedded(self, text: str) -> Floats:
        if self.encoder is None or not text.strip():
            return np.zeros(self._vectors.shape[1], np.float32)
        with self._lock:
            if text in self._memory:
                self._memory.move_to_end(text)
                return self._memory[text]
        vector: Floats = self.encoder.encode([text])[0]
        with self._lock:
            self._memory[text] = vector
            while len(self._memory) > self.config.remembered:
                self._memory.popitem(last=False)
        return vector


def person_text(titles: tuple[str, ...], liked: Rows, most: int) -> str:
    """
    What a person's history reads like: the titles of the newest items, newest first, each once.

    >>> person_text(("Heat", "", "Toy Story"), np.array([2, 1, 0, 2]), 5)
    'Toy Story; Heat'
    """
    named = (titles[row] for row in dict.fromkeys(liked[::-1].tolist()))
    return "; ".join([title for title in named if title][:most])
