"""What requests, events and answers look like as JSON: the types that msgspec checks, and that /docs describes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from tailwise.pipeline.explained import Explanation
from tailwise.types import LONGEST_ID, MOST_WEIGHT

Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]
PersonId = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\n]+(?!\n)$")]
"""Without line breaks, which no address can hold: who is stored must be found, and erased, by it."""
Share = Annotated[float, Meta(ge=0, le=1)]
Time = float | str
Weight = Annotated[float, Meta(ge=-MOST_WEIGHT, le=MOST_WEIGHT)]
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
    history: Annotated[list[PastForm], Meta(max_length=10_000)] | None = None
    context: Annotated[dict[str, Any], Meta(max_length=100)] = {}
    query: Annotated[str, Meta(max_length=8192)] | None = None
    exclude_seen: bool | None = None
    diversity: Share | None = None
    tail_share: Share | None = None
    blend: Annotated[dict[str, Weight], Meta(max_length=100)] | None = None
    """What each head of the model weighs in the order, by name; ``score`` is the order that comes in."""
    seed: Annotated[int, Meta(ge=0, le=2**53 - 1)] = 0
    explain: bool = False


class EventForm(Struct):
    """What a person did with an item. ``event_id`` makes sending it twice harmless; ``time`` is now when absent."""

    user_id: PersonId
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
    explanations: list[Explanation] | UnsetType = UNSET
    """Why each item stands where it does; with ``tailwise rank --explain`` only."""


class ExplainForm(RequestForm):
    """
    A request as for a ranked list, and what of it to explain.

    ``item_id`` names one item, on the list or not; without it every item of the list is explained. ``phrase`` lets the
    model that the stage ``reasons`` names put the reasons into words, where it names one.
    """

    item_id: Id | None = None
    phrase: bool = False


class ExplainedForm(Struct):
    """Why each item stands where it does."""

    request_id: str
    version: str
    language: str
    items: list[Explanation]
    gates: dict[str, str]
    """Steps that left the request alone, and why."""
    trace: list[TraceForm]
    rankings: int
    """How often it was ranked again to look for what would have to be gone."""
    said: dict[str, str] | UnsetType = UNSET
    """What a language model made of the reasons, by item; with ``phrase`` only."""
    refused: dict[str, int] | UnsetType = UNSET
    """Phrases that were not shown, by why; with ``phrase`` only."""


class CanaryForm(Struct):
    """What is to become of the model on trial: one of the two."""

    share: Share | None = None
    """Of the people that it serves; 0 ends the trial."""
    promote: bool = False
    """Serve everybody by it."""
