"""Explanations of a fitted engine: sums that add up, places that are true, and sets that are ranked again to see."""

from dataclasses import replace

import numpy as np
import pytest

from tailwise.errors import RequestError
from tailwise.pipeline import Engine
from tailwise.pipeline.explain import explain
from tailwise.pipeline.explained import Effort, Explained
from tailwise.types import NO_HISTORY, Request, Slate


@pytest.fixture(scope="module")
def user(tiny_engine: Engine) -> str:
    return str(tiny_engine.people.user_ids[3])


@pytest.fixture(scope="module")
def whole(tiny_engine: Engine, user: str) -> Explained:
    return explain(tiny_engine, Request("r", user_id=user, k=6))


def test_every_item_of_the_list_is_explained_in_order(tiny_engine: Engine, whole: Explained, user: str) -> None:
    answer = tiny_engine.answer(Request("r", user_id=user, k=6))

    assert [own.item_id for own in whole.items] == answer.slate.item_ids.tolist()
    assert [own.place for own in whole.items] == [own.rank for own in whole.items] == [1, 2, 3, 4, 5, 6]
    assert [own.score for own in whole.items] == answer.slate.scores.tolist()
    assert [own.first_rank for own in whole.items] == answer.slate.columns["first_rank"].tolist()
    assert [own.reasons for own in whole.items] == answer.slate.columns["reasons"].tolist()
    assert all(own.missing is None for own in whole.items)


def test_the_sources_add_up_to_the_fused_score(tiny_engine: Engine, whole: Explained, user: str) -> None:
    seen = {}
    tiny_engine.answer(Request("r", user_id=user, k=6), watch=lambda key, _, slate: seen.setdefault(key, slate))
    fused = dict(zip(seen["fusion"].item_ids.tolist(), seen["fusion"].scores.tolist(), strict=True))

    for own in whole.items:
        assert own.fused == pytest.approx(fused[own.item_id], abs=1e-5)
        assert sum(part.adds for part in own.sources) == pytest.approx(own.fused, abs=1e-5)
        assert any(part.adds for part in own.sources)


def test_the_history_adds_up_to_what_its_sources_vary_by(whole: Explained) -> None:
    # A source adds unit · score − unit · mean; the second is one number for all items, so differences must agree.
    def by_source(own: object, name: str) -> tuple[float, float]:
        carried = sum(one.by.get(name, 0.0) for one in own.history)  # type: ignore[attr-defined]  # an Explanation
        return carried, next(part.adds for part in own.sources if part.source == name)  # type: ignore[attr-defined]

    first, second = whole.items[:2]
    additive = {name for own in whole.items for one in own.history for name in one.by}
    assert additive
    for name in additive:
        if first.history_rest or second.history_rest:
            continue
        (a, x), (b, y) = by_source(first, name), by_source(second, name)
        assert a - b == pytest.approx(x - y, abs=1e-4)


def test_what_is_left_out_of_the_history_is_told_as_one_number(tiny_engine: Engine, user: str) -> None:
    past = tiny_engine.history(user)
    (own,) = explain(tiny_engine, Request("r", history=past, k=1), effort=Effort(tries=0)).items

    assert [one.adds for one in own.history] == sorted((one.adds for one in own.history), reverse=True)
    assert np.isfinite(own.history_rest)
    for one in own.history:
        assert sum(one.by.values()) == pytest.approx(one.adds, abs=1e-5)
    assert {one.item_id for one in own.history} <= set(past.item_ids)


def test_the_kinds_add_up_to_the_judged_score(whole: Explained) -> None:
    for own in whole.items:
        assert own.judged is not None
        assert own.baseline is not None
        assert sum(own.kinds.values()) == pytest.approx(own.judged - own.baseline, abs=1e-4)


def test_steps_join_and_lead_from_the_first_place_to_the_last(tiny_engine: Engine, whole: Explained) -> None:
    for own in whole.items:
        assert [move.stage for move in own.stages] == [bound.key for bound in tiny_engine.stages]
        assert own.stages[0].place == own.first_rank
        assert own.stages[-1].place_after == own.rank
        assert [move.place_after for move in own.stages[:-1]] == [move.place for move in own.stages[1:]]


def test_what_would_have_to_be_gone_is_true_when_it_is_ranked_again(
    tiny_engine: Engine, whole: Explained, user: str
) -> None:
    found = [own for own in whole.items if own.without is not None]

    assert len(found) >= 3  # or it is vacuous
    assert whole.rankings > 0
    for own in found:
        gone = own.without
        assert gone is not None
        again = without(tiny_engine, user, gone.item_ids)
        place = again.index(own.item_id) + 1 if own.item_id in again else None
        assert place == gone.place_without
        assert place is None or place > gone.place == own.place
        assert not set(again) & set(gone.item_ids)  # what is taken away does not come back as a candidate


def without(engine: Engine, user: str, item_ids: tuple[str, ...]) -> list[str]:
    """The list of a person who had not had some of the items."""
    past = engine.history(user)
    less = past.take(~np.isin(past.item_ids, item_ids))
    assert len(less) < len(past)
    request = Request("r", user_id=user, history=less, k=6, excluded=np.unique(past.rows))
    again: list[str] = engine.answer(request).slate.item_ids.tolist()
    return again


def test_explaining_changes_nothing(tiny_engine: Engine, whole: Explained, user: str) -> None:
    assert explain(tiny_engine, Request("r", user_id=user, k=6)).items == whole.items


def test_one_item_gets_what_it_gets_among_all(tiny_engine: Engine, whole: Explained, user: str) -> None:
    wanted = whole.items[2]

    (own,) = tiny_engine.explain(user_id=user, k=6, item_id=wanted.item_id).items

    assert replace(own, without=None) == replace(wanted, without=None)


def test_an_item_below_the_list_is_told_its_place(tiny_engine: Engine, user: str) -> None:
    order = explain(tiny_engine, Request("r", user_id=user, k=20), effort=Effort(tries=0)).items

    (own,) = tiny_engine.explain(user_id=user, k=3, item_id=order[12].item_id).items

    assert own.place is None
    assert own.rank is not None
    assert own.rank > 3
    assert own.missing is not None
    assert own.missing.why == "below"
    assert own.missing.text == f"it is number {own.rank}, and the list has 3 places"
    assert own.sources
    assert own.without is None


def test_candidates_that_nobody_knows_are_explained_too(tiny_engine: Engine, user: str) -> None:
    found = tiny_engine.explain(user_id=user, candidates=["i01", "new", "i02"], k=3)

    (own,) = [own for own in found.items if own.item_id == "new"]
    assert own.title == "new"
    assert own.place == [one.item_id for one in found.items].index("new") + 1


def test_a_stranger_gets_an_explanation_without_a_history(tiny_engine: Engine) -> None:
    found = explain(tiny_engine, Request("r", history=NO_HISTORY, k=4))

    assert len(found.items) == 4
    assert all(own.history == () and own.without is None for own in found.items)
    assert found.rankings == 0


def test_what_cannot_be_answered_cannot_be_explained(tiny_engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"^a request needs one of: user_id, history, candidates, query$"):
        tiny_engine.explain(item_id="i01")


def test_a_stage_that_was_skipped_is_told(tiny_engine: Engine, user: str) -> None:
    class Breaks:
        needs = gives = frozenset[str]()

        def __call__(self, request: object, slate: object) -> object:
            raise ZeroDivisionError("oh")

    stages = tuple(replace(b, run=Breaks()) if b.key == "mmr" else b for b in tiny_engine.stages)

    found = explain(replace(tiny_engine, stages=stages), Request("r", user_id=user, k=2), effort=Effort(tries=0))

    assert found.gates == {"mmr": "failed: ZeroDivisionError: oh"}
    assert {move.stage: move.skipped for move in found.items[0].stages}["mmr"] == "failed: ZeroDivisionError: oh"


class Asks:
    """A stage that asks somebody, who prefers the second to the first; or who is late."""

    needs = gives = frozenset[str]()

    def __init__(self, *, late: bool) -> None:
        self.late, self.asked = late, 0

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return self.within(request, slate, 1000.0)

    def within(self, request: Request, slate: Slate, wait_ms: float) -> Slate:
        self.asked += 1
        if self.late:
            raise TimeoutError
        swapped = slate.take(np.array([1, 0, *range(2, len(slate))]))
        return swapped.score(np.linspace(1, 0, len(slate), dtype=np.float32))


@pytest.mark.parametrize("late", [False, True])
def test_who_is_asked_is_asked_once_for_the_list_and_never_for_histories_that_nobody_has(
    tiny_engine: Engine, whole: Explained, user: str, late: bool
) -> None:
    asks = Asks(late=late)
    own = next(bound for bound in tiny_engine.stages if bound.key == "listwise_llm")
    stages = tuple(replace(b, run=asks) if b is own else b for b in tiny_engine.stages)

    found = explain(replace(tiny_engine, stages=stages), Request("r", user_id=user, k=6))

    fast = {one.item_id: one.without for one in whole.items}  # the stage sleeps there
    assert asks.asked == 1
    assert found.rankings > 0
    told = {one.item_id: one.without for one in found.items}  # also where what it said counts in the list
    assert len(fast.keys() & told.keys()) >= len(fast) - 1  # it may bring another item in at the end of the list
    assert (list(told) == list(fast)) == late
    if late:
        assert told == fast
    for item_id, gone in told.items():  # in another order other sets are found first; all are true of the fast list
        again = [] if gone is None else without(tiny_engine, user, gone.item_ids)
        place = again.index(item_id) + 1 if item_id in again else None
        assert gone is None or (gone.place_without == place and (place is None or place > gone.place))
    assert any(told.values())
