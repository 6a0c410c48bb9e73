"""``fit``, ``rank``, ``evaluate`` and ``compare``: models and what they are worth."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwise.cli.progress import Progress, say
from tailwise.errors import RequestError, UnavailableError, UsageError

if TYPE_CHECKING:
    from tailwise.data.load import Dataset
    from tailwise.data.split import Split
    from tailwise.evaluate.results import Report
    from tailwise.learn.track import Watched
    from tailwise.pipeline import Engine


def fit_model(options: argparse.Namespace) -> int:
    """Fit and save."""
    from tailwise import artifacts
    from tailwise.config import PipelineConfig
    from tailwise.data.load import load
    from tailwise.learn.fit import fit

    until = None if options.until is None else seconds(options.until)
    checkpoints = options.out.with_name(f".{options.out.name}.checkpoints")
    config = PipelineConfig() if options.config is None else PipelineConfig.read(options.config)
    artifacts.check_place(options.out)  # a fit takes minutes; what stands in its way is said before
    data = load(options.folder, without_events=True)
    with Progress() as progress, tracked(config.track, data.name, progress) as run:
        engine = fit(
            data,
            config,
            until=until,
            holdout=options.holdout,
            seed=options.seed,
            start=options.start,
            checkpoints=checkpoints,
            report=run.watched,
        )
        run.version = engine.version
    engine.save(options.out)
    shutil.rmtree(checkpoints, ignore_errors=True)  # and what fits with other settings left, when interrupted
    summary(engine)
    if run.where is not None:
        say(run.where)
    say(f"saved {options.out} in {engine.manifest['seconds']} s; next: tailwise serve {options.out}")
    return 0


@dataclass
class Run:
    """A fit whose figures are kept."""

    watched: Watched
    version: str | None = None
    """Of the model, when it is there."""
    where: str | None = None
    """How to look at the figures, once it has ended; None when there are none."""


@contextmanager
def tracked(kind: str, data: str, progress: Progress) -> Iterator[Run]:
    """
    Keep the figures of every epoch in ``runs`` of the cache folder, as ``<data>-<version>`` at the end.

    Raises:
        UnavailableError: The package of ``kind`` is not installed.
    """
    from datetime import UTC, datetime

    from tailwise.config import Settings
    from tailwise.learn.track import Watched, tracker_of

    begun = f"{data}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    run = Run(Watched(progress, tracker_of(kind, Settings.from_environment().cache / "runs", begun, os.environ)))
    try:
        yield run
    finally:
        run.where = run.watched.close(None if run.version is None else f"{data}-{run.version}")


def rank_requests(options: argparse.Namespace) -> int:
    """Answer one request a line; nothing is written unless every line could be answered."""
    from tailwise.pipeline import Engine
    from tailwise.pipeline.explain import explain
    from tailwise.pipeline.explained import Effort
    from tailwise.rerank.phrases import reader_of
    from tailwise.serve.wire import decode_request, encode_answer

    engine = Engine.open(options.model, state=options.state)
    fresh = options.out.with_name(f".{options.out.name}.new")
    try:
        lines = options.requests.read_bytes().splitlines()
    except OSError as error:
        raise UnavailableError(f"{options.requests} cannot be read: {error.strerror}") from error
    try:
        with fresh.open("wb") as out, Progress() as report:
            for number, line in enumerate(lines, start=1):
                report("rank", number, len(lines))
                if line.strip():
                    try:
                        request = decode_request(line)
                        why = explain(engine, request, effort=Effort(tries=0)) if options.explain else None
                        answer = engine.answer(request) if why is None else why.answer
                    except RequestError as error:
                        raise RequestError(f"{options.requests} line {number}: {error}") from error
                    told = None if why is None else why.items
                    own = reader_of(request)
                    made = encode_answer(engine, answer, explain=options.explain, language=own, explanations=told)
                    out.write(made + b"\n")
        fresh.replace(options.out)
    except OSError as error:
        raise UnavailableError(f"{options.out} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
    return 0


def evaluate_model(options: argparse.Namespace) -> int:
    """Measure, print the table, write the report."""
    from tailwise.data.load import load
    from tailwise.pipeline import Engine

    engine, data = Engine.open(options.model), load(options.folder)
    split = chosen_split(options, engine, data)
    with Progress() as progress:
        engine = unspoilt(engine, split, progress)
        report = measured(engine, split, seed=options.seed, most=options.people, progress=progress)
    show(report, options.out, seed=options.seed)
    return 0


def compare_reports(options: argparse.Namespace) -> int:
    """Paired tests of every report against the first."""
    from tailwise.evaluate import compare

    if len(options.reports) < 2:
        raise UsageError("compare needs at least two reports; make one with: tailwise evaluate MODEL DIR --out REPORT")
    say(compare.comparison_table(compare.compare_reports(options.reports)))
    return 0


def chosen_split(options: argparse.Namespace, engine: Engine, data: Dataset) -> Split:
    """The split that was asked for; by default the one that the model was held out for."""
    from tailwise.data.split import next_moment, split_cold, split_last, split_time

    until = engine.manifest.get("until")
    kind = options.split or ("time" if until is not None else "last")
    if kind == "last":
        split = split_last(data)
    elif kind == "cold":
        split = split_cold(data, seed=options.seed)
    else:
        split = split_time(data, at=until if options.at is None else seconds(options.at))
    return next_moment(split) if options.targets == "next" else split


def unspoilt(engine: Engine, split: Split, progress: Progress) -> Engine:
    """The engine when it learned from exactly the training part; else its pipeline, fitted on that part anew."""
    from tailwise.config import PipelineConfig
    from tailwise.data.split import check_leak
    from tailwise.learn.fit import fit

    check_leak(split)
    if split.train.digest() == engine.manifest.get("data_sha256"):
        return engine
    say(f"the model did not learn from exactly the training part of the {split.name} split: fitting it anew")
    config = PipelineConfig.model_validate(engine.manifest["pipeline"])
    return fit(split.train, config, seed=int(engine.manifest.get("seed", 0)), report=progress)


def measured(engine: Engine, split: Split, *, seed: int, most: int | None, progress: Progress) -> Report:
    """The figures of an engine that has not seen the test part."""
    from tailwise.evaluate.run import evaluate

    report = evaluate(engine, split, seed=seed, most=most, report=progress)
    notes = engine.manifest.get("metrics", {}).get("fusion", {})
    if "decision" in notes:
        report = replace(report, notes=(*report.notes, f"Fusion of the sources: {notes['decision']}."))
    return report


def show(report: Report, out: Path | None, *, seed: int) -> None:
    """Print the table, and write the report where one is wanted."""
    from tailwise.evaluate.report import table, write_report

    say(table(report, seed=seed))
    for note in report.notes:
        say(note)
    if out is not None:
        for path in write_report(report, out, seed=seed):
            say(f"wrote {path}")


def summary(engine: Engine) -> None:
    """What a fit found and chose."""
    counts, choices = engine.manifest["counts"], engine.manifest["choices"]
    say(f"{counts['people']:,} people, {counts['items']:,} items, {counts['events']:,} events")
    if counts["events"]:
        again = "are not shown again" if choices["exclude_seen"] else "may be shown again"
        say(f"{choices['repeat_rate']:.1%} of events repeat an item: items that a person has had {again}")
        say(f"people act {choices['people_act']}")
    if choices["encoder"]:
        say(f"texts are read by {choices['encoder']}")
        for line in _unread(engine):
            say(line)
    if choices["silent"]:
        say(f"too few events to learn from; silent until a fit with more: {', '.join(choices['silent'])}")
    for line in _chosen(engine):
        say(f"  {line}")
    for stage, notes in engine.manifest["metrics"].items():
        for name, value in notes.items():
            say(f"  {stage}: {name} {value}")


def _chosen(engine: Engine) -> Iterator[str]:
    """Settings of sources that the pipeline had left open, and what the fit chose for the data."""
    from tailwise import registry
    from tailwise.config import PipelineConfig

    asked = PipelineConfig.model_validate(engine.manifest["pipeline"])
    for given, step in zip(asked.retrieve, engine.config.retrieve, strict=False):
        kind: Any = registry.component(step.name).Config
        usual = _flat(kind.model_validate(given.settings).model_dump(mode="json", exclude_none=True))
        own = _flat(step.settings)
        found = [
            f"{name} {value}" for name, value in own.items() if given.name == step.name and usual.get(name) != value
        ]
        if found:
            yield f"{step.name}: chose {', '.join(found)}"


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and those of their tables side by side, by the last part of their names."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        out |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return out


def _unread(engine: Engine) -> Iterator[str]:
    """That titles in other languages are not read, and what would read them."""
    from tailwise.encode.text import other_titles, usual_columns

    there = engine.catalogue.frame.columns
    read = engine.config.encode.columns or usual_columns(there)
    unread = [name for name in other_titles(there) if name not in read]
    if unread and not engine.config.encode.columns:
        columns = ", ".join(f'"{name}"' for name in (*read[:1], *unread, *read[1:]))
        remedy = f'[encode] model = "multilingual", columns = [{columns}]'
        yield f"{', '.join(unread)}: not read; for queries in that language too: {remedy}"


def seconds(text: str) -> float:
    """
    A moment as people type it, in seconds since epoch.

    Raises:
        ConfigError: It is neither a number nor ISO 8601.

    >>> seconds("1970-01-02")
    86400.0
    """
    import math
    from datetime import UTC, datetime

    wrong = f"time is {text!r}, but it must be seconds since epoch or ISO 8601, as 2026-01-31"
    try:
        number = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise UsageError(wrong) from error
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(number):
        raise UsageError(wrong)
    return number
