"""Intervals and tests equal plain enumeration; reports are matched request by request."""

import itertools
import json
import math
import re
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import ConfigError, DataError, ShapeError, UnavailableError
from tailwise.evaluate import compare
from tailwise.evaluate.compare import compare_reports, comparison_table, holm, interval, paired


def write(path: Path, **changes: Any) -> Path:
    """A report.json with one pipeline and one baseline; ``ndcg`` and ``hr`` per request, coverage over all."""
    ids = ["a", "b", "c", "d"]
    stored: dict[str, Any] = {
        "data": "shop",
        "split": "last",
        "k": 10,
        "request_ids": ids,
        "facts": {"seed": 7},
        "methods": [
            {"name": "popular", "kind": "baseline", "overall": {}, "per_request": {"ndcg@10": [0, 0, 0, 0]}},
            {
                "name": "tailwise",
                "kind": "pipeline",
                "overall": {"coverage@10": 0.25},
                "per_request": {"ndcg@10": [0.0, 0.5, 1.0, None], "hr@10": [0, 1, 1, 1]},
            },
        ],
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stored))
    return path


def pipeline(**per_request: list[float | None]) -> list[dict[str, Any]]:
    values = {key.replace("_", "@"): row for key, row in per_request.items()}
    return [{"name": "other", "kind": "pipeline", "overall": {"coverage@10": 0.5}, "per_request": values}]


def test_an_interval_equals_a_bootstrap_written_out() -> None:
    values = np.random.default_rng(1).random(40)
    rng = np.random.default_rng(2)
    means = sorted(float(np.mean(rng.choice(values, len(values)))) for _ in range(4000))

    found = interval(values, seed=3)

    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(means[100], abs=0.01)
    assert found.high == pytest.approx(means[3900], abs=0.01)


def test_the_same_seed_gives_the_same_interval_and_another_seed_does_not() -> None:
    values = np.random.default_rng(1).random(40)

    assert interval(values, seed=3) == interval(values, seed=3)
    assert interval(values, seed=3) != interval(values, seed=4)


def test_a_wider_level_gives_a_wider_interval() -> None:
    values = np.random.default_rng(1).random(40)
    narrow, wide = interval(values, level=0.5, seed=0), interval(values, level=0.99, seed=0)

    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3, 0.3], [0.3, math.nan, 0.3]])
def test_values_that_do_not_vary_have_an_interval_of_no_width(values: list[float]) -> None:
    assert astuple(interval(np.array(values), seed=0)) == pytest.approx((0.3, 0.3, 0.3))


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_nothing_judged_has_no_interval(values: list[float]) -> None:
    found = interval(np.array(values), seed=0)

    assert all(math.isnan(part) for part in (found.mean, found.low, found.high))


def test_many_values_take_the_normal_interval_which_the_bootstrap_agrees_with(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).exponential(size=3000)
    drawn = interval(values, seed=0)
    monkeypatch.setattr(compare, "MANY", 10)

    normal = interval(values, seed=0)

    assert normal != drawn, "the normal interval was not taken"
    assert (normal.low, normal.high) == pytest.approx((drawn.low, drawn.high), abs=0.004)
    assert normal.high - normal.mean == pytest.approx(1.959964 * values.std(ddof=1) / math.sqrt(3000))


def test_small_blocks_change_no_memory_bound_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random(40)
    whole = interval(values, seed=3)
    monkeypatch.setattr(compare, "BLOCK", 400)

    assert interval(values, seed=3) == whole


def test_a_level_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^level is 1, but it must lie between 0 and 1$"):
        interval(np.array([1.0]), level=1, seed=0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_the_p_value_equals_all_sign_flips_written_out(change: list[int]) -> None:
    flips = [abs(sum(s * c for s, c in zip(signs, change, strict=True))) for signs in signs_of(len(change))]
    expected = sum(flip >= abs(sum(change)) for flip in flips) / len(flips)

    found = paired(np.zeros(len(change)), np.array(change, float), seed=0)

    assert found.p_value == pytest.approx(expected)
    assert found.difference == pytest.approx(np.mean(change))
    assert found.n == len(change)


def signs_of(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=n))


def test_drawn_flips_agree_with_the_normal_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    a = rng.random(400)
    b = a + rng.normal(0.02, 0.2, 400)
    drawn = paired(a, b, seed=0).p_value
    monkeypatch.setattr(compare, "MANY", 10)

    normal = paired(a, b, seed=0).p_value

    assert normal != drawn, "the normal limit was not taken"
    assert normal == pytest.approx(drawn, abs=0.01)
    assert 0.01 < normal < 0.5, "a p near 0 or 1 would agree by accident"


def test_no_true_difference_raises_a_false_alarm_about_as_often_as_promised() -> None:
    rng = np.random.default_rng(5)

    alarms = [paired(rng.random(12), rng.random(12), seed=i).p_value < 0.2 for i in range(120)]

    assert 0.1 < np.mean(alarms) < 0.3  # four standard deviations around 0.2


def test_methods_that_agree_everywhere_do_not_differ() -> None:
    same = np.array([0.0, 0.5, 1.0])

    found = paired(same, same, seed=0)

    assert (found.difference, found.low, found.high, found.p_value, found.n) == (0.0, 0.0, 0.0, 1.0, 3)


def test_swapping_the_methods_turns_the_sign_and_keeps_the_p_value() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.random(9), rng.random(9)
    one, two = paired(a, b, seed=0), paired(b, a, seed=0)

    assert one.difference == pytest.approx(-two.difference)
    assert one.p_value == pytest.approx(two.p_value)


def test_a_request_that_one_method_was_not_judged_on_is_left_out() -> None:
    found = paired(np.array([0.0, math.nan, 0.5]), np.array([1.0, 1.0, math.nan]), seed=0)

    assert (found.difference, found.n) == (1.0, 1)


def test_methods_must_answer_the_same_requests() -> None:
    message = r"^a is \(2,\) and b is \(3,\), but a pair needs both for every request$"

    with pytest.raises(ShapeError, match=message):
        paired(np.zeros(2), np.zeros(3), seed=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_equals_its_definition(p_values: list[float]) -> None:
    ordered = sorted(p_values)
    m = len(ordered)
    expected = [min(1.0, max((m - i) * q for i, q in enumerate(ordered) if q <= p)) for p in p_values]

    found = holm(p_values)

    assert found == pytest.approx(expected)


def test_without_scipy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)

    with pytest.raises(UnavailableError, match=r"^intervals and tests need SciPy: pip install 'tailwise\[train\]'$"):
        interval(np.array([0.0, 1.0]), seed=0)


def test_reports_are_matched_by_request_whatever_their_order(tmp_path: Path) -> None:
    first = write(tmp_path / "one" / "report.json")
    other = write(
        tmp_path / "two" / "report.json",
        request_ids=["d", "c", "b", "a", "e"],
        methods=pipeline(ndcg_10=[0.9, 1.0, 0.75, 0.25, 0.9], hr_10=[1, 1, 1, 0, 1]),
    )

    rows = compare_reports([first.parent, other])

    assert [(row.report, row.metric) for row in rows] == [
        (str(other), "ndcg@10"),
        (str(other), "hr@10"),
        (str(other), "coverage@10"),
    ]
    ndcg, hr, coverage = rows
    assert ndcg.paired is not None
    assert ndcg.paired.n == 3  # d is null in the first, e is not in it
    assert ndcg.paired.difference == pytest.approx((0.25 + 0.25 + 0) / 3)
    assert (ndcg.first, ndcg.other) == pytest.approx((0.5, 2 / 3))
    assert hr.paired is not None
    assert hr.paired.p_value == 1.0
    assert (coverage.first, coverage.other, coverage.paired) == (0.25, 0.5, None)


def test_every_test_of_the_table_shares_one_correction(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    ids = [f"r{i}" for i in range(60)]
    base = rng.random(60)
    paths = [
        write(tmp_path / name, request_ids=ids, methods=pipeline(ndcg_10=row.tolist()))
        for name, row in {
            "a": base,
            "b": base + rng.normal(0.06, 0.2, 60),
            "c": base + rng.normal(0.06, 0.2, 60),
        }.items()
    ]

    rows = compare_reports(paths)

    tested = [row for row in rows if row.paired]
    assert [row.p_holm for row in tested] == holm([row.paired.p_value for row in tested if row.paired])
    assert [row.report for row in tested] == [str(path) for path in paths[1:]]


def test_a_report_without_a_pipeline_speaks_through_its_first_method(tmp_path: Path) -> None:
    only = [{"name": "popular", "kind": "baseline", "overall": {}, "per_request": {"ndcg@10": [0.1, 0.1, 0.1, 0.1]}}]
    rows = compare_reports([write(tmp_path / "a"), write(tmp_path / "b", methods=only)])

    assert [row.metric for row in rows] == ["ndcg@10"]
    assert rows[0].other == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "films"}, "{a} has data 'shop', but {b} has 'films'; compare reports of the same data"),
        ({"split": "time"}, "{a} has split 'last', but {b} has 'time'; compare reports of the same split"),
        (
            {"request_ids": ["w", "x", "y", "z"]},
            "{b} shares no request with the first report; evaluate both in the same way",
        ),
        (
            {"methods": pipeline(ndcg_20=[0, 0, 0, 0])},
            "{b} shares no metric with the first report; evaluate both in the same way",
        ),
        (
            {"methods": []},
            "{b} is not a report (every method needs one value per request); make it with: tailwise evaluate --out",
        ),
        (
            {"methods": pipeline(ndcg_10=[0.5])},
            "{b} is not a report (every method needs one value per request); make it with: tailwise evaluate --out",
        ),
    ],
)
def test_reports_that_cannot_be_compared_say_what_differs(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    a, b = write(tmp_path / "a.json"), write(tmp_path / "b.json", **changes)

    with pytest.raises(DataError, match=f"^{re.escape(message.format(a=a, b=b))}$"):
        compare_reports([a, b])


def test_the_digest_of_the_data_decides_over_its_name(tmp_path: Path) -> None:
    a = write(tmp_path / "a", data="data/shop", facts={"data_digest": "1f"})
    same = write(tmp_path / "same", data="/mnt/shop", facts={"data_digest": "1f"})
    other = write(tmp_path / "other", data="data/shop", facts={"data_digest": "2e"})

    assert compare_reports([a, same])
    with pytest.raises(DataError, match=r"has data '1f', but .*other has '2e'; compare reports of the same data$"):
        compare_reports([a, other])


def test_a_missing_and_a_damaged_report_are_named(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good.json"), tmp_path / "bad.json"
    bad.write_text("{")

    with pytest.raises(
        DataError, match=rf"^{re.escape(str(bad))} is not a report \(Input data was truncated\); make it"
    ):
        compare_reports([good, bad])
    with pytest.raises(DataError, match=r"none\.json cannot be read: No such file or directory; make it with: "):
        compare_reports([good, tmp_path / "none.json"])


def test_one_report_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^compare needs at least 2 reports, but got 1$"):
        compare_reports([write(tmp_path / "a.json")])


def test_the_table_lines_up_and_stars_what_survives_the_correction() -> None:
    sure = compare.Paired(0.1, 0.05, 0.15, 0.0002, 50)
    rows = [
        compare.Comparison("new", "ndcg@10", 0.1, 0.2, sure, 0.0004),
        compare.Comparison("new", "hr@10", 0.3, 0.29, compare.Paired(-0.01, -0.02, 0.01, 0.4, 50), 0.8),
        compare.Comparison("new", "coverage@10", 0.25, 0.5, None, None),
    ]

    text = comparison_table(rows)

    assert text.splitlines() == [
        "report  metric        first   other  difference [95 % interval]       p  p (Holm)   n",
        "-" * 85,
        "new     ndcg@10      0.1000  0.2000  +0.1000 [+0.0500, +0.1500]  0.0002  0.0004 *  50",
        "new     hr@10        0.3000  0.2900  -0.0100 [-0.0200, +0.0100]  0.4000  0.8000    50",
        "new     coverage@10  0.2500  0.5000  +0.2500                          –       –     –",
    ]
