"""
What is served: one model for all, and sometimes another one on trial for a few. Swapped in one step.

    request ─▶ Models.pick ─┬─▶ main     Served: engine, directory, what was shown
                            └─▶ canary   the same, for a share of the people

Whoever answers a request takes one ``Served`` and keeps to it; the old one lives until its last request has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tailwise import artifacts
from tailwise.errors import ArtifactError
from tailwise.pipeline import Engine
from tailwise.serve.canary import Canary
from tailwise.serve.directory import Directory
from tailwise.serve.shown import Shown
from tailwise.serve.warming import unsound, warm_up
from tailwise.types import Request


@dataclass(frozen=True)
class Served:
    """A model with what is made from it. Immutable: a change of the model puts another one in its place."""

    engine: Engine
    directory: Directory
    shown: Shown
    identity: str
    """Of its manifest, as ``artifacts.identity`` tells of a folder."""

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """What serves an engine."""
        identity = artifacts.identity_of(engine.manifest)
        return cls(engine, Directory(engine), Shown(engine.catalogue), identity)

    @property
    def version(self) -> str:
        """Of the model."""
        return self.engine.version


class Models:
    """The models of one application: the main one, and the canary while there is one."""

    def __init__(self, main: Served) -> None:
        self.main = main
        self.canary: Canary[Served] | None = None

    def pick(self, request: Request) -> Served:
        """
        Who answers a request.

        Cost: nothing without a canary, some 2 µs with one.
        """
        canary = self.canary
        return self.main if canary is None or not canary.has(request) else canary.served

    def took(self, served: Served, ms: float, *, faulty: bool) -> None:
        """Take note of an answer, for the comparison with the canary while there is one."""
        canary = self.canary
        if canary is not None:
            canary.took(ms, faulty=faulty, on_trial=served is canary.served)

    def end_canary(self) -> tuple[Engine, ...]:
        """From now on the main model answers everybody; the canary's engine, where there was one."""
        canary, self.canary = self.canary, None
        return () if canary is None else (canary.served.engine,)

    def forget(self, user_id: str) -> int:
        """Remove a person from the caches of every model's steps but the main one's; the entries that went."""
        canary = self.canary
        return 0 if canary is None else sum(forgotten(canary.served.engine, user_id).values())


def forgotten(engine: Engine, user_id: str) -> dict[str, int]:
    """
    Entries that each step with a cache of people dropped of a person.

    A step that remembers people has a method ``forget(user_id)``, which says how many entries went.
    """
    steps = (*engine.sources, *engine.stages)
    forgetting = {bound.key: getattr(bound.run, "forget", None) for bound in steps}
    return {key: int(forget(user_id)) for key, forget in forgetting.items() if forget is not None}


def open_beside(folder: Path, engine: Engine) -> Served:
    """
    The model of a folder, checked and warmed up, on the store of an engine that is being served.

    Raises:
        ArtifactError: It is missing or damaged, changes while it is read, or does not answer its own people.
        ConfigError: It names something that is not installed.

    Cost: reads every file, and holds a second model; call it beside the event loop.
    """
    found = Engine.open(folder)
    found.store, found.recall = engine.store, engine.recall  # what is erased in one is erased in both
    warm_up(found)
    why = unsound(found)
    if why is not None:
        raise ArtifactError(f"{folder.name} was opened, but {why}; the model that is served goes on")
    served = Served.of(found)
    if artifacts.identity(folder) != served.identity:
        raise ArtifactError(f"{folder.name} changed while it was read; ask again when it is whole")
    return served
