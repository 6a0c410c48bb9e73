"""Items that join late: behind all others, with what is known of any item and nobody's opinion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tailwise.config import Step
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import SIGNALS, Bound
from tailwise.pipeline.brought import joined, unknown, with_brought
from tailwise.types import Request, Rows, Slate, ids_of

Make = Callable[..., Engine]


class Wants:
    """A stage that brings i and j, and puts the last item first."""

    needs = frozenset({"row", "year"})
    gives: frozenset[str] = frozenset()

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def brings(self, request: Request, slate: Slate) -> Rows:
        if self.fails:
            raise ValueError("broken")
        return np.setdiff1d([8, 9], slate.columns["row"])

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return slate.take(np.roll(np.arange(len(slate)), 1))


def shortened(make: Make, stage: Any) -> Engine:
    return make(stages=[(Step(name="short", keep=3), Keep()), (Step(name="wants"), stage)])


class Keep:
    """Leaves a slate as it is."""

    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return slate


def test_the_stage_gets_what_it_wants_with_facts(make: Make) -> None:
    seen = {}
    answer = shortened(make, Wants()).answer(
        Request("r", user_id="ann"), watch=lambda key, _, slate: seen.setdefault(key, slate)
    )

    assert answer.slate.item_ids.tolist() == ["j", "c", "d", "e", "i"]
    assert answer.slate.columns["year"].tolist() == [2009, 2002, 2003, 2004, 2008]
    assert answer.slate.columns["first_rank"].tolist() == [5, 1, 2, 3, 4]
    assert (answer.trace[-1].rows_in, answer.trace[-1].rows_out) == (5, 5)
    assert seen["short"].item_ids.tolist() == ["c", "d", "e"]


@pytest.mark.parametrize("spare", [frozenset({"wants"}), frozenset[str]()])
def test_where_the_stage_is_spared_or_fails_nothing_joins(make: Make, spare: frozenset[str]) -> None:
    engine = shortened(make, Wants(fails=not spare))

    answer = engine.answer(Request("r", user_id="ann"), spare=spare)

    assert answer.slate.item_ids.tolist() == (["c", "d", "e"] if spare else ["e", "c", "d"])


class Picky:
    """A later stage that wants no item of some years."""

    needs = frozenset({"year"})
    gives: frozenset[str] = frozenset()

    def __init__(self, *years: int) -> None:
        self.years = years

    def drops(self, request: Request, slate: Slate) -> Any:
        return np.isin(slate.columns["year"], self.years)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return slate.take(np.flatnonzero(~self.drops(request, slate)))


class OneByOne(Wants):
    """Brings the best two of f … j that are not excluded, best last."""

    def brings(self, request: Request, slate: Slate) -> Rows:
        out = np.concatenate([slate.columns["row"], request.excluded])
        return np.setdiff1d(np.arange(5, 10), out)[::-1][:2]


@pytest.mark.parametrize(
    ("years", "brought"),
    [((), ["j", "i"]), ((2009,), ["i", "h"]), ((2009, 2007), ["i", "g"]), ((*range(2005, 2010),), [])],
)
def test_what_a_later_stage_would_drop_is_replaced(make: Make, years: tuple[int, ...], brought: list[str]) -> None:
    stages = [
        (Step(name="short", keep=3), Keep()),
        (Step(name="wants"), OneByOne()),
        (Step(name="picky"), Picky(*years)),
    ]
    seen = {}

    make(stages=stages).answer(
        Request("r", user_id="ann"), watch=lambda key, _, slate: seen.setdefault(key, {*slate.item_ids})
    )

    assert seen["wants"] - seen["short"] == {*brought}


def test_an_earlier_stage_has_no_say(make: Make) -> None:
    stages = [(Step(name="picky"), Picky(2009)), (Step(name="short", keep=3), Keep()), (Step(name="wants"), OneByOne())]

    answer = make(stages=stages).answer(Request("r", user_id="ann"))

    assert {"j", "i"} <= {*answer.slate.item_ids}


def test_a_stage_that_brings_nothing_gets_the_slate_itself(make: Make) -> None:
    engine, slate = make(), Slate(ids_of(["a"]), np.ones(1, np.float32), {"row": np.array([0])})

    assert with_brought(Request("r"), slate, Bound("keep", Step(name="keep"), Keep()), engine.catalogue) is slate


def test_what_joins_has_the_lowest_score_and_no_opinion(make: Make) -> None:
    columns = {
        "row": np.array([4, -1]),
        "year": np.array([2004, np.nan], np.float32),
        "score_ease": np.array([1, 2], np.float32),
        "propensity": np.array([0.5, 0.5], np.float32),
        SIGNALS: np.ones((2, 3), np.float32),
        "fired": ids_of(["x", "y"]),
        "kept": np.array([True, True]),
    }
    slate = Slate(ids_of(["e", "?"]), np.array([3, np.nan], np.float32), columns)

    found = joined(slate, np.array([7]), make().catalogue)

    assert found.item_ids.tolist() == ["e", "?", "h"]
    assert found.scores.tolist()[::2] == [3, 3]
    assert found.scores.dtype == np.float32
    assert found.columns["year"].tolist()[::2] == [2004, 2007]
    assert np.isnan(found.columns["score_ease"][2])
    assert found.columns["score_ease"][:2].tolist() == [1, 2]
    assert found.columns["propensity"][2] == 1
    assert found.columns[SIGNALS][2].tolist() == [0, 0, 0]
    assert found.columns["fired"][2] == ()
    assert not found.columns["kept"][2]


@pytest.mark.parametrize("kind", [np.float32, np.int64, bool, object])
def test_what_is_not_known_has_the_form_of_the_column(kind: type) -> None:
    column = np.zeros((2, 3), kind)

    blank = unknown("any", column, 4)

    assert blank.shape == (4, 3)
    assert blank.dtype == column.dtype
