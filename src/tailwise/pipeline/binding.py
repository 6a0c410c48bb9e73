"""Steps of a pipeline bound to their components: folders, column needs, and running one stage safely."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tailwise.config import Step
from tailwise.errors import Abstain, ConfigError
from tailwise.types import Column, Embedded, Patient, Request, Retriever, Slate, Stage, StageTrace

log = logging.getLogger(__name__)

SIGNALS = "signals"
"""The column of all that is known of a candidate for this person (``pipeline.signals``); made when a stage needs it."""

WAITS = "waits"
"""Why a stage was skipped by who was in a hurry."""
_hurried: ContextVar[bool] = ContextVar("hurried", default=False)
_since: ContextVar[float | None] = ContextVar("since", default=None)

SPARED = "load: many ask at once"
"""Why a stage was spared, as the trace says it."""


@dataclass(frozen=True)
class Bound:
    """A step of the pipeline with the component that it names."""

    key: str
    """Its folder in the model; the name, numbered when it is there twice."""
    step: Step
    run: Any

    @cached_property
    def embedded(self) -> bool:
        """Whether it keeps vectors of the items; looked at once, since to ask a protocol takes 20 µs."""
        return isinstance(self.run, Embedded)


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
    bound: Bound,
    request: Request,
    slate: Slate,
    *,
    trace: list[StageTrace],
    pool: ThreadPoolExecutor,
    spared: bool = False,
) -> Slate:
    """One stage; when it fails, is late or is spared, the previous order stands."""
    start = time.perf_counter()
    stage: Stage = bound.run
    skipped, after = None, slate
    try:
        if spared:
            skipped = SPARED
        elif bound.step.deadline_ms is None:
            after = _slate_of(stage(request, slate))
        else:
            found = _in_time(stage, request, slate, deadline_ms=bound.step.deadline_ms, pool=pool)
            if found is None and _hurried.get():
                skipped = WAITS
            elif found is None:
                skipped = f"late: over {bound.step.deadline_ms:g} ms"
                log.warning("stage skipped: %s: %s", bound.key, skipped)
            else:
                after = found
    except Abstain as reason:
        skipped = str(reason)
    except Exception as error:  # noqa: BLE001  a broken stage must not take the answer down
        skipped = f"failed: {type(error).__name__}: {error}"
        log.warning("stage skipped: %s: %s", bound.key, skipped)
    if skipped:
        blank = {name: _blank(name, len(slate)) for name in stage.gives - slate.columns.keys()}
        after = slate.add(**blank)
    if bound.step.keep is not None:
        after = after.take(slice(bound.step.keep))
    ms = (time.perf_counter() - start) * 1000
    trace.append(StageTrace(bound.key, round(ms, 3), len(slate), len(after), skipped))
    return after


def waits(stages: tuple[Bound, ...]) -> bool:
    """Whether every answer waits for a stage with a deadline, one that cannot say beforehand that it need not."""
    return any(bound.step.deadline_ms is not None and not isinstance(bound.run, Patient) for bound in stages)


@contextmanager
def hurried() -> Iterator[None]:
    """Within it, whoever would have to wait is skipped instead, and the trace says ``WAITS``: ask again with time."""
    token = _hurried.set(True)
    try:
        yield
    finally:
        _hurried.reset(token)


@contextmanager
def waiting_since(start: float) -> Iterator[None]:
    """Within it, deadlines of who waits count from ``start`` (``perf_counter``), when the request was asked first."""
    token = _since.set(start)
    try:
        yield
    finally:
        _since.reset(token)


def _in_time(
    stage: Stage, request: Request, slate: Slate, *, deadline_ms: float, pool: ThreadPoolExecutor
) -> Slate | None:
    """What a stage gives before its deadline; None when it is late."""
    if isinstance(stage, Patient):  # what it waits for takes no thread of ours
        try:
            since = _since.get()
            gone_ms = 0.0 if since is None else (time.perf_counter() - since) * 1000
            return _slate_of(stage.within(request, slate, 0.0 if _hurried.get() else max(deadline_ms - gone_ms, 1.0)))
        except TimeoutError:
            return None
    work = pool.submit(stage, request, slate)
    if work in wait([work], deadline_ms / 1000).done:
        return _slate_of(work.result())
    work.cancel()  # it may not even have begun
    return None


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
