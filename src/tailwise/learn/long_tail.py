"""
Choose how much of the list goes to the long tail: what shows most of the catalogue of all that costs little.

    held-out slates ─▶ first tens ─▶ what stands in many becomes dearer ─▶ other first tens ─▶ … ─▶ the best round
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Training
from tailwise.data.scores import past_speaks
from tailwise.learn.crossfit import LEAST_CASES
from tailwise.learn.prequential import standard_error
from tailwise.learn.slates import Example, gather
from tailwise.pipeline import Engine
from tailwise.rerank.long_tail import NONE, LongTail, LongTailConfig
from tailwise.types import Floats, Rows

DEPTH = 200
"""Of a slate, what could come into the first ten under some choice."""
PENALTIES = (0.0, 0.1, 0.2)
LIFTS = (0.0, 0.2, 0.4, 0.6)
ROUNDS = 6
"""What a fit chooses from: so many rounds at most."""
STEP = np.float32(0.1)
"""How much dearer a round makes an item: this times the log of one more than the lists in a thousand that it is in."""
SHOWN = 10


def fit_long_tail(
    config: LongTailConfig, training: Training, engine: Engine
) -> tuple[LongTail, dict[str, float | str]]:
    """
    Of all choices that cost at most ``cost`` of NDCG@10 on held-out cases, the one that shows most items.

    A choice must keep that much by a standard error of the difference: of so many choices one looks harmless by chance.
    Prices that one half of the cases made are judged by the other half, so that no case is judged by what it paid.

    Args:
        config: Settings; what is set stays.
        training: With held-out cases.
        engine: With the sources, and the stages before this one.

    Returns:
        The stage with its choice, and notes for the model card: NDCG@10 and the share of the catalogue's items that
        stand in some first ten, without it and with it.

    Cost: some 170 looks at ``DEPTH`` candidates a case, two seconds for 3,000 cases.
    """
    plain = _Choice(config.penalty or 0.0, config.lift or 0.0, 0)
    if config.penalty is not None and config.lift is not None and config.rounds == 0:
        return plain.stage(config), {"decision": f"{plain}, as set"}
    examples = gather(training, engine, depth=DEPTH)
    if len(examples) < LEAST_CASES:
        return plain.stage(config), {"decision": f"{plain}: {len(examples)} cases, {LEAST_CASES} could choose"}
    cases = _Cases.of(examples, training)
    before = next(cases.auction([_Choice(0.0, 0.0, 0)]))
    best, after = _best(config, cases, before.earned)
    items = max(int((training.catalogue.popularity > 0).sum()), 1)
    notes: dict[str, float | str] = {
        "ndcg@10 without": round(float(before.earned.mean()), 4),
        "ndcg@10 with": round(float(after.earned.mean()), 4),
        "coverage without": round(min(before.shown / items, 1.0), 4),  # items without events may be shown, too
        "coverage with": round(min(after.shown / items, 1.0), 4),
        "decision": str(best),
    }
    return best.stage(config, cases.prices(best)), notes


class _Choice(NamedTuple):
    """What a fit chooses."""

    penalty: float
    lift: float
    rounds: int

    def stage(self, config: LongTailConfig, prices: Floats = NONE) -> LongTail:
        return LongTail(config.model_copy(update=self._asdict()), prices)

    def __str__(self) -> str:
        return f"a penalty of {self.penalty:g}, a lift of {self.lift:g} and prices of {self.rounds} rounds"


class _Worth(NamedTuple):
    """What a choice is worth."""

    earned: NDArray[np.float64]
    """(E,) NDCG@10 of each case."""
    shown: int
    """Items in some first ten."""

    def keeps(self, plain: NDArray[np.float64], cost: float) -> bool:
        """Whether it costs no more than that share, by a standard error."""
        gain = self.earned - plain
        return bool(gain.mean() - standard_error(gain) >= -cost * plain.mean())


def _best(config: LongTailConfig, cases: _Cases, plain: NDArray[np.float64]) -> tuple[_Choice, _Worth]:
    """The choice among all that the settings leave open, and what it is worth; ``plain`` is earned without any."""
    penalties = PENALTIES if config.penalty is None else (config.penalty,)
    lifts = LIFTS if config.lift is None else (config.lift,)
    most = ROUNDS if config.rounds is None else config.rounds
    worth: dict[_Choice, _Worth] = {}
    for penalty, lift in product(penalties, lifts):
        path = [_Choice(penalty, lift, n) for n in range(most + 1)]
        worth.update(zip(path, cases.auction(path), strict=True))
    if config.rounds is not None:
        worth = {choice: found for choice, found in worth.items() if choice.rounds == most}
    fair = [choice for choice, own in worth.items() if own.keeps(plain, config.cost)]
    fair = fair or [max(worth, key=lambda choice: worth[choice].earned.mean())]  # what is set may leave none
    best = max(fair, key=lambda choice: (worth[choice].shown, worth[choice].earned.mean()))
    return best, worth[best]


@dataclass(frozen=True)
class _Cases:
    """Slates of E cases side by side, the best ``DEPTH`` of each."""

    scores: Floats  # (E, DEPTH) -inf where there is nothing
    paying: Floats  # (E, DEPTH) the log of events; 0 where the stage leaves a request alone
    tail: Floats  # (E, DEPTH) 1 of the long tail, 0 as well where the stage leaves a request alone
    pays: Floats  # (E, 1) 1; 0 where the stage leaves a request alone
    hit: NDArray[np.bool_]  # (E, DEPTH)
    rows: Rows  # (E, DEPTH) -1 where there is nothing
    ideal: NDArray[np.float64]  # (E,) what a perfect list earns
    items: int  # M

    @classmethod
    def of(cls, examples: list[Example], training: Training) -> Self:
        shape = (len(examples), DEPTH)
        scores, rows = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
        hit, spoken = np.zeros(shape, bool), np.zeros(len(examples), bool)
        for place, example in enumerate(examples):
            n = len(example.slate)
            scores[place, :n], rows[place, :n] = example.slate.scores, example.slate.columns["row"]
            hit[place, :n], spoken[place] = example.relevant, past_speaks(example.request)
        pays = spoken[:, None].astype(np.float32)
        known = training.catalogue.at(rows, ["popularity", "tail"])
        paying = np.log1p(np.nan_to_num(known["popularity"])) * pays
        targets = np.array([min(example.targets, SHOWN) for example in examples])
        ideal = np.cumsum(_worth_of_places())[targets - 1]
        scores[np.isnan(scores)] = -np.inf
        tail = np.asarray(known["tail"] * pays, np.float32)
        return cls(scores, np.asarray(paying, np.float32), tail, pays, hit, rows, ideal, len(training.catalogue))

    def auction(self, path: Sequence[_Choice]) -> Iterator[_Worth]:
        """Of choices with one round more each."""
        halves = [_Half(self, np.arange(start, len(self.rows), 2), path[0]) for start in (0, 1)]
        for _ in path:
            tens = [own.first_tens(other.prices) for own, other in zip(halves, reversed(halves), strict=True)]
            earned = np.concatenate([half.earned(best) for half, best in zip(halves, tens, strict=True)])
            shown = np.concatenate([half.shown(best) for half, best in zip(halves, tens, strict=True)])
            yield _Worth(earned, len(np.unique(shown)))
            for half in halves:
                half.bid()

    def prices(self, choice: _Choice) -> Floats:
        """(M,) what items cost after the rounds among all cases; (0,) of none."""
        whole = _Half(self, np.arange(len(self.rows)), choice)
        for _ in range(choice.rounds):
            whole.bid()
        return whole.prices[:-1] if choice.rounds else NONE


class _Half:
    """Some of the cases, and the prices that they have made so far."""

    def __init__(self, cases: _Cases, own: Rows, choice: _Choice) -> None:
        moved = np.float32(choice.lift) * cases.tail[own] - np.float32(choice.penalty) * cases.paying[own]
        self._scores = cases.scores[own] + moved
        self._pays, self._rows = cases.pays[own], cases.rows[own]
        self._hit, self._ideal = cases.hit[own], cases.ideal[own]
        self.prices = np.zeros(cases.items + 1, np.float32)  # the last is of what is not known, and stays 0

    def first_tens(self, prices: Floats) -> Rows:
        """(E, 10) places of the best of each case, best first, when items cost so much."""
        moved = self._scores - prices[self._rows] * self._pays
        best = np.argpartition(-moved, SHOWN - 1, axis=1)[:, :SHOWN]
        best.sort(axis=1)  # ties keep their order
        order = np.argsort(-np.take_along_axis(moved, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1)

    def bid(self) -> None:
        """One round: what stands in many lists becomes dearer."""
        rows = self.shown(self.first_tens(self.prices))
        lists = np.bincount(rows, minlength=len(self.prices)) * (1_000 / max(len(self._rows), 1))
        self.prices = self.prices + STEP * np.log1p(lists).astype(np.float32)

    def earned(self, best: Rows) -> NDArray[np.float64]:
        """(E,) NDCG@10."""
        return np.take_along_axis(self._hit, best, axis=1) @ _worth_of_places() / self._ideal

    def shown(self, best: Rows) -> Rows:
        """Rows of all items in all first tens, as often as they stand there."""
        rows: Rows = np.take_along_axis(self._rows, best, axis=1)
        return rows[rows >= 0]


def _worth_of_places() -> NDArray[np.float64]:
    return np.asarray(1 / np.log2(np.arange(2, SHOWN + 2)))
