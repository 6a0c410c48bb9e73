"""Every name that a pipeline may use leads to a class with explained settings; a package can add one."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from tailwise import registry
from tailwise.config import Closed, PipelineConfig, Step
from tailwise.data.synthetic import World
from tailwise.errors import ConfigError
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.types import Retriever, Stage

BUILT_IN = sorted({*registry.SOURCES, *registry.STAGES})


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_setting_of_every_component_is_explained_and_has_a_default(name: str) -> None:
    config = registry.component(name).Config

    assert issubclass(config, Closed)
    config()  # every field has a default
    silent = [field for field, facts in config.model_fields.items() if not facts.description]
    assert silent == []


def nested(kind: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [field.annotation for field in kind.model_fields.values()]
    return [each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)]


@pytest.mark.parametrize("name", [*BUILT_IN, "the pipeline"])
def test_settings_inside_settings_are_explained_too(name: str) -> None:
    config = PipelineConfig if name == "the pipeline" else registry.component(name).Config

    for inner in (config, *nested(config)):
        assert [field for field, facts in inner.model_fields.items() if not facts.description] == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_component_keeps_its_protocol(name: str, tiny_engine: Engine) -> None:
    bounds = {bound.step.name: bound for bound in (*tiny_engine.sources, *tiny_engine.stages)}

    run = bounds[name].run

    assert isinstance(run, registry.component(name))
    assert [isinstance(run, kind) for kind in (Retriever, Stage)] == [name in registry.SOURCES, name in registry.STAGES]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_component_builds_from_its_default_settings(name: str, tiny_engine: Engine, tiny_model: Path) -> None:
    kind = registry.component(name)

    built = kind.open(kind.Config(), tiny_engine.catalogue, tiny_model / name)

    assert isinstance(built, kind)


def test_every_trainer_can_be_imported() -> None:
    for name in registry.TRAINERS:
        assert callable(registry.trainer(name))


def test_a_component_without_a_trainer_uses_its_own_fit_or_learns_nothing() -> None:
    assert registry.trainer("popular") == registry.component("popular").fit  # type: ignore[attr-defined]  # it has one
    assert registry.trainer("mmr") is None


def test_names_are_sorted_and_all_there() -> None:
    assert registry.names() == sorted(set(registry.names()))
    assert set(BUILT_IN) <= set(registry.names())


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^no component is called 'popularr'; did you mean popular\?$"):
        registry.component("popularr")


def test_a_name_like_no_other_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"^no component is called 'zzz'; known: .*als, .*, text, .*words$"):
        registry.component("zzz")


def test_a_path_is_no_name() -> None:
    with pytest.raises(ConfigError, match=r"^no component is called 'os:system'; .+$"):
        registry.component("os:system")


CODE = '''
from tailwise.config import Closed

class Shout:
    needs, gives = frozenset(), frozenset()
    class Config(Closed):
        loud: bool = True
        """Whether it shouts."""
    def __init__(self, config): self.config = config
    @classmethod
    def open(cls, config, facts, folder): return cls(config)
    def __call__(self, request, slate): return slate.take(slate.scores.argsort())
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with two stages, of which one is broken."""
    (tmp_path / "shouting.py").write_text(CODE)
    facts = tmp_path / "shouting-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[tailwise.stages]\nshout = shouting:Shout\nbroken = shouting:Whisper\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("shouting", None)


@pytest.mark.usefixtures("package")
def test_a_package_adds_a_stage_by_entry_point() -> None:
    assert {"shout", "broken"} <= set(registry.names())
    assert registry.component("shout").__module__ == "shouting"
    assert registry.trainer("shout") is None


@pytest.mark.usefixtures("package")
def test_an_entry_point_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^broken is installed as shouting:Whisper, which cannot be imported: .+$"):
        registry.component("broken")


@pytest.mark.usefixtures("package")
def test_a_stage_from_a_package_runs_in_a_saved_pipeline(
    tmp_path: Path, tiny_engine: Engine, tiny_world: World
) -> None:
    step = Step(name="shout")
    kind = registry.component("shout")
    shouting = replace(
        tiny_engine,
        config=tiny_engine.config.model_copy(update={"stage": (step,)}),
        stages=(Bound("shout", step, kind.open(kind.Config(), tiny_engine.catalogue, tmp_path)),),
    )
    shouting.save(tmp_path / "model")

    opened = Engine.open(tmp_path / "model")

    answer = opened.rank(user_id=tiny_world.user_ids[0], k=1000)
    assert len(answer) > 20
    assert answer.scores.tolist() == sorted(answer.scores.tolist())  # it turns them round
