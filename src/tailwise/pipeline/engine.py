"""
The engine: look the person up, retrieve, hydrate facts, run the stages, answer.

    answer(request)
      ├─ resolve    history (given, or stored at the fit and since), what must not be shown
      ├─ retrieve   every source's best, merged by reciprocal rank; or the caller's candidates
      ├─ hydrate    columns that the stages need, and every source's score for every candidate
      └─ stages     in the order of the TOML; one that fails or is late is skipped: the previous order stands
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from tailwise.config import PipelineConfig
from tailwise.data.catalogue import Catalogue
from tailwise.data.features import NO_CONTEXTS, Contexts
from tailwise.data.interactions import Interactions
from tailwise.data.scores import falling
from tailwise.errors import RequestError
from tailwise.pipeline.asking import Answer, Watch, check_request, event_of, request_of
from tailwise.pipeline.binding import SIGNALS, Bound, check_needs, run_stage, timed
from tailwise.pipeline.brought import with_brought
from tailwise.pipeline.evidence import citing, fusion_of, with_carried
from tailwise.pipeline.explain import explain
from tailwise.pipeline.explained import Explained
from tailwise.pipeline.hydrate import check_signals, hydrate
from tailwise.pipeline.recall import NEWEST, Recall, in_line, past_of
from tailwise.pipeline.stored import read_model, write_model
from tailwise.retrieve.merge import reciprocal_rank_fusion
from tailwise.retrieve.unasked import unasked_order
from tailwise.state.memory import MemoryStore
from tailwise.state.opening import open_store
from tailwise.state.store import StateStore
from tailwise.types import QUERY, Column, Encoder, Event, History, Request, Slate, StageTrace, ids_of

log = logging.getLogger(__name__)

LEAST_SHOWN = 200
"""Candidates of a request of which nothing is known."""


@dataclass
class Engine:
    """A fitted pipeline, ready to rank. Make one with ``tailwise.fit`` or ``Engine.open``."""

    config: PipelineConfig
    catalogue: Catalogue
    people: Interactions
    sources: tuple[Bound, ...]
    stages: tuple[Bound, ...]
    manifest: Mapping[str, Any]
    store: StateStore = field(default_factory=MemoryStore)
    encoder: Encoder | None = None
    """Texts to vectors in the items' space; None when the items have no text."""
    contexts: Contexts = NO_CONTEXTS
    """What is known of moments."""
    recall: Recall = field(default_factory=Recall, init=False, repr=False)  # of this store alone

    def __post_init__(self) -> None:
        self._score_sources = check_needs(self.catalogue.names, self.sources, self.stages)
        check_signals(self.stages, self.sources, self.catalogue, self.contexts)
        wanted = {name for bound in self.stages for name in bound.run.needs}
        self._facts = frozenset(wanted & (self.catalogue.names | {SIGNALS})) | {"row"}
        self._citing = citing(self.sources, self.stages)
        # Only stages with a deadline run beside the caller; the pool makes its threads when they are first needed.
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="stage")

    @property
    def version(self) -> str:
        """Of the model: hex digits that change with its data, pipeline and seed; ``unsaved`` without a manifest."""
        return str(self.manifest.get("version", "unsaved"))

    @property
    def heads(self) -> Mapping[str, str]:
        """What the stages tell of each candidate, by the name that a blend uses, and the column where it stands."""
        return {head: column for bound in self.stages for head, column in getattr(bound.run, "heads", {}).items()}

    @classmethod
    def open(cls, path: Path | str, *, state: str = "memory://") -> Self:
        """
        Open a model folder. Needs no torch.

        Args:
            path: What ``save`` or ``tailwise fit`` wrote.
            state: Where people's later events live: ``memory://``, ``sqlite:///PATH`` or ``redis://…``.

        Raises:
            ArtifactError: A file is missing or damaged; says which.
            ConfigError: The pipeline names something that is not installed, or a column that nothing supplies.
        """
        stored = read_model(Path(path))
        return cls(**stored, store=open_store(state))

    def save(self, path: Path | str) -> None:
        """
        Write a self-contained model folder; what was there is replaced in one step.

        Raises:
            UnavailableError: The disk refuses; the old model stands.
        """
        write_model(self, Path(path))

    def rank(self, **fields: Any) -> Slate:
        """
        The best ``k`` items for one person, best first.

        Args:
            fields: Those of ``Request``; ``request_id`` is made up when absent. Without ``candidates`` it retrieves.

        >>> import tailwise  # doctest: +SKIP
        >>> engine.rank(user_id="u1", candidates=["i1", "i2"], k=10).item_ids  # doctest: +SKIP
        """
        return self.answer(request_of(fields)).slate

    def observe(self, **fields: Any) -> None:
        """
        Take note of an event; it is durable on return and the next ``rank`` knows it.

        Args:
            fields: Those of ``Event``; ``time`` is now when absent.

        Raises:
            RequestError: A field is missing or unknown, or so is the event's kind.
        """
        self.store.append([event_of(fields)])

    def history(self, user_id: str, *, until: float | None = None) -> History:
        """All that is known of a person up to ``until``, oldest first: from the fit, and since."""
        return past_of(self.people, self.catalogue, user_id, self.store.person(user_id, NEWEST), until)

    def erase(self, user_id: str) -> int:
        """Forget what the store, and this process, keep of a person; the number of events that went."""
        return self.recall.erase(self.store, user_id)

    def explain(self, *, item_id: str | None = None, **fields: Any) -> Explained:
        """
        Why a list is as it is: what each source, step and event of the history adds to each item's place.

        Args:
            item_id: The item to explain, on the list or not; None explains the whole list.
            fields: Those of ``Request``.

        Cost: some 40 rankings; ``pipeline.explain`` says for what.
        """
        return explain(self, request_of(fields), item_id)

    def answer(self, request: Request, *, spare: frozenset[str] = frozenset(), watch: Watch | None = None) -> Answer:
        """
        Rank, with the trace of what happened.

        Args:
            request: Who asks, and for what.
            spare: Stages, by key, to do without, because many ask at once: the order that came in stands.
            watch: Told of the slate after ``hydrate`` and after each stage, by its key, with the resolved request.

        Raises:
            RequestError: The request names nobody and nothing, ``k`` or ``candidates`` are out of range, or ``blend``
                names a head that the model lacks, or ``context`` holds what cannot be read.
        """
        check_request(request, self.heads)
        self.contexts.check(request)
        trace: list[StageTrace] = []
        with timed(trace, "person") as count:
            request, seen_out, stale = self._resolve(request)
            count(0, len(request.past))
        if stale is not None:
            trace[0] = replace(trace[0], skipped=stale)
        with timed(trace, "retrieve") as count:
            first, failed = self._given(request) if request.candidates is not None else self._retrieve(request)
            first = first.add(first_rank=np.arange(1, len(first) + 1))
            count(0, len(first))
        trace += failed
        with timed(trace, "hydrate") as count:
            slate, failed = hydrate(
                request, first, self._score_sources, self.catalogue, self._without(spare), self.contexts
            )
            count(len(slate), len(slate))
        trace += failed
        if watch is not None:
            watch("hydrate", request, slate)
        for bound in self.stages:
            slate = with_brought(request, slate, bound, self.catalogue, stages=self.stages, spared=bound.key in spare)
            slate = with_carried(request, slate, bound, self._citing)
            slate = run_stage(bound, request, slate, trace=trace, pool=self._pool, spared=bound.key in spare)
            if watch is not None:
                watch(bound.key, request, slate)
        return Answer(
            request.request_id,
            slate.take(slice(request.k)),
            first,
            request.past,
            tuple(trace),
            self.version,
            seen_out,
        )

    def candidates(self, request: Request) -> Slate:
        """What stages would get, with every source's scores and all signals: what their fits learn from."""
        request, _, _ = self._resolve(request)
        first, _ = self._given(request) if request.candidates is not None else self._retrieve(request)
        return hydrate(request, first, self.sources, self.catalogue, self._facts | {SIGNALS}, self.contexts)[0]

    def staged(self, request: Request, slate: Slate) -> Slate:
        """Candidates after the stages; what fails is not caught."""
        slate = slate.look_up(self.catalogue.tables(self._facts - {SIGNALS}))
        for bound in self.stages:
            slate = bound.run(request, slate)
        return slate

    def similar(self, item_id: str, k: int = 10) -> Slate:
        """
        The nearest items by meaning, and by who liked both where there is no text.

        Raises:
            RequestError: The catalogue does not know the item.
        """
        row = self.catalogue.rows([item_id])
        if row[0] < 0:
            raise RequestError(f"item {item_id!r} is unknown to the model")
        past = self._place(History.of([Event("", item_id, 0.0)]))
        alone = Request("similar", k=k, history=past, excluded=row)
        order = {"text": 0, "item_knn": 1, "ease": 2}
        for bound in sorted(self.sources, key=lambda b: order.get(b.step.name, 9)):
            found: Slate = bound.run(alone, k)
            if len(found) and found.scores[0] > 0:
                return found
        merged, _ = self._retrieve(alone)
        return merged.take(slice(k))

    def _resolve(self, request: Request) -> tuple[Request, bool, str | None]:
        """The same request with its history, cut to its time, and without what must not be shown; why it is stale."""
        stale = None
        if request.history is not None:
            past = self._place(request.history)
            past = past if request.time is None else past.take(past.times <= request.time)
            past = in_line(past, self.people, self.manifest)
        elif request.user_id is not None:
            person, stale = self.recall.read(self.store, request.user_id)
            past = past_of(self.people, self.catalogue, request.user_id, person, request.time)
        else:
            past = request.past
        cache: dict[object, Column] = {}  # never the caller's: the same request may be asked again, knowing more
        if request.query and self.encoder is not None:
            cache[QUERY] = self.encoder.encode([request.query])[0]
        # Who searches may look for what they had.
        fusion = fusion_of(self.stages)
        searching = QUERY in cache or bool(request.query and fusion is not None and fusion.typed)
        default = self.config.exclude_seen is not False and request.candidates is None and not searching
        exclude = default if request.exclude_seen is None else request.exclude_seen
        excluded = request.excluded
        if exclude:
            excluded = np.unique(np.concatenate([excluded, past.rows[past.rows >= 0]]))
        candidates = request.candidates
        if candidates is not None:
            open_items = dict.fromkeys(candidates)  # each once, in the caller's order
            for item_id in past.item_ids if exclude else ():  # by id: the catalogue need not know what was seen
                open_items.pop(item_id, None)
            candidates = tuple(open_items)
        if len(past) > self.config.max_history:
            past = past.take(slice(-self.config.max_history, None))
        return replace(request, history=past, excluded=excluded, candidates=candidates, cache=cache), exclude, stale

    def _without(self, spare: frozenset[str]) -> frozenset[str]:
        """Facts to hydrate: signals cost more than all others, and nobody reads them when who would is spared."""
        read = any(SIGNALS in bound.run.needs for bound in self.stages if bound.key not in spare)
        return self._facts if read else self._facts - {SIGNALS}

    def _place(self, history: History) -> History:
        return history.place(self.catalogue.rows(history.item_ids))

    def _given(self, request: Request) -> tuple[Slate, list[StageTrace]]:
        """The caller's candidates, in the caller's order."""
        item_ids = ids_of(request.candidates or ())
        return Slate(item_ids, falling(len(item_ids)), {"row": self.catalogue.rows(item_ids)}), []

    def _retrieve(self, request: Request) -> tuple[Slate, list[StageTrace]]:
        """Every source's best, merged; a source that fails is left out, and the trace says so."""
        lists, failed = [], []
        for bound in self.sources:
            try:
                lists.append(bound.run(request, bound.step.k).columns["row"])
            except Exception as error:  # noqa: BLE001  one broken source must not take the answer down
                log.warning("source failed: %s: %s", bound.key, error)
                failed.append(StageTrace(bound.key, 0.0, 0, 0, f"failed: {type(error).__name__}"))
        rows, scores = reciprocal_rank_fusion(lists)
        if not len(rows):
            rows, order = unasked_order(self.catalogue, request.excluded, LEAST_SHOWN)
            scores = falling(len(rows))
            failed.append(StageTrace(order, 0.0, 0, len(rows), "nothing is known of what is wanted"))
        return Slate(self.catalogue.item_ids[rows], scores, {"row": rows}), failed
