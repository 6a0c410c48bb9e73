"""Needs are checked before the first request; a stage that fails, dawdles or answers nonsense is passed over."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tailwise.config import Step
from tailwise.errors import Abstain, ConfigError
from tailwise.fakes import FixedRetriever, Reverse
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound, Rescore, as_stages, check_needs, keyed, run_stage, timed
from tailwise.types import Column, Request, Slate, StageTrace, ids_of

ANYONE = Request("r", user_id="ann")


@dataclass(frozen=True)
class Does:
    """A stage from a function."""

    act: Callable[[Slate], Any]
    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()

    def __call__(self, request: Request, slate: Slate) -> Any:
        return self.act(slate)


@dataclass
class Waits:
    """A stage that answers only when it is released."""

    released: threading.Event = field(default_factory=threading.Event)
    begun: int = 0
    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset({"propensity", "fired"})

    def __call__(self, request: Request, slate: Slate) -> Slate:
        self.begun += 1
        assert self.released.wait(30)
        return slate.take(np.arange(len(slate))[::-1])


@pytest.fixture
def waits() -> Iterator[Waits]:
    stage = Waits()
    yield stage
    stage.released.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


def three() -> Slate:
    return Slate(ids_of(["a", "b", "c"]), np.array([3, 2, 1], np.float32), {"row": np.arange(3)})


def run(stage: Any, pool: ThreadPoolExecutor, slate: Slate | None = None, **step: Any) -> tuple[Slate, StageTrace]:
    trace: list[StageTrace] = []
    bound = Bound("it", Step(name="it", **step), stage)
    after = run_stage(bound, ANYONE, three() if slate is None else slate, trace=trace, pool=pool)
    (entry,) = trace
    return after, entry


def test_a_stage_acts_and_the_trace_counts_its_rows(pool: ThreadPoolExecutor) -> None:
    after, entry = run(Reverse(), pool, keep=2)

    assert after.item_ids.tolist() == ["c", "b"]
    assert (entry.name, entry.rows_in, entry.rows_out, entry.skipped) == ("it", 3, 2, None)
    assert entry.ms >= 0


def test_a_stage_within_its_deadline_acts(pool: ThreadPoolExecutor) -> None:
    after, entry = run(Reverse(), pool, deadline_ms=30_000)

    assert after.item_ids.tolist() == ["c", "b", "a"]
    assert entry.skipped is None


def test_a_late_stage_is_passed_over(pool: ThreadPoolExecutor, waits: Waits) -> None:
    after, entry = run(waits, pool, deadline_ms=5, keep=2)

    assert after.item_ids.tolist() == ["a", "b"]
    assert entry.skipped == "late: over 5 ms"
    assert (entry.rows_in, entry.rows_out) == (3, 2)
    assert after.columns["propensity"].tolist() == [1, 1]
    assert after.columns["fired"].tolist() == [(), ()]


def test_work_that_had_to_wait_for_a_late_stage_is_given_up(pool: ThreadPoolExecutor, waits: Waits) -> None:
    run(waits, pool, deadline_ms=20)

    _, entry = run(waits, pool, deadline_ms=5)

    assert entry.skipped == "late: over 5 ms"
    waits.released.set()
    pool.shutdown(wait=True)
    assert waits.begun <= 1  # without giving up it would be 2


@pytest.mark.parametrize("deadline_ms", [None, 30_000])
@pytest.mark.parametrize("error", [ValueError, TimeoutError, KeyError, ZeroDivisionError])
def test_a_failing_stage_is_passed_over(
    pool: ThreadPoolExecutor, deadline_ms: float | None, error: type[Exception]
) -> None:
    def fail(slate: Slate) -> Slate:
        raise error("oh")

    after, entry = run(Does(fail, gives=frozenset({"fired"})), pool, deadline_ms=deadline_ms)

    assert after.item_ids.tolist() == ["a", "b", "c"]
    assert entry.skipped is not None
    assert entry.skipped.startswith(f"failed: {error.__name__}: ")
    assert after.columns["fired"].tolist() == [(), (), ()]


@pytest.mark.parametrize("deadline_ms", [None, 30_000])
def test_a_stage_that_gives_no_slate_is_passed_over(pool: ThreadPoolExecutor, deadline_ms: float | None) -> None:
    after, entry = run(Does(lambda slate: None), pool, deadline_ms=deadline_ms, keep=1)

    assert after.item_ids.tolist() == ["a"]
    assert entry.skipped == "failed: TypeError: it gave NoneType, not a Slate"


def test_a_column_that_an_earlier_stage_gave_stays_when_a_later_one_fails(pool: ThreadPoolExecutor) -> None:
    earlier = three().add(propensity=np.array([0.5, 0.25, 0.25], np.float32))

    def fail(slate: Slate) -> Slate:
        raise ValueError

    after, _ = run(Does(fail, gives=frozenset({"propensity"})), pool, earlier)

    assert after.columns["propensity"].tolist() == [0.5, 0.25, 0.25]


def test_steps_of_one_name_are_numbered() -> None:
    steps = tuple(Step(name=name) for name in ("rules", "mmr", "rules", "rules"))

    assert [key for key, _ in keyed(steps)] == ["rules", "mmr", "rules-2", "rules-3"]


def test_a_source_among_the_stages_orders_by_its_score() -> None:
    fixed = FixedRetriever(("a", "b", "c"))
    (bound, same) = as_stages((Bound("fixed", Step(name="fixed"), fixed), Bound("r", Step(name="r"), Reverse())))

    after = bound.run(ANYONE, three().take(np.array([2, 0, 1])))

    assert isinstance(bound.run, Rescore)
    assert after.item_ids.tolist() == ["a", "b", "c"]
    assert isinstance(same.run, Reverse)


def test_a_source_as_a_stage_puts_what_it_does_not_know_last() -> None:
    @dataclass(frozen=True)
    class Knows:
        def __call__(self, request: Request, k: int) -> Slate:
            return three()

        def scores(self, request: Request, rows: Column) -> Column:
            return np.where(rows == 2, 1.0, np.nan)

    assert Rescore(Knows())(ANYONE, three()).item_ids.tolist() == ["c", "a", "b"]


def bound(name: str, needs: set[str], gives: set[str] | None = None) -> Bound:
    return Bound(name, Step(name=name), Does(lambda slate: slate, frozenset(needs), frozenset(gives or ())))


EASE = Bound("ease", Step(name="ease"), FixedRetriever(()))
ALS = Bound("als", Step(name="als"), FixedRetriever(()))


def test_needs_are_met_by_facts_sources_and_earlier_stages() -> None:
    stages = (bound("one", {"year", "score_als", "first_rank"}, {"fired"}), bound("two", {"fired"}))

    wanted = check_needs(frozenset({"year"}), (EASE, ALS), stages)

    assert wanted == [ALS]  # nobody needs the score of the other


def test_a_missing_column_is_told_with_what_there_is() -> None:
    stages = (bound("late", {"fired", "year"}), bound("early", set(), {"fired"}))

    with pytest.raises(ConfigError) as caught:
        check_needs(frozenset({"year", "row"}), (EASE,), stages)

    assert str(caught.value) == (
        "stage late needs the column 'fired', but neither the items, the sources nor an earlier stage supply it; "
        "there are: first_rank, row, score_ease, signals, year"
    )


def test_an_engine_does_not_start_without_what_its_stages_need(make: Callable[..., Engine]) -> None:
    needy = Does(lambda slate: slate, needs=frozenset({"vectors"}))

    with pytest.raises(ConfigError, match=r"^stage needy needs the column 'vectors', but neither .+$"):
        make(stages=[(Step(name="needy"), needy)])


def test_parts_of_an_answer_are_timed() -> None:
    trace: list[StageTrace] = []

    with timed(trace, "part") as count:
        count(3, 2)

    assert [(entry.name, entry.rows_in, entry.rows_out) for entry in trace] == [("part", 3, 2)]
    assert trace[0].ms >= 0


@pytest.mark.parametrize("deadline_ms", [None, 30_000])
def test_a_stage_that_abstains_is_passed_over_without_a_warning(
    pool: ThreadPoolExecutor, deadline_ms: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    def abstain(slate: Slate) -> Slate:
        raise Abstain("gate: the history is long")

    after, entry = run(Does(abstain), pool, deadline_ms=deadline_ms)

    assert after.item_ids.tolist() == ["a", "b", "c"]
    assert entry.skipped == "gate: the history is long"
    assert not caplog.records  # a failure would be logged
