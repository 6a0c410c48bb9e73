"""
Episodes to what a multi-task network reads: pasts that end strictly before, item facts of the time, and labels.

Nothing here knows torch: batches are numpy arrays, made when they are needed, since those of a large log would not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tailwise.data.episodes import CHANCES, DAY, PASSED_OVER, TASKS, Episodes, against, counter_examples
from tailwise.data.interactions import Interactions
from tailwise.rank.multitask import DAMPING, PASSED_BY, MultiTaskConfig, Usual, marks_of, times_had
from tailwise.types import EVENT_KINDS, Floats, Rows

ITEM_DAMPING = 25.0
"""Ratings worth of no offset mixed into an item's, after Koren (2010)."""
RECENT_DAYS = 30.0
PASSING = np.array([kind in PASSED_BY for kind in EVENT_KINDS])
ACTS = np.array([kind not in {*PASSED_BY, "dislike"} for kind in EVENT_KINDS])
"""(kinds,) what a person does rather than passes by."""


@dataclass(frozen=True)
class Counts:
    """How often each item was met, lately met and acted upon before any moment, against the average item."""

    moments: NDArray[np.float64]  # (S,) every time at which something happened, rising
    keys: tuple[Rows, Rows]  # of all events and of acts: row and moment in one number, rising
    totals: tuple[Rows, Rows]  # (S + 1,) events before each moment
    n_items: int

    @classmethod
    def of(cls, log: Interactions) -> Self:
        """Cost: O(E log E) once."""
        moments, places = np.unique(log.times, return_inverse=True)
        which = (np.ones(len(log), bool), ACTS[log.kinds])
        keys = tuple(np.sort(log.rows[w] * (len(moments) + 1) + places[w]) for w in which)
        totals = tuple(np.append(0, np.cumsum(np.bincount(places[w], minlength=len(moments)))) for w in which)
        return cls(moments, (keys[0], keys[1]), (totals[0], totals[1]), log.n_items)

    def facts(self, rows: Rows, times: NDArray[np.float64] | float) -> Floats:
        """
        Logs of counts before some times over those of the average item, (…, 3): events, recent ones, acts.

        Args:
            rows: (…,) catalogue rows.
            times: (…,) seconds since epoch, or one for all; infinity counts everything.

        Cost: O(log E) a row. A log of one moment has no before: all are 0.
        """
        shape = np.broadcast_shapes(np.shape(rows), np.shape(times))
        if len(self.moments) < 2:
            return np.zeros((*shape, 3), np.float32)
        now = np.searchsorted(self.moments, times)  # the first moment that is not before
        since = np.searchsorted(self.moments, np.asarray(times) - RECENT_DAYS * DAY)
        since = np.where(np.isinf(times), np.searchsorted(self.moments, self.moments[-1] - RECENT_DAYS * DAY), since)
        columns = [self._ratio(0, rows, 0, now), self._ratio(0, rows, since, now), self._ratio(1, rows, 0, now)]
        return np.stack(np.broadcast_arrays(*columns), -1).astype(np.float32)

    def _ratio(self, which: int, rows: Rows, since: Rows | int, now: Rows) -> NDArray[np.float64]:
        keys, totals, wide = self.keys[which], self.totals[which], len(self.moments) + 1
        own = np.searchsorted(keys, rows * wide + now) - np.searchsorted(keys, rows * wide + since)
        average = (totals[now] - totals[since]) / self.n_items
        return np.asarray(np.log((own + 1) / (average + 1)))


@dataclass(frozen=True)
class Part:
    """Some episodes of a batch: places, and the counter-examples that were drawn for each."""

    places: Rows  # (B,)
    drawn: Rows  # (B, C - 1)
    of: Floats  # (K,) labels in the whole batch
    share: float
    """Of the batch."""


@dataclass(frozen=True)
class Read:
    """What the network reads of a part, and what it should say."""

    past: Rows  # (B, T)
    marks: Floats  # (B, T, ·)
    items: Rows  # (B, C)
    facts: Floats  # (B, C, ·)
    context: Floats  # (B, F)
    labels: Floats  # (B, C, K) NaN where there is none


@dataclass(frozen=True)
class Lessons:
    """A log as a multi-task network learns from it."""

    config: MultiTaskConfig
    log: Interactions
    """What pasts are made of: without what was passed by, where the log shows that."""
    episodes: Episodes
    ends: Rows  # (R,) as in the episodes, but places of ``log``
    tasks: tuple[str, ...]  # K
    labels: Floats  # (R, every task) 0 or 1, or deviations; NaN where there is none, and of heads that are not built
    context: Floats  # (R, F)
    usual: Usual
    counts: Counts
    surplus: Floats  # (E,)
    popularity: Floats  # (M,) events, by which counter-examples are drawn

    @classmethod
    def of(
        cls,
        config: MultiTaskConfig,
        log: Interactions,
        episodes: Episodes,
        *,
        tasks: Sequence[str],
        learning: NDArray[np.bool_],
    ) -> Self:
        """
        Prepare a log.

        Args:
            config: Settings.
            log: What people did.
            episodes: The same as episodes.
            tasks: What has labels.
            learning: (R,) what is learned from; the rest is held out, and says nothing of what is usual.
        """
        usual = usual_of(episodes, learning, log.n_items)
        labels = np.where([task in tasks for task in TASKS], episodes.labels, np.float32("nan"))
        stars, dwell = TASKS.index("rating"), TASKS.index("dwell")
        if "rating" in tasks:
            labels[:, stars] = _rating_deviations(log, episodes, learning, usual)
        labels[:, dwell] = (np.log1p(labels[:, dwell]) - usual.dwell[0]) / usual.dwell[1]
        speaks = ~PASSING[log.kinds] | (not episodes.shows)
        past = log.pick(speaks)
        return cls(
            config,
            past,
            episodes,
            np.append(0, np.cumsum(speaks))[episodes.ends],
            tuple(tasks),
            labels,
            np.zeros((len(episodes), 0), np.float32),  # nothing is known of the moment
            usual,
            Counts.of(log),
            usual.surplus(past.kinds, past.rows, past.values),
            log.counts(),
        )

    @property
    def draws(self) -> bool:
        """Whether counter-examples are drawn: something was taken, and the log does not show what was passed over."""
        return not self.episodes.shows and bool({"click", "purchase", "favourite"} & set(self.tasks))

    def parts(self, places: Rows, rng: np.random.Generator, parts: int) -> list[Part]:
        """One batch of episodes, divided."""
        drawn = counter_examples(self.popularity, (len(places), self.config.negatives if self.draws else 0), rng)
        of = np.isfinite(self._labels_with(places, drawn)).sum((0, 1)).astype(np.float32)
        cuts = [slice(part, None, parts) for part in range(parts)]
        return [Part(places[c], drawn[c], of, len(places[c]) / len(places)) for c in cuts if len(places[c])]

    def batches(self, places: Rows, rng: np.random.Generator, parts: int) -> Iterator[list[Part]]:
        """Batches of ``places`` in their order; few places make smaller ones, so that a small log is not one step."""
        size = min(self.config.batch_rows, max(LEAST_ROWS, len(places) // LEAST_BATCHES))
        for start in range(0, len(places), size):
            yield self.parts(places[start : start + size], rng, parts)

    def read(self, part: Part) -> Read:
        """The arrays of a part."""
        own = self.episodes
        wide, ends = self.config.shape.history, self.ends[part.places]
        back = ends[:, None] - wide + np.arange(wide)  # (B, T) places of the log, the newest last
        there = back >= self.log.offsets[own.people[part.places]][:, None]
        back = np.maximum(back, 0)
        rows = self.log.rows[back]
        if own.timeless:
            there &= rows != own.rows[part.places][:, None]  # what is asked for is among all that the person did
        used = slice(min(int(there.any(0).argmax()), wide - 1) if there.any() else wide - 1, None)  # the longest past
        there, rows, back = there[:, used], rows[:, used], back[:, used]
        marks = marks_of(self.log.kinds[back], self.surplus[back], there, self.config.shape.lately)
        items = np.concatenate([own.rows[part.places][:, None], part.drawn], 1)
        known = self.counts.facts(items, own.times[part.places][:, None])
        facts = np.concatenate([known, times_had(rows, there, items)[..., None]], -1)
        labels = self._labels_with(part.places, part.drawn)
        return Read(rows, marks, items, facts, self.context[part.places], labels)

    def _labels_with(self, places: Rows, drawn: Rows) -> Floats:
        """(B, C, K): the episodes' labels, and those of their counter-examples."""
        own = self.labels[places]
        both = np.concatenate([own[:, None], against(own, drawn, self.episodes.rows[places])], 1)
        return both[..., [TASKS.index(task) for task in self.tasks]]


def usual_of(episodes: Episodes, learning: NDArray[np.bool_], n_items: int) -> Usual:
    """What ratings and dwell times are like in the episodes that are learned from."""
    stars = episodes.labels[:, TASKS.index("rating")]
    rated = learning & np.isfinite(stars)
    mean = float(stars[rated].mean()) if rated.any() else 0.0
    rows, above = episodes.rows[rated], (stars[rated] - mean).astype(np.float64)
    counts = np.bincount(rows, minlength=n_items)
    offset = np.bincount(rows, above, minlength=n_items) / (counts + ITEM_DAMPING)
    seconds = np.log1p(episodes.labels[learning, TASKS.index("dwell")])
    return Usual(
        _spread(stars[rated], above - offset[rows]),
        _spread(seconds[np.isfinite(seconds)]),
        offset.astype(np.float32),
    )


def _spread(values: Floats, left: NDArray[np.float64] | None = None) -> Floats:
    """(4,) mean, deviation (of what is ``left`` once more is known), lowest and highest."""
    if not len(values):
        return np.array([0, 1, 0, 0], np.float32)
    deviation = float(np.std(values if left is None else left))
    return np.array([values.mean(), max(deviation, 1e-6), values.min(), values.max()], np.float32)


def _rating_deviations(log: Interactions, episodes: Episodes, learning: NDArray[np.bool_], usual: Usual) -> Floats:
    """
    (R,) ratings as deviations from the mean and the damped offsets of item and person; NaN without a rating.

    The item's offset leaves the rating itself out; the person's knows what was rated strictly before.
    """
    stars = episodes.labels[:, TASKS.index("rating")].astype(np.float64)
    above = stars - usual.rating[0]
    rated = learning & np.isfinite(stars)
    counts = np.bincount(episodes.rows[rated], minlength=log.n_items) + ITEM_DAMPING
    own = np.where(rated, 1.0, 0.0)
    offset = usual.item_offset.astype(np.float64)[episodes.rows]
    total = offset * counts[episodes.rows] - np.where(rated, above, 0.0)
    offset = total / (counts[episodes.rows] - own)
    scored = (log.kinds == EVENT_KINDS.index("rating")) & np.isfinite(log.values)
    left = np.where(scored, np.nan_to_num(log.values) - usual.rating[0] - usual.item_offset[log.rows], 0.0)
    sums, numbers = (np.append(0.0, np.cumsum(each, dtype=np.float64)) for each in (left, scored))
    begins = log.offsets[episodes.people]
    past, n = sums[episodes.ends] - sums[begins], numbers[episodes.ends] - numbers[begins]
    if episodes.timeless:  # its own rating is among all that the person did
        rows = np.isfinite(stars)
        past = past - np.where(rows, above - usual.item_offset[episodes.rows], 0.0)
        n = n - rows
    return ((above - offset - past / (n + DAMPING)) / usual.rating[1]).astype(np.float32)


def has_labels(task: str, labels: Floats, *, drawn: bool) -> str | None:
    """
    Why a head cannot be built, or None when it can.

    Args:
        task: The head.
        labels: (R,) its labels, NaN where there is none.
        drawn: Whether counter-examples are drawn for what was taken.

    >>> has_labels("click", np.full(20, np.nan), drawn=True)
    'no labels'
    >>> has_labels("rating", np.full(20, 4.0), drawn=False)
    'every label is 4'
    """
    known = labels[np.isfinite(labels)]
    if not len(known):
        return "no labels"
    if len(known) < LEAST:
        return f"{len(known)} labels, fewer than {LEAST}"
    one_class = (known == known[0]).all()
    if one_class and not (drawn and known[0] == 1 and task in CHANCES and PASSED_OVER[TASKS.index(task)] == 0):
        return f"every label is {known[0]:g}"
    if task in CHANCES and (known == 1).sum() < LEAST:
        return f"it happened {int((known == 1).sum())} times, fewer than {LEAST}"
    return None


LEAST_BATCHES, LEAST_ROWS = 20, 32
LEAST = 10
"""Labels, and of a chance positive ones, without which a head would be guesswork."""
