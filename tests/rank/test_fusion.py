"""Standardised scores beside plain sums, and a fusion that weighs them."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import ArtifactError
from tailwise.fakes import DictFacts
from tailwise.rank.fusion import Fusion, FusionConfig, standardised, standardised_once
from tailwise.types import QUERY, Request, Slate, ids_of

NAN, INF = float("nan"), float("inf")
ANYONE, NO_FACTS = Request("r"), DictFacts({})
VALUE = st.sampled_from([-3.0, 0.0, 0.5, 0.5, 1.0, 8.0]) | st.sampled_from([NAN, -INF, INF])


def plain(scores: list[float]) -> list[float]:
    """One source's column, as ``standardised`` promises it."""
    known = [score for score in scores if math.isfinite(score)]
    filled = [score if math.isfinite(score) else min(known, default=0.0) for score in scores]
    mean = sum(filled) / len(filled)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in filled) / len(filled))
    return [(value - mean) / deviation if deviation else 0.0 for value in filled]


@given(st.integers(1, 8), st.integers(1, 4), st.data())
@settings(max_examples=100)
def test_standardised_equals_plain_sums(items: int, sources: int, data: st.DataObject) -> None:
    columns = [data.draw(st.lists(VALUE, min_size=items, max_size=items)) for _ in range(sources)]

    found = standardised([np.array(column, np.float32) for column in columns])

    assert found.shape == (items, sources)
    assert found.dtype == np.float32
    for place, column in enumerate(columns):
        assert found[:, place].tolist() == pytest.approx(plain(column), abs=1e-5)


@pytest.mark.parametrize("value", [NAN, 5.3, 1e6 + 0.1, -0.007])
def test_a_source_that_finds_all_alike_stays_out(value: float) -> None:
    assert standardised([np.full(7, value, np.float32)]).tolist() == [[0.0]] * 7


def test_the_same_columns_of_a_request_are_standardised_once() -> None:
    request, first = Request("r", user_id="u"), [np.array([1.0, 2.0], np.float32), np.array([5.0, 3.0], np.float32)]

    found = standardised_once(request, first)

    assert np.array_equal(found, standardised(first))
    assert standardised_once(request, list(first)) is found
    for other in ([column.copy() for column in first], first[::-1], first[:1], [first[0] + 1, first[1]]):
        assert np.array_equal(standardised_once(request, other), standardised(other))
    assert standardised_once(Request("r2", user_id="u"), first[:1]).shape == (2, 1)


def slate(**scores: list[float]) -> Slate:
    n = len(next(iter(scores.values())))
    columns = {f"score_{name}": np.array(values, np.float32) for name, values in scores.items()}
    return Slate(ids_of([f"i{row}" for row in range(n)]), np.linspace(1, 0, n, dtype=np.float32), columns)


def test_a_slate_is_ordered_by_the_weighted_sum() -> None:
    fusion = Fusion(FusionConfig(), {"ease": 1.0, "als": 0.5})

    found = fusion(ANYONE, slate(ease=[0, 1, 2], als=[9, 0, 0], text=[0, 99, 0]))

    # ease: -1.22, 0, 1.22; als: 1.41, -0.71, -0.71.
    assert found.item_ids.tolist() == ["i2", "i1", "i0"]
    assert found.scores.tolist() == pytest.approx([1.2247 - 0.3536, -0.3536, -1.2247 + 0.7071], abs=1e-3)


def test_what_no_source_knows_stands_last() -> None:
    found = Fusion(FusionConfig(), {"ease": 1.0})(ANYONE, slate(ease=[NAN, -5.0, 2.0]))

    assert found.item_ids.tolist()[0] == "i2"
    assert set(found.item_ids.tolist()[1:]) == {"i0", "i1"}


def test_where_nothing_is_known_the_order_stays() -> None:
    found = Fusion(FusionConfig(), {"ease": 1.0, "als": 2.0})(ANYONE, slate(ease=[NAN] * 4, als=[NAN] * 4))

    assert found.item_ids.tolist() == ["i0", "i1", "i2", "i3"]
    assert np.isfinite(found.scores).all()


def test_it_needs_the_scores_that_it_weighs_and_no_others() -> None:
    assert Fusion(FusionConfig(), {"ease": 1.0}).needs == {"score_ease"}


def test_an_empty_slate_stays_empty() -> None:
    assert len(Fusion(FusionConfig(), {"ease": 1.0})(ANYONE, slate(ease=[]))) == 0


def test_what_is_saved_opens_equal(tmp_path: Path) -> None:
    before = Fusion(FusionConfig(), {"ease": 0.75, "als": 0.1234567})

    before.save(tmp_path / "fusion")
    after = Fusion.open(before.config, NO_FACTS, tmp_path / "fusion")

    some = slate(ease=[0.1, 0.9, 0.4], als=[3, 2, 1])
    assert after.weights == before.weights
    assert (after(ANYONE, some).scores == before(ANYONE, some).scores).all()


@pytest.mark.parametrize("text", [None, "{", "[1]", '{"ease": "much"}', '{"ease": null}'])
def test_missing_or_damaged_weights_are_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "fusion.json").write_text(text)

    with pytest.raises(ArtifactError, match=r"^\S+/fusion\.json cannot be read \(.+\); fit the model again$"):
        Fusion.open(FusionConfig(), NO_FACTS, tmp_path)


def test_a_query_outweighs_what_the_log_taught() -> None:
    fusion = Fusion(FusionConfig(), {"text": 0.0, "ease": 1.0})
    both = slate(text=[0.9, 0.1, 0.1], ease=[0.0, 1.0, 0.5])
    embedded = Request("r", query="toys", cache={QUERY: np.ones(2, np.float32)})

    asked, not_asked = fusion(embedded, both), fusion(Request("r", user_id="u"), both)

    assert asked.item_ids[0] == both.item_ids[0]
    assert not_asked.item_ids[0] == both.item_ids[1]


def test_what_no_source_knows_comes_last_even_beside_a_single_known_item() -> None:
    given = slate(ease=[NAN, 0.5], als=[NAN, NAN])

    found = Fusion(FusionConfig(), {"ease": 1.0, "als": 1.0})(ANYONE, given)

    assert found.item_ids.tolist() == given.item_ids[[1, 0]].tolist()
    assert found.scores[0] > found.scores[1]


@given(st.integers(1, 6), st.integers(0, 50))
def test_the_parts_add_up_to_the_score(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = {f"score_{name}": rng.normal(size=n).astype(np.float32) for name in ("a", "b", "c")}
    columns["score_a"][rng.random(n) < 0.3] = np.nan
    slate = Slate(ids_of([f"i{row}" for row in range(n)]), np.zeros(n, np.float32), {**columns, "at": np.arange(n)})
    fusion = Fusion(FusionConfig(), {"a": 1.0, "b": 0.5, "c": 0.0})

    parts, units = fusion.parts(Request("r"), slate)

    fused = fusion(Request("r"), slate)
    assert parts[fused.columns["at"]].sum(axis=1) == pytest.approx(fused.scores, abs=1e-5)
    b = columns["score_b"]
    assert parts[:, 1] == pytest.approx(units[1] * (b - b.mean()), abs=1e-5)
    assert units[2] == 0.0


def test_an_item_that_no_source_knows_has_no_parts() -> None:
    slate = Slate(
        ids_of(["x", "y", "z"]), np.zeros(3, np.float32), {"score_a": np.array([1.0, np.nan, 3.0], np.float32)}
    )

    parts, _ = Fusion(FusionConfig(), {"a": 1.0}).parts(Request("r"), slate)

    assert parts[1].tolist() == [0.0]
    assert (parts[[0, 2]] != 0).all()
