"""How a teacher is asked, and what each of its opinions counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.data.interactions import Training
from tailwise.errors import Abstain, UnavailableError
from tailwise.learn.slates import Example
from tailwise.learn.teacher import (
    LEAST_WEIGHT,
    Judgement,
    asker,
    concordance,
    correctness,
    judgements_of,
    unlabelled,
    weights_of,
)
from tailwise.pipeline import Engine
from tailwise.rank.fusion import FusionConfig
from tailwise.types import Event, Floats, History, Request, Slate, ids_of

World = tuple[Training, Engine]
N, NAN = 4, float("nan")


def example(target: int | None, events: int = 3) -> Example:
    past = History.of([Event("", f"h{time}", time) for time in range(events)]).place(np.arange(events))
    slate = Slate(ids_of([f"i{n}" for n in range(N)]), np.linspace(1, 0, N, dtype=np.float32))
    return Example(0, Request("r", history=past), slate, np.arange(N) == (-1 if target is None else target), 1)


def said(*values: float) -> Floats:
    return np.array(values, np.float32)


def test_concordance_by_hand() -> None:
    # Of the pairs 3>2, 3>1 and 2>1 the first is turned round and the last a tie.
    assert concordance(said(1, 2, 1), said(3, 2, 1)) == pytest.approx((0 + 0.5 + 1) / 3)
    assert np.isnan(concordance(said(1, 2), said(1, 1)))
    assert concordance(said(NAN, 2, 1), said(9, 2, 1)) == 1.0


@given(st.lists(st.integers(0, 5), min_size=2, max_size=8), st.data())
@settings(max_examples=60)
def test_concordance_with_the_opposite_is_what_is_missing_to_one(other: list[int], data: st.DataObject) -> None:
    one = data.draw(st.lists(st.integers(0, 5), min_size=len(other), max_size=len(other)))
    found = concordance(said(*one), said(*other))

    assert np.isnan(found) == (len(set(other)) == 1)
    if len(set(other)) > 1:
        assert found + concordance(-said(*one), said(*other)) == pytest.approx(1.0)


def test_a_list_counts_more_the_surer_the_more_consistent_and_the_more_right_the_teacher_is() -> None:
    right, wrong, flat = said(3, 2, 1, 0), said(0, 1, 2, 3), said(0.3, 0.2, 0.1, 0)
    judgements = [
        Judgement(example(0), right, 1.0),
        Judgement(example(0), wrong, 1.0),
        Judgement(example(0), flat, 1.0),
        Judgement(example(0), right, 0.5),
        Judgement(example(None), right, 1.0),
    ]

    found = weights_of(judgements)

    assert found[0] == pytest.approx(0.5)  # as sure as usual, and right
    assert found[1] == pytest.approx(0.5 * LEAST_WEIGHT)
    assert found[2] == pytest.approx(1 / 11, abs=1e-3)
    assert found[3] == pytest.approx(0.25)
    assert found[4] == pytest.approx(0.5 * (2 * 0.75 - 1))  # nothing is known of it: as right as of the others
    assert [correctness(judgement) for judgement in judgements[:2]] == [1.0, 0.0]


def test_where_nothing_is_known_the_teacher_is_taken_at_its_word() -> None:
    assert weights_of([Judgement(example(None), said(3, 2, 1, 0), 1.0)]).tolist() == [0.5]


def test_lists_of_which_it_says_nothing_are_left_out() -> None:
    answers = iter([said(1, 2, 3, 4), said(NAN, NAN, NAN, 1), Abstain("gate: no"), TimeoutError(), said(4, 3, 2, 1)])

    def ask(_: Example) -> tuple[Floats, float]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer, 1.0

    judgements = judgements_of([example(0)] * 5, ask, Training(None, None, 0))  # type: ignore[arg-type]  # only reports

    assert [judgement.opinion.tolist() for judgement in judgements] == [[1, 2, 3, 4], [4, 3, 2, 1]]


def test_a_teacher_that_is_silent_is_none() -> None:
    def silent(_: Example) -> tuple[Floats, float]:
        raise Abstain("nothing to go by")

    with pytest.raises(UnavailableError, match=r"^the teacher gave no opinion$"):
        judgements_of([example(0)], silent, Training(None, None, 0))  # type: ignore[arg-type]  # only reports


def test_the_order_of_any_stage_can_be_learned(long_histories: World) -> None:
    training, engine = long_histories
    ask = asker("fusion", FusionConfig(), training, engine, N)
    case = unlabelled(training, engine, 1, N)[0]
    backwards = case.slate.score(-np.nan_to_num(case.slate.columns["score_popular"]))

    found, trust = ask(Example(0, case.request, backwards, case.relevant, 1))

    assert trust == 1.0
    assert sorted(found.tolist()) == [-3.0, -2.0, -1.0, 0.0]


def test_unlabelled_requests_are_of_some_moment_and_offer_nothing_that_was_taken(long_histories: World) -> None:
    training, engine = long_histories

    found = unlabelled(training, engine, 20, 10)

    assert len(found) == 20
    lengths = set()
    for each in found:
        whole = training.past(each.person)
        lengths.add(len(each.request.past) / len(whole))
        assert 0 < len(each.request.past) < len(whole)
        assert not set(each.slate.columns["row"]) & set(whole.rows)
        assert len(each.slate) <= 10
        assert not each.relevant.any()
    assert len(lengths) > 10
    assert len({each.person for each in found}) == 20
