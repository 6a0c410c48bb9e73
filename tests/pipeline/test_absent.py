"""Why an item is not on a list, each cause by its name."""

from typing import Any

import numpy as np
import pytest

from tailwise.config import Step
from tailwise.fakes import FixedRetriever
from tailwise.pipeline import Engine
from tailwise.types import NO_HISTORY, Request, Slate, ids_of


class Knows:
    """A source that scores items and gives ``most`` of them."""

    def __init__(self, scores: dict[str, float], items: str = "abcdefghij", most: int = 3) -> None:
        self._scores = np.array([scores.get(item, np.nan) for item in items], np.float32)
        self._items, self._most = ids_of(list(items)), most

    def __call__(self, request: Request, k: int) -> Slate:
        rows = np.argsort(-np.nan_to_num(self._scores, nan=-np.inf), kind="stable")
        rows = rows[~np.isin(rows, request.excluded)][: self._most]
        return Slate(self._items[rows], self._scores[rows], {"row": rows})

    def scores(self, request: Request, rows: np.ndarray) -> np.ndarray:
        return np.where(rows >= 0, self._scores[rows], np.nan).astype(np.float32)


class DropsLast:
    needs = gives = frozenset[str]()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        return slate.take(np.arange(len(slate) - 1))


def why(engine: Engine, item_id: str, **fields: Any) -> Any:
    return engine.explain(item_id=item_id, **fields).items[0].missing


def test_what_was_had(make: Any) -> None:
    missing = why(make(), "a", user_id="ann")

    assert (missing.why, missing.text) == ("seen", "the person has had it, and what was had is not shown again")
    assert why(make(), "a", user_id="ann", candidates=["a", "b", "c"], exclude_seen=True).why == "seen"


def test_what_is_unknown(make: Any) -> None:
    missing = why(make(), "zz", user_id="ann")

    assert (missing.why, missing.text) == ("unknown", "the model knows no item with this id")


def test_what_was_no_candidate(make: Any) -> None:
    missing = why(make(), "d", user_id="ann", candidates=["c", "e"])

    assert (missing.why, missing.text) == ("no candidate", "it is not among the candidates that came with the request")


def test_what_no_source_found_and_where_it_would_have_stood(make: Any) -> None:
    near = Knows({"c": 9, "d": 8, "e": 7, "f": 6, "g": 6})
    far = Knows({"c": 9, "d": 8, "e": 7, "h": 6, "i": 5, "f": 4})
    engine = make(sources={"near": near, "far": far, "knows nothing": Knows({"c": 1.0})})

    missing = why(engine, "f", user_id="ann")

    assert missing.why == "not found"
    assert missing.found_by == {"near": 5, "far": 6}  # below its equals
    assert missing.text == "no source found it among its best; near comes nearest and has it at number 5"
    assert missing.place_if_found == 4  # behind c, d and e: no stage lifts it


def test_what_a_stage_dropped(make: Any) -> None:
    engine = make(stages=[(Step(name="it"), DropsLast())])

    missing = why(engine, "j", user_id="ann")

    assert (missing.why, missing.text) == ("dropped", "the stage it dropped it")


def test_what_others_are_better_than(make: Any) -> None:
    missing = why(make(), "f", user_id="ann", k=2)

    assert (missing.why, missing.text) == ("below", "it is number 4, and the list has 2 places")
    assert missing.behind == pytest.approx(1 / 62 - 1 / 64)  # reciprocal ranks


def test_what_is_on_the_list_is_not_missing(make: Any) -> None:
    assert why(make(sources={"fixed": FixedRetriever(tuple("abcdefghij"))}), "c", history=NO_HISTORY) is None
