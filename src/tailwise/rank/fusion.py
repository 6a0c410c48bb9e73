"""One score from many: a weighted sum of every source's standardised scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.config import Closed
from tailwise.errors import ArtifactError
from tailwise.types import QUERY, Column, Facts, Floats, Request, Slate

TEXT = "text"
WORDS = "words"
ASKED = (TEXT, WORDS)
"""The sources that compare items with a query."""
USUAL = 3.0
"""What a query weighs where nothing says it."""
WITH_QUERY = "with a query"
"""Key beside the names of sources in a stored fusion."""
NOTHING = 1e-9
"""A deviation below it says that a source finds all items alike."""


class FusionConfig(Closed):
    """Settings of the learned fusion."""

    regularisation: Annotated[float, Field(ge=0)] = 1e-3
    """Ridge on the weights, per example."""
    people: Annotated[int, Field(ge=1)] = 3_000
    """At most so many cases of held-out people teach it."""
    query: Annotated[float, Field(ge=0)] | None = None
    """What a request's query weighs, through the sources ``text`` and ``words`` each, in multiples of the largest
    weight that was learned. None learns what every source weighs with a query where the log has what people typed, and
    is 3 where it has not: what people did next says nothing of what a query asks for."""


class Fusion:
    """
    Orders a slate by the weighted sum of the sources' scores.

    Args:
        config: Settings.
        weights: One a source, not negative: a source may be ignored, but its opinion is never turned round.
        typed: The same for requests with a query; None: as ``weights``, but what reads queries as the settings say.
    """

    Config = FusionConfig
    gives: frozenset[str] = frozenset()

    def __init__(self, config: FusionConfig, weights: dict[str, float], typed: dict[str, float] | None = None) -> None:
        self.config = config
        self.weights = weights
        self.typed = typed
        most = (USUAL if config.query is None else config.query) * max(weights.values(), default=0.0)
        self.asked = {name: most if name in ASKED else weight for name, weight in weights.items()}
        if typed is not None:
            self.asked = {**dict.fromkeys(weights, 0.0), **typed}
        names = list(self.asked)
        self._columns = [f"score_{name}" for name in names]
        self._weights = np.array([weights.get(name, 0.0) for name in names], np.float32)  # (S,)
        self._asked = np.array([self.asked[name] for name in names], np.float32)  # what counts when there is a query

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self._columns)

    @classmethod
    def open(cls, config: FusionConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  facts are not needed
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: The weights are missing or damaged.
        """
        path = folder / "fusion.json"
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            typed = told.pop(WITH_QUERY, None)
            own, asked = ({str(n): float(w) for n, w in one.items()} for one in (told, typed or {}))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        return cls(config, own, None if typed is None else asked)

    def save(self, folder: Path) -> None:
        """Write the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        told = self.weights if self.typed is None else {**self.weights, WITH_QUERY: self.typed}
        (folder / "fusion.json").write_text(json.dumps(told, indent=2), encoding="utf-8")

    def weights_for(self, request: Request) -> Floats:
        """(S,) what each source weighs for a request: text weighs more where there is a query."""
        read = QUERY in request.cache or (request.query and self.typed is not None)
        return self._asked if read else self._weights

    def parts(self, request: Request, slate: Slate) -> tuple[Floats, Floats]:
        """
        What the scores are made of.

        Returns:
            (N, S) what each source adds to each score: they add up to it, but where no source knows an item, which
            comes last and has zeros; and (S,) what a unit of each source's own score is worth.
        """
        columns = [slate.columns[name] for name in self._columns]
        weights = self.weights_for(request)
        known = np.isfinite(np.stack(columns, axis=1)).any(axis=1, keepdims=True)
        parts: Floats = np.where(known, standardised(columns) * weights, np.float32(0.0))
        deviation = deviation_of(centred(columns))
        return parts, np.divide(weights, deviation, out=np.zeros_like(weights), where=deviation > NOTHING)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        if not len(slate):
            return slate
        columns = [slate.columns[name] for name in self._columns]
        scores: Floats = standardised_once(request, columns) @ self.weights_for(request)  # (N,)
        known: NDArray[np.bool_] = np.logical_or.reduce(np.isfinite(np.array(columns, np.float32)))  # (N,)
        if not known.all() and known.any():
            # Of some items no source knows anything; a source with one item to tell of would call them its equals.
            scores[~known] = scores[known].min() - 1
        return slate.score(scores)


def standardised(columns: Sequence[Column] | Floats) -> Floats:
    """
    Scores of several sources on one scale: mean 0 and deviation 1 within the slate.

    Args:
        columns: S columns of (N,) scores. NaN says that a source knows nothing of an item: it gets that source's
            lowest, and a source that knows nothing of all of them, or finds them all alike, stays out with 0.

    Returns:
        (N, S) float32.
    """
    middle = centred(columns)
    deviation = deviation_of(middle)  # of what is left: were all alike, that is rounding, and alike as well
    scale = np.divide(np.float32(1.0), deviation, out=np.zeros_like(deviation), where=deviation > NOTHING)
    scaled: Floats = middle * scale
    return scaled


def standardised_once(request: Request, columns: Sequence[Column]) -> Floats:
    """``standardised``, worked out once for the same columns of a request; not to be changed."""
    key = _Same(tuple(columns))
    if key not in request.cache:
        request.cache[key] = standardised(columns)
    return request.cache[key]


class _Same:
    """Columns as a key, which is equal to one of the very same columns."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._columns = columns  # held, so that no other column gets their place in memory

    def __hash__(self) -> int:
        return hash(tuple(map(id, self._columns)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and tuple(map(id, self._columns)) == tuple(map(id, other._columns))


def centred(columns: Sequence[Column] | Floats) -> Floats:
    """Scores of several sources with mean 0, and what is not known as low as the lowest, (N, S)."""
    scores: NDArray[Any] = np.asarray(columns, np.float32)  # (S, N)
    known = np.isfinite(scores)
    if not known.all():
        lowest = np.where(known, scores, np.inf).min(axis=1, keepdims=True)
        scores = np.where(known, scores, np.where(np.isfinite(lowest), lowest, np.float32(0.0)))
    scores = scores - scores[:, :1]  # what finds all alike is then nothing but zeros, whatever rounding does
    scores -= np.add.reduce(scores, axis=1, keepdims=True) / np.float32(max(scores.shape[1], 1))
    return scores.T


def deviation_of(middle: Floats) -> Floats:
    """Of each column with mean 0, (N, S) to (S,)."""
    return np.asarray(np.sqrt(np.einsum("ns,ns->s", middle, middle) / np.float32(max(len(middle), 1))), np.float32)
