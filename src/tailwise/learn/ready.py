"""
What speaks against a pipeline before the work begins: no fit should end, after minutes, in what was plain at once.

    every step ─▶ its name ─▶ its place ─▶ its settings ─▶ the packages, and the model, that its fit needs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from tailwise import registry
from tailwise.config import PipelineConfig, Step, settings_of
from tailwise.errors import ConfigError, UnavailableError
from tailwise.learn.distil import teacher_settings
from tailwise.nets.adapting import OWN
from tailwise.nets.language import find_backbone, need_finetuning
from tailwise.rank.backends import open_backend
from tailwise.rank.boosted import library
from tailwise.rank.prompts import KINDS, check_template
from tailwise.types import Retriever


def check_pipeline(config: PipelineConfig) -> None:
    """
    See that every step can be fitted where it stands, as it is set, with what is installed.

    Raises:
        ConfigError: A name or a setting is unknown or out of range, a source stands where it cannot, or twice.
        UnavailableError: A package that a step's fit needs is not installed, or the model that it tunes is nowhere.

    Cost: milliseconds, and what it takes to import ``transformers`` where a language model is to be tuned.
    """
    _check_sources(config)
    for step in (*config.retrieve, *config.stage):
        check = CHECKS.get(step.name)
        settings = settings_of(registry.component(step.name).Config, step.settings, where=step.name)
        if check is not None:
            check(settings)


def _check_sources(config: PipelineConfig) -> None:
    """See that what retrieves can, and that a source is set once, wherever it stands."""
    names = [step.name for step in config.retrieve]
    for name in names:
        if not issubclass(registry.component(name), Retriever):
            raise ConfigError(f"{name} finds no candidates, so it cannot stand in [[retrieve]]; put it in [[stage]]")
        if names.count(name) > 1:
            raise ConfigError(f"{name} stands {names.count(name)} times in [[retrieve]]; once is enough: raise its k")
    given: dict[str, dict[str, Any]] = {}
    for step in sources_of(config):
        if registry.trainer(step.name) is None:
            raise ConfigError(f"{step.name} has nothing that fits it, so it cannot be a source")
        if step.name in given and step.settings not in ({}, given[step.name]):
            raise ConfigError(f"{step.name} stands twice with different settings; give them once, where it is first")
        given.setdefault(step.name, step.settings)


def sources_of(config: PipelineConfig) -> Iterator[Step]:
    """Every source, in order: those that retrieve, then those among the stages."""
    yield from config.retrieve
    yield from (step for step in config.stage if issubclass(registry.component(step.name), Retriever))


def need(name: str, package: str, extra: str) -> None:
    """
    See that a package is installed.

    Raises:
        UnavailableError: It is not; names the extra that brings it.
    """
    if find_spec(package) is None:
        raise UnavailableError(f"{name} needs {package}: pip install 'tailwise[{extra}]'")


def _tuned(settings: Any) -> None:
    """What fine-tunes a language model, and exports it; and the model itself."""
    need_finetuning(*(() if settings.tuning.method in OWN else ("peft",)))
    need("exporting a model", "onnx", "train")
    find_backbone(settings.model)


def _asked(settings: Any) -> None:
    """What a language model in the ranking is told, and who answers; a server may be away, and is not looked for."""
    if settings.template:
        check_template(settings.template, settings.mode)
    open_backend(settings.backend, KINDS[settings.mode])


def _taught(settings: Any) -> None:
    """The teacher, as if it stood there itself."""
    own = teacher_settings(settings)
    CHECKS.get(settings.teacher, lambda _: None)(own)


def _calibrated(settings: Any) -> None:
    if settings.calibration == "isotonic":
        need("isotonic calibration", "sklearn", "train")


CHECKS: dict[str, Callable[[Any], None]] = {
    "als": lambda _: need("als", "implicit", "train"),
    "item_knn": lambda _: need("item_knn", "implicit", "train"),
    "language_towers": _tuned,
    "boosted": lambda _: library(),
    "cross_encoder": _tuned,
    "distilled": _taught,
    "listwise_llm": _asked,
    "multitask": _calibrated,
}
"""What the fit of a component needs beside its settings, by name."""
