"""``learn``: a model that learns on from the event log, a new generation at a time."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwise.cli.options import seed_option, whole
from tailwise.cli.progress import say
from tailwise.errors import UsageError

if TYPE_CHECKING:
    from tailwise.learn.arrivals import Log
    from tailwise.learn.online import Learner


def learn_verb(verbs: Any, verb: Callable[[Any, str, str, str], argparse.ArgumentParser]) -> None:
    """Describe the verb."""
    learn = verb(verbs, "learn", "learn on from the event log", "tailwise learn models/shop --follow data/shop-log")
    learn.add_argument("model", metavar="MODEL", type=Path, help="model folder")
    learn.add_argument(
        "--follow", metavar="LOG_DIR", type=Path, required=True, help="of tailwise serve --log, or a data folder"
    )
    learn.add_argument("--every", metavar="S", type=float, default=60.0, help="seconds between looks (default: 60)")
    learn.add_argument("--least", metavar="N", type=whole(1), default=200, help="new events of a round (default: 200)")
    learn.add_argument("--once", action="store_true", help="look once, and end")
    learn.add_argument("--out", metavar="MODEL", type=Path, help="where generations go (default: in MODEL's place)")
    learn.add_argument(
        "--state",
        metavar="URL",
        help="of the service: who was erased there is forgotten here too (default: beside MODEL)",
    )
    seed_option(learn)


def learn_on(options: argparse.Namespace) -> int:
    """Look, learn, write, say what was decided; until told to stop, or once."""
    from tailwise.cli.feed import told_to_stop
    from tailwise.learn.arrivals import Log

    if options.every <= 0:
        raise UsageError(f"--every is {options.every:g}, but it must be above 0 seconds")
    _state_of(options)  # before the first round, not after it
    model, log = options.out or options.model, Log(options.follow)
    learner = _begun(options, model)
    if options.once:
        _look(options, learner, log, model)
        return 0
    with told_to_stop() as end:
        while not end.is_set():
            learner = _look(options, learner, log, model)
            end.wait(options.every)
    return 0


def _begun(options: argparse.Namespace, model: Path) -> Learner:
    """Where an earlier run left off: at ``--out``, when that comes from MODEL as it is now, else at MODEL."""
    from tailwise.config import Settings
    from tailwise.learn.generations import ONLINE, begin_at, open_before
    from tailwise.learn.online import Learner
    from tailwise.learn.replay import Replay
    from tailwise.pipeline import Engine

    begin = begin_at(options.model, model)
    engine = Engine.open(begin)
    names = tuple(bound.step.name for bound in engine.sources)
    return Learner(
        engine,
        begin,
        before=open_before(begin),
        replay=Replay.open(begin / ONLINE, engine.catalogue, names),
        seed=options.seed,
        threads=Settings.from_environment().threads,
    )


def _look(options: argparse.Namespace, learner: Learner, log: Log, model: Path) -> Learner:
    """One look at the log, and a round when enough has come in; the learner to go on with."""
    import msgspec

    from tailwise.learn.generations import put_back, version_of, write_generation

    if version_of(learner.folder) != learner.engine.version:  # somebody fitted, or went back, meanwhile
        learner = _begun(options, model)
        log.again()
    data = log.read()
    waiting = learner.waiting if data is None else learner.take(data.events, data.items)
    if waiting < options.least:
        if data is None and not options.once:
            return learner  # nothing came: nothing to say
        say(msgspec.json.encode({"decision": "waiting", "version": learner.engine.version, "events": waiting}).decode())
        return learner
    _forget(options, learner)
    found = learner.round()
    if found.decision == "learned":
        write_generation(found.engine, learner.replay, model)
        learner.folder = model
    elif found.decision == "rolled back":
        put_back(model, found.told)
    say(msgspec.json.encode(found.told).decode())
    return learner


def _forget(options: argparse.Namespace, learner: Learner) -> None:
    """Whoever was erased from the service's state is not learned from again."""
    from contextlib import closing

    from tailwise.state.opening import open_store

    state = _state_of(options)
    if state is not None:
        with closing(open_store(state)) as store:
            learner.forget(store.erased)


def _state_of(options: argparse.Namespace) -> str | None:
    """
    The service's state: as given, else the file beside the model; None where there is none.

    Raises:
        UsageError: The file that is given is not there: a new one would know of nobody who was erased.
    """
    from tailwise.serve.places import state_beside

    state: str = options.state or state_beside(options.model)
    path = Path(state.partition("?")[0].removeprefix("sqlite:///"))
    if not state.startswith("sqlite:///") or path.is_file():
        return state
    if options.state is not None:
        raise UsageError(f"state is {state!r}, but no file is there; give the one that tailwise serve has")
    return None
