"""A gate asks whom it was told to, says why it does not, and a blend can do no harm where nothing is said."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.config import Step
from tailwise.errors import Abstain, ArtifactError, ShapeError
from tailwise.pipeline.binding import Bound, run_stage
from tailwise.rank.gate import BUCKETS, SITUATION, Gate, Rule, advised, blended, bucket
from tailwise.types import ADVISED, QUERY, Event, Floats, History, Request, Slate, StageTrace, ids_of

NAN = float("nan")
SCORE = st.floats(-100, 100, width=32).map(lambda score: round(score, 2))
SAID = SCORE | st.just(NAN)


def slate(*scores: float, popularity: list[float] | None = None) -> Slate:
    columns = {} if popularity is None else {"popularity": np.array(popularity, np.float32)}
    return Slate(ids_of([f"i{row}" for row in range(len(scores))]), np.array(scores, np.float32), columns)


def somebody(events: int, **cache: Floats) -> Request:
    past = History.of([Event("", f"h{time}", time) for time in range(events)]).place(np.arange(events))
    return Request("r", history=past, cache=dict(cache))


@pytest.mark.parametrize(
    ("length", "place"), [(0, 0), (1, 1), (5, 1), (6, 2), (20, 2), (21, 3), (50, 3), (51, 4), (999, 4)]
)
def test_a_bucket_ends_with_the_length_in_its_name(length: int, place: int) -> None:
    assert bucket(length) == place


def test_the_weight_is_that_of_the_bucket() -> None:
    gate = Gate(weights=(0.0, 2.0, 1.0, 0.5, 0.0))

    found = [gate.weight(somebody(events), slate(2, 1)) for events in (0, 3, 10, 30, 60)]

    assert found == [0.0, 2.0, 1.0, 0.5, 0.0]


def test_only_liked_events_of_known_items_make_a_history_long() -> None:
    events = [Event("", "a", 1.0), Event("", "b", 2.0, "skip"), Event("", "c", 3.0)]
    request = Request("r", history=History.of(events).place(np.array([0, 1, -1])))

    assert Gate().situation(request, slate(2, 1))[0] == pytest.approx(np.log(2))


def test_where_there_is_a_query_the_set_weight_counts_whatever_was_learned() -> None:
    asked = {QUERY: np.ones(3, np.float32)}

    assert Gate(query=3.0).weight(somebody(60, **asked), slate(2, 1)) == 3.0
    assert Gate.always(2.0).weight(somebody(60, **asked), slate(2, 1)) == 2.0
    with pytest.raises(Abstain, match=r"^gate: not asked where there is a query$"):
        Gate(query=0.0, weights=(1.0,) * 5).asked(somebody(1, **asked), slate(2, 1))


def test_a_bucket_that_it_did_not_help_is_told_so() -> None:
    with pytest.raises(Abstain, match=r"^gate: it did not help people with 21-50 events$"):
        Gate(weights=(1.0, 1.0, 1.0, 0.0, 1.0)).asked(somebody(30), slate(2, 1))


@pytest.mark.parametrize("scores", [(), (1.0,)])
def test_where_there_is_no_order_nothing_is_asked(scores: tuple[float, ...]) -> None:
    with pytest.raises(Abstain, match=r"^gate: nothing to order$"):
        Gate.always(1.0).asked(somebody(3), slate(*scores))


def test_a_rule_asks_where_it_expects_more_than_is_demanded() -> None:
    close, clear = slate(1.0, 0.9, 0.5, 0.0), slate(9.0, 0.9, 0.5, 0.0)
    rule = Rule(slopes=(0.0, -0.1, 0.0, 0.0), start=0.1)
    gate = Gate(weights=(1.0,) * 5, rule=rule, least_gain=0.01)

    assert gate.asked(somebody(3), close) == 1.0
    with pytest.raises(Abstain, match=r"^gate: expected gain -0\.\d{4}, asked above 0\.01$"):
        gate.asked(somebody(3), clear)


def test_the_situation_is_what_its_names_say() -> None:
    before = slate(3.0, 1.0, -1.0, -3.0, -50.0, popularity=[7, 0, NAN, 1, 0])

    found = Gate(depth=4).situation(somebody(4), before)

    assert len(found) == len(SITUATION)
    deviation = np.sqrt(5.0)  # of 3, 1, -1, -3; what is behind the depth has no part in it
    assert found.tolist() == pytest.approx([np.log(5), 2 / deviation, 6 / deviation, 0.5])


@pytest.mark.parametrize("scores", [(), (1.0,), (NAN, NAN), (np.inf, 1.0), (2.0, 2.0, 2.0)])
def test_the_situation_of_an_odd_slate_is_finite(scores: tuple[float, ...]) -> None:
    assert np.isfinite(Gate().situation(Request("r"), slate(*scores))).all()


def test_a_gate_survives_json() -> None:
    gate = Gate(depth=7, weights=(0, 1, 2, 3, 4), query=0.5, rule=Rule(slopes=(1, 2, 3, 4), start=-1), least_gain=0.1)

    assert Gate.load(json.loads(json.dumps(gate.dump()))) == gate
    assert Gate.load({}) == Gate()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"weights": [1.0]}, r"weights: Tuple should have at least 5 items after validation, not 1"),
        ({"weights": [0, 0, 0, 0, -1]}, r"weights\.4: Input should be greater than or equal to 0"),
        ({"query": float("inf")}, r"query: Input should be a finite number"),
        ([], r"gate: Input should be a valid dictionary or instance of Gate"),
    ],
)
def test_a_damaged_gate_is_told(raw: object, message: str) -> None:
    with pytest.raises(ArtifactError, match=rf"^the gate cannot be read \({message}\); fit the model again$"):
        Gate.load(raw)


def test_a_blend_by_hand() -> None:
    before = slate(4.0, 2.0, 0.0, -5.0)

    found = blended(before, np.array([0.0, 1.0, 2.0], np.float32), 0.5)

    # Both standardised are ±1.2247, 0: sums 0.6124, 0, -0.6124, so half the opinion does not turn the order round.
    assert found.item_ids.tolist() == ["i0", "i1", "i2", "i3"]
    assert found.scores[:3].tolist() == pytest.approx([0.6124, 0.0, -0.6124], abs=1e-3)
    assert blended(before, np.array([0.0, 1.0, 2.0], np.float32), 1.5).item_ids.tolist() == ["i2", "i1", "i0", "i3"]


def test_more_opinions_than_items_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"^there are 3 opinions, but the slate has 2 items$"):
        blended(slate(2, 1), np.zeros(3, np.float32), 1.0)


def plain(scores: list[float], said: list[float], weight: float) -> list[int]:
    """The rows of a blend, without arrays: those that are judged change places among themselves."""
    known = [row for row, value in enumerate(said) if not np.isnan(value)]

    def scaled(values: list[float]) -> list[float]:
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        return [(value - mean) / deviation if deviation > 1e-9 else 0.0 for value in values]

    fast = scaled(scores[: len(said)])
    total = {row: fast[row] + weight * value for row, value in zip(known, scaled([said[row] for row in known]))}  # noqa: B905  as many
    out = list(range(len(scores)))
    for place, row in zip(known, sorted(known, key=lambda row: -round(total[row], 4))):  # noqa: B905  as many
        out[place] = row
    return out


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=12, unique=True), st.data())
@settings(max_examples=200)
def test_a_blend_equals_the_plain_one(scores: list[int], data: st.DataObject) -> None:
    falling = sorted(map(float, scores), reverse=True)
    said = data.draw(st.lists(st.integers(-9, 9).map(float) | st.just(NAN), min_size=0, max_size=len(scores)))
    weight = data.draw(st.sampled_from([0.1, 0.7, 3.0]))
    wanted = plain(falling, said, weight) if any(not np.isnan(value) for value in said) else list(range(len(falling)))

    found = blended(slate(*falling), np.array(said, np.float32), weight)

    place = {f"i{row}": row for row in range(len(scores))}
    assert [place[item] for item in found.item_ids] == wanted or np.diff(found.scores).max() > -1e-3  # near ties


@given(st.lists(SCORE, min_size=1, max_size=12), st.data())
@settings(max_examples=200)
def test_a_blend_keeps_the_items_the_places_of_the_unjudged_and_falling_scores(
    scores: list[float], data: st.DataObject
) -> None:
    before = slate(*scores)
    said = np.array(data.draw(st.lists(SAID, min_size=0, max_size=len(scores))), np.float32)

    found = blended(before, said, data.draw(st.floats(0, 50)))

    assert sorted(found.item_ids) == sorted(before.item_ids)
    unjudged = np.append(np.flatnonzero(np.isnan(said)), np.arange(len(said), len(scores)))
    assert found.item_ids[unjudged].tolist() == before.item_ids[unjudged].tolist()
    if found is not before:
        assert (np.diff(found.scores) <= 0).all()
        assert np.isfinite(found.scores).all()


@given(st.lists(SCORE, min_size=2, max_size=12), st.data())
@settings(max_examples=100)
def test_what_says_nothing_changes_nothing(scores: list[float], data: st.DataObject) -> None:
    before = slate(*scores)
    said = np.array(data.draw(st.lists(SAID, min_size=len(scores), max_size=len(scores))), np.float32)
    alike = np.full(len(scores), data.draw(SAID), np.float32)

    assert blended(before, said, 0.0) is before
    assert blended(before, alike, 5.0) is before


@given(st.permutations(range(8)))
@settings(max_examples=50)
def test_a_large_weight_lets_the_opinion_decide_and_a_small_one_nothing(said: list[int]) -> None:
    before, opinion = slate(8, 7, 6, 5, 4, 3, 2, 1), np.array(said, np.float32)

    alone, barely = blended(before, opinion, 50.0), blended(before, opinion, 1e-3)

    assert alone.item_ids.tolist() == before.item_ids[np.argsort(-opinion)].tolist()
    assert barely.item_ids.tolist() == before.item_ids.tolist()


def test_what_comes_in_is_an_order_even_where_its_scores_do_not_fall() -> None:
    """Diversity puts an unlike item above a better one; an opinion that hardly counts must not take that back."""
    before = slate(3.0, 1.0, 2.0, 0.0)

    found = blended(before, np.array([0.0, 0.0, 0.0, 1.0], np.float32), 0.01)

    assert found.item_ids.tolist() == before.item_ids.tolist()


def test_every_bucket_has_a_name() -> None:
    assert len(Gate().weights) == len(BUCKETS)


class Gated:
    """The smallest stage with a gate."""

    needs: frozenset[str] = Gate.needs
    gives: frozenset[str] = frozenset()

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __call__(self, request: Request, slate: Slate) -> Slate:
        weight = self.gate.asked(request, slate)
        return blended(slate, np.arange(len(slate), dtype=np.float32), weight)


@pytest.mark.parametrize(
    ("events", "told", "order"),
    [(30, "gate: it did not help people with 21-50 events", ["i0", "i1", "i2"]), (3, None, ["i2", "i1", "i0"])],
)
def test_the_trace_tells_why_nothing_was_asked(events: int, told: str | None, order: list[str]) -> None:
    bound = Bound("gated", Step(name="gated"), Gated(Gate(weights=(0.0, 9.0, 0.0, 0.0, 0.0))))
    trace: list[StageTrace] = []

    with ThreadPoolExecutor(1) as pool:
        after = run_stage(bound, somebody(events), slate(3, 2, 1), trace=trace, pool=pool)

    assert [step.skipped for step in trace] == [told]
    assert after.item_ids.tolist() == order


def test_what_an_opinion_put_higher_is_marked_also_by_an_earlier_one() -> None:
    before = slate(4, 3, 2, 1)

    once = advised(before, np.array([0.0, 0.0, 9.0], np.float32), 9.0)
    twice = advised(once, np.array([0.0, np.nan, 9.0], np.float32), 99.0)

    marked = [dict(zip(own.item_ids.tolist(), own.columns[ADVISED].tolist(), strict=True)) for own in (once, twice)]
    assert once.item_ids.tolist() == ["i2", "i0", "i1", "i3"]
    assert marked[0] == {"i2": True, "i0": False, "i1": False, "i3": False}
    assert twice.item_ids.tolist() == ["i1", "i0", "i2", "i3"]
    assert marked[1] == {"i1": True, "i0": False, "i2": True, "i3": False}
    assert once.scores.tolist() == blended(before, np.array([0.0, 0.0, 9.0], np.float32), 9.0).scores.tolist()


def test_an_opinion_that_moves_nothing_marks_nothing() -> None:
    found = advised(slate(2, 1), np.zeros(2, np.float32), 1.0)

    assert found.columns[ADVISED].tolist() == [False, False]
