"""The benchmark's scripts import each other from their own folders, as they do when they are run."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

from tailwise.data.load import Dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "peers")]


@pytest.fixture
def shop() -> Dataset:
    """Four people; ``a`` and ``b`` buy baskets before and after second 80, ``c`` only before, ``d`` only after."""
    acts = [
        *(
            ("a", item, time)
            for item, time in (("p", 1), ("q", 1), ("r", 10), ("s", 10), ("p", 90), ("t", 90), ("u", 95))
        ),
        *(("b", item, time) for item, time in (("p", 2), ("r", 3), ("t", 4), ("q", 85))),
        *(("c", item, time) for item, time in (("q", 5), ("s", 6), ("t", 7), ("p", 8))),
        *(("d", item, time) for item, time in (("p", 99),)),
        *(("e", item, time) for item, time in (("p", 11), ("q", 12), ("r", 13), ("s", 14), ("t", 15))),
    ]
    events = pl.DataFrame(acts, schema=["user_id", "item_id", "time"], orient="row")
    items = pl.DataFrame({"item_id": list("pqrstu"), "genres": ["x", "x|y", "y", "y", "x", None]})
    return Dataset.of("shop", events=events, items=items)
