"""A tiny data folder, a pipeline file, and a model that the command itself fitted from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailwise.cli import THREAD_VARIABLES, main
from tailwise.data.load import write
from tailwise.data.synthetic import World, make_world

CONFIG = """
[encode]
model = "hash"
whiten_dim = 16

[[retrieve]]
name = "popular"

[[retrieve]]
name = "ease"

[[retrieve]]
name = "sequence"
shape = { dim = 16, layers = 1, max_length = 10 }
train = { epochs = 2 }

[[stage]]
name = "fusion"

[[stage]]
name = "exposure"

[[stage]]
name = "reasons"
"""


@pytest.fixture(scope="package", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The command sets variables of its process, and reads its cache from them: both end with these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        for variable in (*THREAD_VARIABLES, "TAILWISE_THREADS"):
            patch.setenv(variable, "1")
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        yield


@pytest.fixture(scope="package")
def world() -> World:
    return make_world(users=40, items=40, events_per_user=9, groups=4, requests=1, seed=6)


@pytest.fixture(scope="package")
def shop(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder."""
    folder = tmp_path_factory.mktemp("data") / "shop"
    write(world.dataset, folder)
    return folder


@pytest.fixture(scope="package")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline file."""
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="package")
def model(shop: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``tailwise fit --holdout last`` wrote. A test that changes it takes a copy."""
    folder = tmp_path_factory.mktemp("models") / "shop"
    assert main(["fit", str(shop), "--out", str(folder), "--config", str(config), "--holdout", "last"]) == 0
    return folder
