"""A small engine by hand: ten items a … j, two people, and whatever sources and stages a test brings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from tailwise.config import PipelineConfig, Step
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.data.load import Dataset
from tailwise.fakes import FixedRetriever
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound, as_stages

ITEMS = tuple("abcdefghij")
EVENTS = [("ann", "a", 100.0), ("ann", "b", 200.0), ("bob", "c", 150.0)]
Make = Callable[..., Engine]


def _make(
    *,
    sources: Mapping[str, Any] | None = None,
    stages: Sequence[tuple[Step, Any]] = (),
    events: Sequence[tuple[str, str, float]] = EVENTS,
    **config: Any,
) -> Engine:
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "time"], orient="row")
    nothing = np.zeros(len(ITEMS), np.float32)
    catalogue = Catalogue(
        pl.DataFrame({"item_id": ITEMS, "year": range(2000, 2010)}),
        popularity=np.arange(10, 0, -1, dtype=np.float32),
        recent=nothing,
        vectors=np.eye(10, dtype=np.float32),
        tail_cut=0.2,
    )
    runs = {"fixed": FixedRetriever(ITEMS)} if sources is None else sources
    retrieve = tuple(Step(name=name) for name in runs)
    bounds = tuple(Bound(step.name, step, run) for step, run in zip(retrieve, runs.values(), strict=True))
    stage = tuple(step for step, _ in stages)
    later = as_stages(tuple(Bound(step.name, step, run) for step, run in stages))
    people = Interactions.of(Dataset.of("x", events=frame).events, catalogue)
    return Engine(PipelineConfig(retrieve=retrieve, stage=stage, **config), catalogue, people, bounds, later, {})


@pytest.fixture(scope="session")
def make() -> Make:
    """``make(sources={name: run}, stages=[(Step, run)], events=[(user, item, time)], **pipeline settings)``."""
    return _make
