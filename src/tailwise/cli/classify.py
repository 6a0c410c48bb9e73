"""``fit-classifier`` and ``classify``: what texts say, learned from labels and told of new ones."""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwise.cli.options import seed_option
from tailwise.cli.progress import Progress, say
from tailwise.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from tailwise.nets.settings_texts import ClassifierConfig


def reading_verbs(verbs: Any, verb: Callable[..., argparse.ArgumentParser]) -> None:
    """The verbs that learn and tell what texts say; ``verb`` adds one."""
    learn = verb(verbs, "fit-classifier", "learn from labelled texts", "tailwise fit-classifier l.jsonl --out models/t")
    learn.add_argument("data", metavar="DATA", type=Path, help="labelled texts, .jsonl or .csv")
    learn.add_argument("--out", metavar="MODEL", type=Path, required=True, help="model folder to write")
    learn.add_argument("--config", metavar="FILE.toml", type=Path, help="settings (default: a frozen encoder)")
    learn.add_argument(
        "--catalogue", metavar="DIR", type=Path, help="data folder: its names are found, its people teach"
    )
    seed_option(learn)

    tell = verb(verbs, "classify", "tell what texts say", "tailwise classify models/t --texts r.jsonl --out told.jsonl")
    tell.add_argument("model", metavar="MODEL", type=Path, help="folder that fit-classifier wrote")
    tell.add_argument("--texts", metavar="FILE", type=Path, required=True, help="rows with a text, .jsonl or .csv")
    tell.add_argument("--out", metavar="TOLD.jsonl", type=Path, required=True, help="one answer a row, in their order")


def fit_texts(options: argparse.Namespace) -> int:
    """Fit a classifier, print what it is worth."""
    from tailwise.artifacts import check
    from tailwise.data.labelled import read_labelled
    from tailwise.data.load import load

    config = _settings(options.config)
    data = read_labelled(options.data)
    catalogue = None if options.catalogue is None else load(options.catalogue, without_events=config.ranking == 0)
    from tailwise.learn.classify import fit_classifier  # torch: after what can be wrong was looked at

    with Progress() as progress:
        fit_classifier(data, config, options.out, catalogue=catalogue, seed=options.seed, report=progress)
    manifest = check(options.out)
    for name, value in manifest["metrics"].items():
        say(f"{name}: {value}")
    say(f"saved {options.out} in {manifest['seconds']} s; next: tailwise classify {options.out} --texts FILE --out OUT")
    return 0


def classify_texts(options: argparse.Namespace) -> int:
    """Tell what each text says, in the form of labelled texts; nothing is written unless every row can be read."""
    from tailwise.config import Settings
    from tailwise.data.labelled import read_rows
    from tailwise.rank.texts import TextClassifier

    model = TextClassifier.open(options.model, threads=Settings.from_environment().threads)
    rows = [row for _, row in read_rows(options.texts)]
    texts = [str(row["text"]) for row in rows]
    warning = model.warning(texts)
    fresh = options.out.with_name(f".{options.out.name}.new")
    try:
        with fresh.open("w", encoding="utf-8", errors="replace") as file, Progress() as progress:
            told = model.classify(texts, report=lambda done, total: progress("classify", done, total))
            for row, said in zip(rows, told, strict=True):
                file.write(json.dumps({**row, **said}, ensure_ascii=False) + "\n")
        fresh.replace(options.out)
    except OSError as error:
        raise UnavailableError(f"{options.out} cannot be written: {error.strerror}") from error
    finally:
        fresh.unlink(missing_ok=True)
    if warning:
        say(f"warning: {warning}")
    say(f"classified {len(rows)} texts into {options.out}")
    return 0


def _settings(path: Path | None) -> ClassifierConfig:
    """Of the classifier, from a TOML file."""
    from tailwise.config import settings_of
    from tailwise.nets.settings_texts import ClassifierConfig

    if path is None:
        return ClassifierConfig()
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    return settings_of(ClassifierConfig, raw, where=str(path))
