"""
What ``tailwise tune`` may turn: settings by dotted names, each with its values or its range.

    [tune]
    "sequence.shape.dim" = [32, 64, 128]
    "sequence.train.learning_rate" = { low = 5e-4, high = 5e-3, log = true }

A name is that of a step (``sequence``; ``rules-2`` when it is there twice) or ``encode``, then that of its setting; a
setting of the pipeline itself stands alone. A range whose ends are both whole holds whole numbers only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tailwise import registry
from tailwise.config import PipelineConfig, Step, settings_of
from tailwise.errors import ConfigError
from tailwise.pipeline.binding import keyed

AFTERWARDS = "finish"
"""Acts when everything is chosen, so that what held-out people say cannot choose it."""
OF_EVERY_STEP = frozenset(Step.model_fields) - {"name", "settings"}
NOT_SEARCHED = frozenset({"retrieve", "stage", "track", "tune"})
"""What a pipeline file holds beside settings that could be better or worse."""
USUAL: dict[str, Any] = {
    "popular.half_life_days": {"low": 7.0, "high": 720.0, "log": True},
    "ease.regularisation": {"low": 20.0, "high": 2000.0, "log": True},
    "als.factors": [32, 64, 128],
    "als.confidence": {"low": 1.0, "high": 40.0, "log": True},
    "item_knn.neighbours": [50, 100, 200],
    "sequence.shape.dim": [32, 64, 128],
    "sequence.train.learning_rate": {"low": 5e-4, "high": 5e-3, "log": True},
    "fusion.regularisation": {"low": 1e-4, "high": 1e-1, "log": True},
}
"""Searched when the pipeline has no ``[tune]``: of these, the settings of the steps that it has."""


@dataclass(frozen=True)
class Dial:
    """One setting and where it may be: among ``choices``, or from ``low`` to ``high``, both included."""

    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def ends(self) -> tuple[Any, ...]:
        """Values that must be allowed for all to be."""
        return self.choices if self.choices is not None else (self.low, self.high)

    def has(self, value: Any) -> bool:
        """Whether the dial can be turned to a value."""
        if self.choices is not None:
            return value in self.choices
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def turn(self, trial: Any, name: str) -> Any:
        """The value that an Optuna trial takes."""
        if self.choices is not None:
            return trial.suggest_categorical(name, list(self.choices))
        suggest = trial.suggest_int if self.whole else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.log)


def space_of(config: PipelineConfig) -> dict[str, Dial]:
    """
    What a pipeline lets be searched: its ``[tune]``, or what is usual for its steps.

    Raises:
        ConfigError: A name that is no setting, a value that the setting refuses, a dial that is none, or no dial.
    """
    if config.tune is None:
        there = {key for key, _ in _steps(config)}
        return {name: _dial(name, raw) for name, raw in USUAL.items() if name.partition(".")[0] in there}
    dials = {name: _dial(name, raw) for name, raw in _flat(config.tune)}
    if not dials:
        raise ConfigError("tune: the table is empty; name a setting, or leave [tune] out for the usual ones")
    for name, dial in dials.items():
        field = _field(config, name)
        for value in dial.ends():
            _check(name, field, value)
    return dials


def with_settings(config: PipelineConfig, values: Mapping[str, Any]) -> PipelineConfig:
    """The pipeline with other values of some settings, by their dotted names."""
    raw = config.model_dump()
    tables: dict[str, dict[str, Any]] = {}
    for kind in ("stage", "retrieve"):
        keys = [key for key, _ in keyed(getattr(config, kind))]
        tables |= dict(zip(keys, raw[kind], strict=True))
    for name, value in values.items():
        path, table = name.split("."), raw
        if path[0] in tables:
            table = tables[path.pop(0)]
            table = table if path[0] in OF_EVERY_STEP else table["settings"]
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value
    return PipelineConfig.model_validate(raw)


def value_of(config: PipelineConfig, name: str) -> Any:
    """What a setting is now, given or by default."""
    head, *rest = name.split(".")
    step = dict(_steps(config)).get(head)
    if step is None:
        return reduce(getattr, [head, *rest], config)
    if rest[0] in OF_EVERY_STEP:
        return getattr(step, rest[0])
    kind = registry.component(step.name).Config
    return reduce(getattr, rest, settings_of(kind, step.settings, where=head))


def _steps(config: PipelineConfig) -> Iterator[tuple[str, Step]]:
    """Every step by its key; a source that stands among the stages too is the one that retrieves."""
    yield from keyed(config.stage)
    yield from keyed(config.retrieve)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Tables in tables as dotted names: TOML makes them of keys without quotes."""
    for key, value in table.items():
        if isinstance(value, dict) and not value.keys() & {"low", "high"}:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _dial(name: str, raw: Any) -> Dial:
    if isinstance(raw, list) and raw and all(isinstance(one, (str, int, float)) for one in raw):
        return Dial(choices=tuple(raw))
    if isinstance(raw, dict) and {"low", "high"} <= raw.keys() <= {"low", "high", "log"}:
        low, high, log = raw["low"], raw["high"], raw.get("log", False)
        numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high))
        if numbers and isinstance(log, bool) and low < high and (low > 0 or not log):
            return Dial(low=low, high=high, log=log)
    rule = "a list of values, or { low, high } with low below high, and log = true where both are above 0"
    raise ConfigError(f"tune: {name} is {raw!r}, but it must be {rule}")


def _field(config: PipelineConfig, name: str) -> FieldInfo:
    """
    What is known of the setting that a dotted name means.

    Raises:
        ConfigError: It means none, or one that cannot be chosen before the end.
    """
    head, *rest = name.split(".")
    steps = dict(_steps(config))
    kind: Any = PipelineConfig
    parts = [head, *rest]
    if head in steps:
        parts = rest
        kind = Step if rest and rest[0] in OF_EVERY_STEP else registry.component(steps[head].name).Config
    field = None
    for place, part in enumerate(parts):
        known = getattr(kind, "model_fields", {})
        if kind is PipelineConfig:
            known = {key: facts for key, facts in known.items() if key not in NOT_SEARCHED}
        if part not in known:
            among = [*known, *(steps if kind is PipelineConfig else ())]
            near = difflib.get_close_matches(part, among, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(among)) or 'none'}"
            raise ConfigError(f"tune: {name} is no setting of this pipeline: nothing is called {part!r}; {hint}")
        field, kind = known[part], known[part].annotation
        if part == AFTERWARDS and place == len(parts) - 1:
            raise ConfigError(f"tune: {name} acts after the choice, so that held-out people cannot make it; set it")
    if field is None or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        raise ConfigError(f"tune: {name} is a table of settings; name one of them, as {name}.…")
    return field


def _check(name: str, field: FieldInfo, value: Any) -> None:
    try:
        kind: Any = Annotated[field.annotation, field]
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"tune: {name} is {value!r}, but: {error.errors()[0]['msg']}") from error
