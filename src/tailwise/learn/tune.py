"""
Search settings on held-out people: propose, fit, ask what the pipeline earned on people it did not learn from.

    Search ─▶ run (some trials, in this process) ─▶ study (SQLite) ─▶ Found (trials, best pipeline, what mattered)

The test part takes no part: a fit holds people out by itself, and its own notes are what is compared. Trials that are
behind the others at the same epoch end early. Whoever runs the same search on the same file goes on with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwise import registry
from tailwise.config import PipelineConfig
from tailwise.errors import ConfigError, TailwiseError, UnavailableError
from tailwise.learn.fit import fit
from tailwise.learn.search import Search
from tailwise.learn.space import AFTERWARDS, value_of, with_settings
from tailwise.learn.track import Report, Watched
from tailwise.pipeline.binding import keyed

if TYPE_CHECKING:
    import optuna

Listen = Callable[[str, int, Mapping[str, float]], None]
VALUE = "ndcg@10"
"""How the notes of a fit call what a pipeline, or a part of it, earned on held-out people."""


class _Late(Exception):  # noqa: N818  it ends a trial, and is no error
    """The time is up."""


def run(
    search: Search,
    trials: int,
    *,
    seconds: float | None = None,
    worker: int = 0,
    report: Report = lambda what, done, total: None,  # noqa: ARG005  silent by default
    asked: Callable[[], bool] = lambda: False,
) -> None:
    """
    Run some more trials in this process; the first of a search is the pipeline as it is.

    Args:
        search: What to search.
        trials: How many more, at most.
        seconds: After so many none begins, and one that trains ends; None: no limit.
        worker: Which of several processes this is, from 0; each proposes others.
        report: Progress in trials.
        asked: Whether somebody asked it to stop: heard wherever a fit tells its progress.

    Raises:
        TailwiseError: The pipeline cannot be fitted as it is.
        KeyboardInterrupt: It was asked to stop; the trial that ran counts as failed.
    """
    study, started = search.study(worker), time.monotonic()
    deadline = None if seconds is None else started + seconds
    first = worker == 0 and not any(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False))

    def heed(*_: object) -> None:
        if asked():
            raise KeyboardInterrupt

    for done in range(trials):
        heed()
        report("tune", done, trials)
        if deadline is not None and time.monotonic() > deadline:
            break
        (_as_it_is if first and done == 0 else _one_trial)(search, study, deadline, heed)
    report("tune", trials, trials)


def _as_it_is(search: Search, study: optuna.Study, deadline: float | None, heed: Report) -> None:
    """Fit with nothing proposed; what the fit itself chose is what later proposals are compared with."""
    from optuna.trial import FixedTrial, TrialState, create_trial

    heard: dict[int, float] = {}
    started = time.monotonic()
    try:
        config, value = _worth(search, {}, Watched(heed, listen=_listener(deadline, heard)))
    except BaseException as error:
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"why": str(error) or type(error).__name__}))
        if isinstance(error, _Late):
            return
        raise
    now = {name: value_of(config, name) for name in search.space}
    proposed = FixedTrial(now)
    for name, dial in search.space.items():
        if dial.has(now[name]):
            dial.turn(proposed, name)
    better = not any(trial.value is not None and trial.value >= value for trial in study.get_trials(deepcopy=False))
    study.add_trial(
        create_trial(
            value=value,
            params=proposed.params,
            distributions=proposed.distributions,
            user_attrs={"seconds": time.monotonic() - started},
            intermediate_values=heard,
        )
    )
    if better:
        save_best(search, {})


def _one_trial(search: Search, study: optuna.Study, deadline: float | None, heed: Report) -> None:
    """Propose, fit, tell. An interrupted trial counts as failed, and so do settings that do not go together."""
    import optuna

    trial = study.ask()
    values = {name: dial.turn(trial, name) for name, dial in search.space.items()}
    try:
        known = _known(study, values)
        watched = Watched(heed, listen=_listener(deadline, {}, trial))
        value = _worth(search, values, watched)[1] if known is None else known
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except BaseException as error:
        trial.set_user_attr("why", str(error) or type(error).__name__)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        if not isinstance(error, (_Late, TailwiseError)):
            raise
    else:
        study.tell(trial, value)
        if study.best_trial.number == trial.number:
            save_best(search, values)


def _listener(deadline: float | None, heard: dict[int, float], trial: optuna.Trial | None = None) -> Listen:
    """What hears every epoch of a trial, writes it down, and ends it when it is behind the others or late."""
    import optuna

    def listen(_: str, epoch: int, figures: Mapping[str, float]) -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise _Late("the time was up")
        # Of several nets only the first is compared with others of its kind.
        if "validation" in figures and epoch not in heard:
            heard[epoch] = figures["validation"]
            if trial is None:
                return
            trial.report(heard[epoch], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

    return listen


def _known(study: optuna.Study, values: Mapping[str, Any]) -> float | None:
    """What the same settings were worth before: a fit gives the same again."""
    for other in study.get_trials(deepcopy=False):
        if other.state.name == "COMPLETE" and other.params == values:
            return other.value
    return None


def _worth(search: Search, values: Mapping[str, Any], watched: Watched) -> tuple[PipelineConfig, float]:
    """The pipeline with these settings and what a fit chose beside them, and what held-out people say of it."""
    config = with_settings(search.config, {**values, **_without_finish(search.config)})
    engine = fit(search.data, config, seed=search.seed, settings=search.settings, report=watched)
    return engine.config, validation_value(engine.manifest["metrics"])


def _without_finish(config: PipelineConfig) -> dict[str, Any]:
    """What fits spend after the choice, left out: no held-out person sees it."""
    sources = {step.name: registry.component(step.name).Config.model_fields for step in config.retrieve}
    return {f"{name}.{AFTERWARDS}": 0.0 for name, fields in sources.items() if AFTERWARDS in fields}


def validation_value(notes: Mapping[str, Mapping[str, float | str]]) -> float:
    """
    What a fit's notes say that the pipeline earns on held-out people: of the last stage that was judged, its best.

    A stage is used only when it is better than what it was compared with, so the best figure is what serves.

    Raises:
        ConfigError: No stage was judged.

    >>> validation_value({"fusion": {"ndcg@10 ease": 0.1, "ndcg@10 fusion": 0.12, "decision": "used"}})
    0.12
    """
    for stage in reversed(list(notes.values())):
        values = [value for key, value in stage.items() if key.startswith(VALUE) and not isinstance(value, str)]
        if values:
            return max(values)
    raise ConfigError("the fit judged nothing on held-out people; the pipeline needs a stage that learns, as fusion")


def save_best(search: Search, values: Mapping[str, Any]) -> None:
    """
    Write the pipeline with these settings, ready for ``tailwise fit --config``; a crash leaves the file before.

    Raises:
        UnavailableError: The file cannot be written.
    """
    config = with_settings(search.config, values)
    files = {
        f"{key}.file": str(Path(step.settings["file"]).resolve())
        for key, step in keyed(config.stage)
        if "file" in step.settings  # beside the pipeline that it was read with, not beside this one
    }
    fresh = search.out.with_name(f".{search.out.name}.new")
    try:
        search.out.parent.mkdir(parents=True, exist_ok=True)
        with_settings(config, files).write(fresh)
        fresh.replace(search.out)
    except OSError as error:
        raise UnavailableError(f"{search.out} cannot be written: {error.strerror}") from error
