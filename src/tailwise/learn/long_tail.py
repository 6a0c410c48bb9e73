"""Choose how much of the list goes to the long tail: what shows most of the catalogue of all that costs little."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tailwise.data.interactions import Training
from tailwise.data.scores import past_speaks
from tailwise.learn.crossfit import LEAST_CASES
from tailwise.learn.slates import Example, gather
from tailwise.pipeline import Engine
from tailwise.rerank.long_tail import LongTail, LongTailConfig
from tailwise.types import Floats, Rows

DEPTH = 200
"""Of a slate, what could come into the first ten under some choice."""
PENALTIES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
LIFTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""What a fit chooses from."""
SHOWN = 10


def fit_long_tail(
    config: LongTailConfig, training: Training, engine: Engine
) -> tuple[LongTail, dict[str, float | str]]:
    """
    Of the penalties and lifts within ``cost`` of the best NDCG@10 on held-out cases, those that show most items.

    Args:
        config: Settings; what is set stays.
        training: With held-out cases.
        engine: With the sources, and the stages before this one.

    Returns:
        The stage with its choice, and notes for the model card: NDCG@10 and the share of the catalogue's items that
        stand in some first ten, without it and with it.

    Cost: 81 sorts of ``DEPTH`` candidates a case, some 2 s for 3,000 cases.
    """
    if config.penalty is not None:
        lift = config.lift or 0.0
        said = f"a penalty of {config.penalty:g} and a lift of {lift:g}, as set"
        return LongTail(config.model_copy(update={"lift": lift})), {"decision": said}
    examples = gather(training, engine, depth=DEPTH)
    if len(examples) < LEAST_CASES:
        why = f"neither penalty nor lift: {len(examples)} cases could choose them, fewer than {LEAST_CASES}"
        return LongTail(config.model_copy(update={"penalty": 0.0, "lift": config.lift or 0.0})), {"decision": why}
    cases = _Cases.of(examples, training)
    lifts = LIFTS if config.lift is None else (0.0, config.lift)
    worth = {pair: cases.worth(*pair) for pair in product(PENALTIES, lifts)}
    most = max(ndcg for ndcg, _ in worth.values())
    fair = [pair for pair, (ndcg, _) in worth.items() if ndcg >= (1 - config.cost) * most]
    if config.lift is not None:
        fair = [pair for pair in fair if pair[1] == config.lift] or [(0.0, config.lift)]
    penalty, lift = max(fair, key=lambda pair: worth[pair][::-1])  # of those that show as many, the most accurate
    items = max(int((training.catalogue.popularity > 0).sum()), 1)
    notes: dict[str, float | str] = {
        "ndcg@10 without": round(worth[0.0, 0.0][0], 4),
        "ndcg@10 with": round(worth[penalty, lift][0], 4),
        "coverage without": round(worth[0.0, 0.0][1] / items, 4),
        "coverage with": round(worth[penalty, lift][1] / items, 4),
        "decision": f"a penalty of {penalty:g} and a lift of {lift:g}",
    }
    return LongTail(config.model_copy(update={"penalty": penalty, "lift": lift})), notes


@dataclass(frozen=True)
class _Cases:
    """Slates of E cases side by side, the best ``DEPTH`` of each."""

    scores: Floats  # (E, DEPTH) -inf where there is nothing
    paying: Floats  # (E, DEPTH) the log of events; 0 where the stage leaves a request alone
    tail: Floats  # (E, DEPTH) 1 of the long tail, 0 as well where the stage leaves a request alone
    hit: NDArray[np.bool_]  # (E, DEPTH)
    rows: Rows  # (E, DEPTH) -1 where there is nothing
    ideal: NDArray[np.float64]  # (E,) what a perfect list earns

    @classmethod
    def of(cls, examples: list[Example], training: Training) -> Self:
        shape = (len(examples), DEPTH)
        scores, rows = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
        hit, spoken = np.zeros(shape, bool), np.zeros(len(examples), bool)
        for place, example in enumerate(examples):
            n = len(example.slate)
            scores[place, :n], rows[place, :n] = example.slate.scores, example.slate.columns["row"]
            hit[place, :n], spoken[place] = example.relevant, past_speaks(example.request)
        known = training.catalogue.at(rows, ["popularity", "tail"])
        paying = np.where(spoken[:, None], np.log1p(np.nan_to_num(known["popularity"], nan=0.0)), 0.0)
        tail = np.where(spoken[:, None], known["tail"], 0.0)
        targets = np.array([min(example.targets, SHOWN) for example in examples])
        ideal = np.cumsum(_worth_of_places())[targets - 1]
        scores[np.isnan(scores)] = -np.inf
        return cls(scores, paying.astype(np.float32), tail.astype(np.float32), hit, rows, ideal)

    def worth(self, penalty: float, lift: float) -> tuple[float, int]:
        """Mean NDCG@10, and the number of items in some first ten."""
        moved = self.scores - np.float32(penalty) * self.paying + np.float32(lift) * self.tail
        best = np.argpartition(-moved, SHOWN - 1, axis=1)[:, :SHOWN]
        best.sort(axis=1)  # ties keep their order
        order = np.argsort(-np.take_along_axis(moved, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        earned = np.take_along_axis(self.hit, best, axis=1) @ _worth_of_places() / self.ideal
        shown = np.unique(np.take_along_axis(self.rows, best, axis=1))
        return float(earned.mean()), int((shown >= 0).sum())


def _worth_of_places() -> NDArray[np.float64]:
    return np.asarray(1 / np.log2(np.arange(2, SHOWN + 2)))
