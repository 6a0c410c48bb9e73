"""
Reasons: why each item of the answer is there, in a few words, in the language of who reads.

Only what will be shown is explained, by what is true of it. A rule that acted on it; the item of the history that
carried most of its score, and without which that score falls; what a knowledge graph links both to; of a newcomer the
item whose likers are its likers most; that a language model put it higher; the nearest item that the person liked;
labels it shares with what they liked lately; that it is new; its popularity now; its place in the long tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from tailwise.config import Closed
from tailwise.data.catalogue import title_columns
from tailwise.data.interactions import Training
from tailwise.nets.questions import BackendConfig
from tailwise.rerank.diversity import unit_rows
from tailwise.rerank.paths import Paths
from tailwise.rerank.phrases import reader_of, sentence
from tailwise.types import ADVISED, QUERY, Column, Facts, History, Request, Rows, Slate

Reason = dict[str, Any]

CARRIED = "carried"
"""The column of which event of the history carried most of an item's score, by its place; -1 where none did."""
NEWCOMER = "newcomer"
"""The column of newcomers that were given a place: the event that speaks for each, by its place; -1 where none does,
-2 for every other item."""
POPULAR_NOW = 0.95
"""Quantile of recent popularity from which an item counts as popular now."""
LATELY = 50
"""Newest liked events that paths of a graph lead to."""
MOST_LABELS = 3
"""Shared labels that are named; more make no better sentence."""
GRAPH = "graph"
"""Key of a fit's memo under which the data folder's graph lies."""


class Reasons:
    """Annotates the first ``request.k`` items with reasons; changes neither order nor scores."""

    gives = frozenset({"reasons"})
    uses = frozenset({ADVISED, CARRIED, NEWCOMER, "fired"})
    """Columns that it reads where they are."""

    class Config(Closed):
        """Settings of the reasons stage."""

        most: Annotated[int, Field(ge=1)] = 2
        """Reasons for one item."""
        similar: Annotated[float, Field(ge=-1, le=1)] = 0.3
        """Least cosine to call items similar; whitened vectors of unrelated items lie around 0, give or take 0.1."""
        latest: Annotated[int, Field(ge=1)] = 3
        """Liked items of the history that count as the latest."""
        phrase: BackendConfig | None = None
        """A language model that puts reasons into words for ``POST /v1/explain``, as the stage ``listwise_llm`` names
        one; None: nobody does. What it says is checked, and the plain sentence stands where it fails."""
        phrase_ms: Annotated[float, Field(gt=0, le=600_000)] = 5_000.0
        """After which no further item is phrased, in milliseconds."""

    def __init__(self, config: Config, facts: Facts, paths: Paths | None = None) -> None:
        self.config = config
        self.paths = paths
        self._facts = facts
        self._labels: Mapping[str, tuple[str, ...]] = getattr(facts, "labels", {})
        self.needs = frozenset({"vector", *self._labels}) | (facts.names & {"recent", "tail"})
        self._events = _any_events(facts)

    @classmethod
    def fit(cls, config: Config, training: Training) -> Self:
        """Keep of the data's graph what links items."""
        catalogue, graph = training.catalogue, training.memo.get(GRAPH)
        paths = None if graph is None else Paths.of(graph, catalogue.rows, len(catalogue))
        return cls(config, catalogue, paths or None)

    @classmethod
    def open(cls, config: Config, facts: Facts, folder: Path) -> Self:
        """
        Build from settings, what is known of the items of a history, and the links that ``save`` wrote.

        Raises:
            ArtifactError: The links are damaged.
        """
        return cls(config, facts, Paths.open(folder))

    def save(self, folder: Path) -> None:
        """Write the links of the graph, where there are any."""
        if self.paths is not None:
            self.paths.save(folder)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """
        The slate with ``reasons`` (N,): a tuple of dicts for each of the first ``request.k`` rows, () below.

        Each dict has ``kind`` and ``text``, and what the text names; where that is an item, its ``item_id``. In order
        of preference the kinds are rule, history, new_for, path, gate, similar, shared, new, popular and query; only
        where none of them holds nearest to a query, else tail, else score, or liked for a stranger; where nobody has
        done anything yet, listed.

        Cost: O(k H D) for a history of H: some 0.2 ms for 10 items and 50 events beside what the facts take.
        """
        top = slate.take(slice(request.k))
        language = reader_of(request)
        liked = request.past.speaks_for
        personal = self._personal(request, top, liked, language) if liked.any() else []
        columns = [_rules(top), *personal[:-2], _advised(top), *personal[-2:], _new(top), _popular(top)]
        tail = top.columns.get("tail", np.zeros(len(top), bool)) & self._events
        searched = bool((request.query or "").strip()) and request.candidates is None
        searched &= QUERY in request.cache or not self._events  # else nothing may have read it
        spoken = (liked & (request.past.rows >= 0)).any()  # what nobody knows says nothing of a person
        last = "nearest" if searched else "score" if spoken else "liked" if self._events else "listed"
        columns.append(_asked(request, top, self.config.similar))
        reasons = np.empty(len(slate), object)
        reasons.fill(())
        for row, (found, is_tail) in enumerate(zip(zip(*columns, strict=True), tail, strict=True)):
            known = _distinct(found)[: self.config.most] or [{"kind": "tail" if is_tail and not searched else last}]
            reasons[row] = tuple({**reason, "text": sentence(reason, language)} for reason in known)
        return slate.add(reasons=reasons)

    def _personal(self, request: Request, top: Slate, liked: Column, language: str) -> list[list[Reason | None]]:
        """Reasons in what the person liked."""
        past = request.past if liked.all() else request.past.take(liked)
        titles = title_columns(self._facts.names, language)
        wanted = frozenset({"vector", *titles, *self._labels}) & self._facts.names
        facts = self._facts.columns(past.item_ids, wanted)
        item_ids = past.item_ids.tolist()
        names = item_ids
        for column in (facts[name].tolist() for name in reversed(titles)):  # the reader's last, over all others
            names = [
                own if isinstance(own, str) and own.strip() else name for own, name in zip(column, names, strict=True)
            ]

        def cited(kind: str, place: int, **more: str) -> Reason:
            return {"kind": kind, "item_id": item_ids[place], "name": names[place], **more}

        place_of = (np.cumsum(liked) - 1).tolist()  # from all events to the liked ones
        found: list[list[Reason | None]] = []
        for kind, name in (("history", CARRIED), ("new_for", NEWCOMER)):
            events = top.columns[name].tolist() if name in top.columns else ()
            if any(event >= 0 for event in events):
                found.append([cited(kind, place_of[event]) if event >= 0 else None for event in events])
        if self.paths is not None and "row" in top.columns:
            start = max(len(past) - LATELY, 0)
            shared = self.paths.shared(top.columns["row"], past.rows[start:])
            found.append([p and cited("path", start + p[0], relation=p[1], entity=p[2]) for p in shared])
        similar = [None if place < 0 else cited("similar", place) for place in self._nearest(top, past, facts).tolist()]
        return [*found, similar, self._shared(top, facts)]

    def _nearest(self, top: Slate, past: History, facts: Mapping[str, Column]) -> Rows:
        """(k,) the place of the nearest liked item; -1 where none is near."""
        cosine = top.columns["vector"] @ facts["vector"].T  # (k, L): of unit length, or zeros
        rows = top.columns.get("row")
        same = top.item_ids[:, None] == past.item_ids if rows is None else rows[:, None] == past.rows
        cosine[same] = -np.inf  # an item is no reason for itself
        nearest = cosine.argmax(axis=1)  # (k,)
        return np.where(cosine[np.arange(len(top)), nearest] >= self.config.similar, nearest, -1)

    def _shared(self, top: Slate, past: Mapping[str, Column]) -> list[Reason | None]:
        """Labels in common with the latest."""
        shared: list[list[str]] = [[] for _ in range(len(top))]
        for name, labels in sorted(self._labels.items()):
            both = top.columns[name] & past[name][-self.config.latest :].any(axis=0)  # (k, G)
            for row, label in zip(*(places.tolist() for places in both.nonzero()), strict=True):
                shared[row].append(labels[label])
        return [{"kind": "shared", "labels": names[:MOST_LABELS]} if names else None for names in shared]


def _distinct(found: tuple[Reason | None, ...]) -> list[Reason]:
    """The reasons that are there; to call an item similar that is cited already says nothing new."""
    known = [reason for reason in found if reason is not None]
    if len(known) < 2:
        return known
    cited = {reason["item_id"] for reason in known if reason["kind"] in {"history", "path", "new_for"}}
    return [reason for reason in known if reason["kind"] != "similar" or reason["item_id"] not in cited]


def _any_events(facts: Facts) -> bool:
    """Whether anybody has done anything, so that it means something to be popular or not."""
    if "popularity" not in facts.names:
        return True
    return bool(np.nan_to_num(facts.columns(facts.item_ids, frozenset({"popularity"}))["popularity"]).any())


def _asked(request: Request, top: Slate, similar: float) -> list[Reason | None]:
    """What is near to the query in meaning."""
    if QUERY not in request.cache:
        return [None] * len(top)
    cosine = unit_rows(top.columns["vector"]) @ request.cache[QUERY]  # (k,)
    return [{"kind": "query"} if near else None for near in cosine >= similar]


def _rules(top: Slate) -> list[Reason | None]:
    fired = top.columns["fired"] if "fired" in top.columns else [()] * len(top)
    return [{"kind": "rule", "rules": list(names)} if names else None for names in fired]


def _advised(top: Slate) -> list[Reason | None]:
    """That a language model, which the gate let speak, put an item higher."""
    rose = top.columns.get(ADVISED, np.zeros(len(top), bool)).tolist()
    return [{"kind": "gate"} if higher else None for higher in rose]


def _new(top: Slate) -> list[Reason | None]:
    """That nobody has had a newcomer, where nothing of the person's history speaks for it."""
    events = top.columns[NEWCOMER].tolist() if NEWCOMER in top.columns else [None] * len(top)
    return [{"kind": "new"} if event == -1 else None for event in events]


def _popular(top: Slate) -> list[Reason | None]:
    recent = top.columns.get("recent", np.zeros(len(top)))
    return [{"kind": "popular"} if popular else None for popular in recent >= POPULAR_NOW]
