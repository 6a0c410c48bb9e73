"""Start a fit from another domain's model: its encoder and whitening, and its sequence network."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tailwise import registry
from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.encode.meaning import Meaning
from tailwise.errors import ConfigError
from tailwise.learn.semantics import Origin
from tailwise.pipeline import Engine
from tailwise.rank.sequence import SequenceScorer

log = logging.getLogger(__name__)

SPEAK = frozenset({"text", "sequence"})
"""Sources that say something where nobody has done anything yet."""


@dataclass(frozen=True)
class Start:
    """What another domain's model gives."""

    version: str
    meaning: Meaning
    origin: Origin

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """
        From a model folder.

        Raises:
            ArtifactError: A file is missing or damaged.
            ConfigError: The model has no sequence source, or its items had no texts.
        """
        engine = Engine.open(path)
        scorers = [bound.run for bound in engine.sources if isinstance(bound.run, SequenceScorer)]
        if not scorers or not isinstance(engine.encoder, Meaning):
            lack = "items had no texts" if scorers else "pipeline has no sequence source"
            raise ConfigError(f"nothing can start from {path}: its {lack}; start from a model that has both")
        return cls(engine.version, engine.encoder, Origin(scorers[0], engine.catalogue.vectors))

    def encode(self, own: EncodeConfig) -> EncodeConfig:
        """The other domain's settings of the encoder, with the columns that make a text here."""
        return self.meaning.config.model_copy(update={"columns": own.columns})


def without_events(config: PipelineConfig) -> tuple[PipelineConfig, list[str]]:
    """
    The part of a pipeline that works before anybody did anything, and the names of what is silent until then.

    Raises:
        ConfigError: Nothing would be left to retrieve with.
    """

    def silent(step: Step) -> bool:
        return step.name not in SPEAK and registry.trainer(step.name) is not None

    kept = tuple(step for step in config.retrieve if step.name in SPEAK)
    if not kept:
        raise ConfigError("there are no events, so that only text and sequence can retrieve; name one in [[retrieve]]")
    quiet = [step.name for step in (*config.retrieve, *config.stage) if step not in kept and silent(step)]
    log.warning("no events: silent until there are some: %s", ", ".join(quiet))
    stage = tuple(step for step in config.stage if not silent(step))
    return config.model_copy(update={"retrieve": kept, "stage": stage}), quiet
