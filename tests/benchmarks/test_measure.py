from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from quality.measure import MAIN, Result, Run, compared, measured, read_lists, write_lists
from quality.tasks import task_of

from tailwise.data.load import Dataset


def run_of(values: list[float], seed: int = 0) -> Run:
    return Run("m", seed, {MAIN: np.array(values)}, {}, {})


def test_lists_come_back_by_person_whatever_their_order(shop: Dataset, tmp_path: Path) -> None:
    task = task_of("shop", shop, "basket", tmp_path)
    write_lists(tmp_path / "l.parquet", ["d", "a"], [["p", "q"], ["t"]])

    found = read_lists(tmp_path / "l.parquet", task, 3)

    assert task.people == ["b", "a", "d"]
    assert found.tolist() == [[-1, -1, -1], [4, -1, -1], [0, 1, -1]]


def test_the_figures_of_a_list_are_those_worked_by_hand(shop: Dataset, tmp_path: Path) -> None:
    task = task_of("shop", shop, "basket", tmp_path)
    ranked = np.array([[0, 1], [4, -1], [1, -1]])  # hit at 2, hit at 1, miss

    per, overall = measured(task, ranked)

    assert per[MAIN].tolist() == pytest.approx([1 / np.log2(3), 1, 0])
    assert overall["coverage@10"] == pytest.approx(3 / 5)  # nobody ever had ``u``
    assert np.isnan(per["tail_ndcg@10"]).tolist() == [False, False, True]  # ``p`` is the popular fifth


def test_a_result_is_a_mean_over_seeds_and_a_test_over_people() -> None:
    ours = Result("ours", "pipeline", [run_of([1.0] * 12), run_of([0.8] * 12, 1)])
    other = Result("other", "peer", [run_of([0.5] * 12)])

    found = compared(ours, [other])["other"]

    assert ours.mean(MAIN) == pytest.approx(0.9)
    assert ours.spread(MAIN) == pytest.approx(0.2 / 2**0.5)
    assert np.isnan(other.spread(MAIN))
    assert found[0] == pytest.approx(0.4)
    assert found[1] < 0.01
