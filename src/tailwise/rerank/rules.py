"""
Business rules as data: what is filtered, boosted, buried, capped and pinned.

    [[rule]]
    name = "no horror on the family's screen"      # shown in answers; by default the kind and a number
    kind = "filter"                                # filter, boost, bury, cap or pin
    where = [{ column = "genres", op = "contains", value = "Horror" }]         # items: all conditions must hold
    when = [{ column = "screen", op = "is", value = "family" }]                # the request's context: the same

Filters act first, then boosts and burials together, then caps together, then pins, which always win; a cap holds
whatever was boosted. ``fired`` names, for each item that is left, the rules that lifted, lowered, passed over or pinned
it. The column ``item_id`` is always there; others come from the facts.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, field_validator

from tailwise.config import Closed, settings_of
from tailwise.errors import ConfigError
from tailwise.rerank.conditions import Condition, Form, Mask, agrees, form_of, holds, misfit, missing
from tailwise.rerank.orders import boost_order, cap_order, pin_order
from tailwise.types import Column, Facts, Ids, Request, Rows, Slate


class _Rule(Closed):
    name: Annotated[str, Field(min_length=1)]
    """Shown in answers."""
    where: tuple[Condition, ...] = ()
    """Which items; all must hold."""
    when: tuple[Condition, ...] = ()
    """Which requests, by their context; all must hold."""


class _Choosing(_Rule):
    where: Annotated[tuple[Condition, ...], Field(min_length=1)]


class Filter(_Choosing):
    """Drop the items, or keep no others."""

    kind: Literal["filter"]
    action: Literal["drop", "keep"] = "drop"
    """What happens to items that the conditions hold for."""


class Boost(_Choosing):
    """
    Lift or lower the items by a part of the spread of scores, which works for negative scores too.

    The best score counts as that of the first position, and so on: what earlier steps put in order stays so otherwise.
    """

    kind: Literal["boost", "bury"]
    by: Annotated[FiniteFloat, Field(gt=0)] = 1.0
    """Standard deviations of the slate's scores."""


class Cap(_Rule):
    """
    At most so many items of each group; further ones move below.

    An item with several labels is in the group of the first of them in ``facts.labels``: the most frequent one.
    """

    kind: Literal["cap"]
    column: str
    """Whose values are the groups; an item without a value is in none."""
    most: Annotated[int, Field(ge=1)]
    """Items of one group."""
    within: Annotated[int, Field(ge=1)] | None = None
    """Positions for which the cap holds; None takes as many as the request asks for."""


class Pin(_Choosing):
    """Put the best of the items at a position."""

    kind: Literal["pin"]
    position: Annotated[int, Field(ge=1)]
    """From 1; the next that is free if another pin stands there, the last of a shorter slate."""
    most: Annotated[int, Field(ge=1)] = 1
    """Items that are pinned, one below the other."""


Rule = Filter | Boost | Cap | Pin
KINDS: dict[str, type[Rule]] = {"filter": Filter, "boost": Boost, "bury": Boost, "cap": Cap, "pin": Pin}


def rule_of(raw: Mapping[str, Any], number: int) -> Rule:
    """One rule from its TOML table; a ConfigError names it and what in it is unknown, missing or out of range."""
    kind = str(raw.get("kind"))
    name = str(raw.get("name", f"{kind} {number}"))
    if kind not in KINDS:
        raise ConfigError(f"rule {name!r}: kind is {kind!r}, but it must be one of {', '.join(KINDS)}")
    return settings_of(KINDS[kind], {**raw, "name": name}, where=f"rule {name!r}")


class RulesFile(Closed):
    """What a rules file holds."""

    rule: tuple[Rule, ...] = ()
    """Rules, in order."""

    @field_validator("rule", mode="before")
    @classmethod
    def _name_each(cls, raw: Any) -> Any:
        if not isinstance(raw, list | tuple):
            return raw
        return tuple(rule_of(each, n) if isinstance(each, Mapping) else each for n, each in enumerate(raw, 1))


def read_rules(path: Path) -> tuple[Rule, ...]:
    """
    The rules of a TOML file.

    Raises:
        ConfigError: The file is missing, is not TOML, or a rule in it is wrong.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # not there, not UTF-8, not TOML
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path} cannot be read: {why}") from error
    return settings_of(RulesFile, raw, where=str(path)).rule


class Rules:
    """Applies rules to slates; without rules it changes nothing."""

    gives = frozenset({"fired"})

    class Config(RulesFile):
        """Settings of the rules stage. Rules of the file come first."""

        file: str | None = None
        """Path of a TOML file with more rules."""

    def __init__(self, config: Config, labels: Mapping[str, tuple[str, ...]]) -> None:
        self.config = config
        self.rules = config.rule
        self.needs = frozenset(column for rule in config.rule for column in _columns_of(rule)) - {"item_id"}
        self._labels = labels

    @classmethod
    def open(cls, config: Config, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  nothing is stored
        """Read the rules, the file's too, and check them; they become settings, so that a saved model carries them."""
        labels: Mapping[str, tuple[str, ...]] = getattr(facts, "labels", {})
        rules = (*(read_rules(Path(config.file)) if config.file else ()), *config.rule)
        stage = cls(config.model_copy(update={"file": None, "rule": rules}), labels)
        sample = facts.columns(facts.item_ids[:1], stage.needs & facts.names)  # one item shows what columns hold
        forms: dict[str, Form] = {name: form_of(column, labelled=name in labels) for name, column in sample.items()}
        for rule in stage.rules:
            _check(rule, {**forms, "item_id": "text"}, facts.names | {"item_id"})
        return stage

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """The slate after every rule whose ``when`` holds, with ``fired`` (N,): tuples of names. Scores go along."""
        live = self._live(request)
        slate = slate.take(np.flatnonzero(~self.drops(request, slate)))
        order, fired = np.arange(len(slate)), np.empty(len(slate), object)
        fired.fill(())
        if not live:
            return slate.add(fired=fired)
        order = self._boosted([rule for rule in live if isinstance(rule, Boost)], slate, order, fired)
        order = self._capped([rule for rule in live if isinstance(rule, Cap)], slate, order, fired, request.k)
        order = self._pinned([rule for rule in live if isinstance(rule, Pin)], slate, order, fired)
        return slate.add(fired=fired).take(order)

    def drops(self, request: Request, slate: Slate) -> Mask:
        """(N,) which rows the filters drop."""
        filters = [rule for rule in self._live(request) if isinstance(rule, Filter)]
        gone = [self._matching(rule, slate) == (rule.action == "drop") for rule in filters]
        mask: Mask = np.logical_or.reduce([np.zeros(len(slate), bool), *gone])
        return mask

    def _live(self, request: Request) -> list[Rule]:
        return [rule for rule in self.rules if all(agrees(request.context.get(c.column), c) for c in rule.when)]

    def _boosted(self, rules: Sequence[Boost], slate: Slate, order: Rows, fired: Ids) -> Rows:
        lift = np.zeros(len(slate))
        for rule in rules:
            mask = self._matching(rule, slate)
            lift += np.where(mask, rule.by if rule.kind == "boost" else -rule.by, 0)
            _note(fired, mask, rule)
        return boost_order(slate.scores, lift) if lift.any() else order

    def _capped(self, rules: Sequence[Cap], slate: Slate, order: Rows, fired: Ids, k: int) -> Rows:
        if not rules or not len(slate):
            return order
        groups = [self._groups(rule, slate)[order] for rule in rules]
        within = [k if rule.within is None else rule.within for rule in rules]
        moved, passed = cap_order(groups, [rule.most for rule in rules], within)
        for rule, mask in zip(rules, passed, strict=True):
            _note(fired, order[mask], rule)
        return order[moved]

    def _pinned(self, rules: Sequence[Pin], slate: Slate, order: Rows, fired: Ids) -> Rows:
        pins: list[tuple[int, Rows]] = []
        free = np.ones(len(slate), bool)
        for rule in rules:
            rows = order[(self._matching(rule, slate) & free)[order]][: rule.most]
            free[rows] = False
            pins.append((rule.position, rows))
            _note(fired, rows, rule)
        return pin_order(order, pins)

    def _matching(self, rule: Rule, slate: Slate) -> Mask:
        """(N,) which rows the rule's ``where`` holds for."""
        mask = np.ones(len(slate), bool)
        for condition in rule.where:
            mask &= holds(_column(slate, condition.column), self._labels.get(condition.column, ()), condition)
        return mask

    def _groups(self, rule: Cap, slate: Slate) -> Rows:
        """(N,) the group of each row, -1 for none."""
        column = _column(slate, rule.column)
        known = self._matching(rule, slate) & ~missing(column)
        first = column.argmax(axis=1) if column.ndim == 2 else column
        groups = np.full(len(slate), -1, np.int64)
        groups[known] = np.unique(first[known], return_inverse=True)[1]
        return groups


def _columns_of(rule: Rule) -> list[str]:
    return [*(condition.column for condition in rule.where), *([rule.column] if isinstance(rule, Cap) else [])]


def _column(slate: Slate, name: str) -> Column:
    return slate.item_ids if name == "item_id" else slate.columns[name]


def _check(rule: Rule, forms: Mapping[str, Form], known: frozenset[str]) -> None:
    for column in _columns_of(rule):
        if column not in forms:
            near = difflib.get_close_matches(column, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"rule {rule.name!r}: no column is called {column!r}; {hint}")
        if forms[column] == "arrays":
            raise ConfigError(f"rule {rule.name!r}: {column} holds an array for each item, which rules cannot read")
    for condition in rule.where:
        why = misfit(condition, forms[condition.column])
        if why:
            raise ConfigError(f"rule {rule.name!r}: {condition.column}: {why}")


def _note(fired: Ids, rows: Mask | Rows, rule: Rule) -> None:
    """Add the rule's name to what fired for ``rows``, in place."""
    name = np.empty((), object)
    name[()] = (rule.name,)
    fired[rows] += name  # tuples add up
