"""
Settings: a pipeline as data (TOML) and what the environment says. Read once at the edge, passed down.

A pipeline names its sources (``[[retrieve]]``) and its steps (``[[stage]]``) in order. A step's own settings stand
beside its name; the class that the registry finds under the name checks them.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tailwise.errors import ConfigError

C = TypeVar("C", bound=BaseModel)


class Closed(BaseModel):
    """What every settings class is: frozen, and closed to names that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _rest_of_a_table(cls, raw: Any) -> Any:
        """A table that names some settings leaves the others as they are where nothing is named."""
        if not isinstance(raw, dict):
            return raw
        usual = {name: field.default for name, field in cls.model_fields.items() if isinstance(field.default, Closed)}
        return {
            name: {**usual[name].model_dump(exclude_unset=True), **own}
            if name in usual and isinstance(own, dict)
            else own
            for name, own in raw.items()
        }


class Step(Closed):
    """One named component of a pipeline with its own settings."""

    name: str
    """In the registry, or an installed entry point of group ``tailwise.stages``."""
    keep: Annotated[int, Field(ge=1)] | None = None
    """Rows that go on after this step; None keeps all."""
    deadline_ms: Annotated[float, Field(gt=0, le=3_600_000)] | None = None
    """A later answer is dropped: the previous order stands and the trace says so."""
    k: Annotated[int, Field(ge=1)] = 200
    """Candidates that a source gives; steps ignore it."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Everything else that the TOML table holds."""

    @model_validator(mode="before")
    @classmethod
    def _gather_settings(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or "settings" in raw:
            return raw
        own = {key: value for key, value in raw.items() if key in cls.model_fields}
        return {**own, "settings": {key: value for key, value in raw.items() if key not in cls.model_fields}}

    def table(self) -> dict[str, Any]:
        """The TOML table that gives this step back."""
        own = self.model_dump(exclude={"settings"}, exclude_none=True, exclude_defaults=True)
        return {"name": self.name, **own, **self.settings}


class EncodeConfig(Closed):
    """How texts become vectors."""

    model: str = "auto"
    """``auto`` looks at the letters of the items' texts: ``multilingual`` (16 languages, Chinese among them) where
    enough of them are not English, else ``all-MiniLM-L6-v2``. Or a Hugging Face name, a folder, or ``hash`` (no
    model)."""
    layers: Annotated[int, Field(ge=1)] | None = None
    """Of a language model, the first that are kept: fewer are faster and know less; None keeps all."""
    int8: bool = True
    """Whether a language model is exported in eight bits."""
    columns: tuple[str, ...] = ()
    """Item columns that make the text, in order; empty takes title, year, genres, tags, categories, columns whose
    values many items share (a brand, an artist), description and text, as far as the items have them."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 64
    """Longer texts are cut, in tokens."""
    whiten_dim: Annotated[int, Field(ge=1)] = 128
    """Width after whitening; never more than the encoder gives or the items support."""


class PipelineConfig(Closed):
    """A pipeline: what embeds, what retrieves, what ranks, in order."""

    encode: EncodeConfig = EncodeConfig()
    """How items get vectors from their texts."""
    retrieve: tuple[Step, ...] = (
        Step(name="popular", k=100),
        Step(name="ease", k=200),
        Step(name="als", k=100),
        Step(name="item_knn", k=100),
        Step(name="next_item", k=200),
        Step(name="again", k=100),
        Step(name="text", k=50),
        Step(name="sequence", k=200),
    )
    """Sources of candidates; each may stand here once."""
    stage: tuple[Step, ...] = (
        Step(name="fusion"),
        Step(name="attention"),
        Step(name="long_tail"),
        Step(name="mmr"),
        Step(name="exposure"),
        Step(name="newcomers"),
        Step(name="rules"),
        Step(name="reasons"),
    )
    """What orders, shortens or annotates the candidates, in turn; a source here orders by its score alone."""
    exclude_seen: bool | None = None
    """Whether what a person has had may be shown again; None lets the fit look at how often people come back."""
    max_history: Annotated[int, Field(ge=1)] = 600
    """Newest events of a person that are used."""
    tail_cut: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of items, by training events, that count as popular; the rest is the long tail."""
    context: tuple[str, ...] = ()
    """What of a request's moment the learned re-rankers judge by: ``hour``, ``weekday`` (UTC) and ``recency`` from its
    time, any other name from its context, by a column of the events of that name."""
    context_dropped: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the cases that teach them without it, so that requests that do not tell the moment are met too."""
    track: Literal["tensorboard", "mlflow", "wandb", "none"] = "tensorboard"
    """Where ``tailwise fit`` leaves the figures of every epoch."""
    tune: dict[str, Any] | None = None
    """What ``tailwise tune`` searches; a fit looks at none of it."""

    @model_validator(mode="after")
    def _sources_only_retrieve(self) -> Self:
        for step in self.retrieve:
            if step.keep is not None or step.deadline_ms is not None:
                raise ValueError(f"retrieve: {step.name} has keep or deadline_ms, but those are for stages")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        A pipeline from a TOML file.

        Raises:
            ConfigError: The file is missing, is not TOML, or holds a setting that is unknown or out of range.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        for step in [*_tables(raw, "retrieve"), *_tables(raw, "stage")]:
            if isinstance(step.get("file"), str):  # as people mean it: beside the pipeline, wherever that is read from
                step["file"] = str(path.parent / step["file"])
        return settings_of(cls, raw, where=str(path))

    def write(self, path: Path) -> None:
        """Write the TOML that ``read`` gives back."""
        raw = self.model_dump(exclude_none=True, exclude={"retrieve", "stage"})
        raw |= {"retrieve": [s.table() for s in self.retrieve], "stage": [s.table() for s in self.stage]}
        path.write_text(tomli_w.dumps(raw), encoding="utf-8")


def settings_of(cls: type[C], raw: dict[str, Any], *, where: str) -> C:
    """
    Check raw settings against their class.

    Raises:
        ConfigError: names the place, the setting, the value and the rule, for the first that is wrong.
    """
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"])
        if not setting:  # a rule about several settings; its message names them
            raise ConfigError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
        if first["type"] == "extra_forbidden":
            known = ", ".join(_settings_at(cls, first["loc"][:-1])) or "see the reference"
            raise ConfigError(f"{where}: {setting} is not a setting; known: {known}") from error
        if first["type"] == "missing":
            raise ConfigError(f"{where}: {setting} is missing") from error
        value = repr(first.get("input"))
        shown = value if len(value) <= 80 else f"{value[:77]}..."
        raise ConfigError(f"{where}: {setting} is {shown}, but: {first['msg']}") from error


def _settings_at(cls: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """What may be set in a table inside of others; nothing where a place is no table of settings."""
    for part in place:
        field = cls.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        cls = field.annotation
    return list(cls.model_fields)


def _tables(raw: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The tables of an array of tables; what is none is left to the check."""
    found = raw.get(name)
    return [table for table in found if isinstance(table, dict)] if isinstance(found, list) else []


class Settings(Closed):
    """What the environment says. Only ``cli`` and ``serve.app`` read it."""

    cache: Path
    """Exported encoders, embeddings and downloads; safe to delete."""
    threads: Annotated[int, Field(ge=1)]
    """Of the matrix libraries, per process."""

    @classmethod
    def from_environment(cls) -> Self:
        """``TAILWISE_CACHE`` and ``TAILWISE_THREADS``; defaults: the user's cache folder, and every core."""
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        raw = {
            "cache": os.environ.get("TAILWISE_CACHE") or home / "tailwise",
            "threads": os.environ.get("TAILWISE_THREADS") or _cores(),
        }
        return settings_of(cls, raw, where="environment")


def _cores() -> int:
    """Cores that this process may use; not every system can tell them from those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
