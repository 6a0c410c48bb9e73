"""
What texts say, from one encoder: sentiment, topics, intent and entities, with chances that mean what they say.

    texts ─▶ encoder (ONNX) ─▶ one vector a text ─▶ a matrix a head ─▶ curve ─▶ chances ─▶ labels
                           └─▶ one vector a token ─▶ a matrix ─▶ tags ─▶ parts of the text

Numpy and onnxruntime alone; ``learn.classify`` fits such a model.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from tailwise.artifacts import check, load_arrays, save_arrays, writing
from tailwise.config import Closed, settings_of
from tailwise.data.labelled import ONE, SPANS, Span
from tailwise.encode.exported import OnnxEncoder
from tailwise.encode.language import is_foreign
from tailwise.encode.text import open_encoder
from tailwise.errors import ArtifactError, ConfigError
from tailwise.rank.calibration import chance_of
from tailwise.rank.gazetteer import Gazetteer
from tailwise.rank.spans import TokenReader, joined, spans_of
from tailwise.types import Encoder, Floats

log = logging.getLogger(__name__)

CARD, ARRAYS, NAMES, ENCODER = "classifier.json", "heads.safetensors", "names.json", "encoder"
BLOCK = 256
"""Texts in memory at a time."""
EPSILON = 1e-5
"""As torch's layer norm has it."""


class HeadCard(Closed):
    """What is known of a head beside its matrix."""

    labels: tuple[str, ...]
    """By column; of ``entities`` the tags: ``O``, then ``B-`` and ``I-`` of each label."""
    slope: float = 1.0
    """What a unit of the matrix's answer is worth in log-odds, as held-out texts say."""
    shift: float = 0.0
    """Added to the log-odds, where each label is true or not by itself."""
    threshold: float = 0.5
    """From this chance on a label is given, where any number may be."""


class ClassifierCard(Closed):
    """What ``classifier.json`` says."""

    encoder: str
    """What the encoder was made from; the folder has a copy of it, except of ``hash`` and ``multilingual``."""
    max_tokens: int
    """Longer texts are cut, in tokens."""
    latin: bool = False
    """Whether the encoder knows next to no other script."""
    heads: dict[str, HeadCard]
    """By name."""


@dataclass(frozen=True)
class Read:
    """What an encoder makes of some texts."""

    vectors: Floats  # (N, D) unit rows
    tokens: Sequence[Floats]  # N of (T, D); empty where no head asks for them
    offsets: Sequence[Sequence[tuple[int, int]]]  # N of T: where each token stands in its text, in characters


class TextClassifier:
    """
    Tells what texts say.

    Args:
        card: Heads and their labels.
        encoder: Gives texts vectors.
        weights: (labels, D) and bias (labels,) of each head.
        names: What is found in texts by name, whatever the head says; None finds nothing.

    Cost: the encoder's, about 2 ms a short text and core for a six-layer int8 model; heads are a product each.
    """

    def __init__(
        self,
        card: ClassifierCard,
        encoder: Encoder,
        weights: Mapping[str, tuple[Floats, Floats]],
        names: Gazetteer | None = None,
    ) -> None:
        self.card, self.encoder, self.names = card, encoder, names
        self.weights = weights
        self._tokens: TokenReader | None = None
        if SPANS in card.heads:
            if not isinstance(encoder, OnnxEncoder):
                raise ConfigError(f"entities need an encoder of tokens, but {card.encoder} reads texts whole")
            self._tokens = TokenReader.open(encoder.folder, max_tokens=card.max_tokens)

    @classmethod
    def open(cls, folder: Path, *, threads: int = 1) -> Self:
        """
        Read what ``save`` wrote. The encoder itself is loaded with the first text.

        Raises:
            ArtifactError: A file is missing, damaged or changed, or the folder holds something else.
        """
        if check(folder).get("kind") != "classifier":
            raise ArtifactError(f"{folder} is no classifier; make one with: tailwise fit-classifier")
        path = folder / CARD
        try:
            card = settings_of(ClassifierCard, json.loads(path.read_text(encoding="utf-8")), where=CARD)
            names = Gazetteer.open(folder / NAMES) if (folder / NAMES).is_file() else None
            arrays = load_arrays(folder / ARRAYS)
            weights = {name: (arrays[f"{name}.weight"], arrays[f"{name}.bias"]) for name in card.heads}
        except (OSError, ValueError, KeyError, ConfigError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the classifier again") from error
        model = str(folder / ENCODER) if (folder / ENCODER).is_dir() else card.encoder
        encoder = open_encoder(model, cache=folder, threads=threads, max_tokens=card.max_tokens, export=_no_export)
        return cls(card, encoder, weights, names)

    def save(self, out: Path, manifest: Mapping[str, Any]) -> None:
        """Write a folder that stands alone, all or nothing, with ``manifest`` as its model card."""
        arrays: dict[str, Floats] = {}
        for name, (weight, bias) in self.weights.items():
            arrays |= {f"{name}.weight": weight, f"{name}.bias": bias}
        with writing(out, {**manifest, "kind": "classifier"}) as folder:
            (folder / CARD).write_text(self.card.model_dump_json(indent=2), encoding="utf-8")
            save_arrays(folder / ARRAYS, **arrays)
            if self.names is not None:
                self.names.save(folder / NAMES)
            if isinstance(self.encoder, OnnxEncoder):
                shutil.copytree(self.encoder.folder, folder / ENCODER)

    def warning(self, texts: Sequence[str]) -> str:
        """A line for people when most of the texts are in a script that the encoder does not know, else empty."""
        foreign = sum(is_foreign(text) for text in texts)
        if not self.card.latin or 2 * foreign <= len(texts):
            return ""
        return f"{foreign} of {len(texts)} texts are not English, but {self.card.encoder} reads nothing else"

    def read(self, texts: Sequence[str]) -> Read:
        """What the encoder makes of (N,) texts; a blank text has a zero vector and no tokens."""
        if self._tokens is not None:
            return Read(*self._tokens.read(texts))
        return Read(self.encoder.encode(texts), (), ())

    def raw(self, read: Read, head: str) -> list[Floats]:
        """What a head's matrix answers, uncalibrated: N of (labels,), or of (T, labels) for ``entities``."""
        weight, bias = self.weights[head]
        if head == SPANS:
            return [standard(own) @ weight.T + bias for own in read.tokens]
        return list(standard(read.vectors) @ weight.T + bias)

    def chances(self, read: Read, head: str) -> list[Floats]:
        """The same as chances; those of one text sum to 1 where one label alone is true."""
        known = self.card.heads[head]
        log_odds = [known.slope * own for own in self.raw(read, head)]
        if head in (*ONE, SPANS):
            return [softmax(own) for own in log_odds]
        return [chance_of(own + known.shift) for own in log_odds]

    def classify(
        self, texts: Sequence[str], *, report: Callable[[int, int], None] | None = None
    ) -> Iterator[dict[str, Any]]:
        """
        For each text what it says, in the form of labelled texts, and the chances under ``chances``.

        A blank text says nothing: only its own key is there.
        """
        for start in range(0, len(texts), BLOCK):
            block = list(texts[start : start + BLOCK])
            read = self.read(block)
            told = {head: self.chances(read, head) for head in self.card.heads}
            for row, text in enumerate(block):
                yield {"text": text, **(self._one(text, row, read, told) if text.strip() else {})}
            if report is not None:
                report(min(start + BLOCK, len(texts)), len(texts))

    def _one(self, text: str, row: int, read: Read, told: Mapping[str, Sequence[Floats]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        chances: dict[str, dict[str, float]] = {}
        for head, known in self.card.heads.items():
            own = told[head][row]
            if head == SPANS:
                continue
            chances[head] = {label: round(float(p), 4) for label, p in zip(known.labels, own, strict=True)}
            chosen = [label for label, p in zip(known.labels, own, strict=True) if p >= known.threshold]
            out[head] = known.labels[int(own.argmax())] if head in ONE else chosen
        found = self.found(text, row, read, told)
        if found is not None:
            out[SPANS] = [
                {"start": s.start, "end": s.end, "text": text[s.start : s.end], "label": s.label, "chance": round(p, 4)}
                for s, p in found
            ]
        return {**out, "chances": chances}

    def found(
        self, text: str, row: int, read: Read, told: Mapping[str, Sequence[Floats]]
    ) -> list[tuple[Span, float]] | None:
        """The entities of a text, by head and by name; None where the model looks for none."""
        if SPANS not in self.card.heads and self.names is None:
            return None
        tagged: list[tuple[Span, float]] = []
        if SPANS in self.card.heads:
            tagged = spans_of(text, told[SPANS][row], read.offsets[row], self.card.heads[SPANS].labels)
        named = [] if self.names is None else [(span, 1.0) for span in self.names.find(text)]
        return joined(named, tagged)


def standard(vectors: Floats) -> Floats:
    """(…, D) with each row at mean 0 and spread 1, as the heads read them."""
    centred = vectors - vectors.mean(-1, keepdims=True)
    unit: Floats = (centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)).astype(np.float32)
    return unit


def softmax(log_odds: Floats) -> Floats:
    """(…, C) to chances that sum to 1."""
    raised = np.exp(log_odds - log_odds.max(-1, keepdims=True, initial=-np.inf))
    chances: Floats = (raised / raised.sum(-1, keepdims=True)).astype(np.float32)
    return chances


def _no_export(model: str, folder: Path) -> Path:
    raise ArtifactError(f"{folder.parents[1]} holds no copy of the encoder {model}; fit the classifier again")
