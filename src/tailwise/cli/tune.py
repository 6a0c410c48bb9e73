"""``tune``: search settings in one process or several, and leave the best pipeline as a file."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tailwise.cli import THREAD_VARIABLES
from tailwise.cli.asked import Asked
from tailwise.cli.progress import Progress, say
from tailwise.errors import ConfigError, TailwiseError, UnavailableError, UsageError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from tailwise.learn.search import Found, Search, Tried

LOOK_SECONDS = 0.5
"""Between two looks at how far the other processes are."""
PATIENCE_SECONDS = 30.0
"""What a process that was told to stop may take to write down that it did."""


def tune_pipeline(options: argparse.Namespace) -> int:
    """Search, print the trials and what mattered; interrupted, the best so far is there."""
    from tailwise.learn.search import found

    for name in ("trials", "jobs"):
        if getattr(options, name) < 1:
            raise UsageError(f"{name} is {getattr(options, name)}, but it must be at least 1")
    if options.timeout is not None and not options.timeout > 0:
        raise UsageError(f"timeout is {options.timeout:g}, but it must be above 0 seconds")
    search = _search(options)
    before = found(search)
    left = max(0, options.trials - len(before.trials))
    if before.trials:
        say(f"{search.storage} has {len(before.trials)} trials of this search: {left} are left")
    interrupted = False
    try:
        with Progress() as progress, Asked(signal.SIGINT) as asked:
            _run(search, left, min(options.jobs, left), options.timeout, progress, asked)
    except KeyboardInterrupt:
        interrupted = True
    result = found(search)
    say(table(result))
    if result.best is None:
        why = next((trial.why for trial in reversed(result.trials) if trial.why), "none was begun")
        raise ConfigError(f"no trial came to its end: {why}")
    say(f"best: trial {result.best.number}, validation NDCG@10 {result.best.value:.4f}")
    say(f"wrote {search.out}; next: tailwise fit {options.folder} --out MODEL --config {search.out}")
    if interrupted:
        say("interrupted: the same command goes on from here")
    return int(interrupted)


def table(result: Found) -> str:
    """Every trial, best first, and the settings that moved the value most."""
    from tailwise.evaluate.compare import aligned

    names = list(dict.fromkeys(name for trial in result.trials for name in trial.settings))
    order = sorted(result.trials, key=lambda t: (t.value is None, -(t.value or 0.0), t.number))
    rows = [["trial", "NDCG@10", "seconds", *names]]
    for trial in order:
        shown = trial.state if trial.value is None else f"{trial.value:.4f}"
        rows.append([str(trial.number), shown, f"{trial.seconds:.1f}", *(_cell(trial, name) for name in names)])
    lines = [aligned(rows, left=())]
    lines += [f"trial {t.number} failed: {t.why}" for t in order if t.state == "failed" and t.why]
    if result.mattered:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in result.mattered.items())
        lines.append(f"what moved the value: {shares}")
    return "\n".join(lines)


def _cell(trial: Tried, name: str) -> str:
    value = trial.settings.get(name, "")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _search(options: argparse.Namespace) -> Search:
    from tailwise.config import PipelineConfig, Settings
    from tailwise.data.load import load
    from tailwise.learn.search import Search
    from tailwise.learn.space import space_of

    config = PipelineConfig() if options.config is None else PipelineConfig.read(options.config)
    stem = "pipeline" if options.config is None else options.config.stem
    out = Path(f"{stem}-tuned.toml") if options.out is None else options.out
    settings = Settings.from_environment()
    settings = settings.model_copy(update={"threads": max(1, settings.threads // options.jobs)})
    space = space_of(config)
    return Search(load(options.folder), config, space, out.with_suffix(".sqlite"), out, options.seed, settings)


def _run(search: Search, trials: int, jobs: int, seconds: float | None, progress: Progress, asked: Asked) -> None:
    from tailwise.learn.tune import run

    if jobs <= 1:
        run(search, trials, seconds=seconds, report=progress, asked=asked)
        return
    import multiprocessing

    study = search.study()  # made before several processes would make it at once
    for variable in THREAD_VARIABLES:  # the processes inherit it
        os.environ[variable] = str(search.settings.threads)
    context = multiprocessing.get_context("spawn")
    shares = [trials // jobs + (place < trials % jobs) for place in range(jobs)]
    workers = [context.Process(target=work, args=(search, share, seconds, at)) for at, share in enumerate(shares)]
    ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    try:
        heard = signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-c is for this process, which tells the others
        for worker in workers:
            worker.start()
        signal.signal(signal.SIGINT, heard)
        while alive := [worker for worker in workers if worker.is_alive()]:
            if asked():
                raise KeyboardInterrupt
            alive[0].join(LOOK_SECONDS)
            now = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
            progress("tune", min(now - ended, trials - 1), trials)
        progress("tune", trials, trials)
    finally:
        _stop([worker for worker in workers if worker.is_alive()])
    if any(worker.exitcode for worker in workers):
        raise UnavailableError("a process of the search failed; its message is above")


def _stop(workers: Sequence[SpawnProcess]) -> None:
    """Let every process that still runs write down that its trial ended."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(PATIENCE_SECONDS)
        if worker.is_alive():
            worker.kill()


def work(search: Search, trials: int, seconds: float | None, worker: int) -> None:
    """What each of several processes does, until it is done or told to stop."""
    from tailwise.learn.tune import run

    try:
        with Asked(signal.SIGTERM) as asked:
            run(search, trials, seconds=seconds, worker=worker, asked=asked)
    except TailwiseError as error:
        print(f"tailwise: {error}", file=sys.stderr)  # noqa: T201  this is where the command speaks
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(0)
