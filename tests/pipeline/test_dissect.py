"""Parts of a slate that other tests do not reach: no fusion, nothing known, items that a stage dropped."""

from typing import Any

import numpy as np

from tailwise.config import Step
from tailwise.fakes import FixedRetriever
from tailwise.pipeline.dissect import places_in
from tailwise.rank.fusion import Fusion, FusionConfig
from tailwise.types import Request, Slate, ids_of


class Nothing(FixedRetriever):
    """A source that finds items and knows nothing of any."""

    def scores(self, request: Request, rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), np.nan, np.float32)


class KeepsThree:
    needs = gives = frozenset[str]()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return slate.take(np.arange(3))


def test_without_a_fusion_there_are_no_sums_and_steps_are_told_all_the_same(make: Any) -> None:
    engine = make(stages=[(Step(name="it"), KeepsThree())])

    (own,) = engine.explain(user_id="ann", item_id="c").items

    assert (own.sources, own.history, own.fused, own.kinds) == ((), (), None, {})
    assert (own.judged, own.baseline) == (None, None)
    assert [(move.stage, move.place, move.place_after) for move in own.stages] == [("it", 1, 1)]


def test_where_no_source_knows_an_item_nothing_adds_to_it(make: Any) -> None:
    source = Nothing(tuple("abcdefghij"))
    engine = make(sources={"fixed": source}, stages=[(Step(name="fusion"), Fusion(FusionConfig(), {"fixed": 1.0}))])

    own = engine.explain(user_id="ann", k=1).items[0]

    assert own.fused is None
    assert [(part.source, part.score, part.adds) for part in own.sources] == [("fixed", None, 0.0)]


def test_an_item_that_was_dropped_has_steps_up_to_there(make: Any) -> None:
    engine = make(stages=[(Step(name="it"), KeepsThree()), (Step(name="after"), KeepsThree())])

    (own,) = engine.explain(user_id="ann", item_id="j").items

    assert [(move.stage, move.place_after) for move in own.stages] == [("it", None)]
    assert (own.place, own.rank, own.score) == (None, None, None)


def test_places_of_items() -> None:
    assert places_in(ids_of(["a", "b"]), ids_of(["b", "x", "a"])).tolist() == [1, -1, 0]
