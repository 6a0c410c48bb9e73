"""
Fit a classifier of texts: heads on one encoder, which may learn too, and from what people liked as well.

    labelled texts ─▶ held out ─▶ copies ─▶ encoder + heads learn ─▶ ONNX ─▶ chances made true ─▶ measured ─▶ folder

What is measured is what serves: held-out texts go through the exported model.
"""

from __future__ import annotations

import copy
import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
import torch
from torch import nn

from tailwise.config import Settings
from tailwise.data.labelled import SPANS, Labelled
from tailwise.data.load import Dataset
from tailwise.encode.exported import OnnxEncoder
from tailwise.encode.language import ENGLISH, chosen_encoder
from tailwise.encode.text import open_encoder
from tailwise.errors import ConfigError, DataError
from tailwise.learn.augment import augmented, near_words, words_of
from tailwise.learn.pretrain import pretrain, token_table
from tailwise.learn.text_judge import Notes, calibrated, measured, taught
from tailwise.learn.text_lessons import Targets, label_names, liked_pairs, split
from tailwise.learn.text_training import learn_heads, learn_net
from tailwise.learn.translate import back_translations
from tailwise.nets.adapting import adapt, merged, width_of
from tailwise.nets.export import export_model
from tailwise.nets.language import open_backbone
from tailwise.nets.settings_texts import ClassifierConfig
from tailwise.nets.texts import Heads, TextNet
from tailwise.rank.gazetteer import Gazetteer
from tailwise.rank.texts import ClassifierCard, HeadCard, Read, TextClassifier

log = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]
WHOLE = ("hash", "multilingual")
"""Encoders that read a text whole, and cannot learn."""
BYTES = frozenset("ĠĊÄÅ")
"""Signs that tokenisers of bytes, and no others, have for bytes."""
ARTICLE_LAST = (r"^(.+), (The|An?|L[ae]s?|Der|Die|Das|El|Los|Il)$", "$2 $1")
"""Titles as libraries sort them, and as people say them: "Matrix, The"."""
NAMED = "item"
"""What a title found in a text is called."""


@dataclass(frozen=True)
class _Job:
    """What every part of one fit shares."""

    config: ClassifierConfig
    names: dict[str, tuple[str, ...]]
    seed: int
    threads: int
    cache: Path
    place: Path
    """A folder that goes when the fit is over."""
    report: Report


def fit_classifier(
    data: Labelled,
    config: ClassifierConfig,
    out: Path,
    *,
    catalogue: Dataset | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    report: Report = lambda what, done, total: None,  # noqa: ARG005  silent by default
) -> TextClassifier:
    """
    Fit a classifier and write its folder.

    Args:
        data: Texts with labels; every head that has any is learned.
        config: Which encoder, what of it learns, how.
        out: The model folder.
        catalogue: Its titles, and the names in its graph, are found in texts; its people teach ``config.ranking``.
        seed: Of everything that is drawn.
        settings: Cache folder and threads; None reads the environment.
        report: Progress.

    Returns:
        The model as it was written; its folder's manifest has what it is worth, under ``metrics``.

    Raises:
        DataError: A head has too few labels, or the catalogue nobody who liked two items with texts.
        ConfigError: Settings that do not go together.
        UnavailableError: The encoder is nowhere, or a package is missing.
    """
    started = time.perf_counter()
    config = _with_model(config, data.texts)
    _check(config, catalogue)
    settings = settings or Settings.from_environment()
    lesson, choose, judge = (data.take(rows) for rows in split(data, config.held_out, seed))
    with tempfile.TemporaryDirectory() as place:
        job = _Job(
            config,
            label_names(lesson, config.weights.model_dump()),
            seed,
            settings.threads,
            settings.cache,
            Path(place),
            report,
        )
        if SPANS in job.names and config.model in WHOLE:
            raise ConfigError(f"{config.model} reads texts whole, so it cannot tell entities; choose another encoder")
        notes = taught(lesson, job.names)
        model, more = _learned(job, lesson, choose, catalogue)
        warning = model.warning(data.texts)
        if warning:
            log.warning("encoder does not suit: %s", warning)
            notes["warning"] = warning
        read = model.read(choose.texts)
        model = _with_heads(model, calibrated(model, read, choose))
        notes |= more | measured(model, model.read(judge.texts), judge)
        model.names = None if catalogue is None else known_names(catalogue)
        manifest = {
            "seed": seed,
            "settings": config.model_dump(mode="json"),
            "metrics": notes,
            "seconds": round(time.perf_counter() - started, 1),
        }
        model.save(out, manifest)
    return TextClassifier.open(out, threads=settings.threads)


def known_names(catalogue: Dataset) -> Gazetteer:
    """The titles of a catalogue, in every language it has them, and the names in its graph by their relation."""
    items = catalogue.items
    titles = [name for name in items.columns if name == "title" or name.startswith("title_")]
    said = (items[name].cast(pl.String).str.replace(*ARTICLE_LAST).to_list() for name in titles)
    pairs = [(title, NAMED) for own in said for title in own]
    graph = catalogue.graph
    if graph is not None:
        known = set(items["item_id"].to_list())
        tails = graph.select("tail", "relation").unique(maintain_order=True).iter_rows()
        pairs += [(str(tail), str(relation)) for tail, relation in tails if tail not in known]
    return Gazetteer.of(pairs)


def _with_model(config: ClassifierConfig, texts: Sequence[str]) -> ClassifierConfig:
    """The settings with an encoder in the place of ``auto``: one that suits the texts, or that can learn."""
    if config.model != "auto":
        return config
    suits, _ = chosen_encoder(texts)
    return config.model_copy(update={"model": suits if config.tuning.method == "frozen" else ENGLISH})


def knows_latin_alone(folder: Path) -> bool:
    """Whether at most one in ten of an exported encoder's tokens is in another script than Latin."""
    words = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    tokens = list(words) if isinstance(words, dict) else [token for token, _ in words]
    if {token for token in tokens if len(token) == 1} >= BYTES:
        return False  # made of bytes: what its tokens spell cannot be seen
    return sum(any(sign.isalpha() and sign > "\u024f" for sign in token) for token in tokens) <= 0.1 * len(tokens)


def _check(config: ClassifierConfig, catalogue: Dataset | None) -> None:
    frozen = config.tuning.method == "frozen"
    if config.model in WHOLE and (not frozen or config.pretrain is not None):
        raise ConfigError(f"{config.model} cannot learn; set tuning.method = 'frozen', or choose another encoder")
    for name, wants in (("ranking", config.ranking > 0), ("attack", config.attack.kind != "none")):
        if wants and frozen:
            raise ConfigError(f"{name} teaches the encoder, but tuning.method is 'frozen'; choose 'lora', say")
    if config.ranking > 0 and catalogue is None:
        raise ConfigError("ranking needs people to learn from; give their data folder with --catalogue")


def _learned(job: _Job, lesson: Labelled, choose: Labelled, catalogue: Dataset | None) -> tuple[TextClassifier, Notes]:
    """An uncalibrated model, and what was done on the way."""
    config, notes = job.config, Notes()
    if config.model in WHOLE:
        encoder = open_encoder(
            config.model, cache=job.cache, threads=job.threads, max_tokens=config.max_tokens, export=_no_export
        )
        lesson = lesson.with_copies(_copies(job, lesson, None, None))
        return _headed(job, _with_encoder(job, encoder), lesson, choose), notes
    source = config.model
    if config.pretrain is not None:
        source = str(job.place / "pretrained")
        notes |= pretrain(
            config.model,
            lesson.texts,
            Path(source),
            config.pretrain,
            seed=job.seed,
            threads=job.threads,
            report=job.report,
        )
    backbone, tokenizer = open_backbone(source)
    lesson = lesson.with_copies(_copies(job, lesson, backbone, tokenizer))
    notes["texts with copies"] = len(lesson)
    if config.tuning.method == "frozen":
        return _headed(job, _with_encoder(job, _exported(job, backbone, tokenizer, source)), lesson, choose), notes
    tuned = adapt(backbone, config.tuning, seed=job.seed, steps=1 + len(lesson) * config.loop().epochs // config.batch)
    sizes = {head: len(labels) for head, labels in job.names.items()}
    net = TextNet(tuned, Heads(width_of(backbone), sizes, config.dropout))
    pairs = liked_pairs(catalogue) if config.ranking > 0 and catalogue is not None else []
    progress = learn_net(
        net, tokenizer, lesson, choose, pairs, job.names, config, seed=job.seed, threads=job.threads, report=job.report
    )
    notes |= {"epochs": progress.epoch, "best epoch": progress.best_epoch}
    encoder = _exported(job, merged(copy.deepcopy(net.model)), tokenizer, source)
    return _with_encoder(job, encoder, net.heads), notes


def _headed(job: _Job, model: TextClassifier, lesson: Labelled, choose: Labelled) -> TextClassifier:
    """The same model with heads that learned from what its encoder makes of the texts."""
    parts = [_read(job, model, data) for data in (lesson, choose)]
    both = [
        (read, Targets.of(data, job.names, read.offsets or [()] * len(data)))
        for read, data in zip(parts, (lesson, choose), strict=True)
    ]
    heads = learn_heads(both[0], both[1], job.names, job.config, seed=job.seed, threads=job.threads, report=job.report)
    return TextClassifier(model.card, model.encoder, heads.weights())


def _read(job: _Job, model: TextClassifier, data: Labelled) -> Read:
    """What an encoder makes of texts, the vectors of tokens for those alone whose entities are known."""
    texts = list(data.texts)
    job.report("read texts", 0, len(texts))
    marked = [row for row, own in enumerate(data.spans) if own is not None] if SPANS in job.names else []
    vectors = model.encoder.encode(texts)
    tokens = [np.zeros((0, vectors.shape[1]), np.float32)] * len(texts)
    offsets: list[Any] = [()] * len(texts)
    read = model.read([texts[row] for row in marked]) if marked else None
    for place, row in enumerate(marked):
        assert read is not None, "there are marked texts"
        tokens[row], offsets[row] = read.tokens[place], read.offsets[place]
    job.report("read texts", len(texts), len(texts))
    return Read(vectors, tokens, offsets)


def _exported(job: _Job, model: nn.Module, tokenizer: Any, source: str) -> OnnxEncoder:
    job.report("export the encoder", 0, 1)
    folder = export_model(
        model,
        tokenizer,
        job.place / "encoder",
        name=source,
        int8=job.config.int8,
        pooling="mean",
        tokens=SPANS in job.names,
    )
    job.report("export the encoder", 1, 1)
    return OnnxEncoder.open(folder, threads=job.threads, max_tokens=job.config.max_tokens)


def _with_encoder(job: _Job, encoder: Any, heads: Heads | None = None) -> TextClassifier:
    """A model whose heads say nothing yet, or what they learned."""
    cards = {head: HeadCard(labels=labels) for head, labels in job.names.items()}
    latin = isinstance(encoder, OnnxEncoder) and knows_latin_alone(encoder.folder)
    card = ClassifierCard(encoder=job.config.model, max_tokens=job.config.max_tokens, heads=cards, latin=latin)
    sizes = {head: len(labels) for head, labels in job.names.items()}
    return TextClassifier(card, encoder, (heads or Heads(encoder.dim, sizes, 0.0)).weights())


def _with_heads(model: TextClassifier, heads: Mapping[str, HeadCard]) -> TextClassifier:
    card = model.card.model_copy(update={"heads": dict(heads)})
    return TextClassifier(card, model.encoder, model.weights)


def _copies(job: _Job, lesson: Labelled, backbone: nn.Module | None, tokenizer: Any) -> list[tuple[int, str]]:
    config = job.config.augment
    near: dict[str, tuple[str, ...]] = {}
    if "synonyms" in config.ways and backbone is not None and config.neighbours:
        with torch.no_grad():
            table = token_table(backbone).weight.numpy()
        words, vectors = words_of(tokenizer, table)
        near = near_words(words, vectors, neighbours=config.neighbours, least=config.least_cosine)
    mask = None if tokenizer is None else tokenizer.mask_token
    abroad = None
    if "back_translation" in config.ways and config.translator is not None:
        abroad = back_translations(
            lesson.texts, config.translator, through=config.through, home=config.home, report=job.report
        )
    return augmented(lesson.texts, config, seed=job.seed, synonyms=near, mask=mask, translations=abroad)


def _no_export(model: str, folder: Path) -> NoReturn:  # noqa: ARG001  as ``open_encoder`` calls it
    raise DataError(f"{model} is no model to export")
