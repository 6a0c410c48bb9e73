"""A model folder: what of an engine is written there, and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict

from tailwise import artifacts, registry
from tailwise.config import PipelineConfig, Step, settings_of
from tailwise.data.catalogue import Catalogue
from tailwise.data.features import Contexts
from tailwise.data.interactions import Interactions
from tailwise.encode.meaning import Meaning
from tailwise.errors import ArtifactError
from tailwise.pipeline.binding import Bound, Rescore, as_stages, keyed
from tailwise.types import Encoder


class Stored(TypedDict):
    """What a model folder holds; arguments of an engine."""

    config: PipelineConfig
    catalogue: Catalogue
    people: Interactions
    sources: tuple[Bound, ...]
    stages: tuple[Bound, ...]
    manifest: Mapping[str, Any]
    encoder: Encoder | None
    contexts: Contexts


class Whole(Protocol):
    """An engine, as far as a model folder keeps it."""

    @property
    def config(self) -> PipelineConfig: ...
    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def people(self) -> Interactions: ...
    @property
    def sources(self) -> Sequence[Bound]: ...
    @property
    def stages(self) -> Sequence[Bound]: ...
    @property
    def manifest(self) -> Mapping[str, Any]: ...
    @property
    def encoder(self) -> Encoder | None: ...
    @property
    def contexts(self) -> Contexts: ...


def read_model(folder: Path) -> Stored:
    """
    What ``write_model`` wrote, checked.

    Raises:
        ArtifactError: A file is missing or damaged; says which.
        ConfigError: The pipeline names something that is not installed.
    """
    manifest = artifacts.check(folder)
    config = PipelineConfig.read(folder / "pipeline.toml")
    catalogue = Catalogue.open(folder / "catalogue")

    def bind(key: str, step: Step) -> Bound:
        kind = registry.component(step.name)
        settings = settings_of(kind.Config, step.settings, where=step.name)
        try:
            return Bound(key, step, kind.open(settings, catalogue, folder / key))
        except ArtifactError as error:  # a network that cannot be run does not know which file it was
            raise error if str(folder) in str(error) else ArtifactError(f"{folder / key}: {error}") from error

    return {
        "config": config,
        "catalogue": catalogue,
        "people": Interactions.open(folder / "people"),
        "sources": tuple(bind(key, step) for key, step in keyed(config.retrieve)),
        "stages": as_stages(tuple(bind(key, step) for key, step in keyed(config.stage))),
        "manifest": manifest,
        "encoder": Meaning.open(folder / "encoder") if (folder / "encoder").is_dir() else None,
        "contexts": Contexts.open(folder / "context"),
    }


def write_model(engine: Whole, path: Path) -> None:
    """
    Write a self-contained model folder; what was there is replaced in one step, and stays as ``MODEL.previous``.

    Raises:
        UnavailableError: The disk refuses; the old model stands.
    """
    with artifacts.writing(path, engine.manifest, keep=True) as folder:
        fill_model(engine, folder)


def fill_model(engine: Whole, folder: Path) -> None:
    """Write what an engine is made of into a folder that ``artifacts.writing`` gives."""
    engine.config.write(folder / "pipeline.toml")
    engine.catalogue.save(folder / "catalogue")
    engine.people.save(folder / "people")
    engine.contexts.save(folder / "context")
    if isinstance(engine.encoder, Meaning):
        engine.encoder.save(folder / "encoder")
    for bound in (*engine.sources, *engine.stages):
        owner = bound.run.source if isinstance(bound.run, Rescore) else bound.run
        if hasattr(owner, "save"):
            owner.save(folder / bound.key)
