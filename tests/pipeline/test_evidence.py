"""What is cited carried most, and the score falls without it: against taking it away for real."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.config import Step
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.pipeline.evidence import LATELY, Sums, by_item, carried, citing, fusion_of, with_carried
from tailwise.rerank.reasons import CARRIED
from tailwise.retrieve.collaborative import Ease, EaseConfig
from tailwise.retrieve.pairs import PairWeights
from tailwise.types import AGAINST, Event, History, Request, Slate, ids_of

ITEMS = 7
KINDS = ("view", "purchase", "dislike")
EVENTS = st.lists(
    st.tuples(st.integers(-1, ITEMS - 1), st.integers(0, 3), st.sampled_from(KINDS)), min_size=1, max_size=8
)


def history(*events: tuple[int, int, str]) -> History:
    past = History.of([Event("", str(row), float(time), kind) for row, time, kind in events])
    return past.place(np.array([int(name) for name in past.item_ids], np.int64))


def sums(weights: PairWeights, decay: float) -> Sums:
    ids = ids_of([str(row) for row in range(weights.n_items)])
    return Sums(Ease(EaseConfig(decay=decay), weights, ids), weights, decay)


def weights(seed: int) -> PairWeights:
    return PairWeights(np.random.default_rng(seed).normal(size=(ITEMS, ITEMS)).astype(np.float32))


@given(EVENTS, st.sampled_from([0.0, 0.4]), st.integers(0, 50))
def test_who_is_cited_carried_most_and_the_score_falls_without(
    events: list[tuple[int, int, str]], decay: float, seed: int
) -> None:
    past, source = history(*events), sums(weights(seed), decay)
    rows = np.arange(-1, ITEMS)

    cited = carried(Request("r", history=past), rows, source)

    parts = source.weights.contributions(past, decay, rows)
    for row, place, own in zip(rows, cited, parts, strict=True):
        total = {r: own[past.rows == r].sum() for r in set(past.rows.tolist())}
        newest = {r: past.events[np.flatnonzero(past.rows == r)[-1]] for r in total}
        fair = {r: gain for r, gain in total.items() if r not in (row, -1) and newest[r] not in AGAINST and gain > 0}
        if place < 0:
            if row >= 0 and fair:
                best = max(fair, key=lambda r: fair[r])
                less = source.weights.contributions(past.take(past.rows != best), decay, np.array([row])).sum()
                assert less >= own.sum() - 1e-5
            continue
        cited_row = past.rows[place]
        assert fair[cited_row] == pytest.approx(max(fair.values()))
        assert place == np.flatnonzero(past.rows == cited_row)[-1]
        less = source.weights.contributions(past.take(past.rows != cited_row), decay, np.array([row])).sum()
        assert less < own.sum() + 1e-5


def test_an_item_is_not_cited_when_the_score_would_not_fall() -> None:
    table = np.zeros((ITEMS, ITEMS), np.float32)
    table[0, 5], table[1, 5] = 10.0, 5.0
    past = history((0, 0, "view"), (1, 1, "view"))
    # With both 10 * exp(-1.6) + 5 = 7.02, where the newer carries most; without it the older counts in full: 10.
    cited = carried(Request("r", history=past), np.array([5]), sums(PairWeights(table), 1.6))

    assert cited.tolist() == [-1]


@given(st.integers(0, 60), st.sampled_from([0.0, 0.02, 0.4]))
@settings(max_examples=30)
def test_of_a_long_history_the_newest_part_is_cited_and_the_score_falls_all_the_same(seed: int, decay: float) -> None:
    rng = np.random.default_rng(seed)
    items, n = 160, 130
    past = history(*[(int(row), int(time), "view") for time, row in enumerate(rng.integers(0, items, n))])
    past = replace(past, times=np.sort(rng.integers(0, 90, n)).astype(np.float64))
    table = PairWeights(rng.normal(size=(items, items)).astype(np.float32))
    rows = np.arange(0, items, 7)

    cited = carried(Request("r", history=past), rows, sums(table, decay))

    assert (cited >= 0).any()
    for row, place in zip(rows[cited >= 0], cited[cited >= 0], strict=True):
        assert place >= n - LATELY - 5
        kept = past.take(past.rows != past.rows[place])
        before, after = table.scores(past, decay)[row], table.scores(kept, decay)[row]
        assert after < before + 1e-4


def test_by_item_adds_up_what_was_met_twice() -> None:
    past = history((3, 0, "view"), (4, 1, "view"), (3, 2, "view"))

    places, summed = by_item(past, np.array([[1.0, 2.0, 4.0]], np.float32))

    assert dict(zip(past.rows[places].tolist(), summed[0].tolist(), strict=True)) == {3: 5.0, 4: 2.0}
    assert sorted(places.tolist()) == [1, 2]


def test_the_sum_that_the_fusion_trusts_most_cites(tiny_engine: Engine) -> None:
    fusion = fusion_of(tiny_engine.stages)
    assert fusion is not None
    fusion = type(fusion)(fusion.config, {"popular": 9.0, "als": 8.0, "ease": 1.0, "item_knn": 2.0, "next_item": 0.5})
    stages = tuple(replace(b, run=fusion) if b.step.name == "fusion" else b for b in tiny_engine.stages)
    (knn,) = (bound.run for bound in tiny_engine.sources if bound.step.name == "item_knn")

    found = citing(tiny_engine.sources, stages)

    assert found is not None
    assert found.weights is knn.weights
    assert found.decay == knn.config.decay
    assert citing(tiny_engine.sources, stages[:1]) is None  # nobody reads it
    assert citing((), stages) is None


def test_the_answer_cites_and_taking_it_away_makes_that_source_say_less(tiny_engine: Engine) -> None:
    source = citing(tiny_engine.sources, tiny_engine.stages)
    assert source is not None
    cited = 0
    for user_id in tiny_engine.people.user_ids[:12]:
        answer = tiny_engine.answer(Request("r", user_id=str(user_id)))
        past, rows = answer.history, answer.slate.columns["row"]
        for row, reasons in zip(rows, answer.slate.columns["reasons"], strict=True):
            for reason in reasons:
                if reason["kind"] == "history":
                    one = np.array([row])
                    full = source.weights.contributions(past, source.decay, one).sum()
                    kept = past.take(past.item_ids != reason["item_id"])
                    assert source.weights.contributions(kept, source.decay, one).sum() < full
                    cited += 1

    assert cited > 20  # or it is vacuous


class Broken(PairWeights):
    """A source that fails."""

    def between(self, past: History, rows: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("oh")


def test_a_source_that_fails_costs_a_reason_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    class Reads:
        uses = frozenset({CARRIED})

    slate = Slate(ids_of(["a", "b"]), np.ones(2, np.float32), {"row": np.array([1, 2])})
    stage = Bound("it", Step(name="it"), Reads())
    request = Request("r", history=history((0, 0, "view")))

    found = with_carried(request, slate, stage, sums(Broken(np.eye(ITEMS, dtype=np.float32)), 0.0))

    assert found.columns[CARRIED].tolist() == [-1, -1]
    assert caplog.messages == ["nothing cited: ZeroDivisionError: oh"]
    assert with_carried(Request("r"), slate, stage, None) is slate
