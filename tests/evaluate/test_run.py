"""An evaluation whose answer is known: a source that was told where each person's targets stand."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.config import PipelineConfig, Step
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.data.load import Dataset
from tailwise.data.scores import best_slate
from tailwise.data.split import Split
from tailwise.errors import DataError
from tailwise.evaluate.accuracy import auc_of_scores
from tailwise.evaluate.run import DEPTH, MIXED, _log_chance, _places, cases_of, evaluate
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.retrieve.again import Again, AgainConfig
from tailwise.types import Floats, Request, Rows, Slate, ids_of

ITEMS = [f"i{row:02d}" for row in range(30)]
Row = tuple[str, str, str]
TRAIN: list[Row] = [(f"u{person}", ITEMS[(5 * person + n) % 30], "view") for person in range(6) for n in range(3)]


@dataclass(frozen=True)
class Told:
    """A source that gives each person a wanted order of some items, by request, and the others after them by row."""

    orders: Mapping[str, list[int]]
    item_ids: Any

    def _all(self, request: Request) -> Floats:
        scores = -np.arange(len(self.item_ids), dtype=np.float32)
        wanted = self.orders.get(request.request_id, [])
        scores[wanted] = np.arange(len(wanted), 0, -1)
        return scores

    def __call__(self, request: Request, k: int) -> Slate:
        return best_slate(self._all(request), k, request, self.item_ids)

    def scores(self, request: Request, rows: Rows) -> Floats:
        return np.where(rows >= 0, self._all(request)[rows], np.float32("nan"))


def frame(rows: list[Row], start: float) -> pl.DataFrame:
    columns = {"user_id": pl.String, "item_id": pl.String, "event": pl.String}
    place = start + pl.int_range(pl.len()).cast(pl.Float64)
    return pl.DataFrame(rows, schema=columns, orient="row").with_columns(time=place, value=pl.lit(None, pl.Float32))


def split(test: list[Row], train: list[Row] = TRAIN) -> Split:
    return Split("last", Dataset.of("shop", events=frame(train, 1e9)), frame(test, 2e9), None, "made up")


def engine(
    orders: Mapping[str, list[int]], known: Split, *, k: int = 30, items: list[str] = ITEMS, **config: Any
) -> Engine:
    catalogue = Catalogue(
        pl.DataFrame({"item_id": items}),
        popularity=np.ones(len(items), np.float32),
        recent=np.ones(len(items), np.float32),
        vectors=np.eye(len(items), dtype=np.float32),
        tail_cut=0.2,
    )
    step = Step(name="told", k=k)
    people = Interactions.of(known.train.events, catalogue)
    told = Bound("told", step, Told(orders, catalogue.item_ids))
    return Engine(
        PipelineConfig(retrieve=(step,), stage=(), **config), catalogue, people, (told,), (), {"seconds": 2.0}
    )


SPLIT = split([("u0", "i20", "view"), ("u1", "i21", "view"), ("u2", "i22", "view"), ("u2", "i23", "purchase")])
ORDERS = {"u0": [20, 9], "u1": [1, 2, 21], "u2": [9, 22, 3, 23]}


# Who is judged, and by what.


def test_a_case_is_what_came_before_and_what_came_after() -> None:
    cases = cases_of(engine(ORDERS, SPLIT), SPLIT)

    assert [request.request_id for request in cases.requests] == ["u0", "u1", "u2"]
    assert [request.past.rows.tolist() for request in cases.requests] == [[0, 1, 2], [5, 6, 7], [10, 11, 12]]
    assert cases.targets.tolist() == [[20, -1], [21, -1], [22, 23]]
    assert {(request.k, request.exclude_seen, request.user_id) for request in cases.requests} == {(DEPTH, True, None)}


def test_what_cannot_be_judged_is_left_out() -> None:
    odd = split(
        [
            ("u0", "i00", "view"),  # had before
            ("u1", "new", "view"),  # unknown to the catalogue
            ("u2", "i22", "dislike"),  # against it
            ("u3", "i20", "view"),
            ("u3", "i20", "purchase"),  # the same item again
            ("u3", "i15", "view"),  # had before, beside one that is new
            ("stranger", "i04", "view"),
        ]
    )

    cases = cases_of(engine({}, odd), odd)

    assert [request.request_id for request in cases.requests] == ["u3", "stranger"]
    assert cases.targets.tolist() == [[20], [4]]
    assert len(cases.requests[1].past) == 0


def test_where_people_come_back_what_they_had_is_a_target_too() -> None:
    again = split([("u0", "i00", "view")])

    cases = cases_of(engine({}, again, exclude_seen=False), again)

    assert cases.targets.tolist() == [[0]]
    assert cases.requests[0].exclude_seen is False


def test_at_most_so_many_people_are_drawn_by_the_seed() -> None:
    many = split([(f"u{person}", "i29", "view") for person in range(6)])
    judge = engine({}, many)

    first, same, other = ([r.request_id for r in cases_of(judge, many, most=3, seed=s).requests] for s in (0, 0, 4))

    assert first == same == sorted(first)
    assert len(first) == 3
    assert first != other
    assert len(cases_of(judge, many, most=6).requests) == 6


def test_when_nobody_can_be_judged_it_says_so() -> None:
    nobody = split([("u0", "i00", "view")])

    with pytest.raises(
        DataError, match=r"^nobody in the last split can be judged: no test item is new to them and in the catalogue$"
    ):
        evaluate(engine({}, nobody), nobody)


# What is found.


def test_the_figures_are_those_of_the_places_that_were_told() -> None:
    report = evaluate(engine(ORDERS, SPLIT), SPLIT, seed=3)

    pipeline, told, *baselines = report.methods
    two = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    for method in (pipeline, told):
        assert method.per_request["ndcg@10"].tolist() == pytest.approx([1, 1 / 2, two])
        assert method.per_request["hr@1"].tolist() == [1, 0, 0]
        assert method.per_request["mrr@10"].tolist() == pytest.approx([1, 1 / 3, 1 / 2])
        assert method.per_request["recall@10"].tolist() == [1, 1, 1]
        # 27 items are open to each: of 26 others none, and two, stand before; of 2 x 25 pairs 3 are wrong.
        assert method.per_request["auc"].tolist() == pytest.approx([1, 24 / 26, 47 / 50])
    assert [method.name for method in baselines] == ["Pop", "EASE", "ALS"]
    assert [method.kind for method in report.methods] == ["pipeline", "source", "baseline", "baseline", "baseline"]
    assert report.request_ids == ("u0", "u1", "u2")
    assert (report.data, report.split, report.k) == ("shop", "last", 10)
    assert report.notes[:2] == (
        "Full ranking over all 30 items; seen items filtered.",
        "3 people judged; made up",
    )
    assert report.facts["seed"] == 3
    assert report.facts["fit seconds"] == 2.0


def test_where_people_come_back_their_own_most_frequent_items_are_a_baseline() -> None:
    again = split([("u0", "i02", "view")], [*TRAIN, ("u0", "i02", "view"), ("u1", "i29", "view")])

    report = evaluate(engine({}, again, exclude_seen=False), again)

    assert [method.name for method in report.methods if method.kind == "baseline"] == ["Pop", "EASE", "ALS", "own"]
    assert report.methods[-1].per_request["hr@1"].tolist() == [1]
    assert report.notes[0].endswith("seen items may come again.")
    assert report.notes[-1] == (
        "Pop, EASE and ALS, and the person's own most frequent items, are plain baselines: no decay, no fusion."
    )


def test_of_new_items_those_among_fifty_count_and_chance_is_told() -> None:
    many = [f"i{row:02d}" for row in range(90)]
    far = replace(split([("u0", "i60", "view"), ("u0", "i40", "view")]), name="cold")

    report = evaluate(engine({}, far, k=90, items=many), far)  # in the order of rows: place 58 is beyond the fiftieth

    assert report.methods[0].per_request["recall@50"].tolist() == [1 / 2]
    assert report.notes[-1].startswith(
        "The targets are items without events: a list drawn by lot has Recall@50 0.5747."  # 50 of the 87 that are new
    )


def test_a_source_that_finds_nothing_for_anybody_is_named_and_left_out() -> None:
    served = engine(ORDERS, SPLIT)
    again = Step(name="again")
    served.sources += (Bound("again", again, Again(AgainConfig(), served.catalogue.item_ids)),)

    report = evaluate(served, SPLIT)

    assert [method.name for method in report.methods if method.kind == "source"] == ["told"]
    assert report.notes[-1] == "Found nothing for anybody, and are left out: again."


def test_a_short_list_costs_what_it_misses() -> None:
    report = evaluate(engine(ORDERS, SPLIT, k=2), SPLIT)

    pipeline, told = report.methods[:2]
    assert pipeline.per_request["hr@10"].tolist() == [1, 0, 1]
    # Behind the two that are shown lie 25: for u1 the target among them, for u2 one of the two.
    assert pipeline.per_request["auc"].tolist() == pytest.approx([1, 12 / 26, (24 + 24 / 2) / 50])
    assert told.per_request["auc"].tolist() == pytest.approx([1, 24 / 26, 47 / 50])  # a source ranks them all


def test_nothing_of_the_test_part_can_be_seen() -> None:
    honest = engine(ORDERS, SPLIT)
    knowing = engine(ORDERS, SPLIT)
    everything = pl.concat([SPLIT.train.events, SPLIT.test], how="diagonal")
    knowing.people = Interactions.of(everything, knowing.catalogue)
    for user_id, item_id, _ in SPLIT.test.select("user_id", "item_id", "time").iter_rows():
        knowing.observe(user_id=user_id, item_id=item_id)

    first, second = (evaluate(each, SPLIT).methods[0].per_request for each in (honest, knowing))

    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_every_request_is_told_to_whoever_watches() -> None:
    said: list[tuple[str, int, int]] = []

    evaluate(engine(ORDERS, SPLIT), SPLIT, report=lambda *what: said.append(what))

    assert said[:2] == [("evaluate the pipeline", 0, 3), ("evaluate the pipeline", 3, 3)]
    assert [what for what, done, total in said if done == total] == [
        "evaluate the pipeline",
        *(f"evaluate {name}" for name in ("told", "Pop", "EASE", "ALS")),
    ]


def test_a_source_that_knows_nothing_is_as_good_as_chance() -> None:
    judge = engine({}, SPLIT)

    class Silent(Told):
        def _all(self, request: Request) -> Floats:
            nothing = np.full(len(self.item_ids), np.nan, np.float32)
            nothing[29] = 1.0 if request.request_id == "u0" else np.nan  # or it would be left out
            return nothing

    judge.sources = (Bound("told", judge.sources[0].step, Silent({}, judge.catalogue.item_ids)),)
    silent = evaluate(judge, SPLIT).methods[1]  # the pipeline falls back to what is popular instead

    assert silent.per_request["auc"][1:].tolist() == [0.5] * 2
    assert silent.per_request["ndcg@10"][1:].tolist() == [0] * 2


# Lists that end early.


def slate(rows: list[int], scores: list[float] | None = None) -> Slate:
    values = np.array(scores if scores is not None else range(len(rows), 0, -1), np.float32)
    return Slate(ids_of([str(row) for row in rows]), values, {"row": np.array(rows, np.int64)})


@given(st.integers(2, 12), st.data())
@settings(max_examples=100)
def test_the_auc_of_a_short_list_equals_ties_behind_it(items: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, items - 1), unique=True))
    targets = data.draw(st.lists(st.integers(0, items - 1), unique=True, min_size=1, max_size=items))
    padded = np.array([*targets, -1, -1])

    found = _places(slate(rows), padded, items)

    scores = np.full(items, -1.0)
    scores[rows] = np.arange(len(rows), 0, -1)
    assert found == pytest.approx(auc_of_scores(scores, np.isin(np.arange(items), targets)), nan_ok=True)


def test_the_log_chance_is_a_softmax_mixed_with_a_guess() -> None:
    found = _log_chance(slate([4, 9, 2], [2.0, 1.0, 0.0]), np.array([9, 7, -1]), 20)

    mass = math.e**2 + math.e + 1
    chances = [(1 - MIXED) * math.e / mass + MIXED / 20, MIXED / 20]
    assert found == pytest.approx(sum(map(math.log, chances)) / 2)


@pytest.mark.parametrize("scores", [[float("nan")] * 3, [1.0, float("nan"), -math.inf]])
def test_a_target_without_a_score_has_the_chance_of_a_guess_at_least(scores: list[float]) -> None:
    assert math.log(MIXED / 20) <= _log_chance(slate([4, 9, 2], scores), np.array([9]), 20) < 0


def test_large_scores_do_not_overflow() -> None:
    assert _log_chance(slate([4, 9], [1e5, 0.0]), np.array([4]), 20) == pytest.approx(math.log(1 - MIXED + MIXED / 20))


def test_an_empty_list_leaves_the_guess() -> None:
    assert _log_chance(slate([]), np.array([4]), 20) == pytest.approx(math.log(MIXED / 20))
    assert _places(slate([]), np.array([4]), 20) == 0.5


class Gives:
    """A stage that brings the last item of the catalogue to the top, whatever its score."""

    needs = frozenset({"row"})
    gives: frozenset[str] = frozenset()

    def brings(self, request: Request, slate: Slate) -> Rows:
        return np.array([29])

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return slate.take(np.roll(np.arange(len(slate)), 1))


def test_places_that_are_given_away_count_in_lists_and_not_in_the_auc() -> None:
    known = split([("u1", "i20", "view")])
    made = engine({"u1": [20]}, known, k=5)
    giving = replace(made, stages=(Bound("gives", Step(name="gives"), Gives()),))

    plain, given_away = (evaluate(own, known).methods[0] for own in (made, giving))

    assert given_away.per_request["hr@1"].tolist() == [0.0]
    assert plain.per_request["hr@1"].tolist() == [1.0]
    assert given_away.per_request["auc"].tolist() == plain.per_request["auc"].tolist()
