"""The cross-encoder: a fine-tuned language model reads a person's history and an item together (ONNX, int8)."""

from __future__ import annotations

import json
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.encode.pairs import INPUTS, Frame, Words, logits
from tailwise.errors import ArtifactError
from tailwise.nets.session import open_session
from tailwise.nets.settings_language import TextLoop, Tuning
from tailwise.rank.gate import Gate, advised
from tailwise.types import Facts, Floats, Request, Rows, Slate

NAME = "the cross-encoder"
MOST_OF_ONE = 1_000
"""Items remembered of one history."""


class CrossEncoderConfig(Closed):
    """Settings of the cross-encoder."""

    model: str = "all-MiniLM-L6-v2"
    """What is fine-tuned: a Hugging Face name, a folder, an installed package or a GGUF file."""
    tuning: Tuning = Tuning()
    """Which of its weights learn."""
    train: TextLoop = TextLoop(epochs=1)
    """How they learn. Other stretches of the log teach more than the same ones again."""
    loss: Literal["bce", "pairwise", "listwise"] = "pairwise"
    """``bce``: each candidate a yes or a no; ``pairwise``: what was taken leads each other; ``listwise``: it is chosen
    among them."""
    negatives: Annotated[int, Field(ge=1)] = 16
    """Others that what was taken is compared with, drawn anew in each epoch."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Lists a step."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of what the head reads that is dropped while training."""
    lists: Annotated[int, Field(ge=0)] = 20_000
    """At most so many stretches of the log teach it: what was liked of eight events in a row, behind what was liked
    before them, against others that are liked as often; 0: held-out slates alone."""
    cases: Annotated[int, Field(ge=1)] = 2_000
    """At most so many cases of held-out people teach it with their slates, stop it and judge it."""
    depth: Annotated[int, Field(ge=2, le=10_000)] = 50
    """The best of the incoming order that are judged; the others stay behind them, as they came."""
    columns: tuple[str, ...] = ()
    """Item columns that make an item's text, in order; empty takes title, year, genres, tags, categories, description
    and text, as far as the items have them."""
    history_tokens: Annotated[int, Field(ge=4, le=4096)] = 32
    """Of the history's titles, newest first."""
    item_tokens: Annotated[int, Field(ge=4, le=4096)] = 24
    """Of the item's text."""
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """What its opinion weighs beside the incoming score, for everybody; None lets the held-out people say for whom it
    counts, and how much."""
    int8: bool = True
    """Whether the exported model is quantised: a quarter of the size and a third of the time."""
    threads: Annotated[int, Field(ge=1, le=64)] = 2
    """Cores that share the candidates of a request."""
    remembered: Annotated[int, Field(ge=0)] = 1_000
    """Histories whose opinions are kept in memory."""


@dataclass(frozen=True)
class Reading:
    """What a fit made: the texts as tokens, and the networks."""

    frame: Frame
    items: Words
    titles: Words
    onnx: bytes
    """``encode.pairs.INPUTS`` to a logit an item."""
    learned: bytes = b""
    """The weights that learned, the head's among them, as safetensors: to go on from."""


class CrossEncoder:
    """
    Re-ranks the first ``depth`` of a slate by what a language model makes of history and item, where the gate asks it.

    Args:
        config: Settings.
        gate: For whom the opinion counts, and how much.
        reading: What a fit made; None keeps the order: held-out people said that it does not help, or nothing has text.

    Cost: some 45 ms for 50 candidates of 24 tokens on one core; what is remembered of a history costs nothing.
    """

    Config = CrossEncoderConfig
    gives: frozenset[str] = frozenset()

    def __init__(self, config: CrossEncoderConfig, gate: Gate, reading: Reading | None) -> None:
        self.config, self.gate, self.reading = config, gate, reading
        self._session = None if reading is None else open_session(reading.onnx, NAME, INPUTS)
        self._pool = ThreadPoolExecutor(config.threads, "pairs") if config.threads > 1 else None
        self._memory = Memory(config.remembered)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self.reading is None else frozenset(Gate.needs)

    @classmethod
    def open(cls, config: CrossEncoderConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  texts are its own
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        path = folder / "cross_encoder.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            gate = Gate.load(known["gate"])
            if known["frame"] is None:
                return cls(config, gate, None)
            frame, onnx = Frame.model_validate(known["frame"]), (folder / "model.onnx").read_bytes()
            learned = (folder / "learned.safetensors").read_bytes()
        except (OSError, ValueError, TypeError, KeyError, ValidationError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        texts = load_arrays(folder / "texts.safetensors")
        try:
            items, titles = (Words(texts[name], texts[f"{name} offsets"]) for name in ("items", "titles"))
        except KeyError as error:
            raise ArtifactError(f"{folder / 'texts.safetensors'} has no {error}; fit the model again") from error
        return cls(config, gate, Reading(frame, items, titles, onnx, learned))

    def save(self, folder: Path) -> None:
        """Write the gate, the texts, the exported model, and what was learned."""
        folder.mkdir(parents=True, exist_ok=True)
        frame = None if self.reading is None else self.reading.frame.model_dump(mode="json")
        known = {"gate": self.gate.dump(), "frame": frame}
        (folder / "cross_encoder.json").write_text(json.dumps(known, indent=2), encoding="utf-8")
        if self.reading is not None:
            arrays: dict[str, Any] = {}
            for name, words in (("items", self.reading.items), ("titles", self.reading.titles)):
                arrays |= {name: words.tokens, f"{name} offsets": words.offsets}
            save_arrays(folder / "texts.safetensors", **arrays)
            (folder / "model.onnx").write_bytes(self.reading.onnx)
            (folder / "learned.safetensors").write_bytes(self.reading.learned)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """
        The slate in the blended order; the same when neither history nor items have a text.

        Raises:
            Abstain: The gate does not ask.
        """
        if self.reading is None or len(slate) < 2:
            return slate
        weight = self.gate.asked(request, slate)
        return advised(slate, self.opinion(request, slate.columns["row"][: self.config.depth]), weight)

    def opinion(self, request: Request, rows: Rows) -> Floats:
        """(N,) rows to (N,) logits; NaN where an item has no text, and everywhere when the history has none."""
        out = np.full(len(rows), np.nan, np.float32)
        if self.reading is None:
            return out
        past = self.reading.frame.past(self.reading.titles, request.past.liked())
        told = (rows >= 0) & (self.reading.items.lengths(rows) > 0)
        if not len(past) or not told.any():
            return out
        key = past.tobytes()
        out[told] = self._memory.recall(key, rows[told])
        fresh = np.flatnonzero(told & np.isnan(out))
        if len(fresh):
            frame, items = self.reading.frame, self.reading.items
            read = frame.rows(past, [items.of(int(row)) for row in rows[fresh]], self.config.threads)
            out[fresh] = logits(self._session, read, self._pool)
            self._memory.keep(key, rows[told], out[told])
        return out


class Memory:
    """Opinions by history, the ones last asked for; at most ``limit`` histories, ``MOST_OF_ONE`` items each."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[bytes, tuple[Rows, Floats]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, key: bytes, rows: Rows) -> Floats:
        """(N,) opinions of a history about rows; NaN where there is none."""
        with self._lock:
            if key not in self._known:
                return np.full(len(rows), np.nan, np.float32)
            self._known.move_to_end(key)
            own, values = self._known[key]
        places = np.minimum(np.searchsorted(own, rows), len(own) - 1)
        return np.where(own[places] == rows, values[places], np.float32("nan"))

    def keep(self, key: bytes, rows: Rows, values: Floats) -> None:
        """Remember what a history says of rows; of too many, those asked for now."""
        if not self._limit:
            return
        with self._lock:
            if key in self._known:
                own, before = self._known[key]
                rows, values = np.concatenate([rows, own]), np.concatenate([values, before])
            rows, first = np.unique(rows[:MOST_OF_ONE], return_index=True)
            self._known[key] = (rows, values[first])
            self._known.move_to_end(key)
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
