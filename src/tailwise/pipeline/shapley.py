"""
What each kind of signal adds to the scores: Shapley values over every coalition of kinds.

A score that networks and trees had a hand in is no sum. So it is made again for each subset of the kinds of signals,
with the others silenced: a source that is silenced knows nothing, other signals are those of the average candidate.
The value of a kind is what it adds, averaged over every order in which the kinds could have come in. The values of a
candidate add up to its score less what it would have had with all of them silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import factorial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tailwise.pipeline.binding import SIGNALS, Bound
from tailwise.types import Column, Floats, Request, Slate

Kind = Literal["collaborative", "sequence", "text", "popularity", "context", "other"]
KINDS: tuple[Kind, ...] = ("collaborative", "sequence", "text", "popularity", "context", "other")
SOURCES: Mapping[str, Kind] = {
    "popular": "popularity",
    "ease": "collaborative",
    "als": "collaborative",
    "item_knn": "collaborative",
    "next_item": "collaborative",
    "again": "collaborative",
    "text": "text",
    "words": "text",
    "numbers": "text",
    "language_towers": "text",
    "sequence": "sequence",
    "towers": "sequence",
}
"""What kind each source's signals are; those of sources from elsewhere are ``other``."""
SIGNAL_KINDS: Mapping[str, Kind] = {
    "popularity": "popularity",
    "recent": "popularity",
    "more popular than usual": "popularity",
    "times had": "collaborative",
    "had lately": "collaborative",
}
FACTS = frozenset({"popularity", "recent"})
"""Columns that say how popular an item is."""


def kind_of(signal: str, contexts: Sequence[str] = ()) -> Kind:
    """
    What kind a signal is, by its name in ``signal_names``.

    >>> kind_of("score ease"), kind_of("sequence to the last 5"), kind_of("genres shared"), kind_of("hour", ["hour"])
    ('collaborative', 'sequence', 'text', 'context')
    """
    if signal in contexts:
        return "context"
    if signal in SIGNAL_KINDS:
        return SIGNAL_KINDS[signal]
    score, near = signal.removeprefix("score "), signal.partition(" to the ")
    if score != signal or near[1]:
        return SOURCES.get(score if score != signal else near[0], "other")
    return "text"  # labels and numbers of the items file say what an item is, as its text does


def judges(stages: Sequence[Bound], ran: frozenset[str]) -> list[Bound]:
    """Of the stages that acted those that judge by signals alone, and so can be asked again with some silenced."""

    def judging(name: str) -> bool:
        return name in FACTS or name == SIGNALS or name.startswith("score_")

    return [b for b in stages if b.key in ran and b.run.needs and all(judging(name) for name in b.run.needs)]


def shapley(
    request: Request, slate: Slate, stages: Sequence[Bound], *, signals: Sequence[str], contexts: Sequence[str] = ()
) -> tuple[tuple[Kind, ...], NDArray[np.float64], NDArray[np.float64]]:
    """
    What each kind of signal adds to the candidates' scores.

    Args:
        request: With its history.
        slate: As it came to the stages.
        stages: What ``judges`` gives.
        signals: (F,) names of the column ``signals``; none where there is no such column.
        contexts: Those among them that tell of the moment.

    Returns:
        The G kinds that the slate has; (G, N) their values; and (N,) the scores with all of them silent.

    Cost: 2^G passes of the stages, at most 64.
    """
    named = [kind_of(name, contexts) for name in signals] if SIGNALS in slate.columns else []
    sources = [SOURCES.get(n.removeprefix("score_"), "other") for n in slate.columns if n.startswith("score_")]
    popular: list[Kind] = ["popularity"] if FACTS & slate.columns.keys() else []
    there = tuple(kind for kind in KINDS if kind in {*named, *sources, *popular})
    coalitions = np.array(list(product((False, True), repeat=len(there))), bool).reshape(-1, len(there))  # (2^G, G)
    scores = np.stack(
        [
            scored(request, silenced(slate, frozenset(np.array(there, object)[~own]), named), stages)
            for own in coalitions
        ]
    )  # (2^G, N)
    return there, weights_of(coalitions) @ scores, scores[0]


def weights_of(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
    """
    What the worth of each coalition counts in the value of each player, (G, 2^G).

    >>> weights_of(np.array([[False, False], [False, True], [True, False], [True, True]])).tolist()
    [[-0.5, -0.5, 0.5, 0.5], [-0.5, 0.5, -0.5, 0.5]]
    """
    players = coalitions.shape[1]
    sizes = coalitions.sum(axis=1)
    ways = np.array([factorial(n) * factorial(players - n - 1) / factorial(players) for n in range(players)] + [0.0])
    # With a player the others before it are one fewer than the coalition; without it, all of the coalition.
    return np.asarray(np.where(coalitions.T, ways[np.maximum(sizes - 1, 0)], -ways[sizes]))


def silenced(slate: Slate, kinds: frozenset[Kind], signals: Sequence[Kind]) -> Slate:
    """The slate as if some kinds of signals said nothing of its candidates."""
    columns: dict[str, Column] = {}
    for name, column in slate.columns.items():
        if name.startswith("score_") and SOURCES.get(name.removeprefix("score_"), "other") in kinds:
            columns[name] = np.full(len(column), np.nan, np.float32)
        elif name in FACTS and "popularity" in kinds:
            columns[name] = np.zeros(len(column), np.float32)
        elif name == SIGNALS and signals and len(column):
            quiet = np.array([kind in kinds for kind in signals])
            moment = np.array([kind == "context" for kind in signals])
            usual = np.where(moment, 0.0, column.mean(axis=0))  # of the moment, 0 is what is not told
            columns[name] = np.where(quiet, usual, column).astype(np.float32)
    return slate.add(**columns)


def scored(request: Request, slate: Slate, stages: Sequence[Bound]) -> Floats:
    """(N,) what the stages make of the candidates, in the order of the slate."""
    slate = slate.add(at=np.arange(len(slate)))
    scores = np.zeros(len(slate), np.float32)
    for bound in stages:
        slate = bound.run(request, slate)
    scores[slate.columns["at"]] = np.nan_to_num(slate.scores)
    return scores
