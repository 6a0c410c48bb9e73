from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from quality.tasks import Task, held_out, split_by, task_of, write_job

from tailwise.data.load import Dataset


def targets(task: Task) -> dict[str, set[str]]:
    names = task.catalogue.item_ids
    return {
        user_id: {str(names[row]) for row in own[own >= 0]}
        for user_id, own in zip(task.people, task.cases.targets, strict=True)
    }


def test_a_basket_is_all_that_a_person_took_first_after_the_cut(shop: Dataset, tmp_path: Path) -> None:
    task = task_of("shop", shop, "basket", tmp_path)

    found = targets(task)

    assert task.split.until == 85.0
    assert found == {"a": {"t"}, "b": {"q"}, "d": {"p"}}  # ``p`` is not new to a


def test_after_the_cut_all_counts_where_time_divides(shop: Dataset, tmp_path: Path) -> None:
    found = targets(task_of("shop", shop, "time", tmp_path))

    assert found == {"a": {"t", "u"}, "b": {"q"}, "d": {"p"}}


def test_the_validation_of_baskets_is_a_whole_basket_within_training(shop: Dataset, tmp_path: Path) -> None:
    task = task_of("shop", shop, "basket", tmp_path)

    held = held_out(task).filter(user_id="a")

    assert held.rows() == [("a", "r", 10.0), ("a", "s", 10.0)]


@pytest.mark.parametrize("protocol", ["last", "time", "basket"])
def test_a_job_holds_training_alone_and_inner_is_what_validation_leaves(
    protocol: str, shop: Dataset, tmp_path: Path
) -> None:
    task = task_of("shop", shop, protocol, tmp_path)

    write_job(task, tmp_path / "job.npz")

    with np.load(tmp_path / "job.npz") as arrays:
        job = dict(arrays)
    assert len(job["user"]) == task.split.train.events.height
    assert job["inner"].sum() + len(job["held_user"]) == len(job["user"])
    out = set(zip(job["held_user"].tolist(), job["held_item"].tolist(), strict=True))
    assert out == set(zip(job["user"][~job["inner"]].tolist(), job["item"][~job["inner"]].tolist(), strict=True))
    assert (np.diff(job["time"]) >= 0).all()
    assert job["labels"].shape == (6, 2)
    assert job["depth"] == 20  # as the page says
    assert (job["asked"] == -1).sum() == sum(not len(request.past) for request in task.cases.requests)


def test_the_digest_changes_with_the_protocol_and_not_with_the_order_of_rows(shop: Dataset, tmp_path: Path) -> None:
    turned = Dataset.of("shop", events=shop.events[::-1], items=shop.items[::-1])

    assert task_of("shop", shop, "last", tmp_path).digest == task_of("shop", turned, "last", tmp_path).digest
    assert task_of("shop", shop, "time", tmp_path).digest != task_of("shop", shop, "basket", tmp_path).digest


def test_a_basket_split_learns_only_from_before_the_cut(shop: Dataset) -> None:
    split = split_by(shop, "basket")

    assert split.until is not None
    assert (split.train.events["time"] < split.until).all()
