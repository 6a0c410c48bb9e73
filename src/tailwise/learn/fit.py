"""
Fit every component that a pipeline names into one engine, without leaking time.

    events ─▶ catalogue (texts embedded, whitened; popularity) ─▶ interactions
      ├─ held out: the last liked event of each person ─▶ sources choose settings and epochs, stages learn whom to trust
      └─ all events ─▶ sources again, with what was chosen ─▶ engine
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tailwise import registry
from tailwise.config import PipelineConfig, Settings, Step, settings_of
from tailwise.data.baskets import REPEATS
from tailwise.data.catalogue import Catalogue
from tailwise.data.features import Contexts, check_context
from tailwise.data.holdout import hold_out, repeat_rate
from tailwise.data.interactions import TYPED, Interactions, Training
from tailwise.data.load import Dataset
from tailwise.encode.meaning import Meaning
from tailwise.errors import DataError
from tailwise.learn.asked import ENCODER, with_words
from tailwise.learn.meaning import embed_items
from tailwise.learn.provenance import provenance
from tailwise.learn.ready import check_pipeline, sources_of
from tailwise.learn.semantics import Origin
from tailwise.learn.start import LEAST_EVENTS, Start, training_part, without_events
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound, Rescore, as_stages, keyed
from tailwise.rerank.reasons import GRAPH
from tailwise.types import Retriever

log = logging.getLogger(__name__)

MOST_EVENTS = 1_000
"""Newest events of a person that the model folder keeps."""
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What every part of one fit shares."""

    config: PipelineConfig
    seed: int
    settings: Settings
    report: Report


def fit(  # noqa: PLR0913  one argument each of what people may ask for
    data: Dataset,
    config: PipelineConfig | Path | str | None = None,
    *,
    until: float | None = None,
    holdout: str | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    start: Path | str | None = None,
    checkpoints: Path | None = None,
    report: Report = lambda what, done, total: None,  # noqa: ARG005  silent by default
) -> Engine:
    """
    Fit a pipeline on events; with fewer than ``LEAST_EVENTS``, the part of it that needs none.

    Args:
        data: What ``tailwise.load`` gives.
        config: A pipeline, a TOML file of one, or None for the default.
        until: Only events before this time are used, in seconds since epoch.
        holdout: ``"last"`` leaves each person's last event out, for ``evaluate --split last``.
        seed: Of everything that draws; the same seed on the same data and machine gives the same model.
        settings: Cache folder and threads; None reads the environment.
        start: Another domain's model to start from: its encoder, whitening and sequence network; no events are
            needed then.
        checkpoints: A folder in which an interrupted fit is picked up when the same is asked for again: other data,
            settings or seeds start afresh beside it. A finished fit removes its own. None keeps none.
        report: Progress: what is being done, how far, of how much.

    Returns:
        An engine in memory; ``save`` writes its folder.

    Raises:
        DataError: No events are left before ``until``, or none that speaks for an item.
        ConfigError: The pipeline names something unknown, or a setting is out of range; said before anything is fitted.
        UnavailableError: An extra is missing; says which, before anything is fitted.
    """
    started = time.perf_counter()
    chosen = config if isinstance(config, PipelineConfig) else PipelineConfig.read(Path(config)) if config else None
    job = Job(chosen or PipelineConfig(), seed, settings or Settings.from_environment(), report)
    begun = None if start is None else Start.read(start)
    least = LEAST_EVENTS if begun is None else 1
    data = training_part(data, until, holdout, least=least)
    if data.events.height >= least:
        check_pipeline(job.config)
        check_context(job.config.context, data.events.columns)
    if begun is not None:
        job = replace(job, config=job.config.model_copy(update={"encode": begun.encode(job.config.encode)}))
    catalogue, meaning, interactions = _prepare(data, job, begun, least=least)
    silent: list[str] = []
    if len(interactions) < least:
        config, silent = without_events(job.config, begun=begun is not None)
        job = replace(job, config=config)
    job = replace(job, config=_self_contained(with_words(job.config, interactions), catalogue))
    facts = provenance(
        data,
        job.config,
        seed=seed,
        threads=job.settings.threads,
        until=until,
        holdout=holdout,
        encoder=None if meaning is None else meaning.fingerprint,
        start=None if begun is None else begun.version,
    )
    own = None if checkpoints is None else checkpoints / facts["version"]
    repeats = repeat_rate(interactions)
    exclude_seen = repeats < REPEATS if job.config.exclude_seen is None else job.config.exclude_seen
    inner, held = hold_out(interactions, seed=seed, new=exclude_seen)
    if len(interactions) >= least and not len(held):
        log.warning("nothing to choose by: nobody did enough to hold something out of; settings keep their defaults")
    everything = Training(
        interactions,
        catalogue,
        seed,
        threads=job.settings.threads,
        exclude_seen=exclude_seen,
        cache=job.settings.cache,
        report=report,
    )
    everything.memo[GRAPH], everything.memo[ENCODER] = data.named_graph(), meaning
    if begun is not None:
        everything.memo[Origin] = begun.origin
    learning = replace(
        everything,
        interactions=inner,
        catalogue=_counted(
            catalogue, inner, interactions.pace
        ),  # counts with the targets in them would tell which they are
        targets=held.first(seed),
        held=held,
        folder=own,
    )
    runs = _fit_sources(job, learning)
    contexts = Contexts.of(job.config.context, inner)
    stages, notes = _fit_stages(job, learning, runs, contexts)
    runs = _refit_sources(runs, everything)
    sources = _sources(job, runs)
    stages = tuple(replace(b, run=Rescore(runs[b.step.name])) if b.step.name in runs else b for b in stages)
    choices = {"exclude_seen": exclude_seen, "repeat_rate": round(repeats, 4), "held_out": len(held), "silent": silent}
    choices["people_act"] = interactions.acts.value
    choices["encoder"] = None if meaning is None else meaning.config.model
    manifest = {
        **facts,
        "counts": {"people": len(interactions.user_ids), "items": len(catalogue), "events": len(interactions)},
        "choices": choices,
        "metrics": notes,
        "pipeline": job.config.model_dump(mode="json"),
        "seconds": round(time.perf_counter() - started, 1),
    }
    if own is not None:
        shutil.rmtree(own, ignore_errors=True)
    config = _settled(job.config, sources, stages, exclude_seen=exclude_seen)
    if meaning is not None:
        encode = meaning.config.model_copy(update={"columns": config.encode.columns})  # as they were named
        config = config.model_copy(update={"encode": encode})
    people, contexts = interactions.newest(MOST_EVENTS), contexts.recounted(interactions)
    return Engine(config, catalogue, people, sources, stages, manifest, encoder=meaning, contexts=contexts)


def _prepare(
    data: Dataset, job: Job, begun: Start | None, *, least: int
) -> tuple[Catalogue, Meaning | None, Interactions]:
    """Items with vectors and popularity, and what people did with them."""
    items = data.items
    lonely = data.events.select("item_id").unique().join(items, on="item_id", how="anti").sort("item_id")
    if items.height and lonely.height:
        log.warning(
            "items of which nothing is told: %d items of events are not among the %d items, so they have no text and no"
            " attributes, %r for one; see: tailwise validate",
            *(lonely.height, items.height, lonely["item_id"][0]),
        )
    items = pl.concat([items, lonely], how="diagonal")
    meaning, vectors = embed_items(
        items,
        job.config.encode,
        cache=job.settings.cache,
        threads=job.settings.threads,
        like=None if begun is None else begun.meaning,
        report=job.report,
    )
    nothing = np.zeros(items.height, np.float32)
    bare = Catalogue(items, popularity=nothing, recent=nothing, vectors=vectors, tail_cut=job.config.tail_cut)
    interactions = Interactions.of(data.events, bare, (*job.config.context, TYPED))
    if not interactions.likes.any() and len(interactions) >= least:
        raise DataError(f"{data.name} has no event that speaks for an item: all are skip or dislike")
    return _counted(bare, interactions, interactions.pace), meaning, interactions


def _counted(catalogue: Catalogue, interactions: Interactions, pace: float) -> Catalogue:
    """The items, as popular as some events make them."""
    return catalogue.recounted(interactions.counts(), interactions.recent(pace))


def _self_contained(config: PipelineConfig, catalogue: Catalogue) -> PipelineConfig:
    """The pipeline with what stages read from files as settings, so that neither a model nor a later fit needs them."""

    def settle(step: Step) -> Step:
        if "file" not in step.settings or registry.trainer(step.name) is not None:
            return step
        kind = registry.component(step.name)
        run: Any = kind.open(settings_of(kind.Config, step.settings, where=step.name), catalogue, Path())
        return step.model_copy(update={"settings": run.config.model_dump(exclude_none=True, mode="json")})

    return config.model_copy(update={"stage": tuple(settle(step) for step in config.stage)})


def _fit_sources(job: Job, training: Training) -> dict[str, Retriever]:
    """
    Every source by name, those among the stages too, fitted on all but the held-out events.

    A source is fitted once wherever it stands, so that it has one opinion of an item.
    """
    runs: dict[str, Retriever] = {}
    for step in sources_of(job.config):
        fitter = registry.trainer(step.name)
        assert fitter is not None, "the pipeline was checked"
        if step.name not in runs:
            kind = registry.component(step.name)
            runs[step.name] = fitter(settings_of(kind.Config, step.settings, where=step.name), training)
    return runs


def _sources(job: Job, runs: dict[str, Retriever]) -> tuple[Bound, ...]:
    """What retrieves, in order."""
    return tuple(Bound(step.name, step, runs[step.name]) for step in job.config.retrieve)


def _fit_stages(
    job: Job, training: Training, runs: dict[str, Retriever], contexts: Contexts
) -> tuple[tuple[Bound, ...], dict[str, dict[str, float | str]]]:
    """Every stage in order; one that learns does so from slates that the sources and the stages before it make."""
    sources = _sources(job, runs)
    stages: tuple[Bound, ...] = ()
    notes: dict[str, dict[str, float | str]] = {}
    config = job.config.model_copy(update={"exclude_seen": training.exclude_seen})
    for key, step in keyed(job.config.stage):
        kind = registry.component(step.name)
        settings = settings_of(kind.Config, step.settings, where=step.name)
        fitter = registry.trainer(step.name)
        if step.name in runs:
            run: Any = runs[step.name]
        elif fitter is None:
            run = kind.open(settings, training.catalogue, Path())
        elif step.name not in registry.TRAINERS:
            run = fitter(settings, training)
        else:
            engine = Engine(config, training.catalogue, training.interactions, sources, stages, {}, contexts=contexts)
            run, notes[key] = fitter(settings, training, engine)
        stages += as_stages((Bound(key, step, run),))
    return stages, notes


def _refit_sources(runs: dict[str, Any], training: Training) -> dict[str, Any]:
    """Sources again, on all events, with the settings that the held-out people chose."""
    refitted = {}
    for name, run in runs.items():
        fitter = registry.trainer(name)
        assert fitter is not None, "it was fitted before"
        refitted[name] = fitter(run.config, replace(training, before=run))
    return refitted


def _settled(
    config: PipelineConfig, sources: tuple[Bound, ...], stages: tuple[Bound, ...], *, exclude_seen: bool
) -> PipelineConfig:
    """The pipeline with every choice that the fit made, so that the model folder says it all."""

    def settle(bound: Bound) -> Step:
        run = bound.run.source if isinstance(bound.run, Rescore) else bound.run
        own = getattr(run, "config", None)
        raw = bound.step.settings if own is None else own.model_dump(exclude_none=True, mode="json")
        return bound.step.model_copy(update={"settings": raw})

    return config.model_copy(
        update={
            "exclude_seen": exclude_seen,
            "retrieve": tuple(settle(bound) for bound in sources),
            "stage": tuple(settle(bound) for bound in stages),
        }
    )
