from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from quality.tasks import Task, held_out, split_by, task_of, thinned, write_job

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


def test_a_sparse_log_keeps_a_few_items_of_each_person_when_first_had(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    acts = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{n}" for n in range(5)], [3, 8, 9, 40, 60]),
            "item_id": [f"i{n}" for n in rng.integers(0, 30, 120)],
            "time": rng.permutation(120).astype(float),
        }
    )
    data = Dataset.of("many", events=acts, items=acts.select("item_id").unique())
    first = acts.sort("time").unique(["user_id", "item_id"], keep="first", maintain_order=True)

    kept = thinned(data.events).select("user_id", "item_id", "time")

    assert set(kept.rows()) <= set(first.rows())
    had = {user_id: own.height for (user_id,), own in first.group_by("user_id")}
    assert {user_id: own.height for (user_id,), own in kept.group_by("user_id")} == {
        user_id: min(8, n) for user_id, n in had.items()
    }
    newest = first.group_by("user_id", maintain_order=True).tail(8)
    assert set(kept.rows()) != set(newest.rows())  # any of them, not the newest
    task = task_of("many", data, "sparse", tmp_path)
    last = kept.sort("time").group_by("user_id").last()
    assert targets(task) == {user_id: {item} for user_id, item, _ in last.rows()}
    assert task.exclude_seen
    assert task.about.startswith("5 people asked, 30 items ranked, ")


@pytest.mark.parametrize("protocol", ["last", "time", "basket", "sparse"])
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
