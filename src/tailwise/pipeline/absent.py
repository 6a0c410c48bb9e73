"""Why an item is not on a list: the person had it, no source found it, a stage dropped it, others were better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tailwise.pipeline.asking import Answer
from tailwise.pipeline.explained import Explanation, Missing, Ranks
from tailwise.rerank.phrases import reader_of
from tailwise.types import Request, Retriever, Slate

WHY: Mapping[str, Mapping[str, str]] = {
    "en": {
        "seen": "the person has had it, and what was had is not shown again",
        "no candidate": "it is not among the candidates that came with the request",
        "unknown": "the model knows no item with this id",
        "not found": "no source found it among its best",
        "nearest": "; {source} comes nearest and has it at number {place}",
        "dropped": "the stage {stage} dropped it",
        "below": "it is number {rank}, and the list has {places} places",
    },
    "zh": {
        "seen": "这个人已经有过它，有过的不再展示",
        "no candidate": "它不在请求给出的候选之中",
        "unknown": "模型不认识这个编号的物品",
        "not found": "没有召回源把它找出来",
        "nearest": "；最接近的是 {source}，把它排在第 {place} 位",
        "dropped": "阶段 {stage} 把它移除了",
        "below": "它排在第 {rank} 位，而列表只有 {places} 位",
    },
}
"""Sentences by what they say, in each language."""


def missing(engine: Ranks, request: Request, resolved: Request, answer: Answer, item_id: str) -> Missing:
    """
    Why an item was no candidate.

    Args:
        engine: What answered.
        request: As it was asked.
        resolved: As the engine took it.
        answer: Without the item.
        item_id: Any.

    Cost: every source scores the whole catalogue once; one more ranking where no source found the item.
    """
    row = int(engine.catalogue.rows([item_id])[0])
    had = item_id in set(resolved.past.item_ids) or row in resolved.excluded
    say = WHY[reader_of(request)]
    if answer.excluded_seen and had:
        return Missing("seen", say["seen"])
    if request.candidates is not None:
        return Missing("no candidate", say["no candidate"])
    if row < 0:
        return Missing("unknown", say["unknown"])
    found_by = {}
    for bound in engine.sources:
        place = _place(bound.run, resolved, row, len(engine.catalogue))
        if place is not None:
            found_by[bound.step.name] = place
    text = say["not found"]
    if found_by:
        nearest = min(found_by, key=lambda name: found_by[name])
        text += say["nearest"].format(source=nearest, place=found_by[nearest])
    return Missing("not found", text, found_by, _place_if_found(engine, resolved, answer, item_id))


def below(explanation: Explanation, request: Request, answer: Answer) -> Missing:
    """Why a candidate is not on the list."""
    dropped, say = dropped_by(explanation), WHY[reader_of(request)]
    if dropped is not None:
        return Missing("dropped", say["dropped"].format(stage=dropped))
    last = float(answer.slate.scores[-1]) if len(answer.slate) else None
    behind = None if last is None or explanation.score is None else last - explanation.score
    text = say["below"].format(rank=explanation.rank, places=len(answer.slate))
    return Missing("below", text, behind=behind)


def dropped_by(explanation: Explanation) -> str | None:
    """The stage after which an item was gone; None when it was there to the end."""
    last = explanation.stages[-1] if explanation.stages else None
    return last.stage if last is not None and last.place_after is None else None


def _place(source: Retriever, request: Request, row: int, n_items: int) -> int | None:
    """The item's place in a source's order of what may be shown, from 1, below its equals; None where it is unknown."""
    scores = np.asarray(source.scores(request, np.arange(n_items)), np.float64)
    if np.isnan(scores[row]):
        return None
    allowed = np.ones(n_items, bool)
    allowed[request.excluded] = False
    return int((scores[allowed] >= scores[row]).sum())


def _place_if_found(engine: Ranks, resolved: Request, answer: Answer, item_id: str) -> int | None:
    """Where the item would stand among all candidates, had a source found it."""
    candidates = (*answer.first.item_ids.tolist(), item_id)
    order: list[str] = []

    def last(key: str, request: Request, slate: Slate) -> None:  # noqa: ARG001  the form of a watch
        order[:] = slate.item_ids.tolist()

    engine.answer(replace(resolved, candidates=candidates, exclude_seen=answer.excluded_seen), watch=last)
    return order.index(item_id) + 1 if item_id in order else None
