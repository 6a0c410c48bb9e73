"""What people did last, held out: cases to choose settings by, and to learn the order of a slate from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Held, Interactions
from tailwise.data.pace import newest_cases
from tailwise.types import EVENT_KINDS, Rows

SHARE = 10
"""One in so many of a person's acts may be held out, and never fewer than one."""

HEARD, TIMES = 100, 20
"""Events of one person that count, at most, where the whole log is asked how people act; or so many times the usual
person's, if that is more."""


def repeat_rate(whole: Interactions) -> float:
    """
    Share of liked events that do again, later, what the same person did with the same item before.

    Looking at an item, putting it into the cart and buying it are three things done once each. Of one person no more
    events count than ``HEARD`` allows, or a single machine would speak for everybody.
    """
    likes = np.flatnonzero(whole.likes)
    if not len(likes):
        return 0.0
    users, times = whole.users[likes], whole.times[likes]
    acts = (users * np.int64(whole.n_items) + whole.rows[likes]) * len(EVENT_KINDS) + whole.kinds[likes]
    order = np.lexsort((times, acts))
    users, same, later = users[order], np.diff(acts[order]) == 0, np.diff(times[order]) > 0
    again = np.bincount(users[1:][same & later], minlength=len(whole.user_ids))
    done = again + np.bincount(users[np.append(True, ~same)], minlength=len(again))  # the same row twice is one act
    most = max(HEARD, TIMES * float(np.median(done[done > 0])))
    heard = np.minimum(1.0, most / np.maximum(done, 1))
    return float((again * heard).sum() / (done * heard).sum())


def hold_out(
    whole: Interactions, *, least: int = 3, most: int = 5_000, cases: int = 5, seed: int = 0, new: bool = False
) -> tuple[Interactions, Held]:
    """
    Take what people did last out of a log, as cases to predict.

    A case is a liked event, or, where people act in baskets (``BASKET`` events and more at a moment), all of a moment
    with a past before it, since the rest of a basket would tell; what else is in a person's only basket is another
    question than what is in the next, and has other answers. A person gives one case in ``SHARE`` acts, at least one
    and at most ``cases``: more of them judge with less chance, but what is held out cannot be learned from. Where what
    is wanted changes fast (``data.pace``), only what was done lately is a case: how people chose among the news of last
    month says little of how they choose now.

    Args:
        whole: The log.
        least: Liked events that a person must have.
        most: People at most, drawn by ``seed``, so that a large log keeps its last events to learn from.
        cases: Of one person, at most.
        seed: Of the draw.
        new: Whether what a person has had is not shown again: then a case is the first that was done with an item, and
            who looks at it, puts it into the cart and buys it is one case, not three of which two are known.

    Returns:
        The events before everybody's first case, and the cases. Nothing remains that a person did after the first
        target, nor anything else that they did with the same item at the same moment.

    Cost: O(E), and a pass in Python over the cases.
    """
    wanted = whole.likes & whole.firsts if new else whole.likes
    places = np.flatnonzero(wanted)
    counts = np.bincount(whole.users[places], minlength=len(whole.user_ids))
    begins = _acts(whole, places)
    acts = np.bincount(whole.users[begins], minlength=len(whole.user_ids))
    late = whole.times[begins] >= newest_cases(whole.times, whole.offsets, whole.pace, whole.acts)
    lately = np.bincount(whole.users[begins[late]], minlength=len(whole.user_ids))
    chosen = np.flatnonzero((counts >= least) & (lately > 0))
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, most, replace=False))
    last = np.cumsum(acts)[whole.users[begins]]  # one behind the owner's last act
    taken = np.clip(acts // SHARE, 1, cases)[whole.users[begins]]
    picked = late & np.isin(whole.users[begins], chosen) & (np.arange(len(begins)) >= last - taken)
    ends = begins[picked]
    held = Held(whole, whole.users[ends], ends, whole.times[ends], _targets(whole, ends, wanted))
    return _before(whole, held), held


def _acts(whole: Interactions, places: Rows) -> Rows:
    """Where each act begins that could be a case: a liked event, or a basket with a past before it."""
    if not whole.in_baskets:
        return places
    starts = whole.moment_starts
    baskets = np.unique(starts[np.searchsorted(starts, places, side="right") - 1])
    return baskets[baskets > whole.offsets[whole.users[baskets]]]


def _targets(whole: Interactions, ends: Rows, wanted: NDArray[np.bool_]) -> tuple[Rows, ...]:
    """Rows of the cases that begin at some places: an item each, or all of its basket that is ``wanted``, (E,)."""
    if not whole.in_baskets:
        return tuple(whole.rows[ends, None])
    starts = np.append(whole.moment_starts, len(whole))
    place = np.searchsorted(starts, ends)
    stops = np.where(starts[place] == ends, starts[np.minimum(place + 1, len(starts) - 1)], ends + 1)
    owns = (slice(end, stop) for end, stop in zip(ends, stops, strict=True))
    return tuple(np.unique(whole.rows[own][wanted[own]]) for own in owns)


def _before(whole: Interactions, held: Held) -> Interactions:
    """The log without what came from everybody's first case on."""
    people, cases = np.unique(held.people, return_index=True)
    cut = whole.offsets[1:].copy()
    cut[people] = held.ends[cases]
    kept = np.arange(len(whole)) < cut[whole.users]
    for case in cases:
        kept[whole.offsets[held.people[case]] : held.ends[case]] &= held.tells_nothing(case)
    return whole.pick(kept)
