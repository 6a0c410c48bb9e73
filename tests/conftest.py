"""A tiny fitted engine that many tests share: 36 people, 48 items of 4 groups, and every part of a pipeline."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.synthetic import World, make_world
from tailwise.learn.fit import fit
from tailwise.pipeline import Engine
from tailwise.state.memory import MemoryStore

hypothesis_settings.register_profile("shared", deadline=None)  # how long an example takes says how busy the machine is
hypothesis_settings.load_profile("shared")


def _config() -> PipelineConfig:
    """Every source and every stage that the registry has, with a network that fits in a second."""
    quick = {
        "shape": {"dim": 16, "layers": 1, "heads": 2, "max_length": 12, "dropout": 0.1},
        "train": {"epochs": 2, "warm_up_steps": 2},
    }
    recent = [{"column": "year", "op": "at_least", "value": 2000}]
    rules = [
        {"kind": "boost", "by": 0.3, "where": recent},
        {"kind": "cap", "column": "genres", "most": 4},
        {"kind": "pin", "position": 3, "where": recent},
    ]
    return PipelineConfig(
        encode=EncodeConfig(model="hash", whiten_dim=16),
        retrieve=(
            Step(name="popular", k=20),
            Step(name="ease", k=20, settings={"regularisation": 20.0}),
            Step(name="als", k=20, settings={"factors": 8}),
            Step(name="item_knn", k=20, settings={"neighbours": 10}),
            Step(name="next_item", k=20, settings={"regularisation": 5.0}),
            Step(name="again", k=10),
            Step(name="text", k=10),
            Step(name="sequence", k=20, settings=quick),
            Step(name="towers", k=20, settings={"person": "dnn", "dim": 16, "train": quick["train"]}),
            Step(name="ensemble", k=20, settings={"seeds": 2, "member": quick}),
        ),
        stage=(
            Step(name="fusion"),
            Step(name="attention"),
            Step(name="long_tail", settings={"penalty": 0.2}),
            Step(name="boosted"),
            Step(name="multitask", settings={"shape": {"dim": 8, "expert_dim": 16}, "train": {"epochs": 2}}),
            Step(name="mmr", settings={"trade_off": 0.9}),
            Step(name="dpp", settings={"trade_off": 0.95}),
            Step(name="exposure", settings={"tail_share": 0.3}),
            Step(name="rules", settings={"rule": rules}),
            Step(name="reasons"),
        ),
        exclude_seen=True,
    )


@pytest.fixture(scope="session")
def tiny_world() -> World:
    return make_world(users=36, items=48, events_per_user=12, groups=4, requests=8, seed=3)


@pytest.fixture(scope="session")
def tiny_engine(tiny_world: World, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Shared: a test that observes, or changes the engine, takes ``fresh_engine``."""
    settings = Settings(cache=tmp_path_factory.mktemp("cache"), threads=1)
    return fit(tiny_world.dataset, _config(), seed=5, settings=settings)


@pytest.fixture(scope="session")
def tiny_model(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny engine; a test that changes it takes a copy."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_engine.save(folder)
    return folder


@pytest.fixture
def fresh_engine(tiny_engine: Engine) -> Engine:
    """The tiny engine with a state of its own."""
    return replace(tiny_engine, store=MemoryStore())
