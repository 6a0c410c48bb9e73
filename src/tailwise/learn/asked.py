"""What people typed before they chose: words that find an item again, and cases that say whom to trust with a query."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import polars as pl

from tailwise.config import PipelineConfig, Step
from tailwise.data.interactions import TYPED, Interactions, Training
from tailwise.learn.slates import Example
from tailwise.pipeline import Engine
from tailwise.rank.fusion import WORDS
from tailwise.types import QUERY, Encoder, Request

log = logging.getLogger(__name__)

LEAST_EVENTS = 500
"""Events with a query from which on the default pipeline knows the words of queries."""
LEAST_CASES = 100
"""Held-out cases with a query from which on what a source weighs with a query is learned."""
MOST_CASES = 1_000
ENCODER = "encoder"
"""Key of a fit's memo under which the encoder lies that will read queries."""


def with_words(config: PipelineConfig, interactions: Interactions) -> PipelineConfig:
    """The default sources and ``words``, where a log has queries enough; what somebody wrote stays as it is."""
    if TYPED not in interactions.context.columns or config.retrieve != PipelineConfig().retrieve:
        return config
    count = int((interactions.context[TYPED].cast(pl.String).fill_null("").str.strip_chars() != "").sum())
    if count < LEAST_EVENTS:
        return config
    log.info("words: among the sources, since %d events have a query", count)
    return config.model_copy(update={"retrieve": (*config.retrieve, Step(name=WORDS, k=100))})


def asked_examples(training: Training, engine: Engine) -> list[Example]:
    """
    Examples of held-out cases that came of a query, as a search will meet them: what was had may be found again.

    Args:
        training: With cases, and the encoder in its memo where there is one.
        engine: With the sources, and no stage yet.

    Returns:
        At most ``MOST_CASES``, drawn by the seed; none where fewer than ``LEAST_CASES`` have a query.

    Cost: one answer and one embedded query a case.
    """
    held = training.cases()
    encoder: Encoder | None = training.memo.get(ENCODER)
    if TYPED not in held.whole.context.columns:
        return []
    typed = {case: str(held.moment(case)[1].get(TYPED) or "").strip() for case in range(len(held))}
    cases = np.array([case for case, query in typed.items() if query], np.int64)
    if len(cases) < LEAST_CASES:
        return []
    cases = np.random.default_rng(training.seed).permutation(cases)[:MOST_CASES]
    found = []
    for place, case in enumerate(cases.tolist()):
        if place % 100 == 0:
            training.report("searches", place, len(cases))
        past, targets = held.past(case, training.catalogue), held.targets[case]
        request = Request("fit", history=past, exclude_seen=False, query=typed[case])
        if encoder is not None:
            request = replace(request, cache={QUERY: encoder.encode([typed[case]])[0]})
        slate = engine.candidates(request)
        relevant = np.isin(slate.columns["row"], targets)
        found.append(Example(int(held.people[case]), request, slate, relevant, len(targets)))
    training.report("searches", len(cases), len(cases))
    return found
