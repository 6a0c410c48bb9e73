"""
Ways of asking a model what it thinks of N candidates, each a number an item in the end.

    windows       a few at a time, from the bottom of the list up, the best of each moving on (generated order)
    first_token   the same with letters, and the chance of each letter as the next token: one reading, nothing written
    likelihood    how likely the title is after the history: each item by itself
    rerank        a server that scores documents for a query
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tailwise.nets.questions import Question, Reply
from tailwise.rank.prompts import KINDS, Brief, Wording
from tailwise.rank.replies import order_of
from tailwise.types import Floats, Rows

Ask = Callable[[Question], Reply]
IN_LISTS = frozenset({"windows", "first_token"})
"""Modes in which what is said of an item depends on those beside it."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a model thinks of the candidates it was asked about."""

    values: Floats
    """(N,) higher is better; NaN: it said nothing."""
    trust: float = 1.0
    """In [0, 1]: how far it said the same when the items stood in another order; 1 where nobody tried."""
    malformed: int = 0
    """Replies, or parts of them, that had to be mended or left out."""
    checked: bool = False
    """Whether it was asked in another order too."""


def asked_one_by_one(brief: Brief, places: Rows, wording: Wording, ask: Ask) -> Opinion:
    """An opinion of each candidate by itself: what stands beside it can change nothing."""
    reply = ask(wording.question(brief, places))
    values: Floats = np.full(len(brief.items), np.nan, np.float32)
    values[places] = _scores(reply, len(places))
    return Opinion(values, malformed=reply.malformed)


def asked_in_lists(
    brief: Brief, places: Rows, wording: Wording, ask: Ask, *, window: int, step: int, seed: int | None
) -> Opinion:
    """
    An opinion of candidates that are shown together.

    Args:
        brief: With all candidates.
        places: (P,) those to ask about, best first.
        wording: Templates and bounds; its mode is one of ``IN_LISTS``.
        ask: Who answers.
        window: Candidates shown at once.
        step: How far the window moves.
        seed: Of another order in which the same is asked a second time; both orders are averaged, and how far they
            agree is the trust. None asks once.

    Returns:
        Values, all NaN where no order could be read out of any reply.
    """
    first, odd = _swept(brief, places, wording, ask, window, step)
    values: Floats = np.full(len(brief.items), np.nan, np.float32)
    values[places] = first
    if seed is None:
        return Opinion(values, malformed=odd)
    drawn = np.random.default_rng(seed).permutation(len(places))
    other, more = _swept(brief, places[drawn], wording, ask, window, step)
    second = np.empty_like(other)
    second[drawn] = other
    values[places] = (spread(first) + spread(second)) / 2
    return Opinion(values, max(0.0, kendall_tau(first, second)), odd + more, checked=True)


def _swept(brief: Brief, places: Rows, wording: Wording, ask: Ask, window: int, step: int) -> tuple[Floats, int]:
    """Values of the places, and how many replies were malformed; one window alone keeps the chances it was told."""
    order, odd, read = np.arange(len(places)), 0, 0
    for start in window_starts(len(places), window, step):
        own = order[start : start + window]
        question = wording.question(brief, places[own])
        reply = ask(question)
        if KINDS[wording.mode] == "order":
            told = order_of(reply.text, len(own))
            ranks, malformed, said = told.places, told.malformed, told.said
        else:
            scores = _scores(reply, len(own))
            said, malformed = int(np.isfinite(scores).sum()), reply.malformed > 0
            if len(own) == len(places) and said:
                return scores, int(malformed)
            ranks = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
        odd += malformed
        read += said > 0
        if said:
            order[start : start + window] = own[ranks]
    values: Floats = np.full(len(places), np.nan, np.float32)
    if not read:
        return values, odd
    values[order] = -np.arange(len(places), dtype=np.float32)
    return values, odd


def window_starts(n: int, window: int, step: int) -> list[int]:
    """
    Where windows begin, the last one first, so that what is good can rise from the bottom to the top.

    >>> window_starts(10, 4, 2), window_starts(9, 4, 2), window_starts(3, 4, 2)
    ([6, 4, 2, 0], [5, 3, 1, 0], [0])

    Source: Sun et al., EMNLP 2023, arXiv:2304.09542 (RankGPT).
    """
    if n <= window:
        return [0]
    starts = list(range(n - window, 0, -step))
    return [*starts, 0]


def kendall_tau(first: Floats, second: Floats) -> float:
    """
    How far two scorings agree on the order of pairs: 1 all, 0 as chance would, -1 none; pairs that tie count 0.

    >>> kendall_tau(np.array([3.0, 2.0, 1.0]), np.array([9.0, 5.0, 7.0]))
    0.3333333333333333
    """
    both = np.isfinite(first) & np.isfinite(second)
    one, other = first[both], second[both]
    n = len(one)
    if n < 2:
        return 1.0
    agree = np.sign(one[:, None] - one) * np.sign(other[:, None] - other)
    return float(agree.sum() / (n * (n - 1)))


def spread(values: Floats) -> Floats:
    """(N,) values as places from 1 for the best to -1, so that two askings can be averaged; NaN stays."""
    known = np.flatnonzero(np.isfinite(values))
    out: Floats = np.full(len(values), np.nan, np.float32)
    out[known[np.argsort(-values[known], kind="stable")]] = np.linspace(1, -1, len(known), dtype=np.float32)
    return out


def _scores(reply: Reply, n: int) -> Floats:
    """The (N,) scores of a reply; NaN where it has none that can be used."""
    if reply.scores is None or len(reply.scores) != n:
        return np.full(n, np.nan, np.float32)
    return np.where(np.isfinite(reply.scores), reply.scores, np.float32("nan")).astype(np.float32)
