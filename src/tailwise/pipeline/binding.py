"""Steps of a pipeline bound to their components: folders, column needs, and running one stage safely."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tailwise.config import Step
from tailwise.errors import Abstain, ConfigError
from tailwise.types import Column, Request, Retriever, Slate, Stage, StageTrace

log = logging.getLogger(__name__)

SIGNALS = "signals"
"""The column of all that is known of a candidate for this person (``pipeline.signals``); made when a stage needs it."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A step of the pipeline with the component that it names."""

    key: str
    """Its folder in the model; the name, numbered when it is there twice."""
    step: Step
    run: Any


@dataclass(frozen=True)
class Rescore:
    """A source used as a stage: reorder by its score alone."""

    source: Retriever
    needs: frozenset[str] = frozenset({"row"})
    gives: frozenset[str] = frozenset()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return slate.score(self.source.scores(request, slate.columns["row"]))


def keyed(steps: tuple[Step, ...]) -> Iterator[tuple[str, Step]]:
    """
    Each step with its folder: its name, numbered from the second of that name on.

    >>> [key for key, _ in keyed((Step(name="rules"), Step(name="mmr"), Step(name="rules")))]
    ['rules', 'mmr', 'rules-2']
    """
    counts: Counter[str] = Counter()
    for step in steps:
        counts[step.name] += 1
        yield (step.name if counts[step.name] == 1 else f"{step.name}-{counts[step.name]}"), step


def as_stages(bounds: tuple[Bound, ...]) -> tuple[Bound, ...]:
    """Sources that stand among the stages become stages that reorder by the source's score."""
    return tuple(replace(b, run=Rescore(b.run)) if isinstance(b.run, Retriever) else b for b in bounds)


def check_needs(names: frozenset[str], sources: tuple[Bound, ...], stages: tuple[Bound, ...]) -> list[Bound]:
    """
    See that every column a stage needs is supplied by facts, a source or an earlier stage.

    Returns:
        The sources whose scores some stage needs.

    Raises:
        ConfigError: A column is missing; names the stage, the column and what there is.
    """
    scores = {f"score_{bound.step.name}": bound for bound in sources}
    there = {*names, *scores, "first_rank", SIGNALS}
    for bound in stages:
        missing = sorted(bound.run.needs - there)
        if missing:
            raise ConfigError(
                f"stage {bound.key} needs the column {missing[0]!r}, but neither the items, the sources nor an earlier "
                f"stage supply it; there are: {', '.join(sorted(there))}"
            )
        there |= bound.run.gives
    wanted = {name for bound in stages for name in bound.run.needs}
    return [bound for name, bound in scores.items() if name in wanted or SIGNALS in wanted]


def run_stage(
    bound: Bound, request: Request, slate: Slate, *, trace: list[StageTrace], pool: ThreadPoolExecutor
) -> Slate:
    """One stage; when it fails or is late, the previous order stands."""
    start = time.perf_counter()
    stage: Stage = bound.run
    skipped, after = None, slate
    try:
        if bound.step.deadline_ms is None:
            after = _slate_of(stage(request, slate))
        else:
            work = pool.submit(stage, request, slate)
            if work in wait([work], bound.step.deadline_ms / 1000).done:
                after = _slate_of(work.result())
            else:
                work.cancel()  # it may not even have begun
                skipped = f"late: over {bound.step.deadline_ms:g} ms"
                log.warning("stage skipped: %s: %s", bound.key, skipped)
    except Abstain as reason:
        skipped = str(reason)
    except Exception as error:  # noqa: BLE001  a broken stage must not take the answer down
        skipped = f"failed: {type(error).__name__}: {error}"
        log.warning("stage skipped: %s: %s", bound.key, skipped)
    if skipped:
        blank = {name: _blank(name, len(slate)) for name in stage.gives - slate.columns.keys()}
        after = slate.add(**blank)
    if bound.step.keep is not None:
        after = after.take(np.arange(len(after))[: bound.step.keep])
    ms = (time.perf_counter() - start) * 1000
    trace.append(StageTrace(bound.key, round(ms, 3), len(slate), len(after), skipped))
    return after


@contextmanager
def timed(trace: list[StageTrace], name: str) -> Iterator[Callable[[int, int], None]]:
    """Times a part of the answer and adds it to the trace; gives what takes its rows in and out."""
    start, sizes = time.perf_counter(), [0, 0]

    def count(rows_in: int, rows_out: int) -> None:
        sizes[:] = [rows_in, rows_out]

    yield count
    trace.append(StageTrace(name, round((time.perf_counter() - start) * 1000, 3), sizes[0], sizes[1]))


def _slate_of(answer: object) -> Slate:
    if not isinstance(answer, Slate):
        raise TypeError(f"it gave {type(answer).__name__}, not a Slate")
    return answer


def _blank(name: str, n: int) -> Column:
    """What a column holds when the stage that gives it did not run."""
    if name == "propensity":
        return np.ones(n, np.float32)
    column = np.empty(n, object)
    column.fill(())
    return column
