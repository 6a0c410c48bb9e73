"""
What a cross-encoder learns from the log itself: what somebody took in a few steps, against what else was around.

    history │ eight events ──▶ liked ones, together │ others, drawn as often as people like them
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Interactions, Training
from tailwise.learn.pairs import Lesson, Reader
from tailwise.types import Rows

STRETCH = 8
"""Events whose liked items stand behind one history."""
OTHERS = 48
"""Items that a lesson has beside; each epoch compares with some of them."""
DRAWS = 4
"""Times as many are drawn at once, for some come twice or were taken."""
TRIES = 10
"""Places of the log that are looked at for each lesson wanted: where few items have a text, most tell nothing."""


def log_lessons(reader: Reader, training: Training, most: int) -> list[Lesson]:
    """
    Stretches of the log, drawn at random, as lessons: what was liked in each, against what was not.

    The others are drawn as often as they are liked by anybody, as among what retrieval finds: so how popular an item
    is tells next to nothing, and what remains is whether it suits the history. What is held out is no part of it.

    Args:
        reader: Its texts; what has none is left out.
        training: With the log.
        most: Lessons at most.

    Returns:
        Lessons with a history, something that was liked and something else; fewer where the log has fewer.

    Cost: O(lessons · (history + ``OTHERS`` log M)).
    """
    own, rng = training.interactions, np.random.default_rng((training.seed, 4))
    later = np.setdiff1d(np.arange(len(own)), own.offsets)  # who begins there has a past
    wanted = own.counts() * (reader.items.lengths(np.arange(own.n_items)) > 0)
    if not wanted.any():
        return []
    until = np.cumsum(wanted, dtype=np.float64)
    made: list[Lesson] = []
    for place in rng.permutation(later)[: TRIES * most]:
        if len(made) >= most:
            break
        liked, new = _stretch(own, int(place), seen=not training.exclude_seen)
        new, past = new[reader.items.lengths(new) > 0], reader.frame.past(reader.titles, liked)
        if not len(new) or not len(past):
            continue
        others = _drawn(until, np.concatenate([liked, new]) if training.exclude_seen else new, rng)
        if len(others):
            labels = np.arange(len(new) + len(others)) < len(new)
            made.append(Lesson(past, np.concatenate([new, others]), labels.astype(np.float32)))
    return made


def _stretch(own: Interactions, place: int, *, seen: bool) -> tuple[Rows, Rows]:
    """What a person liked before an event, and from it on; of that what was had before only where ``seen`` says so."""
    start, end = own.offsets[own.users[place]], own.offsets[own.users[place] + 1]
    liked = own.rows[start:place][own.likes[start:place]]
    coming = slice(place, min(place + STRETCH, end))
    new = np.unique(own.rows[coming][own.likes[coming]])
    return liked, new if seen else new[~np.isin(new, own.rows[start:place])]


def _drawn(until: NDArray[np.float64], taken: Rows, rng: np.random.Generator) -> Rows:
    """At most ``OTHERS`` different rows by running sums (M,) of what they weigh, without what was taken."""
    found = np.searchsorted(until, rng.random(DRAWS * OTHERS) * until[-1], side="right")
    found = found[np.sort(np.unique(found, return_index=True)[1])]  # the first draw of each
    return found[~np.isin(found, taken)][:OTHERS]
