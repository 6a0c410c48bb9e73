"""The main table holds what was measured, marks the best, and leaves out what cannot be compared."""

import numpy as np
import pytest

from tailwise.errors import DataError, ShapeError
from tailwise.evaluate.compare import paired
from tailwise.evaluate.results import Grid, Kind, MethodResult, Report, find, grid

NAN = float("nan")


def method(
    name: str, kind: Kind = "baseline", *, seconds: float | None = None, **metrics: list[float] | float
) -> MethodResult:
    """``ndcg_10=[…]`` is a metric per request, ``gini_10=0.5`` one of all lists."""
    per = {key.replace("_", "@"): np.array(v) for key, v in metrics.items() if isinstance(v, list)}
    overall = {key.replace("_", "@"): v for key, v in metrics.items() if not isinstance(v, list)}
    return MethodResult(name, per, overall, seconds, kind)


def report(*methods: MethodResult, n: int = 4) -> Report:
    return Report("shop", "last", ("seen items filtered",), tuple(f"r{i}" for i in range(n)), 10, methods, {"seed": 1})


def main(*methods: MethodResult) -> Grid:
    return grid(find(report(*methods), ["ndcg@10"], seed=0))


def cells(table: Grid) -> dict[str, dict[str, str]]:
    return {m.name: {t: c.text + "*" * c.best for t, c in zip(table.titles, row, strict=True)} for m, row in table.rows}


def test_a_mean_leaves_out_requests_that_could_not_be_judged() -> None:
    one = method("a", ndcg_10=[1.0, NAN, 0.0, 0.5], gini_10=0.25, seconds=2.0)

    assert [one.mean(key) for key in ("ndcg@10", "gini@10", "seconds")] == [0.5, 0.25, 2.0]
    assert np.isnan([one.mean("hr@10"), method("b").mean("seconds"), method("c", ndcg_10=[NAN]).mean("ndcg@10")]).all()


def test_the_best_of_each_column_is_marked_and_lower_is_better_for_gini_and_seconds() -> None:
    table = main(
        method("a", ndcg_10=[1.0, 0.0, 0.0, 1.0], coverage_10=0.25, gini_10=0.25, seconds=2.0),
        method("b", ndcg_10=[0.0, 0.0, 0.0, 1.0], coverage_10=0.75, gini_10=0.75, seconds=1.0),
    )

    assert cells(table) == {
        "a": {"NDCG@10": "0.5000*", "Coverage": "0.250", "Gini": "0.250*", "Seconds": "2.0"},
        "b": {"NDCG@10": "0.2500", "Coverage": "0.750*", "Gini": "0.750", "Seconds": "1.0*"},
    }


def test_a_metric_that_a_method_lacks_shows_as_a_dash_and_a_lone_figure_is_no_best() -> None:
    table = main(method("a", ndcg_10=[1.0, 0.0, 0.0, 1.0], auc=0.9), method("b", ndcg_10=[0.0, 0.0, 0.0, 1.0]))

    assert [row["AUC"] for row in cells(table).values()] == ["0.900", "–"]


def test_a_method_that_does_not_rank_stands_below_the_table() -> None:
    table = main(method("a", ndcg_10=[1.0] * 4), method("damped means", mae=0.75, rmse=0.5), method("idle"))

    assert [m.name for m, _ in table.rows] == ["a"]
    assert table.titles == ["NDCG@10"]
    assert table.besides == ["damped means: MAE 0.750, RMSE 0.500", "idle: nothing measured"]


def test_without_any_ranking_every_method_is_in_the_table() -> None:
    assert cells(main(method("a", mae=0.5), method("b", mae=0.75))) == {"a": {"MAE": "0.500*"}, "b": {"MAE": "0.750"}}


def test_the_pipeline_is_tested_against_every_other_method_with_one_correction() -> None:
    rng = np.random.default_rng(0)
    values = {name: rng.random(40).tolist() for name in ("first", "near", "far")}
    values["far"] = [v - 0.9 for v in values["far"]]
    methods = [method(n, "pipeline" if n == "first" else "source", ndcg_10=v) for n, v in values.items()]

    found = find(report(*methods, method("blind"), n=40), ["ndcg@10"], seed=3)

    raw = [paired(np.array(values[n]), np.array(values["first"]), seed=3).p_value for n in ("near", "far")]
    assert found.p_values == {"near": raw[0], "far": pytest.approx(2 * raw[1])}
    shown = cells(grid(found))
    assert shown["first"]["p"] == "–"
    assert shown["far"]["p"] == "<0.001"
    assert shown["near"]["p"] == f"{raw[0]:.3f}"


def test_intervals_are_given_for_the_metrics_asked_for_and_shown_for_the_main_one() -> None:
    one = method("a", ndcg_10=[1.0, 0.0, 0.5, 0.5], hr_10=[1.0, 0.0, 1.0, 1.0])

    found = find(report(one), ["ndcg@10", "auc"], seed=0)

    assert list(found.around) == [("a", "ndcg@10")]
    (ndcg, hr) = grid(found).rows[0][1]
    assert (ndcg.around[0], ndcg.around[-1], hr.around) == ("[", "]", "")


def test_a_report_without_a_pipeline_has_no_tests() -> None:
    table = main(method("a", ndcg_10=[1.0, 0.0, 0.5, 0.5]))

    assert "p" not in table.titles
    assert "permutation" not in table.legend


def test_values_for_another_number_of_requests_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"^a has ndcg@10 of shape \(1,\), but there are 4 requests$"):
        report(method("a", ndcg_10=[0.5]))


def test_a_method_or_request_that_comes_twice_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the report has method 'a' twice; each must come once$"):
        report(method("a"), method("a"))
    with pytest.raises(DataError, match=r"^the report has request 'r' twice; each must come once$"):
        Report("shop", "last", (), ("r", "r"), 10, (method("a"),), {})


def test_a_report_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the report has no method; give at least one$"):
        report()
