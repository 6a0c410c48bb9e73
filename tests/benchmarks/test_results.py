from __future__ import annotations

from pathlib import Path

import numpy as np
from quality.measure import MAIN, Result, Run
from quality.results import pasts_of
from quality.tasks import task_of

from tailwise.data.load import Dataset


def test_people_with_a_past_and_strangers_are_told_apart(shop: Dataset, tmp_path: Path) -> None:
    task = task_of("shop", shop, "basket", tmp_path)
    strangers = [not len(request.past) for request in task.cases.requests]
    ndcg = np.array([0.1 if stranger else 0.5 for stranger in strangers])
    worse = Result("ALS", "peer", [Run("ALS", 0, {MAIN: ndcg / 2}, {}, {})])
    ours = Result("tailwise", "pipeline", [Run("tailwise", 0, {MAIN: ndcg}, {}, {})])

    found = pasts_of(task, [worse, ours])

    assert found is not None
    assert found["people"] == [2, 1]  # d is new after the cut
    assert [(row["name"], row["known"], row["strangers"]) for row in found["rows"]] == [
        ("tailwise", 0.5, 0.1),
        ("ALS", 0.25, 0.05),
    ]


def test_without_strangers_there_is_nothing_to_tell(shop: Dataset, tmp_path: Path) -> None:
    task = task_of("shop", shop, "last", tmp_path)

    assert pasts_of(task, []) is None
