"""
A generative language model in the ranking, where it helps and while it answers; else the order that came in stands.

    gate: worth asking? ─▶ brief: what it may be told ─▶ counsel: cache, breaker, budget, deadline ─▶ blend
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tailwise.config import Closed
from tailwise.errors import Abstain, ArtifactError
from tailwise.nets.questions import BackendConfig
from tailwise.rank.backends import open_backend
from tailwise.rank.breaker import Breaker, BreakerConfig
from tailwise.rank.budget import Budget, BudgetConfig
from tailwise.rank.counsel import Counsel
from tailwise.rank.gate import Gate, advised
from tailwise.rank.modes import IN_LISTS, Ask, Opinion, asked_in_lists, asked_one_by_one
from tailwise.rank.opinions import CacheConfig, Opinions
from tailwise.rank.prompts import KINDS, LABELS, Brief, Wording, check_template, language_of, texts_of
from tailwise.rank.redact import redacted
from tailwise.types import AGAINST, QUERY, Facts, Ids, Request, Rows, Slate, ids_of

DESCRIBING = ("title", "genres", "tags", "categories")
"""Columns that say what an item is, where a pipeline names none."""
INSTEAD = ("description", "text")
"""What does where there is no title."""
MOST_READ = 4_000
"""Characters of a text that are looked at."""
REMEMBERED = 20_000
"""Texts whose redaction is."""


class ListwiseConfig(Closed):
    """Settings of the language model in the ranking."""

    backend: BackendConfig = BackendConfig()
    """Which model, and where it runs."""
    mode: Literal["windows", "first_token", "likelihood", "rerank"] = "first_token"
    """``windows``: it writes the order of a few items at a time; ``first_token``: it chooses a letter, of which every
    item's chance is read; ``likelihood``: how likely each title is after the history; ``rerank``: a server scores texts
    for a query."""
    gate: Literal["learned", "always", "few_events"] = "learned"
    """Who is asked about: those whom it helped in the fit; everybody; or people with at most ``few`` liked events."""
    few: Annotated[int, Field(ge=0)] = 20
    """Of the gate ``few_events``."""
    weight: Annotated[float, Field(gt=0)] = 0.5
    """What its opinion counts beside the incoming score, both standardised, where no gate was learned."""
    query_weight: Annotated[float, Field(ge=0)] = 1.0
    """The same where the request has a query, whatever the gate learned; 0: a query is no reason to ask."""
    depth: Annotated[int, Field(ge=2, le=1000)] = 20
    """The best of the incoming order that it is asked about; the others stay behind them."""
    window: Annotated[int, Field(ge=2, le=100)] = 20
    """Items that it is shown at once; at most 20 for ``first_token``."""
    step: Annotated[int, Field(ge=1)] = 10
    """How far the window moves, from the bottom up; at most ``window``."""
    consistency: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the people for whom it is asked a second time with the items in another order; both are averaged, and
    its weight shrinks as far as it contradicts itself."""
    columns: tuple[str, ...] = ()
    """What it is told of an item; empty takes its title and labels."""
    history: Annotated[int, Field(ge=0, le=200)] = 10
    """Newest liked items that it is told of, as far as ``prompt_tokens`` allows."""
    title_chars: Annotated[int, Field(ge=16, le=10_000)] = 80
    """Longer texts of items are cut."""
    prompt_tokens: Annotated[int, Field(ge=50)] = 1_500
    """Of one question, about; what does not fit is left out, the oldest history first."""
    language: Literal["auto", "en", "zh"] = "auto"
    """Of the built-in templates; ``auto`` looks at the items' texts."""
    template: str = ""
    """Your own words, with ``$history``, ``$query``, ``$items``, ``$count`` and ``$form``; what stands before a line
    ``---`` is the system's part. A line whose placeholder is empty is left out."""
    in_flight: Annotated[int, Field(ge=1, le=64)] = 4
    """Opinions that are asked for at once; further requests keep their order."""
    cache: CacheConfig = CacheConfig()
    """What it said before."""
    budget: BudgetConfig = BudgetConfig()
    """What may be spent."""
    breaker: BreakerConfig = BreakerConfig()
    """When it is left alone."""
    cases: Annotated[int, Field(ge=1)] = 300
    """Held-out cases at most that the fit asks about to learn the gate."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.step > self.window:
            raise ValueError(f"step is {self.step}, but window is {self.window}: items between would never be shown")
        if self.mode == "first_token" and self.window > len(LABELS):
            raise ValueError(f"window is {self.window}, but first_token has {len(LABELS)} letters")
        return self


class Listwise:
    """
    Asks a language model about the best of a slate and blends its opinion in.

    Asleep without a gate: then it is the identity, and nothing is opened or asked.

    Args:
        config: Settings.
        facts: Texts of items.
        gate: Who is asked about; None sleeps.
        opinions: What was said before; None starts with nothing.

    Raises:
        ConfigError: The back end is unknown or cannot be asked in this mode, or the template lacks something.
        UnavailableError: The back end needs a package that is not installed.
    """

    Config = ListwiseConfig
    gives: frozenset[str] = frozenset()

    def __init__(
        self, config: ListwiseConfig, facts: Facts, gate: Gate | None, opinions: Opinions | None = None
    ) -> None:
        self.config = config
        self.gate = gate
        self._facts = facts
        self._columns = config.columns or tuple(name for name in DESCRIBING if name in facts.names)
        if not self._columns:
            self._columns = tuple(name for name in INSTEAD if name in facts.names)[:1]
        if config.template:
            check_template(config.template, config.mode)
        self._wording = Wording(config.mode, config.template, config.title_chars, config.prompt_tokens)
        self._tally: Counter[str] = Counter(asked=0, not_asked=0)
        self._lock = Lock()
        self._redacted = lru_cache(REMEMBERED)(redacted)  # the same items come again and again
        self._counsel = None if gate is None else self._ready(opinions)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self.gate is None else Gate.needs

    @property
    def counts(self) -> Mapping[str, float]:
        """What has happened so far, for ``/metrics``."""
        return {} if self._counsel is None else {**self._tally, **self._counsel.counts}

    @classmethod
    def open(cls, config: ListwiseConfig, facts: Facts, folder: Path) -> Self:
        """
        Read what ``save`` wrote; without it the stage is as the settings say, and asleep where they leave it to a fit.

        Raises:
            ArtifactError: The file is damaged.
        """
        path = folder / "listwise.json"
        if not path.is_file():
            return cls(config, facts, set_gate(config))
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["gate"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        return cls(config, facts, None if known is None else Gate.load(known))

    def save(self, folder: Path) -> None:
        """Write the gate; opinions of people are not kept in a model."""
        folder.mkdir(parents=True, exist_ok=True)
        known = {"gate": None if self.gate is None else self.gate.dump()}
        (folder / "listwise.json").write_text(json.dumps(known, indent=2), encoding="utf-8")

    def warm(self) -> None:
        """Have a model in this process read before anybody asks it; raises UnavailableError where it cannot be."""
        if self._counsel is not None:
            self._counsel.warm()

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """The slate with the model's opinion; it is waited for as long as the back end's ``timeout_s`` says."""
        return self.within(request, slate, self.config.backend.timeout_s * 1000)

    def within(self, request: Request, slate: Slate, wait_ms: float) -> Slate:
        """
        The same, with less patience.

        Raises:
            Abstain: The gate, the breaker, the budget or the queue says no, or there is nothing to tell.
            TimeoutError: The model is late; what it says then is kept for the next request.
            UnavailableError: The model does not answer.
        """
        if self._counsel is None or len(slate) < 2:
            return slate
        weight = self._weight(request, slate)
        try:
            opinion = self.opinion(request, slate, wait_ms)
        except TimeoutError:
            if not wait_ms:  # the same request comes again, and is counted then
                with self._lock:
                    self._tally["asked"] -= 1
            raise
        return advised(slate, opinion.values, weight * opinion.trust)

    def opinion(self, request: Request, slate: Slate, wait_ms: float) -> Opinion:
        """What the model thinks of the best of a slate, whatever the gate says; raises as ``within``."""
        assert self._counsel is not None, "an opinion is asked of one who is awake"
        brief = self.brief(request, slate.take(slice(self.config.depth)))
        if not brief.history and not brief.query:
            raise Abstain("nothing to go by: neither a history with texts nor a query")
        if sum(map(bool, brief.items)) < 2:
            raise Abstain("nothing to order: fewer than two candidates have a text")
        return self._counsel.opinion(brief, self._way, wait_ms / 1000)

    def brief(self, request: Request, slate: Slate) -> Brief:
        """What the model may be told of a request: texts of items, a query; nothing that says who asks."""
        past = request.past
        liked = past.item_ids[[event not in AGAINST for event in past.events]][::-1]
        newest = ids_of(list(dict.fromkeys(liked))[: self.config.history])
        history, items = self._texts(newest), self._texts(slate.item_ids)
        query = self._allowed(request.query or "")
        language = language_of(items) if self.config.language == "auto" else self.config.language
        profile = hashlib.sha256("\0".join([query, *newest]).encode(errors="surrogatepass")).hexdigest()
        return Brief(profile, tuple(filter(None, history)), query, slate.item_ids, tuple(items), language)

    def _weight(self, request: Request, slate: Slate) -> float:
        """
        What the opinion will weigh.

        Raises:
            Abstain: The gate says no.
        """
        assert self.gate is not None, "who sleeps has no weight"
        length, few = len(request.past.liked()), self.config.few
        many = self.config.gate == "few_events" and QUERY not in request.cache and length > few
        weight = 0.0 if many else self.gate.weight(request, slate)
        with self._lock:
            self._tally["asked" if weight else "not_asked"] += 1
        if many:
            raise Abstain(f"gate: {length} liked events, but only people with at most {few} are asked about")
        return weight or self.gate.asked(request, slate)  # which says why not

    def _texts(self, item_ids: Ids) -> list[str]:
        """(N,) what is told of items; empty where nothing is known."""
        if not len(item_ids) or not self._columns:
            return [""] * len(item_ids)
        return [self._allowed(text) for text in texts_of(self._facts, item_ids, self._columns)]

    def _allowed(self, text: str) -> str:
        """A text as it may leave: whole, since half an address would not be known for one."""
        remote = self._counsel is None or self._counsel.remote
        return self._redacted(text[:MOST_READ]).strip() if remote else text.strip()

    def _way(self, brief: Brief, places: Rows, ask: Ask) -> Opinion:
        """How the mode asks about some candidates."""
        config = self.config
        if config.mode not in IN_LISTS:
            return asked_one_by_one(brief, places, self._wording, ask)
        drawn = int(brief.profile[:8], 16)
        seed = drawn if drawn / 16**8 < config.consistency else None
        return asked_in_lists(brief, places, self._wording, ask, window=config.window, step=config.step, seed=seed)

    def _ready(self, opinions: Opinions | None) -> Counsel:
        config = self.config
        dialect = [config.mode, config.template, config.language, config.history, config.title_chars, self._columns]
        return Counsel(
            open_backend(config.backend, KINDS[config.mode]),
            opinions=Opinions(config.cache) if opinions is None else opinions,
            breaker=Breaker(config.breaker),
            budget=Budget(config.budget),
            in_flight=config.in_flight,
            timeout_s=config.backend.timeout_s,
            enough=config.cache.enough if config.mode in IN_LISTS else None,
            dialect=json.dumps(dialect),
        )


def set_gate(config: ListwiseConfig) -> Gate | None:
    """The gate that the settings alone make; None where it has to be learned."""
    if config.gate == "learned":
        return None
    always = Gate.always(config.weight, config.depth)
    return always.model_copy(update={"query": config.query_weight})
