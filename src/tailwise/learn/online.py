"""
Learn from what people just did, and keep what was learned only when the newest of it says so.

    new events ─▶ what does the model earn on them?      less than the one before it: that one comes back
               ─▶ did anything change?                   then shorter memories are tried too
               ─▶ fit again on all but the newest        what the newest earn chooses, or refuses
               ─▶ fit again on everything                a new generation
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from tailwise.data.interactions import Interactions
from tailwise.learn.arrivals import FRESH, arrived, events_of, plain_events, together
from tailwise.learn.counts import Counts
from tailwise.learn.drift import Drift, Reference, drift_of
from tailwise.learn.fit import MOST_EVENTS
from tailwise.learn.newcomers import grown_catalogue, grown_scorer, may_grow, new_items, reopened
from tailwise.learn.prequential import fresh_cases, judged, part, standard_error
from tailwise.learn.relearn import Lesson, Tried, relearned, tried
from tailwise.learn.replay import Replay
from tailwise.learn.rewards import taught
from tailwise.pipeline import Engine
from tailwise.rank.sequence import SequenceScorer

JUDGED = 400
"""Newest cases of a round that judge, at most: half of them the model, all of them the one before it."""
LEAST_CASES = 20
"""Below it a round cannot be judged, and waits for more."""
SHARES = (0.5, 0.25, 0.125, 0.0625)
"""Of all events, how many newest make a shorter memory, where something changed."""
FINER = (0.75, 0.5)
"""The same, of the events of a memory that is shorter already."""
LEAST_MEMORY = 200
"""Events of a memory."""

Decision = Literal["waiting", "learned", "refused", "rolled back"]


@dataclass(frozen=True)
class Round:
    """What came of one round."""

    decision: Decision
    engine: Engine
    """That should serve now."""
    told: Mapping[str, Any]
    """As JSON: what a line of ``tailwise learn`` says."""


@dataclass
class Learner:
    """
    A model that learns on.

    Args:
        engine: As it serves.
        folder: Its model folder, from which stages are opened again when items come in.
        before: The generation before it, to go back to.
    """

    engine: Engine
    folder: Path
    before: Engine | None = None
    replay: Replay | None = None
    seed: int = 0
    threads: int = 1
    items: pl.DataFrame | None = None
    """What is known of items that come in."""
    _counts: Counts = field(default_factory=Counts)
    _fresh: pl.DataFrame | None = None  # events not learned yet
    _last: pl.DataFrame | None = None  # those that made this generation, which come back when it goes

    @property
    def known(self) -> Mapping[str, Any]:
        """What the manifest says of learning on; empty for a model as it was fitted."""
        return dict(self.engine.manifest.get("online", {}))

    @property
    def waiting(self) -> int:
        """Events that wait to be learned."""
        return 0 if self._fresh is None else self._fresh.height

    def take(self, events: pl.DataFrame, items: pl.DataFrame | None = None) -> int:
        """
        Take note of events, in the data room's form, and of an items file where there is one.

        Returns:
            How many events wait to be learned: what the model learned from already is left out.
        """
        self.items = self.items if items is None else items
        plain = plain_events(events)
        both = plain if self._fresh is None else pl.concat([self._fresh, plain])
        have = events_of(self.engine.people, self.engine.catalogue)
        self._fresh = arrived(both, have, MOST_EVENTS)
        return self._fresh.height

    def forget(self, erased: Callable[[str], bool]) -> int:
        """Drop the events of people that must not be known any more; how many people these were."""
        people = self.engine.people
        gone = np.array([erased(user_id) for user_id in people.user_ids], bool)
        if gone.any():
            self.engine = replace(self.engine, people=people.pick(~gone[people.users]))
        return int(gone.sum())

    def round(self) -> Round:
        """
        Judge, learn, decide.

        Returns:
            What was decided. After ``learned`` and ``rolled back`` this learner goes on with the round's engine; the
            events of a generation that was rolled back wait to be learned again.

        Cost: some three answers for each of at most ``JUDGED`` cases; one fit of the counted sources on all but the
        newest events and one on all; that again for each shorter memory where something changed.
        """
        have = events_of(self.engine.people, self.engine.catalogue)
        fresh = plain_events(have.clear()) if self._fresh is None else self._fresh
        engine, waiting = self._grown(fresh)
        whole = together(have, fresh, engine.catalogue)
        cases = fresh_cases(whole, JUDGED, exclude_seen=engine.config.exclude_seen is not False)
        told: dict[str, Any] = {"events": fresh.height, "cases": len(cases), "items_waiting": waiting}
        told["new_items"] = len(engine.catalogue) - len(self.engine.catalogue)
        if len(cases) < LEAST_CASES:
            return self._done("waiting", self.engine, told)
        now = judged(self.engine, cases, engine.catalogue)
        reference = Reference.of(self.known.get("reference", {}))
        drift = drift_of(whole, len(self.engine.catalogue), now, reference)
        told |= {"accuracy": round(now.mean, 4), "error": round(now.error, 4), "drift": drift.told()}
        if self.before is not None:
            gain = now.gains - judged(self.before, cases, engine.catalogue).gains
            told["gain_of_this_generation"] = round(float(gain.mean()), 4)
            if gain.mean() < -standard_error(gain):
                return self._back(told)
        bare = replace(whole, context=pl.DataFrame())
        newest = cases.times >= np.median(cases.times)
        lesson = Lesson(
            engine,
            bare,
            replace(part(cases, newest), whole=bare),
            self._replayed(),
            self._counts,
            self.seed,
            self.threads,
            self.known.get("since"),
            len(self.engine.catalogue),
        )
        chosen = self._chosen(lesson, drift, told)
        gain = chosen.gains - now.gains[newest]
        told |= {"gain": round(float(gain.mean()), 4), "gain_error": round(standard_error(gain), 4)}
        if gain.mean() < -standard_error(gain):
            return self._done("refused", self.engine, told)
        return self._learned(lesson, chosen, fresh, reference.with_new(now), told, whole)

    def _grown(self, fresh: pl.DataFrame) -> tuple[Engine, int]:
        """The engine with rows for new items, and how many items have to wait for a fit instead."""
        new = new_items(self.engine, fresh["item_id"].to_list(), self.items)
        if not new.height or not may_grow(self.engine.sources):
            return self.engine, new.height
        catalogue = grown_catalogue(self.engine, new)
        sources = tuple(
            replace(b, run=grown_scorer(b.run, catalogue)) if isinstance(b.run, SequenceScorer) else b
            for b in self.engine.sources
        )
        stages = reopened(self.engine.stages, catalogue, self.folder)
        return replace(self.engine, catalogue=catalogue, sources=sources, stages=stages), 0

    def _replayed(self) -> Replay:
        names = tuple(bound.step.name for bound in self.engine.sources)
        if self.replay is None or self.replay.names != names:
            self.replay = Replay(names)
        return self.replay

    def _chosen(self, lesson: Lesson, drift: Drift, told: dict[str, Any]) -> Tried:
        """
        The memory that the newest cases find best; everything, as long as nothing changed.

        After a change all are tried in every round: where it was is seen better the longer it is ago, and in the end
        older events may count again.
        """
        starts = self._starts(lesson) if drift.suspected or lesson.began is not None else [None]
        found = [tried(lesson, start) for start in starts]
        told["memories_tried"] = len(found)
        return max(found, key=lambda each: float(each.gains.mean()))

    def _starts(self, lesson: Lesson) -> list[float | None]:
        """Where a memory may begin: with the first event, where it does, and so that it holds a share of these."""
        starts: dict[float | None, None] = dict.fromkeys([None, lesson.began])
        for begin, shares in ((None, SHARES), (lesson.began, FINER)):
            times = np.sort(lesson.log(begin, held_out=True).times)
            counts = [int(share * len(times)) for share in shares]
            starts |= dict.fromkeys(float(times[-count]) for count in counts if count >= LEAST_MEMORY)
        return list(starts)

    def _learned(
        self,
        lesson: Lesson,
        chosen: Tried,
        fresh: pl.DataFrame,
        reference: Reference,
        told: dict[str, Any],
        whole: Interactions,
    ) -> Round:
        engine = relearned(lesson, chosen)
        kept = lesson.whole.newest(MOST_EVENTS)
        new = whole.context[FRESH].to_numpy() & whole.likes
        added = np.bincount(whole.rows[new], minlength=whole.n_items).astype(np.float32)
        old = lesson.engine.catalogue
        catalogue = old.recounted(old.popularity + added, lesson.whole.recent(lesson.whole.pace))
        shorter = chosen.start != lesson.began
        state = {
            "generation": int(self.known.get("generation", 0)) + 1,
            "parent": self.engine.version,
            "root": self.known.get("root", self.engine.version),
            "events_learned": int(self.known.get("events_learned", 0)) + fresh.height,
            "since": chosen.start,
            "reference": (Reference(spread=reference.spread) if shorter else reference).told(),
        }
        digest = hashlib.sha256(f"{self.engine.version} {fresh.hash_rows(seed=1).to_list()}".encode()).hexdigest()
        counts = {"people": len(kept.user_ids), "items": len(catalogue)}
        counts["events"] = int(self.engine.manifest.get("counts", {}).get("events", 0)) + fresh.height
        told = {**told, **state}
        manifest = {
            **self.engine.manifest,
            "version": digest[:12],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "counts": counts,
            "online": {**state, "decision": "learned", "round": {**told, "head": lesson.notes.get("fusion")}},
        }
        made = replace(engine, catalogue=catalogue, people=kept, manifest=manifest)
        replay = self._replayed().since(chosen.start)
        self.replay = replay.with_new(chosen.examples, [float(time) for time in lesson.held.times])
        made, told["rewards"] = taught(made, fresh, whole)
        self.before, self.engine = self.engine, made
        self._last, self._fresh = fresh, None
        return self._done("learned", made, told)

    def _back(self, told: dict[str, Any]) -> Round:
        assert self.before is not None, "there is one to go back to"
        worse, self.engine, self.before = self.engine.version, self.before, None
        self.replay = None
        parts = [part for part in (self._last, self._fresh) if part is not None]
        self._last, self._fresh = None, pl.concat(parts) if parts else None
        return self._done("rolled back", self.engine, {**told, "rejected": worse})

    def _done(self, decision: Decision, engine: Engine, told: Mapping[str, Any]) -> Round:
        return Round(decision, engine, {"decision": decision, "version": engine.version, **told})
