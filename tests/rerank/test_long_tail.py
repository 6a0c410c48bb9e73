from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.artifacts import save_arrays
from tailwise.errors import ArtifactError
from tailwise.fakes import DictFacts
from tailwise.rerank.long_tail import LongTail, LongTailConfig
from tailwise.types import QUERY, Event, History, Request, Slate, ids_of

SOMEBODY = Request("r", history=History.of([Event("", "i0", 1.0)]).place(np.array([0])))
CASES = st.lists(st.tuples(st.floats(-9, 9, width=32), st.integers(0, 10_000)), max_size=12)


def slate(scores: list[float], events: list[float]) -> Slate:
    ids = ids_of([f"i{place}" for place in range(len(scores))])
    return Slate(
        ids,
        np.array(scores, np.float32),
        {
            "row": np.arange(len(scores)),
            "popularity": np.array(events, np.float32),
            "tail": np.array(events) < 5,
        },
    )


def stage(penalty: float | None) -> LongTail:
    return LongTail.open(LongTailConfig(penalty=penalty), DictFacts({}), Path())


def after(penalty: float | None, before: Slate) -> Slate:
    return stage(penalty)(SOMEBODY, before)


def test_what_is_popular_must_be_better_to_stand_as_high() -> None:
    before = slate([3.0, 2.9, 1.0], [999.0, 9.0, 0.0])

    assert after(0.01, before).item_ids.tolist() == ["i0", "i1", "i2"]
    assert after(0.1, before).item_ids.tolist() == ["i1", "i0", "i2"]
    assert after(1.0, before).item_ids.tolist() == ["i2", "i1", "i0"]


def test_without_a_penalty_the_slate_is_as_it_came() -> None:
    before = slate([3.0, 2.0], [9.0, 0.0])

    assert after(0.0, before) is before
    assert after(None, before) is before


def test_an_item_of_unknown_popularity_pays_nothing_and_one_without_a_score_stays_last() -> None:
    before = slate([1.0, 0.9, float("nan")], [5.0, float("nan"), 0.0])

    assert after(0.5, before).item_ids.tolist() == ["i1", "i0", "i2"]


def test_a_dear_item_must_be_better_to_stand_as_high() -> None:
    priced = LongTail(LongTailConfig(), np.array([0.5, 0.0, 0.1], np.float32))

    after = priced(SOMEBODY, slate([3.0, 2.9, 2.8], [0.0, 0.0, 0.0]))

    assert after.item_ids.tolist() == ["i1", "i2", "i0"]
    assert after.scores.tolist() == pytest.approx([2.9, 2.7, 2.5])


def test_an_item_that_is_unknown_or_came_after_the_fit_has_no_price() -> None:
    priced = LongTail(LongTailConfig(), np.array([0.5, 0.5], np.float32))
    before = Slate(ids_of(list("abcd")), np.array([3.0, 2.0, 1.0, 0.5], np.float32), {"row": np.array([0, 1, 7, -1])})

    assert priced(SOMEBODY, before).scores.tolist() == [2.5, 1.5, 1.0, 0.5]


def test_prices_are_there_again_when_opened(tmp_path: Path) -> None:
    config = LongTailConfig(lift=0.2, rounds=3)
    priced = LongTail(config, np.array([0.5, 0.0, 0.1], np.float32))
    before = slate([3.0, 2.9, 2.8], [0.0, 9.0, 9.0])

    priced.save(tmp_path)
    again = LongTail.open(config, DictFacts({}), tmp_path)

    np.testing.assert_array_equal(again(SOMEBODY, before).scores, priced(SOMEBODY, before).scores)


def test_without_its_prices_a_stage_that_needs_them_does_not_open(tmp_path: Path) -> None:
    save_arrays(tmp_path / "prices.safetensors", other=np.zeros(1))

    with pytest.raises(ArtifactError, match=r"^.*prices\.safetensors holds no prices; fit the model again$"):
        LongTail.open(LongTailConfig(lift=0.0, rounds=3), DictFacts({}), tmp_path)


@given(CASES, st.floats(0.01, 2))
def test_scores_equal_a_plain_walk(cases: list[tuple[float, int]], penalty: float) -> None:
    before = slate([score for score, _ in cases], [float(events) for _, events in cases])

    found = after(penalty, before)

    wanted = sorted((score - penalty * np.log(1 + events) for score, events in cases), reverse=True)
    np.testing.assert_allclose(found.scores, np.array(wanted, np.float32), atol=1e-4)


@pytest.mark.parametrize("past", [(), ("nobody knows it",)])
def test_of_a_stranger_the_order_stands(past: tuple[str, ...]) -> None:
    events = History.of([Event("", item_id, 1.0) for item_id in past])
    before = slate([3.0, 2.0, 1.0], [9.0, 5.0, 0.0])

    assert stage(0.5)(Request("r", history=events), before) is before


def test_with_a_query_the_order_stands() -> None:
    before = slate([3.0, 2.0, 1.0], [9.0, 5.0, 0.0])
    asked = Request("r", history=SOMEBODY.history, query="boots", cache={QUERY: np.ones(2, np.float32)})

    assert stage(0.5)(asked, before) is before
    assert stage(0.5)(SOMEBODY, before) is not before  # else this would say nothing


def test_the_tail_is_lifted_together() -> None:
    lifted = LongTail(LongTailConfig(penalty=0.0, lift=0.5))

    after = lifted(SOMEBODY, slate([3.0, 2.9, 2.6, 1.0], [999.0, 9.0, 0.0, 4.0]))

    assert after.item_ids.tolist() == ["i2", "i0", "i1", "i3"]
    assert after.scores.tolist() == pytest.approx([3.1, 3.0, 2.9, 1.5])
    assert lifted(Request("r"), slate([1.0], [0.0])).scores.tolist() == [1.0]
