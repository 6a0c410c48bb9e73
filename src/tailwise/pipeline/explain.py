"""
Why a list is as it is: a request answered again, with somebody looking on.

    answer ─▶ slates after each stage ─▶ sources   what each adds to the fused score; they add up to it
                                      ├▶ history   what each item of the history adds to that
                                      ├▶ kinds     Shapley values of the kinds of signals in the final score
                                      ├▶ steps     place and score before and after each stage
                                      └▶ without   the least that would have to be gone for the item to fall

Cost, in rankings of the same request: 1, and 2 to the kinds of signals passes of what judges by them (some 30 ms), and
as many as ``Effort`` allows to look for what would have to be gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tailwise.pipeline.absent import below, missing
from tailwise.pipeline.asking import Answer
from tailwise.pipeline.counterfactual import Order, Trials, falls
from tailwise.pipeline.dissect import Dissection, places_in
from tailwise.pipeline.explained import Counterfactual, Effort, Explained, Explanation, Missing, Ranks
from tailwise.rerank.phrases import reader_of
from tailwise.types import AGAINST, Ids, Patient, Request, Slate, ids_of


@dataclass
class Seen:
    """Slates in the order in which they came to be."""

    steps: list[tuple[str, Slate]] = field(default_factory=list)
    request: Request | None = None

    def __call__(self, key: str, request: Request, slate: Slate) -> None:
        self.request = request
        self.steps.append((key, slate))


def explain(engine: Ranks, request: Request, item_id: str | None = None, effort: Effort | None = None) -> Explained:
    """
    Explain the items of a list, or one item, on the list or not.

    Args:
        engine: What answers.
        request: As it would be answered.
        item_id: None explains every item of the list.
        effort: How hard to look for what would have to be gone.

    Raises:
        RequestError: As ``answer``.
    """
    seen, effort = Seen(), effort or Effort()
    answer = engine.answer(request, watch=seen)
    resolved, slate = seen.request, seen.steps[0][1]
    assert resolved is not None, "the engine tells of every slate"
    gates = {step.name: step.skipped for step in answer.trace if step.skipped}
    chosen = answer.slate.item_ids if item_id is None else ids_of([item_id])
    places = places_in(slate.item_ids, chosen)
    late = (places < 0) & np.isin(chosen, seen.steps[-1][1].item_ids)  # what a stage brought came to no step before it
    if item_id is not None and places[0] < 0 and not late[0]:
        why = missing(engine, request, resolved, answer, item_id)
        return Explained(answer, (_stranger(engine, item_id, why, reader_of(resolved)),), gates, 0)
    dissection = Dissection(engine, resolved, seen.steps, answer)
    explained = merged(chosen, dissection.items(places[~late]), dissection.brought(chosen[late]))
    if item_id is not None and explained[0].place is None:
        explained = [replace(explained[0], missing=below(explained[0], resolved, answer))]
    again = _again(engine, resolved, answer)
    shown = answer.slate.item_ids.tolist()
    if effort.tries and not (_asks(engine) <= gates.keys()):
        shown = again(frozenset()).tolist()
    trials = Trials(again, tries=effort.tries, seconds=effort.seconds)
    carriers = {e.item_id: _carriers(e, resolved) for e in explained if e.place is not None and e.item_id in shown}
    found = falls(shown, carriers, trials)
    items = tuple(replace(e, without=_without(engine, e.item_id, shown, found, reader_of(resolved))) for e in explained)
    return Explained(answer, items, gates, len(trials))


def merged(chosen: Ids, *parts: list[Explanation]) -> list[Explanation]:
    """Explanations in the order of ``chosen``."""
    by_id = {one.item_id: one for part in parts for one in part}
    return [by_id[str(item_id)] for item_id in chosen]


def _carriers(explanation: Explanation, request: Request) -> list[str]:
    """What of a history is taken away to see an item fall: what carried it most first, then what is newest."""
    past = request.past
    liked = [str(i) for i, kind in zip(past.item_ids[::-1], past.events[::-1], strict=True) if kind not in AGAINST]
    carried = [own.item_id for own in explanation.history if own.adds > 0]
    return list(dict.fromkeys([*carried, *liked]))


def _asks(engine: Ranks) -> frozenset[str]:
    """Stages that ask somebody else: once for the list, never for histories that nobody has, which cost as much."""
    return frozenset(bound.key for bound in engine.stages if isinstance(bound.run, Patient))


def _again(engine: Ranks, request: Request, answer: Answer) -> Order:
    """
    Ranks a resolved request without items of its history, which stay off the list where what was had does.

    Whoever would be asked is left out, so that what it says, or that it is late, moves nothing.
    """
    asks = _asks(engine)

    def order(gone: frozenset[str]) -> Ids:
        kept = ~np.isin(request.past.item_ids, list(gone))
        # What is excluded goes along, so that an item does not fall only because the one taken away comes back.
        less = replace(request, history=request.past.take(kept), exclude_seen=answer.excluded_seen)
        return engine.answer(less, spare=asks).slate.item_ids

    return order


def _without(
    engine: Ranks, item_id: str, shown: list[str], found: dict[str, tuple[frozenset[str], int | None]], language: str
) -> Counterfactual | None:
    if item_id not in found:
        return None
    gone, after = found[item_id]
    item_ids = ids_of(sorted(gone))
    names = engine.catalogue.titles(item_ids, engine.catalogue.rows(item_ids), language)
    return Counterfactual(tuple(item_ids.tolist()), tuple(names), shown.index(item_id) + 1, after)


def _stranger(engine: Ranks, item_id: str, why: Missing, language: str) -> Explanation:
    """An item that never came to the stages."""
    one = ids_of([item_id])
    (title,) = engine.catalogue.titles(one, engine.catalogue.rows(one), language)
    return Explanation(item_id, title, None, None, None, None, missing=why)
