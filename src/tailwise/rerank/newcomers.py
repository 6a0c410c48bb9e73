"""
Newcomers: items that nobody has had yet get places of their own, below the first twenty.

No source that counts what people did can say anything of them, so on merit they would come last for ever. From place
``after`` on a share of the places is theirs, and what stands above is as it was. Whom they are for is told by what they
are: those who like an item like others with certain texts, labels and ages (``learn/content.py``).

    history ─▶ mean of where the likers of each item are ─▶ newcomers that lie that way ─▶ every n-th place
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.attributes import Attributes
from tailwise.errors import ArtifactError
from tailwise.rerank.reasons import NEWCOMER
from tailwise.types import NO_ROWS, QUERY, Facts, Floats, History, Request, Rows, Slate

NOBODY, NOT_ONE = -1, -2
"""In the column ``newcomer``: it was given a place, but no event speaks for it; it was given none."""
FILE = "newcomers.safetensors"


class NewcomersConfig(Closed):
    """Settings of the stage for items without events."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Of the places below ``after``, those that newcomers get while there are any that suit. Unitless; 0: none."""
    after: Annotated[int, Field(ge=1)] = 20
    """Places at the top that are left as they are."""
    least: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """How much more than the usual item a newcomer must suit a person, in standard deviations over all items."""
    regularisation: Annotated[float, Field(gt=0)] = 0.5
    """Ridge on what attributes say, in multiples of their mean variance."""
    dim: Annotated[int, Field(ge=1)] = 32
    """Directions in which likers are told apart."""
    people: Annotated[int, Field(ge=1)] = 100_000
    """At most so many teach it."""


@dataclass(frozen=True)
class Tastes:
    """A space in which a person and an item that they could like point the same way."""

    attributes: Attributes
    middle: Floats  # (F,) the usual item
    directions: Floats  # (F, D) from attributes
    likers: Floats  # (M, D) unit rows: what those who had an item take; zeros where nobody had it
    usual: Floats  # (D,) the mean person: what is known of a stranger, and counts like one event of others
    spread: Floats  # (D, D) of all items: how far apart they lie

    def items(self, attributes: Floats) -> Floats:
        """(N, F) attributes to (N, D)."""
        return np.asarray((attributes - self.middle) @ self.directions, np.float32)

    def person(self, past: History) -> tuple[Floats, Floats]:
        """
        Where a person stands.

        Returns:
            (D,) such that products with items are in standard deviations over all items; and (H, D) what each event
            adds to it, zeros where an item is unknown, was had by nobody in training, or was not liked.
        """
        rows = np.where(past.speaks_for & (past.rows < len(self.likers)), past.rows, -1)
        parts = np.where(rows[:, None] >= 0, self.likers[rows], np.float32(0))
        whole = parts.sum(axis=0) + self.usual
        deviation = math.sqrt(max(float(whole @ self.spread @ whole), 0.0))
        scale = np.float32(1 / deviation if deviation > 0 else 0.0)
        return whole * scale, parts * scale

    def save(self, folder: Path) -> None:
        """Write the space."""
        names = ("middle", "directions", "likers", "usual", "spread")
        save_arrays(folder / FILE, **{name: getattr(self, name) for name in names})
        self.attributes.save(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        arrays = load_arrays(folder / FILE)
        try:
            return cls(attributes=Attributes.open(folder), **arrays)
        except TypeError as error:
            raise ArtifactError(f"{folder / FILE} holds other arrays ({error}); fit the model again") from error


def slots(*, share: float, after: int, k: int) -> Rows:
    """
    Places, from 0, that go to newcomers: every ``1 / share``-th one from ``after`` on.

    >>> slots(share=0.2, after=10, k=25).tolist()
    [14, 19, 24]
    """
    count = math.floor(max(k - after, 0) * share + 1e-9)  # 0.07 * 100 is a little above 7
    return after - 1 + np.ceil(np.arange(1, count + 1) / max(share, 1e-9) - 1e-9).astype(np.int64)


def placed_order(n: int, chosen: Rows, places: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """
    The order in which ``chosen`` stand at ``places`` and all others keep theirs.

    Args:
        n: Rows of the slate.
        chosen: (C,) rows to move, best first.
        places: (≥ C,) ascending; where the slate is too short for one, it is the last that is free.

    Returns:
        (N,) a permutation, and (N,) which places were given.

    >>> placed_order(5, np.array([4]), np.array([2]))[0].tolist()
    [0, 1, 4, 2, 3]
    """
    given, moved = np.zeros(n, bool), np.zeros(n, bool)
    at = np.minimum(places[: len(chosen)], n - len(chosen) + np.arange(len(chosen)))
    given[at], moved[chosen] = True, True
    order = np.empty(n, np.int64)
    order[at], order[~given] = chosen, np.flatnonzero(~moved)
    return order, given


class Newcomers:
    """
    Gives items without events a share of the places below the first ones, those that suit the person most first.

    An item that has events by the next fit, or the next round of learning on, is none any more. A newcomer that stands
    better by merit stays there. A query is left alone: the sources that read it know new texts as well as old ones.

    Args:
        config: Settings.
        facts: With every item that may be shown, and its events in training (``popularity``).
        tastes: What was learned; None: nothing, or no newcomer is worth a place.
    """

    Config = NewcomersConfig
    needs = frozenset({"row"})
    gives: frozenset[str] = frozenset()

    def __init__(self, config: NewcomersConfig, facts: Facts, tastes: Tastes | None) -> None:
        self.config = config
        self.tastes = tastes
        events = facts.columns(facts.item_ids, frozenset({"popularity"}))["popularity"]
        self.rows: Rows = NO_ROWS  # (S,)
        if tastes is not None:
            fresh = np.flatnonzero(events == 0)
            attributes = tastes.attributes.rows(facts, facts.item_ids[fresh])
            if attributes.shape[1] != len(tastes.middle):
                raise ArtifactError(
                    f"newcomers: the items have {attributes.shape[1]} attributes, but the stage learned from "
                    f"{len(tastes.middle)}; fit the model again"
                )
            known = attributes.any(axis=1)  # of the others nothing can be said
            self.rows, self._vectors = fresh[known], tastes.items(attributes[known])  # (S, D)
        self._place = np.full(len(events) + 1, -1, np.int64)  # of each row among them; the last is of row -1
        self._place[self.rows] = np.arange(len(self.rows))

    @classmethod
    def open(cls, config: NewcomersConfig, facts: Facts, folder: Path) -> Self:
        """
        Read what ``save`` wrote; where nothing was, nobody gets a place.

        Raises:
            ArtifactError: A file is damaged, or the items have other attributes.
        """
        return cls(config, facts, Tastes.open(folder) if (folder / FILE).is_file() else None)

    def save(self, folder: Path) -> None:
        """Write what was learned, where anything was."""
        if self.tastes is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.tastes.save(folder)

    def brings(self, request: Request, slate: Slate) -> Rows:
        """
        Rows of newcomers that are to join a slate, best first: as many as there are places for them, and not there yet.

        Cost: nothing for a request of at most ``after`` items; O(S D) else, some 20 µs for a thousand.
        """
        free = len(self._slots(request.k))
        if not free or request.candidates is not None or _searches(request):
            return NO_ROWS
        suits = self._suits(request).copy()
        out = self._place[np.concatenate([slate.columns["row"], request.excluded])]
        suits[out[out >= 0]] = -np.inf
        best = np.argpartition(-suits, min(free, len(suits)) - 1)[:free]
        best = best[suits[best] >= self.config.least]
        return self.rows[best[np.argsort(-suits[best], kind="stable")]]

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """
        The slate with newcomers in their places.

        Where any was given, also the column ``newcomer`` (N,) int64: what speaks for each of them. Such an item has the
        score of what stands above it.
        """
        places = self._slots(min(request.k, len(slate)))
        if not len(places) or _searches(request):
            return slate
        who = self._place[slate.columns["row"]]  # (N,)
        stand = self.config.after + np.flatnonzero(who[self.config.after :] >= 0)
        suits = self._suits(request)[who[stand]]
        best = np.argsort(-suits, kind="stable")[: len(places)]
        chosen = stand[best[suits[best] >= self.config.least]]
        lower = chosen > places[: len(chosen)]  # the others stand better by merit
        chosen, places = chosen[lower], places[: len(chosen)][lower]
        if not len(chosen):
            return slate
        order, given = placed_order(len(slate), chosen, places)
        says = np.full(len(slate), NOT_ONE, np.int64)
        says[given] = self._speaks(request, who[chosen])
        above = np.maximum.accumulate(np.where(given, 0, np.arange(len(slate))))
        slate = slate.take(order).add(**{NEWCOMER: says})
        return replace(slate, scores=slate.scores[above])

    def _slots(self, k: int) -> Rows:
        """The places that a list of ``k`` has for newcomers."""
        own = self.config
        return slots(share=own.share, after=own.after, k=k) if k > own.after and len(self.rows) else NO_ROWS

    def _suits(self, request: Request) -> Floats:
        """(S,) how much each newcomer suits the person. Made once a request."""
        assert self.tastes is not None, "there are newcomers only where something was learned"
        if self not in request.cache:
            request.cache[self] = self._vectors @ self.tastes.person(request.past)[0]
        return request.cache[self]

    def _speaks(self, request: Request, who: Rows) -> Rows:
        """(C,) the event that says most for each newcomer; ``NOBODY`` where none does."""
        assert self.tastes is not None, "there are newcomers only where something was learned"
        if not len(request.past):
            return np.full(len(who), NOBODY)
        adds = self._vectors[who] @ self.tastes.person(request.past)[1].T  # (C, H)
        best = adds.argmax(axis=1)
        return np.where(adds[np.arange(len(who)), best] > 0, best, NOBODY)


def _searches(request: Request) -> bool:
    """Whether a request says in words what it wants, with or without an encoder that reads them."""
    return bool(request.query) or QUERY in request.cache
