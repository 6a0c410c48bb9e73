from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from quality.measure import MAIN, Result, Run
from quality.results import kept, pasts_of, write
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


def entry(name: str, ndcg: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "peer", "seeds": [0], "mean": {MAIN: ndcg}, "sd": {MAIN: None}, **more}


def test_a_peer_that_is_kept_is_compared_anew_and_stands_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "shop-last.json"
    old = [entry("tailwise", 0.12), entry("SASRec", 0.1, behind=0.02, p=0.01), entry("ALS", 0.05)]
    path.write_text(json.dumps({"digest": "d", "machine": "one core", "methods": old}))
    now = [entry("tailwise", 0.14), entry("ALS", 0.06)]

    found = kept(path, "d", ["SASRec", "ALS", "BPR"], now)

    assert found == [now[0], entry("SASRec", 0.1, behind=0.04, earlier="one core"), now[1]]
    path.write_text(json.dumps({"digest": "d", "machine": "two cores", "methods": found}))
    again = kept(path, "d", ["SASRec"], [entry("tailwise", 0.15)])
    assert again[1] == entry("SASRec", 0.1, behind=0.05, earlier="one core")  # where it did run


def test_nothing_is_kept_of_another_task(tmp_path: Path) -> None:
    path = tmp_path / "shop-last.json"
    now = [entry("tailwise", 0.14)]
    without = kept(path, "d", ["ALS"], now)
    path.write_text(json.dumps({"digest": "other", "machine": "one core", "methods": [entry("ALS", 0.05)]}))

    assert without == kept(path, "d", ["ALS"], now) == now


def test_a_peer_of_which_there_is_nothing_to_keep_is_said(shop: Dataset, tmp_path: Path) -> None:
    task = task_of("shop", shop, "last", tmp_path)
    sections = {"methods": [entry("tailwise", 0.14)], "left_out": ["BPR: it failed"]}

    path = write(task, sections, command="make", seeds=[0], folder=tmp_path / "results", keep=["SASRec"])

    said = json.loads(path.read_text())["left_out"]
    assert said == ["BPR: it failed", "SASRec: no earlier run on this task that could be kept"]
