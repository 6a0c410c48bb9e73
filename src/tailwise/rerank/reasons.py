"""
Reasons: why each item of the answer is there, in a few words.

Only what will be shown is explained, by what is true of it: a rule that acted on it, the nearest item the person liked,
labels it shares with what they liked lately, its popularity now, its place in the long tail. Not how the models weigh
these: that is another question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from tailwise.config import Closed
from tailwise.rerank.diversity import unit_rows
from tailwise.types import AGAINST, Column, Facts, Ids, Request, Slate

Reason = dict[str, str]

POPULAR: Reason = {"kind": "popular", "text": "Popular now"}
TAIL: Reason = {"kind": "tail", "text": "From the long tail"}
FITS: Reason = {"kind": "score", "text": "Fits your history"}
LIKED_BY_MANY: Reason = {"kind": "popular", "text": "Liked by many"}

POPULAR_NOW = 0.95
"""Quantile of recent popularity from which an item counts as popular now."""
MOST_LABELS = 3
"""Shared labels that are named; more make no better sentence."""


class Reasons:
    """Annotates the first ``request.k`` items with reasons; changes neither order nor scores."""

    gives = frozenset({"reasons"})

    class Config(Closed):
        """Settings of the reasons stage."""

        most: Annotated[int, Field(ge=1)] = 2
        """Reasons for one item."""
        similar: Annotated[float, Field(ge=-1, le=1)] = 0.3
        """Least cosine to call items similar; whitened vectors of unrelated items lie around 0, give or take 0.1."""
        latest: Annotated[int, Field(ge=1)] = 3
        """Liked items of the history that count as the latest."""

    def __init__(self, config: Config, facts: Facts) -> None:
        self.config = config
        self._facts = facts
        self._labels: Mapping[str, tuple[str, ...]] = getattr(facts, "labels", {})
        self.needs = frozenset({"vector", *self._labels}) | (facts.names & {"recent", "tail"})

    @classmethod
    def open(cls, config: Config, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  nothing is stored
        """Build from settings and what is known of the items of a history."""
        return cls(config, facts)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """
        The slate with ``reasons`` (N,): a tuple of dicts for each of the first ``request.k`` rows, () below.

        Each dict has ``kind`` and ``text``, ``similar`` also ``item_id``. In order of preference the kinds are rule,
        similar, shared and popular; only where none of them holds tail, else score, or popular for a stranger.

        Cost: O(k H D) for a history of H: some 0.1 ms for 10 items and 50 events beside what the facts take.
        """
        top = slate.take(np.arange(min(request.k, len(slate))))
        liked = request.past.item_ids[[event not in AGAINST for event in request.past.events]]  # (L,) oldest first
        columns = [_rules(top), *(self._personal(top, liked) if len(liked) else []), _popular(top)]
        tail = top.columns.get("tail", np.zeros(len(top), bool))
        last = FITS if len(liked) else LIKED_BY_MANY
        reasons = np.empty(len(slate), object)
        reasons.fill(())
        for row, (found, is_tail) in enumerate(zip(zip(*columns, strict=True), tail, strict=True)):
            known = tuple(reason for reason in found if reason is not None)
            reasons[row] = known[: self.config.most] or (TAIL if is_tail else last,)
        return slate.add(reasons=reasons)

    def _personal(self, top: Slate, liked: Ids) -> list[list[Reason | None]]:
        """Reasons in what the person liked."""
        past = self._facts.columns(liked, frozenset({"vector", "title", *self._labels}) & self._facts.names)
        names = past.get("title", liked)
        similar: list[Reason | None] = [None] * len(top)
        cosine = unit_rows(top.columns["vector"]) @ unit_rows(past["vector"]).T  # (k, L)
        cosine[top.item_ids[:, None] == liked] = -np.inf  # an item is no reason for itself
        nearest = cosine.argmax(axis=1)  # (k,)
        for row in np.flatnonzero(cosine[np.arange(len(top)), nearest] >= self.config.similar):
            item_id, name = liked[nearest[row]], names[nearest[row]]
            text = f"Because of {name if isinstance(name, str) and name else item_id}"
            similar[row] = {"kind": "similar", "item_id": item_id, "text": text}
        return [similar, self._shared(top, past)]

    def _shared(self, top: Slate, past: Mapping[str, Column]) -> list[Reason | None]:
        """Labels in common with the latest."""
        shared: list[list[str]] = [[] for _ in range(len(top))]
        for name, labels in sorted(self._labels.items()):
            both = top.columns[name] & past[name][-self.config.latest :].any(axis=0)  # (k, G)
            for row, label in np.argwhere(both):
                shared[row].append(labels[label])
        return [
            {"kind": "shared", "text": f"Shares {', '.join(names[:MOST_LABELS])} with your latest"} if names else None
            for names in shared
        ]


def _rules(top: Slate) -> list[Reason | None]:
    fired = top.columns.get("fired", [()] * len(top))
    return [{"kind": "rule", "text": f"Rule: {', '.join(names)}"} if names else None for names in fired]


def _popular(top: Slate) -> list[Reason | None]:
    recent = top.columns.get("recent", np.zeros(len(top)))
    return [POPULAR if popular else None for popular in recent >= POPULAR_NOW]
