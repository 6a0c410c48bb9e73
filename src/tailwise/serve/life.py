"""
The life of a model in a running service: the next one comes, the last one comes back, one is tried on a few.

    every few seconds: what does the folder hold?
      ├─ the same             nothing
      ├─ another model ─▶ opened beside, checked, warmed up ─▶ sound? ─▶ swapped in one step
      └─ a damaged one ─▶ refused, counted; the old one goes on, and the folder is looked at again later

The folders are the truth: a rollback exchanges MODEL and MODEL.previous, a promotion copies the canary to MODEL, every
worker and the next start follow what stands there. While a model is opened, none is held beside the main one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from tailwise import artifacts
from tailwise.errors import RequestError, TailwiseError
from tailwise.pipeline import Answer
from tailwise.serve.canary import Canary
from tailwise.serve.heap import Leaving
from tailwise.serve.models import Models, Served, open_beside
from tailwise.serve.monitor import Monitor
from tailwise.serve.refusals import Refusals
from tailwise.serve.service import Service
from tailwise.serve.shadow import Shadow
from tailwise.serve.trial import Trial, read_trial, why_off, write_trial
from tailwise.types import Request

T = TypeVar("T")
log = logging.getLogger(__name__)

JUDGE_EVERY = 10
"""Answers of the canary between two verdicts."""


class Life:
    """
    Changes which models are served.

    Args:
        models: Those that are.
        service: Says where they lie.
        monitor: Counts what happens.
    """

    def __init__(self, models: Models, service: Service, monitor: Monitor) -> None:
        self._models, self._service, self._monitor = models, service, monitor
        self._refusals, self._lock = Refusals(service.watch_s), asyncio.Lock()
        self._ends: set[asyncio.Task[None]] = set()
        self._fallen: Trial | None = None  # a canary that was switched off here, until that is written
        self._leaving = Leaving()
        self.shadow = None if service.shadow is None else Shadow(service.shadow, monitor.registry)

    async def run(self) -> None:
        """Look for ever; once where nobody wants to look again."""
        while True:
            try:
                await self.look()
            except TailwiseError:  # it was logged and counted
                pass
            except Exception:  # as long as anything is served, the next look may do better
                log.exception("looking for another model failed")
            if not self._service.watch_s:
                return
            await asyncio.sleep(self._service.watch_s)

    async def stop(self) -> None:
        """End what runs beside."""
        if self.shadow is not None:
            await run_in_threadpool(self.shadow.stop)

    async def look(self, *, asked: bool = False) -> bool:
        """
        Follow what the folders hold; whether the main model changed.

        Args:
            asked: By a person: what was refused is tried again.

        Raises:
            TailwiseError: A model was refused; says why.
        """
        async with self._alone():
            before = self._models.main.identity
            try:
                if asked or self._service.watch_s:
                    await self._follow_main(asked=asked)
            finally:
                await self._fill(asked=asked)
            return self._models.main.identity != before

    async def roll_back(self) -> None:
        """
        Serve the model before this one; it takes the folder's place, so that this lasts until a newer one is written.

        Raises:
            TailwiseError: There is none, it is of no use, or the folders cannot be exchanged; nothing changed.
        """
        folder = artifacts.previous_of(self._service.model)
        async with self._alone():
            identity = await run_in_threadpool(artifacts.identity, folder)
            if identity is None:
                raise RequestError(f"there is no model before this one: {folder.name} is not there")
            try:
                again = identity == self._models.main.identity  # what stands in the folder now was refused
                found = self._models.main if again else await self._open(folder, identity)
                await run_in_threadpool(artifacts.roll_back, self._service.model)
                self._swap(found, "rolled_back")
                del found
            finally:
                await self._fill(asked=False)

    async def try_on(self, share: float) -> None:
        """
        Serve the canary to another share of the people; 0 ends the trial.

        Raises:
            TailwiseError: There is none, it is of no use, or the decision cannot be written down.
        """
        identity = await run_in_threadpool(artifacts.identity, self._canary_folder())
        if identity is None:
            raise RequestError("the canary's folder holds no model")
        await run_in_threadpool(write_trial, self._service.model, Trial(identity, share, "asked for"))
        self._fallen = None
        await self.look(asked=True)

    async def promote(self) -> None:
        """
        Serve everybody by the canary: it is copied to the model's folder; rolling back undoes it.

        Raises:
            TailwiseError: No canary is tried, its folder holds another model by now, or it cannot be copied.
        """
        folder = self._canary_folder()
        identity = await run_in_threadpool(artifacts.identity, folder)
        if identity is None or not self._tried(identity):
            raise RequestError("no canary is being tried that could be promoted; begin with its share")
        async with self._alone():
            await run_in_threadpool(artifacts.put, folder, self._service.model)
            trial = Trial(identity, 0.0, "it was promoted")  # so that going back does not begin it again
            await run_in_threadpool(write_trial, self._service.model, trial)
            await self._follow_main(asked=True)

    def answered(self, asked: Request, served: Served, answer: Answer) -> None:
        """Take note of an answer: the shadow gives its own, and the canary may have to go."""
        if self.shadow is not None and served is self._models.main:
            self.shadow.asked(asked, answer)
        canary = self._models.canary
        if canary is not None and canary.served is served and canary.own.answers % JUDGE_EVERY == 0:
            self._judge(canary)

    def failed(self, served: Served) -> None:
        """Take note of a request that the canary could not answer."""
        self._monitor.unanswered(served.version)
        canary = self._models.canary
        if canary is not None and canary.served is served:
            canary.failed()
            self._judge(canary)

    def forget(self, user_id: str) -> None:
        """Drop what models beside the main one remember of a person."""
        self._models.forget(user_id)
        if self.shadow is not None:
            self.shadow.forget(user_id)

    def told(self) -> dict[str, Any]:
        """What there is beside the main model, for its card."""
        canary, told = self._models.canary, {}
        if canary is not None:
            told["canary"] = canary.told()
        elif self._service.canary is not None:
            told["canary"] = {"share": 0.0, "why": why_off(self._service.model)}
        if self.shadow is not None:
            told["shadow"] = {"state": self.shadow.state}
        return told

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Nobody else changes models meanwhile; when one came or went, memory is put in order afterwards."""
        async with self._lock:
            try:
                yield
            finally:
                await self._leaving.look()

    def _canary_folder(self) -> Path:
        if self._service.canary is None:
            raise RequestError("this service has no canary; start it with: tailwise serve MODEL --canary OTHER")
        return self._service.canary

    async def _fill(self, *, asked: bool) -> None:
        """See that the canary and the shadow are there, which make room while a main model is opened."""
        try:
            await self._follow_canary(asked=asked)
        finally:
            if self.shadow is not None:
                await run_in_threadpool(self.shadow.start)

    async def _follow_main(self, *, asked: bool) -> None:
        folder = self._service.model
        identity = await self._identity(folder, asked=asked)
        if identity is None or identity == self._models.main.identity:
            return
        if self._tried(identity):
            assert self._models.canary is not None
            found, self._models.canary = self._models.canary.served, None
            self._swap(found, "promoted")
        elif asked or not self._refusals.waits(folder, identity):
            self._swap(await self._open(folder, identity), "swapped")

    async def _follow_canary(self, *, asked: bool) -> None:
        folder = self._service.canary
        if folder is None:
            return
        identity = await self._identity(folder, asked=asked)
        trial = await run_in_threadpool(read_trial, self._service.model)
        if trial is None or trial.identity != identity:
            trial = Trial(identity or "", self._service.canary_share, "as the service was started")
        own = self._fallen if trial.share else None  # where it says 0, what was decided here is written
        trial, self._fallen = (own if own is not None and own.identity == identity else trial), own
        share = 0.0 if identity in {None, self._models.main.identity} else trial.share
        canary = self._models.canary  # as it is now: answers may have ended it while files were read
        if canary is not None and canary.served.identity == identity and share > 0:
            canary.share = share
            return
        if canary is not None:
            self._leaving.changed(*self._models.end_canary())
        if canary is not None and share == 0:
            self._monitor.changed("canary_off")
            log.info("the canary was ended", extra={"version": canary.served.version, "why": trial.why})
        if share == 0 or (not asked and self._refusals.waits(folder, identity)):
            return
        del canary
        found = await self._open(folder, identity)
        after, worse = self._service.canary_after, self._service.canary_worse
        self._models.canary = Canary(found, found.version, share=share, after=after, worse=worse)
        self._monitor.changed("canary_began")
        log.info("a canary began", extra={"version": found.version, "share": share})

    def _tried(self, identity: str) -> bool:
        """Whether a model is the canary's."""
        canary = self._models.canary
        return canary is not None and canary.served.identity == identity

    async def _identity(self, folder: Path, *, asked: bool) -> str | None:
        """What a folder says that it holds; a manifest that cannot be read is refused like any damaged model."""
        if not asked and self._refusals.waits(folder, "unreadable"):
            return None
        return await self._refusing(folder, "unreadable", lambda: artifacts.identity(folder))

    async def _open(self, folder: Path, identity: str | None) -> Served:
        """A further model; whatever is held beside the main one makes room before."""
        self._leaving.changed(*self._models.end_canary())
        if self.shadow is not None:
            await run_in_threadpool(self.shadow.stop)
        engine = self._models.main.engine
        return await self._refusing(folder, identity, lambda: open_beside(folder, engine))

    async def _refusing(self, folder: Path, identity: str | None, work: Callable[[], T]) -> T:
        try:
            return await run_in_threadpool(work)
        except Exception as error:
            if self._refusals.add(folder, identity):
                self._monitor.changed("refused")
                log.warning("a model was refused, the old one goes on: %s", error)
            if isinstance(error, TailwiseError):
                raise
            raise RequestError(f"{folder.name} cannot be opened: {type(error).__name__}: {error}") from error

    def _swap(self, served: Served, what: str) -> None:
        before, self._models.main = self._models.main, served
        self._leaving.changed(before.engine)
        self._monitor.changed(what)
        log.info("the model was changed", extra={"what": what, "before": before.version, "version": served.version})

    def _judge(self, canary: Canary[Served]) -> None:
        """End the canary when it does worse, for all workers and the next start too."""
        why = canary.verdict()
        if why is None or self._models.canary is not canary:
            return
        self._leaving.changed(*self._models.end_canary())
        self._monitor.changed("canary_off")
        log.warning("the canary was switched off: %s", why, extra={"version": canary.served.version})
        self._fallen = trial = Trial(canary.served.identity, 0.0, why)  # it counts before it is written
        task = asyncio.ensure_future(run_in_threadpool(write_trial, self._service.model, trial))
        self._ends.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ends.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("other workers may go on with the canary: %s", error)
