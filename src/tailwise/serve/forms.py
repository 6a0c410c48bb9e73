"""What requests, events and answers look like as JSON: the types that msgspec checks, and that /docs describes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Id = Annotated[str, Meta(min_length=1, max_length=512)]
Share = Annotated[float, Meta(ge=0, le=1)]
Time = float | str
Value = Annotated[float, Meta(ge=-1e12, le=1e12)]
Kind = Literal["view", "click", "favourite", "cart", "purchase", "rating", "dwell", "skip", "dislike"]


class PastForm(Struct):
    """One event of a request's own history. ``time``: seconds since epoch, UTC, or ISO 8601."""

    item_id: Id
    event: Kind = "view"
    time: Time = 0.0
    value: Value | None = None


class RequestForm(Struct):
    """
    A request for a ranked list.

    One of ``user_id``, ``history``, ``candidates`` and ``query`` must be there. ``history`` replaces what is stored
    of the person; events later than ``time`` are never used. ``explain`` adds the first-stage order to the answer.
    """

    request_id: Id | None = None
    user_id: Id | None = None
    time: Time | None = None
    k: int = 10
    candidates: list[Id] | None = None
    history: list[PastForm] | None = None
    context: dict[str, Any] = {}
    query: Annotated[str, Meta(max_length=8192)] | None = None
    exclude_seen: bool | None = None
    diversity: Share | None = None
    tail_share: Share | None = None
    blend: dict[str, float] | None = None
    """What each head of the model weighs in the order, by name; ``score`` is the order that comes in."""
    seed: Annotated[int, Meta(ge=0, le=2**53 - 1)] = 0
    explain: bool = False


class EventForm(Struct):
    """What a person did with an item. ``event_id`` makes sending it twice harmless; ``time`` is now when absent."""

    user_id: Id
    item_id: Id
    event: Kind = "view"
    time: Time | None = None
    value: Value | None = None
    request_id: Id | None = None
    position: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None
    event_id: Id | None = None


class ItemForm(Struct):
    """One place of an answer. ``first_rank``: its place, from 1, before the stages ran."""

    item_id: str
    title: str
    score: float | None
    reasons: list[str]
    propensity: float
    first_rank: int
    tail: bool
    labels: list[str] | UnsetType = UNSET
    """Genres, tags or categories; with ``explain`` only."""
    told: dict[str, float | None] | UnsetType = UNSET
    """What the heads of the model tell: chances, a rating, seconds; where it has heads."""


class FirstForm(Struct):
    """One place of the first-stage order."""

    item_id: str
    title: str
    score: float | None


class DoneForm(Struct):
    """One event of a person, as stored."""

    item_id: str
    title: str
    event: str
    time: float
    value: float | None


class TraceForm(Struct):
    """What one step did; ``skipped`` says why it did not act."""

    name: str
    ms: float
    rows_in: int
    rows_out: int
    skipped: str | UnsetType = UNSET


class AnswerForm(Struct):
    """A ranked list, best first, and what led to it."""

    request_id: str
    items: list[ItemForm]
    trace: list[TraceForm]
    version: str
    """Of the model that answered."""
    excluded_seen: bool
    first_stage: list[FirstForm] | UnsetType = UNSET
    """The first ``k`` before the stages ran; with ``explain`` only."""
    history: list[DoneForm] | UnsetType = UNSET
    """What the engine used of the person, oldest first; with ``explain`` only."""
