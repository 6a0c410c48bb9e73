"""
The gate: whether a costly opinion is worth asking for, and what it then weighs beside the fast score.

A language model that reads titles knows much of a person with three events, and little that a year of events does not
say better. So the gate decides by the length of the history. Where it does not help, nothing is asked, nothing waits.

    (request, slate) ─▶ weight 0: not asked  │  weight w: blended = standardised score + w · standardised opinion
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, ValidationError

from tailwise.config import Closed
from tailwise.data.scores import with_best_moved
from tailwise.errors import Abstain, ArtifactError, ShapeError
from tailwise.rank.fusion import standardised
from tailwise.types import ADVISED, QUERY, Floats, Request, Slate

LONGEST = (0, 5, 20, 50)
"""Liked events of the longest history of each bucket but the last, which has no end."""
BUCKETS = ("no history", "1-5 events", "6-20 events", "21-50 events", "51 events and more")
SITUATION = ("log of the history", "lead of the first", "lead on the tenth", "cold share")
"""What each of the G numbers is by which the gate judges a request."""
TENTH = 9
LEAST_GAIN = 0.001
"""In NDCG@10: an opinion costs time, and one that gains less than a thousandth is not worth any."""
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Numbers = Annotated[tuple[float, ...], Field(min_length=len(SITUATION), max_length=len(SITUATION))]


class Rule(Closed):
    """A linear guess at what asking gains, from the situation."""

    slopes: Numbers
    """Of the gain in NDCG@10, by unit of each number."""
    start: float
    """The gain where all numbers are 0."""


class Gate(Closed):
    """
    What was learned of an opinion: for whom it counts, and how much. As it stands, only a query asks for one.

    ``learn.gate.fit_gate`` makes it; ``dump`` and ``load`` turn it into plain data and back.
    """

    depth: Annotated[int, Field(ge=2, le=10_000)] = 20
    """Of the incoming order, the best that are judged."""
    weights: Annotated[tuple[Weight, ...], Field(min_length=len(BUCKETS), max_length=len(BUCKETS))] = (0.0,) * 5
    """What the opinion weighs, by the bucket of the history's length; 0: it is not asked."""
    query: Weight = 1.0
    """What it weighs where there is a query: logs of what people did next say nothing of what it asks for, so this is
    set, not learned."""
    rule: Rule | None = None
    """Expects a gain of each request; None asks all of a bucket that has a weight."""
    least_gain: Annotated[float, Field(ge=0)] = LEAST_GAIN
    """In NDCG@10: the opinion is asked where the rule expects more."""

    needs: ClassVar[frozenset[str]] = frozenset({"row", "popularity"})
    """Columns of the slate that the situation is read from; a stage with a gate needs them."""

    @classmethod
    def always(cls, weight: float, depth: int = 20) -> Self:
        """Asks for every request, strangers too, and weighs all alike."""
        return cls(depth=depth, weights=(weight,) * len(BUCKETS), query=weight)

    @classmethod
    def load(cls, raw: Any) -> Self:
        """
        A gate from what ``dump`` gave.

        Raises:
            ArtifactError: It is no such thing.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"])) or "gate"
            problem = f"the gate cannot be read ({place}: {error.errors()[0]['msg']}); fit the model again"
            raise ArtifactError(problem) from error

    def dump(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return self.model_dump(mode="json")

    def situation(self, request: Request, slate: Slate) -> Floats:
        """
        What the decision depends on, (G,) float32, finite, named by ``SITUATION``.

        The leads are of the first candidate on the second and on the tenth, in deviations of the ``depth`` best; the
        cold share is that of the ``depth`` best which nobody touched, 0 where the slate does not tell.
        """
        scores = _scaled(slate.scores[: self.depth])
        n = len(scores)
        leads = (scores[0] - scores[1], scores[0] - scores[min(TENTH, n - 1)]) if n > 1 else (0.0, 0.0)
        popularity = slate.columns.get("popularity")
        # Of what the catalogue does not know the popularity is NaN, and that is cold as well.
        cold = 0.0 if popularity is None or not n else float(1.0 - (popularity[:n] > 0).mean())
        return np.array([np.log1p(len(request.past.liked())), *leads, cold], np.float32)

    def asked(self, request: Request, slate: Slate) -> float:
        """
        What the opinion weighs, above 0.

        Raises:
            Abstain: It is not worth asking for; says why, for the trace.
        """
        if len(slate) < 2:
            raise Abstain("gate: nothing to order")
        if QUERY in request.cache:
            if self.query == 0:
                raise Abstain("gate: not asked where there is a query")
            return self.query
        place = bucket(len(request.past.liked()))
        if self.weights[place] == 0:
            raise Abstain(f"gate: it did not help people with {BUCKETS[place]}")
        if self.rule is not None:
            expected = float(self.situation(request, slate) @ np.array(self.rule.slopes) + self.rule.start)
            if expected <= self.least_gain:
                raise Abstain(f"gate: expected gain {expected:.4f}, asked above {self.least_gain:g}")
        return self.weights[place]

    def weight(self, request: Request, slate: Slate) -> float:
        """What the standardised opinion weighs beside the standardised incoming score; 0: do not ask."""
        try:
            return self.asked(request, slate)
        except Abstain:
            return 0.0


def bucket(length: int) -> int:
    """
    The place in ``BUCKETS`` of a history of so many liked events.

    >>> [bucket(length) for length in (0, 1, 5, 6, 50, 51)]
    [0, 1, 1, 2, 3, 4]
    """
    return int(np.searchsorted(LONGEST, length))


def blended(slate: Slate, opinion: Floats, weight: float) -> Slate:
    """
    The slate with its first rows ordered by score and opinion together, each standardised over those rows.

    A row without an opinion keeps its place, and the others change places among themselves; so half an answer can do no
    more than half the harm.

    Args:
        slate: Best first.
        opinion: (≤ N,) of the first rows, higher is better; NaN (or infinite): no opinion. Rows after them stay behind.
        weight: Of the opinion beside the incoming score, at least 0; 0, or an opinion that finds all alike, gives the
            slate itself.

    Raises:
        ShapeError: There are more opinions than rows.

    >>> slate = Slate(np.array(["a", "b", "c", "d"], object), np.array([4.0, 3.0, 2.0, 1.0], np.float32))
    >>> blended(slate, np.array([0.0, np.nan, 9.0], np.float32), 2.0).item_ids.tolist()
    ['c', 'b', 'a', 'd']
    """
    if len(opinion) > len(slate):
        raise ShapeError(f"there are {len(opinion)} opinions, but the slate has {len(slate)} items")
    known = np.flatnonzero(np.isfinite(opinion))
    said = _scaled(opinion[known])
    if weight == 0 or not said.any():
        return slate
    n = len(opinion)
    # Some stages order by more than the score they leave; what comes in is an order, so its scores must fall.
    total = np.minimum.accumulate(_scaled(slate.scores[:n]))  # (N',)
    total[known] += np.float32(weight) * said
    order = np.arange(len(slate))
    order[known] = known[np.argsort(-total[known], kind="stable")]
    return with_best_moved(slate.take(order), -np.sort(-total))


def advised(before: Slate, opinion: Floats, weight: float) -> Slate:
    """``blended``, with the column ``ADVISED``, (N,): what the opinion, or an earlier one, put higher."""
    places = np.arange(len(before))
    after = blended(before.add(**{ADVISED: places}), opinion, weight)
    rose = after.columns[ADVISED] > places
    if ADVISED in before.columns:
        rose |= before.columns[ADVISED].astype(bool)[after.columns[ADVISED]]
    return after.add(**{ADVISED: rose})


def _scaled(scores: Floats) -> Floats:
    """(N,) scores at mean 0 and deviation 1; zeros where they are all alike, or none."""
    if not len(scores):
        return np.zeros(0, np.float32)
    finite = np.where(np.isfinite(scores), scores, np.float32("nan"))
    return standardised([finite])[:, 0]
