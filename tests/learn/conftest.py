"""A tiny world and a quick fit of it; one thread for torch, because these nets are too small to share out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailwise.config import Settings
from tailwise.data.load import Dataset
from tailwise.data.synthetic import make_world
from tailwise.pipeline import Engine


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_world(users=40, items=48, events_per_user=10, groups=4, requests=1, seed=3).dataset


@pytest.fixture
def fitted(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Engine]:
    """``fit`` with a cache of its own and one thread; by default the pipeline ``QUICK`` of the test's module."""
    from tailwise.learn.fit import fit

    settings, quick = Settings(cache=tmp_path / "cache", threads=1), request.module.QUICK
    return lambda data, config=quick, **more: fit(data, config, settings=settings, **more)


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
