"""What an explanation holds: places, parts of a score, what carried it, and why an item is not on a list."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tailwise.data.catalogue import Catalogue
from tailwise.data.features import Contexts
from tailwise.pipeline.asking import Answer, Watch
from tailwise.pipeline.binding import Bound
from tailwise.types import Request


class Ranks(Protocol):
    """What is explained: an engine."""

    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def sources(self) -> tuple[Bound, ...]: ...
    @property
    def stages(self) -> tuple[Bound, ...]: ...
    @property
    def contexts(self) -> Contexts: ...
    def answer(
        self, request: Request, *, spare: frozenset[str] = frozenset(), watch: Watch | None = None
    ) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to look for what would have to be gone."""

    tries: int = 32
    """Rankings at most; 0 looks for nothing."""
    seconds: float = 2.0
    """After which no further ranking begins."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a source adds to the fused score: ``weight`` times its score, standardised within the slate."""

    source: str
    kind: str
    score: float | None
    """Of the source itself; None where it knows nothing of the item."""
    weight: float
    adds: float


@dataclass(frozen=True, slots=True)
class Move:
    """What a stage did to the item; places are from 1, None before one that brings it and after one that drops it."""

    stage: str
    place: int | None
    place_after: int | None
    score: float | None
    score_after: float | None
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """What an item of the history adds to the fused score, through the sources that are sums over the history."""

    item_id: str
    title: str
    adds: float
    by: dict[str, float]


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """
    Without these items of the history the item would stand lower: it was ranked again to see.

    A language model is not asked again. Where it had a say, both places are those of the list without its opinion.
    """

    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    place: int
    """From 1, as things are."""
    place_without: int | None
    """None: it leaves the list."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Why an item is not on a list."""

    why: Literal["seen", "unknown", "no candidate", "not found", "dropped", "below"]
    text: str
    """In words."""
    found_by: dict[str, int] = field(default_factory=dict)
    """The item's place in each source's order, from 1; sources that know nothing of it are not there."""
    place_if_found: int | None = None
    """Where it would stand among all candidates had a source found it."""
    behind: float | None = None
    """By how much its score is below that of the last on the list; below 0 where later stages chose otherwise."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one item stands where it does, or why it is not on the list."""

    item_id: str
    title: str
    place: int | None
    """On the list, from 1; None when it is not on it."""
    rank: int | None
    """Among all candidates after the stages, from 1; None when it was none, or was dropped."""
    first_rank: int | None
    """Before the stages, from 1."""
    score: float | None
    reasons: tuple[dict[str, Any], ...] = ()
    rules: tuple[str, ...] = ()
    """That fired."""
    fused: float | None = None
    """The fused score: what ``sources`` add up to. None without a fusion, or where no source knows the item."""
    sources: tuple[Part, ...] = ()
    history: tuple[Carried, ...] = ()
    """Those of largest effect, most first."""
    history_rest: float = 0.0
    """What all other items of the history add together."""
    kinds: dict[str, float] = field(default_factory=dict)
    """What each kind of signal adds to ``judged``; they add up to it less ``baseline``."""
    judged: float | None = None
    """The score that the stages which judge by signals give."""
    baseline: float | None = None
    """The same had no signal said anything."""
    stages: tuple[Move, ...] = ()
    without: Counterfactual | None = None
    missing: Missing | None = None
    """Why it is not on the list; None when it is."""


@dataclass(frozen=True, slots=True)
class Explained:
    """An answer, and why."""

    answer: Answer
    items: tuple[Explanation, ...]
    gates: dict[str, str]
    """Stages that left the request alone, or were skipped, and why."""
    rankings: int
    """How often it was ranked again to look for what would have to be gone."""
