"""
Run an exported language model: a folder with ``model.onnx``, ``tokenizer.json`` and ``config.json``.

``nets.export`` makes such folders once, with torch; here is onnxruntime and numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import ValidationError

from tailwise.config import Closed
from tailwise.errors import ArtifactError
from tailwise.types import Floats

Report = Callable[[int, int], None]
"""Is told how many texts are done, and of how many."""

BLOCK = 256
"""Texts between two reports."""
TOKEN_BUDGET = 256
"""Tokens of one batch: enough to keep the matrix products busy, small enough for a core's own cache."""
FORMAT = 2
"""What ``nets.export`` writes: a quantised model scales its activations by row."""
ONE_SCALE = 1
"""Format of int8 folders whose activations have one scale a batch, so that a batch is one text."""


class EncoderCard(Closed):
    """What ``config.json`` of an encoder folder says."""

    kind: Literal["tailwise-encoder"]
    """Tells the folder from one that only looks like it."""
    format: Literal[1, 2]
    """2: a quantised model scales its activations by row; 1 did so by batch, and is still read."""
    source: str
    """The model that was exported, by name or folder."""
    dim: int
    """Width of a vector."""
    max_tokens: int
    """Longest text that the model was made for, special tokens included."""
    pooling: Literal["mean", "cls", "last"]
    """How token vectors become one."""
    int8: bool
    """Whether the weights are quantised."""
    pad_id: int
    """Token that fills short rows; the mask hides it."""
    weights_sha256: str
    """Of the weights that were exported."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """
        The card of an encoder folder.

        Raises:
            ArtifactError: A file is missing, or the card is not one that this version reads.
        """
        missing = [name for name in ("config.json", "model.onnx", "tokenizer.json") if not (folder / name).is_file()]
        if missing:
            raise ArtifactError(f"{folder} is not an exported encoder: it has no {missing[0]}; fit the model again")
        try:
            return cls.model_validate_json((folder / "config.json").read_bytes())
        except (OSError, ValidationError) as error:
            rule = "not the card of an encoder that this version reads"
            raise ArtifactError(f"{folder / 'config.json'} is {rule}; fit the model again") from error


class OnnxEncoder:
    """
    An exported language model on the CPU. Nothing is loaded until the first text has to be embedded.

    A text's vector does not depend on the texts beside it, on their order or on the number of threads, so that a
    cached vector is as good as a fresh one: the same to the last bit, because only texts of equally many tokens share
    a batch. Threads share the batches, one core each. A quantised model of format 1, whose activations have one scale
    a batch, takes one text at a time.
    """

    def __init__(self, folder: Path, card: EncoderCard, *, threads: int, max_tokens: int) -> None:
        self.folder, self._card, self._threads = folder, card, threads
        self._max_tokens = min(max_tokens, card.max_tokens)

    @classmethod
    def open(cls, folder: Path, *, threads: int = 1, max_tokens: int = 64) -> Self:
        """
        The encoder in ``folder``; longer texts are cut at ``max_tokens``.

        Raises:
            ArtifactError: The folder is not an exported encoder; a damaged model shows when the first text comes.
        """
        return cls(folder, EncoderCard.read(folder), threads=threads, max_tokens=max_tokens)

    @property
    def dim(self) -> int:
        return self._card.dim

    @property
    def fingerprint(self) -> str:
        """Two encoders with the same fingerprint give the same vectors."""
        card = self._card
        weights = "int8" if card.int8 else "fp32"
        return f"onnx{card.format}:{card.weights_sha256[:16]}:{card.pooling}:{weights}:{self._max_tokens}"

    def encode(self, texts: Sequence[str], *, report: Report | None = None) -> Floats:
        """
        (N,) texts to (N, D) float32 rows of unit length; an empty or blank text gives a zero row.

        Cost: about 0.9 ms of a core a short text, 1.7 ms alone, for a six-layer int8 model; the first call loads it.
        """
        return in_blocks(texts, self.dim, self._embed, report)

    def _embed(self, texts: list[str]) -> Floats:
        tokens = [self._tokenizer.encode(text).ids for text in texts]
        alone = self._card.int8 and self._card.format == ONE_SCALE
        batches = equal_batches([len(ids) for ids in tokens], budget=1 if alone else TOKEN_BUDGET)
        out = np.zeros((len(texts), self.dim), np.float32)
        for batch, vectors in zip(batches, self._run_all([[tokens[row] for row in b] for b in batches]), strict=True):
            out[batch] = vectors
        return out

    def _run_all(self, batches: list[list[list[int]]]) -> Iterator[Floats]:
        if self._threads == 1 or len(batches) < 2:
            yield from map(self._run, batches)
            return
        _ = self._session  # loaded here once, not by each thread
        with ThreadPoolExecutor(self._threads) as pool:
            yield from pool.map(self._run, batches)

    def _run(self, batch: list[list[int]]) -> Floats:
        ids = np.array(batch, np.int64)  # (B, T)
        vectors: Floats = self._session.run(["embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
        return vectors  # (B, D)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        path = self.folder / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises a bare Exception
            raise self._damaged(path, error) from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(self._max_tokens)
        return tokenizer

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # one core a batch scales better than many cores a batch
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False  # the arena never gives memory back
        path = self.folder / "model.onnx"
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a dozen error classes without a common one
            raise self._damaged(path, error) from error

    def _damaged(self, path: Path, error: Exception) -> ArtifactError:
        why = str(error).splitlines()[0]
        return ArtifactError(f"{path} cannot be read ({why}); delete {self.folder} and fit the model again")


def is_exported(folder: Path) -> bool:
    """Whether a folder is an encoder that ``OnnxEncoder`` opens."""
    try:
        EncoderCard.read(folder)
    except ArtifactError:
        return False
    return True


def equal_batches(lengths: Sequence[int], *, budget: int) -> list[list[int]]:
    """
    Rows of equal length, short ones first, at most ``budget`` tokens a batch and at least one row; none of length 0.

    Nothing is spent on padding, and what pads a text can change nothing of it.

    >>> equal_batches([3, 9, 0, 2, 3, 3], budget=7)
    [[3], [0, 4], [5], [1]]
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        last = batches[-1] if batches else [row]
        if batches and lengths[last[0]] == lengths[row] and (len(last) + 1) * lengths[row] <= budget:
            last.append(row)
        elif lengths[row]:
            batches.append([row])
    return batches


def in_blocks(texts: Sequence[str], dim: int, embed: Callable[[list[str]], Floats], report: Report | None) -> Floats:
    """Embed what is not blank, block by block, in order."""
    out = np.zeros((len(texts), dim), np.float32)
    for start in range(0, len(texts), BLOCK):
        stop = min(start + BLOCK, len(texts))
        rows = [row for row in range(start, stop) if texts[row].strip()]
        if rows:
            # A lone surrogate, as a JSON escape may carry, has no UTF-8 form: it becomes "?".
            out[rows] = embed([texts[row].encode(errors="replace").decode() for row in rows])
        if report is not None:
            report(stop, len(texts))
    return out
