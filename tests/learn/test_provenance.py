"""Equal fits have equal versions, and anything that makes another model makes another version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from tailwise.config import PipelineConfig
from tailwise.data.load import Dataset
from tailwise.learn.provenance import provenance

DATA = Dataset.of("two", events=pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "time": [1.0, 2.0]}))


def facts(data: Dataset = DATA, config: PipelineConfig | None = None, **named: Any) -> Mapping[str, Any]:
    return provenance(data, config or PipelineConfig(), **{"seed": 1, "threads": 2, "until": None, **named})


def test_the_same_has_the_same_version() -> None:
    assert facts()["version"] == facts()["version"]


def test_whatever_differs_shows_in_the_version() -> None:
    others = [
        facts(seed=2),
        facts(threads=1),
        facts(until=9.0),
        facts(config=PipelineConfig(max_history=7)),
        facts(DATA.with_events(DATA.events[:1])),
    ]

    assert len({facts()["version"], *(one["version"] for one in others)}) == 6


def test_the_facts_are_told_by_name() -> None:
    known = facts(start="m1")

    assert (known["data"], known["seed"], known["until"], known["start"]) == ("two", 1, None, "m1")
