"""What each item of a slate owes to sources, to the history, to kinds of signals and to each stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tailwise.pipeline.asking import Answer
from tailwise.pipeline.evidence import by_item, fusion_of
from tailwise.pipeline.explained import Carried, Explanation, Move, Part, Ranks
from tailwise.pipeline.shapley import SOURCES, Kind, judges, shapley
from tailwise.pipeline.signals import signal_names
from tailwise.rerank.phrases import reader_of
from tailwise.retrieve.pairs import Additive
from tailwise.types import Column, Floats, Ids, Request, Rows, Slate, ids_of

MOST_CARRIED = 12
"""Items of a history that are told one by one."""


class Dissection:
    """What is worked out once for all items of a slate."""

    def __init__(self, engine: Ranks, request: Request, steps: Sequence[tuple[str, Slate]], answer: Answer) -> None:
        self._engine = engine
        self._request = request
        self._steps = steps
        self._answer = answer
        self._skipped = {step.name: step for step in answer.trace if step.skipped}

    def items(self, places: Rows) -> list[Explanation]:
        """Explanations of candidates, by their places in the slate that came to the stages."""
        slate, final = self._steps[0][1], self._steps[-1][1]
        chosen = slate.item_ids[places]
        rows: Rows = slate.columns["row"][places]
        after, shown = places_in(final.item_ids, chosen), places_in(self._answer.slate.item_ids, chosen)
        parts, fused, history = self._fused(chosen, rows)
        kinds, values, baseline = self._kinds(slate, places)
        reasons, rules = _column(final, "reasons", after), _column(final, "fired", after)
        names = self._titles(chosen, rows)
        return [
            Explanation(
                str(item_id),
                names[n],
                _from_one(shown[n]),
                _from_one(after[n]),
                int(slate.columns["first_rank"][places[n]]),
                _number(final.scores[after[n]]) if after[n] >= 0 else None,
                tuple(reasons[n]),
                tuple(rules[n]),
                fused[n],
                parts[n],
                *history[n],
                dict(zip(kinds, values[:, n].tolist(), strict=True)),
                float(values[:, n].sum() + baseline[n]) if kinds else None,
                float(baseline[n]) if kinds else None,
                self._moves(str(item_id)),
            )
            for n, item_id in enumerate(chosen)
        ]

    def brought(self, chosen: Ids) -> list[Explanation]:
        """Explanations of items that joined later, for a place that a stage had for them: no judge was asked."""
        final = self._steps[-1][1]
        after, shown = places_in(final.item_ids, chosen), places_in(self._answer.slate.item_ids, chosen)
        names = self._titles(chosen, self._engine.catalogue.rows(chosen))
        reasons, rules = _column(final, "reasons", after), _column(final, "fired", after)
        return [
            Explanation(
                str(item_id),
                names[n],
                _from_one(shown[n]),
                _from_one(after[n]),
                None,
                _number(final.scores[after[n]]),
                tuple(reasons[n]),
                tuple(rules[n]),
                stages=self._moves(str(item_id)),
            )
            for n, item_id in enumerate(chosen)
        ]

    def _fused(
        self, chosen: Ids, rows: Rows
    ) -> tuple[list[tuple[Part, ...]], list[float | None], list[tuple[tuple[Carried, ...], float]]]:
        """What the sources, and through them the history, add to the fused score of each item."""
        fusion = fusion_of(self._engine.stages)
        key = next((b.key for b in self._engine.stages if b.run is fusion), None)
        before = next((self._steps[n - 1][1] for n, (name, _) in enumerate(self._steps) if n and name == key), None)
        if fusion is None or before is None or key in self._skipped:
            return [()] * len(chosen), [None] * len(chosen), [((), 0.0)] * len(chosen)
        at = places_in(before.item_ids, chosen)
        adds, units = fusion.parts(self._request, before)
        weights = fusion.weights_for(self._request)
        names = list(fusion.asked)
        own = np.stack([before.columns[f"score_{name}"][at] for name in names], axis=1)  # (n, S)
        kinds = [SOURCES.get(name, "other") for name in names]
        rank = [
            tuple(
                Part(*part)
                for part in zip(names, kinds, map(_number, own[n]), weights.tolist(), adds[at[n]].tolist(), strict=True)
            )
            for n in range(len(chosen))
        ]
        fused = [float(adds[at[n]].sum()) if np.isfinite(own[n]).any() else None for n in range(len(chosen))]
        return rank, fused, self._carried(rows, dict(zip(names, units.tolist(), strict=True)))

    def _titles(self, item_ids: Ids, rows: Rows) -> list[str]:
        return self._engine.catalogue.titles(item_ids, rows, reader_of(self._request))

    def _carried(self, rows: Rows, units: dict[str, float]) -> list[tuple[tuple[Carried, ...], float]]:
        """What each item of the history adds to each row's fused score, the ``MOST_CARRIED`` largest, and the rest."""
        past = self._request.past
        by: dict[str, Floats] = {}
        for bound in self._engine.sources:
            unit = units.get(bound.step.name, 0.0)
            if unit and isinstance(bound.run, Additive) and len(past):
                places, summed = by_item(past, bound.run.contributions(self._request, rows) * np.float32(unit))
                by[bound.step.name] = summed  # (n, I)
        if not by:
            return [((), 0.0)] * len(rows)
        names = self._titles(past.item_ids[places], past.rows[places])
        total = np.sum(list(by.values()), axis=0)  # (n, I)

        def one(n: int, i: int) -> Carried:
            parts = {name: float(own[n, i]) for name, own in by.items() if own[n, i] != 0}
            return Carried(str(past.item_ids[places[i]]), names[i], float(total[n, i]), parts)

        carried = []
        for n in range(len(rows)):
            largest = np.argsort(-np.abs(total[n]), kind="stable")[:MOST_CARRIED]
            kept = [int(i) for i in largest[np.argsort(-total[n][largest], kind="stable")] if total[n, i] != 0]
            carried.append((tuple(one(n, i) for i in kept), float(total[n].sum() - total[n][kept].sum())))
        return carried

    def _kinds(self, slate: Slate, places: Rows) -> tuple[tuple[Kind, ...], Floats, Floats]:
        """Shapley values (G, n) of the kinds of signals, and what is there without any, (n,)."""
        ran = frozenset(name for name, _ in self._steps if name not in self._skipped)
        engine = self._engine
        stages = judges(engine.stages, ran)
        if not stages:
            return (), np.zeros((0, len(places)), np.float32), np.zeros(len(places), np.float32)
        names = signal_names(engine.sources, engine.catalogue, engine.contexts)
        kinds, values, silent = shapley(self._request, slate, stages, signals=names, contexts=engine.contexts.names)
        return kinds, values[:, places].astype(np.float32), silent[places].astype(np.float32)

    def _moves(self, item_id: str) -> tuple[Move, ...]:
        """What each stage did to an item, until one dropped it; nothing where it came later."""
        moves = []
        for (_, before), (stage, after) in zip(self._steps, self._steps[1:], strict=False):
            one = ids_of([item_id])
            was, now = int(places_in(before.item_ids, one)[0]), int(places_in(after.item_ids, one)[0])
            if was < 0 and now < 0:
                continue
            if was < 0:
                moves.append(Move(stage, None, now + 1, None, _number(after.scores[now])))
                continue
            skipped = self._skipped.get(stage)
            score = _number(after.scores[now]) if now >= 0 else None
            why = None if skipped is None else skipped.skipped
            moves.append(Move(stage, was + 1, _from_one(now), _number(before.scores[was]), score, why))
        return tuple(moves)


def places_in(item_ids: Ids, wanted: Ids) -> Rows:
    """The places of some items in a slate, (n,); -1 for one that is not there."""
    place_of = {item_id: place for place, item_id in enumerate(item_ids.tolist())}
    return np.array([place_of.get(item_id, -1) for item_id in wanted.tolist()], np.int64)


def _from_one(place: int) -> int | None:
    return int(place) + 1 if place >= 0 else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _column(slate: Slate, name: str, places: Rows) -> list[tuple[Any, ...]]:
    """Tuples of a column at some places; () where the slate has no such column or item."""
    column: Column | None = slate.columns.get(name)
    return [() if column is None or place < 0 else tuple(column[place] or ()) for place in places.tolist()]
