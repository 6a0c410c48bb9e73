"""
Names to classes: what a pipeline file may say.

A plain table of strings, so that importing this room imports no other. A package adds a name with an entry point of
group ``tailwise.stages``. A configuration names things; it can never import a path of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import BaseModel

from tailwise.errors import ConfigError
from tailwise.types import Facts

SOURCES = {
    "popular": "tailwise.retrieve.popular:Popular",
    "ease": "tailwise.retrieve.collaborative:Ease",
    "als": "tailwise.retrieve.factors:Als",
    "item_knn": "tailwise.retrieve.collaborative:ItemKnn",
    "next_item": "tailwise.retrieve.following:NextItem",
    "again": "tailwise.retrieve.again:Again",
    "text": "tailwise.retrieve.vectors:TextNeighbours",
    "words": "tailwise.retrieve.words:Words",
    "numbers": "tailwise.retrieve.numbers:Numbers",
    "sequence": "tailwise.rank.sequence:SequenceScorer",
    "towers": "tailwise.rank.towers:TowerScorer",
    "language_towers": "tailwise.rank.language_towers:LanguageTowers",
}
STAGES = {
    "fusion": "tailwise.rank.fusion:Fusion",
    "multitask": "tailwise.rank.multitask:MultiTask",
    "attention": "tailwise.rerank.attention:Attention",
    "boosted": "tailwise.rank.boosted:Boosted",
    "cross_encoder": "tailwise.rank.language:CrossEncoder",
    "distilled": "tailwise.rank.distilled:Distilled",
    "listwise_llm": "tailwise.rank.listwise:Listwise",
    "long_tail": "tailwise.rerank.long_tail:LongTail",
    "mmr": "tailwise.rerank.diversity:MMR",
    "dpp": "tailwise.rerank.diversity:DPP",
    "exposure": "tailwise.rerank.exposure:Exposure",
    "newcomers": "tailwise.rerank.newcomers:Newcomers",
    "rules": "tailwise.rerank.rules:Rules",
    "bandit": "tailwise.rerank.bandit:Bandit",
    "reasons": "tailwise.rerank.reasons:Reasons",
}
TRAINERS = {
    "sequence": "tailwise.learn.members:fit_sequence",
    "towers": "tailwise.learn.towers:fit_towers",
    "fusion": "tailwise.learn.fusion:fit_fusion",
    "attention": "tailwise.learn.attention:fit_attention",
    "long_tail": "tailwise.learn.long_tail:fit_long_tail",
    "newcomers": "tailwise.learn.content:fit_newcomers",
    "boosted": "tailwise.learn.boosted:fit_boosted",
    "distilled": "tailwise.learn.distil:fit_distilled",
    "listwise_llm": "tailwise.learn.listwise:fit_listwise",
    "multitask": "tailwise.learn.multitask:fit_multitask",
    "cross_encoder": "tailwise.learn.peft:fit_cross_encoder",
    "language_towers": "tailwise.learn.peft_towers:fit_language_towers",
}
"""Components that learn elsewhere than in their own ``fit``, because they need torch or other components."""

ENTRY_POINTS = "tailwise.stages"


class Component(Protocol):
    """What the registry promises of every class in it."""

    Config: type[BaseModel]

    @classmethod
    def open(cls, config: Any, facts: Facts, folder: Path) -> Self:
        """Build from checked settings, the facts about items and the component's own folder of a model."""
        ...


def names() -> list[str]:
    """Every name that a pipeline may use, sorted."""
    return sorted({*SOURCES, *STAGES, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def component(name: str) -> type[Component]:
    """
    The class behind a name.

    Raises:
        ConfigError: Nothing has this name, and the message suggests the nearest; or what has it cannot be imported.
    """
    target = SOURCES.get(name) or STAGES.get(name)
    if target is not None:
        return _import(target)  # type: ignore[no-any-return]  # the contract tests check what the table names
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            return point.load()  # type: ignore[no-any-return]  # from outside: checked when it is used
        except Exception as error:
            raise ConfigError(f"{name} is installed as {point.value}, which cannot be imported: {error}") from error
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names())}"
    raise ConfigError(f"no component is called {name!r}; {hint}")


def trainer(name: str) -> Callable[..., Any] | None:
    """What fits a component: its own trainer, else its class's ``fit``, else None (nothing to learn)."""
    if name in TRAINERS:
        return _import(TRAINERS[name])  # type: ignore[no-any-return]
    return getattr(component(name), "fit", None)


def _import(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)
