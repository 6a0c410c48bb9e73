"""Start a fit without events of one's own: from another domain's model, or from what texts and attributes say alone."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import polars as pl

from tailwise import registry
from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.data.load import Dataset
from tailwise.data.split import split_last
from tailwise.encode.meaning import Meaning
from tailwise.errors import ConfigError, DataError
from tailwise.learn.semantics import Origin
from tailwise.pipeline import Engine
from tailwise.rank.sequence import SequenceScorer
from tailwise.types import Retriever

log = logging.getLogger(__name__)

LEAST_EVENTS = 10
"""With fewer nothing is learned from them."""
SPEAK = frozenset({"text", "words", "numbers"})
"""Sources that say something where nobody has done anything yet; so does ``sequence``, begun from another model."""
DAY_0 = 200
"""Candidates of each of the sources that are there before there are events."""


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


def training_part(data: Dataset, until: float | None, holdout: str | None, *, least: int) -> Dataset:
    """
    The events that may be learned from.

    Raises:
        DataError: Enough are there, but fewer than ``least`` of them are left.
        ConfigError: ``holdout`` is something else than ``last``.
    """
    whole, before = data, data.events.height
    times = data.events["time"].to_numpy()
    if before and (times.max() > time.time() + 86_400 or times.min() < 0):
        log.warning(
            "times of %s lie after now or before 1970: are they in seconds? tailwise validate tells which", data.name
        )
    if until is not None:
        data = data.with_events(data.events.filter(pl.col("time") < until))
    if holdout == "last":
        data = split_last(data).train
    elif holdout is not None:
        raise ConfigError(f"holdout is {holdout!r}, but it must be 'last'")
    if data.events.height < least <= before:
        few = f"{data.name} has {data.events.height} events to learn from, but at least {least} are needed"
        raise DataError(few + _remedy(whole, until))
    return data


def _remedy(whole: Dataset, until: float | None) -> str:
    """What to do where a cut left too few events: when the first and the last of them were."""
    if until is None:
        return ""
    first, last = (moment_of(time) for time in (whole.events["time"].min(), whole.events["time"].max()))
    return f"; the first is of {first} and the last of {last}: choose a later --until than {moment_of(until)}"


def moment_of(seconds: Any) -> str:
    """
    A time as people and ``--until`` write it, UTC.

    >>> moment_of(1_000_000_000)
    '2001-09-09T01:46:40'
    """
    try:
        return datetime.fromtimestamp(float(seconds), UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    except (ValueError, OverflowError, OSError):  # beyond the years 1 to 9999
        return f"{float(seconds):.15g}"


def without_events(config: PipelineConfig, *, begun: bool) -> tuple[PipelineConfig, list[str]]:
    """
    The part of a pipeline that works before anybody did anything, and the names of what is silent until then.

    Begun from another model, that is the sources of its pipeline that speak. Else texts, words and numbers retrieve,
    whether or not they are named, and count alike.

    Raises:
        ConfigError: Nothing would be left to retrieve with.
    """
    speak = SPEAK | {"sequence"} if begun else SPEAK
    kept = tuple(step for step in config.retrieve if step.name in speak)
    if begun and not kept:
        rule = "only text, words, numbers and sequence can retrieve; name one in [[retrieve]]"
        raise ConfigError(f"there are no events, so that {rule}")
    if not begun:
        named = {step.name for step in kept}
        columns = {"columns": list(config.encode.columns)} if config.encode.columns else {}
        own = (Step(name="text", k=DAY_0), Step(name="words", k=DAY_0, settings=columns), Step(name="numbers", k=DAY_0))
        kept = (*kept, *(step for step in own if step.name not in named))

    def silent(step: Step) -> bool:
        ungated = step.name == "listwise_llm" and step.settings.get("gate", "learned") != "learned"
        if step.name in speak or ungated or (step.name == "fusion" and not begun):
            return False
        return step.name in registry.TRAINERS or issubclass(registry.component(step.name), Retriever)

    quiet = [step.name for step in (*config.retrieve, *config.stage) if silent(step)]
    log.warning("too few events to learn from: silent until there are more: %s", ", ".join(quiet))
    stage = tuple(step for step in config.stage if not silent(step))
    return config.model_copy(update={"retrieve": kept, "stage": stage}), quiet
