"""Slates of cases that came earlier, so that what is learned from new ones does not forget them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.data.catalogue import Catalogue
from tailwise.errors import ArtifactError
from tailwise.learn.slates import Example
from tailwise.rank.fusion import standardised
from tailwise.types import Request, Slate

MOST = 500
"""Cases that are kept; the newest, since sources change."""


@dataclass(frozen=True)
class Replay:
    """
    Cases as the sources saw them when they were new and nobody had learned from them.

    Args:
        names: Of the sources, in the order of the scores.
        examples: Oldest first; each slate has the columns ``row`` and ``score_NAME``, standardised.
        times: Seconds since epoch, of the targets.
    """

    names: tuple[str, ...]
    examples: tuple[Example, ...] = ()
    times: tuple[float, ...] = ()

    def with_new(self, examples: list[Example], times: list[float]) -> Self:
        """Behind what is there; the oldest make room."""
        plain = tuple(self._plain(example) for example in examples)
        return type(self)(self.names, (*self.examples, *plain)[-MOST:], (*self.times, *times)[-MOST:])

    def since(self, start: float | None) -> Self:
        """Only cases from a time on; all with None."""
        kept = [start is None or time >= start for time in self.times]
        pairs = [(e, t) for e, t, there in zip(self.examples, self.times, kept, strict=True) if there]
        return type(self)(self.names, tuple(e for e, _ in pairs), tuple(t for _, t in pairs))

    def drawn(self, most: int, seed: int) -> list[Example]:
        """At most so many, drawn by the seed, oldest first."""
        places = np.sort(np.random.default_rng(seed).permutation(len(self.examples))[:most])
        return [self.examples[place] for place in places]

    def save(self, folder: Path) -> None:
        """Write the slates: two bytes a score, and no person's id."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "replay.json").write_text(json.dumps({"sources": self.names}), encoding="utf-8")
        slates = [example.slate for example in self.examples]
        blank = np.zeros((0, len(self.names)), np.float16)
        save_arrays(
            folder / "replay.safetensors",
            sizes=np.array([len(slate) for slate in slates], np.int64),
            rows=np.concatenate([np.empty(0, np.int64), *(slate.columns["row"] for slate in slates)]),
            scores=np.concatenate([blank, *(_scores(slate, self.names).astype(np.float16) for slate in slates)]),
            relevant=np.concatenate([np.empty(0, bool), *(example.relevant for example in self.examples)]),
            targets=np.array([example.targets for example in self.examples], np.int64),
            people=np.array([example.person for example in self.examples], np.int64),
            times=np.array(self.times, np.float64),
        )

    @classmethod
    def open(cls, folder: Path, catalogue: Catalogue, names: tuple[str, ...]) -> Self:
        """
        Read what ``save`` wrote; nothing when there is no such folder, or the sources are others.

        Raises:
            ArtifactError: A file is damaged.
        """
        path = folder / "replay.json"
        if not path.is_file():
            return cls(names)
        try:
            known = tuple(json.loads(path.read_text(encoding="utf-8"))["sources"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        if known != names:
            return cls(names)
        arrays = load_arrays(folder / "replay.safetensors")
        if not len(arrays["sizes"]):
            return cls(names)
        cuts = np.cumsum(arrays["sizes"])[:-1]
        parts = (np.split(arrays[name], cuts) for name in ("rows", "scores", "relevant"))
        examples = [
            Example(int(person), Request("replay"), _slate(rows, scores, names, catalogue), relevant, int(targets))
            for rows, scores, relevant, targets, person in zip(*parts, arrays["targets"], arrays["people"], strict=True)
        ]
        return cls(names, tuple(examples), tuple(float(time) for time in arrays["times"]))

    def _plain(self, example: Example) -> Example:
        """Without history and other columns."""
        slate = example.slate
        columns = {"row": slate.columns["row"]}
        scores = standardised([slate.columns[f"score_{name}"] for name in self.names]).astype(np.float16)
        columns |= {f"score_{name}": scores[:, place].astype(np.float32) for place, name in enumerate(self.names)}
        bare = Slate(slate.item_ids, slate.scores, columns)
        return Example(example.person, Request("replay"), bare, example.relevant, example.targets)


def _scores(slate: Slate, names: tuple[str, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.stack([slate.columns[f"score_{name}"] for name in names], axis=1)


def _slate(
    rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    scores: np.ndarray[tuple[int, ...], np.dtype[np.float16]],
    names: tuple[str, ...],
    catalogue: Catalogue,
) -> Slate:
    columns = {f"score_{name}": scores[:, place].astype(np.float32) for place, name in enumerate(names)}
    order = np.linspace(1.0, 0.0, len(rows), dtype=np.float32)
    return Slate(catalogue.item_ids[rows], order, {"row": rows, **columns})
