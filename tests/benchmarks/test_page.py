from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from quality import page
from quality.goals import goals_of, times


def method(name: str, kind: str, ndcg: float, **more: Any) -> dict[str, Any]:
    keys = ("hr@10", "recall@10", "mrr@10", "coverage@10", "tail_share@10", "gini@10", "tail_ndcg@10")
    mean = {"ndcg@10": ndcg, **dict.fromkeys(keys, 0.25)}
    sd = dict.fromkeys(mean) | {"ndcg@10": 0.002}
    return {
        "name": name,
        "kind": kind,
        "seeds": [0],
        "mean": mean,
        "sd": sd,
        "fit_cpu_s": 12.0,
        "fit_wall_s": 80.0,
        **more,
    }


def content(**changes: Any) -> dict[str, Any]:
    return {
        "data": "ml-100k", "protocol": "last", "about": "943 people.", "digest": "d", "people_with_tail_targets": 3,
        "command": "make bench-quality", "seeds": [0], "machine": "two cores", "tailwise": "0.1.0", "left_out": [],
        "methods": [method("tailwise", "pipeline", 0.131), method("ease", "source", 0.09, p=0.0001, behind=0.041),
                    method("ALS", "peer", 0.06, p=0.2, behind=0.07, settings={"factors": 64})],
        **changes,
    }  # fmt: skip


def test_a_page_has_a_table_a_picture_and_no_place_of_this_machine(tmp_path: Path) -> None:
    written = page.write([content()], tmp_path)

    text = (tmp_path / "benchmarks.md").read_text()
    assert [path.name for path in written] == ["benchmarks.md", "benchmarks-ml-100k-last.png"]
    assert "| tailwise | **0.1310 ± 0.0020** |" in text
    assert "| `ease`, one of our sources, alone | 0.0900 ± 0.0020 |" in text
    assert "| <0.001 |" in text
    assert "ml-100k, last: factors 64" in text
    assert written[1].stat().st_size < 150_000


def test_a_peer_of_an_earlier_run_is_named_so(tmp_path: Path) -> None:
    ours, old = method("tailwise", "pipeline", 0.131), method("RecTools SASRec", "peer", 0.1, earlier="two cores")

    page.write([content(seeds=[0, 1], methods=[{**ours, "seeds": [0, 1]}, {**old, "behind": 0.031}])], tmp_path)

    text = (tmp_path / "benchmarks.md").read_text()
    assert "| RecTools SASRec (seed 0, an earlier run) | 0.1000 ± 0.0020 |" in text
    assert "| 0.0310 | – |" in text


def test_strangers_have_a_column_of_their_own(tmp_path: Path) -> None:
    rows = [{"name": "ease", "kind": "source", "known": 0.25, "strangers": None}]

    page.write([content(pasts={"people": [28, 1088], "rows": rows})], tmp_path)

    text = (tmp_path / "benchmarks.md").read_text()
    assert "NDCG@10 of the 28 people with a past and of the 1,088 without one:" in text
    assert "| `ease`, one of our sources, alone | 0.2500 | – |" in text


def test_only_what_stands_between_the_marks_of_a_readme_changes(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{page.MARKS[0]}\nold\n{page.MARKS[1]}\nafter\n")

    done = page.readme(readme, [content()])

    text = readme.read_text()
    assert done
    assert text.startswith(f"before\n{page.MARKS[0]}\n| method |")
    assert text.endswith(f"{page.MARKS[1]}\nafter\n")
    assert "old" not in text


def test_without_our_own_figures_a_readme_stays_as_it_is(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{page.MARKS[0]}\nold\n{page.MARKS[1]}\n")

    done = page.readme(readme, [content(methods=[method("ALS", "peer", 0.06)])])

    assert not done
    assert "old" in readme.read_text()


@pytest.mark.parametrize(("ndcg", "met"), [(0.130, True), (0.1299, False)])
def test_a_fixed_goal_is_reached_or_missed(ndcg: float, *, met: bool) -> None:
    goals = goals_of(content(methods=[method("tailwise", "pipeline", ndcg)]))

    assert [(goal.what, goal.met) for goal in goals] == [("NDCG@10", met), ("fit on this machine", True)]


def test_elsewhere_the_goal_is_a_tenth_above_the_best_single_method_of_peers_and_of_our_own() -> None:
    methods = [
        method("tailwise", "pipeline", 0.2),
        method("LightGBM LambdaMART", "peer", 0.5),  # two stages
        method("ALS", "peer", 0.18),
        method("EASE", "peer", 0.17),
        method("popular", "source", 0.19),
        method("text", "source", 0.1),
    ]

    peer, own = goals_of(content(data="shop", methods=methods))

    assert (peer.met, own.met) == (True, False)
    assert peer.asked == "≥ 0.1980, 1.10 × the best single peer (ALS)"
    assert own.asked == "≥ 0.2090, 1.10 × the best of our own sources, alone (popular)"


def test_the_worst_ratio_decides_whether_re_ranking_ever_hurts() -> None:
    given = [
        {"source": "a", "before": 0.1, "after": 0.12, "ratio": 1.2, "p": 0.01},
        {"source": "b", "before": 0.05, "after": 0.049, "ratio": 0.98, "p": 0.5},
    ]

    goals = {goal.what: goal.met for goal in goals_of(content(methods=[], given=given))}

    assert goals == {"re-ranking the best source's 100 (a)": True, "re-ranking any source's 100": False}


@pytest.mark.parametrize(("factor", "said"), [(1.0999, "1.09 ×"), (1.1, "1.10 ×"), (0.29 * 100 / 29, "1.00 ×")])
def test_a_factor_is_cut_so_that_what_falls_short_does_not_look_reached(factor: float, said: str) -> None:
    assert times(factor) == said
