"""Fine-tune a language model as a cross-encoder on the log and on held-out slates; others say for whom it counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import save
from torch import nn

from tailwise.data.interactions import Training
from tailwise.encode.text import item_texts
from tailwise.errors import ConfigError, DataError
from tailwise.learn.checkpoint import Progress
from tailwise.learn.gate import cases_by_length, fit_gate
from tailwise.learn.log_lessons import log_lessons
from tailwise.learn.loop import side_by_side, train
from tailwise.learn.optimise import fast_bfloat16, lowered
from tailwise.learn.pairs import (
    Lesson,
    Reader,
    epoch_batches,
    frame_of,
    lessons_of,
    list_auc,
    loss_of,
    title_words,
    words_of,
)
from tailwise.learn.peft_export import exported_reader
from tailwise.learn.slates import Example, folds_of, gather
from tailwise.nets.adapting import adapt, after_step, learned, width_of
from tailwise.nets.candidates import CandidateReader, reads_together
from tailwise.nets.export import _max_tokens, weights_of
from tailwise.nets.language import open_backbone, prepare_for_short, reading_of
from tailwise.nets.settings_language import TextLoop
from tailwise.pipeline import Engine
from tailwise.rank.gate import Gate
from tailwise.rank.language import CrossEncoder, CrossEncoderConfig, Reading
from tailwise.types import Floats

Notes = dict[str, float | str]
NAME = "cross-encoder"
"""As the progress calls it."""
LEAST_LISTS = 100
"""That teach; with fewer the head would learn them by heart."""
FOLDS = 10
"""People are dealt into so many: the first ``TEACHING`` teach, one chooses the epoch, the others judge."""
TEACHING = 6
ADDING = ("prefix", "prompt")
"""Methods that put places before a text, which a mask from token to token would have to know of."""
MOST_JUDGED = 300
"""Lessons that choose the epoch, and ``NEGATIVES_JUDGED`` candidates of each beside what was taken."""
NEGATIVES_JUDGED = 15


def fit_cross_encoder(config: CrossEncoderConfig, training: Training, engine: Engine) -> tuple[CrossEncoder, Notes]:
    """
    Learn to tell from texts which candidate a person takes next.

    Stretches of the log teach it, and the slates of six in ten held-out people; those of one in ten choose the epoch.
    What the others took next, which taught nothing, says for whom its opinion counts (``learn.gate``), as int8 gives it
    in service.

    Args:
        config: Settings.
        training: With held-out cases.
        engine: With the sources, and the stages before this one.

    Returns:
        The stage, and notes for the model card: how well it tells, and what was decided.

    Raises:
        UnavailableError: A package or the model is missing.
        ConfigError: A column that makes the text is not there, or the model cannot be tuned as asked.

    Cost: of MiniLM, about 20 ms a candidate and epoch on a core with bfloat16; ``train.minutes`` bounds it.
    Source: Nogueira & Cho, 2019, arXiv 1901.04085.
    """
    texts = item_texts(training.catalogue.frame, config.columns)
    if not any(text.strip() for text in texts):
        return CrossEncoder(config, Gate(), None), {"decision": "not used: no item has a text"}
    examples = gather(training, engine, config.cases, config.depth)
    most = min(config.lists, len(training.interactions)) + len(examples) * TEACHING // FOLDS
    steps = config.train.epochs * most // (config.batch * config.train.accumulate)
    reader = reader_of(config, training, texts, max(1, steps))
    fold = folds_of(examples, training.seed, FOLDS)
    teaching, stopping = (lessons_of(reader, examples, own) for own in (fold < TEACHING, fold == TEACHING))
    teaching += log_lessons(reader, training, config.lists)
    if len(teaching) < (LEAST_LISTS if config.weight is None else 1):
        decision = f"not used: {len(teaching)} lists could teach it, fewer than {LEAST_LISTS}"
        return CrossEncoder(config, Gate(), None), {"decision": decision}
    progress = tune(reader, teaching, stopping, config=config, training=training)
    onnx = exported_reader(reader.net, config.model, int8=config.int8)
    own = save(learned(reader.net))
    stage = CrossEncoder(config, Gate(), Reading(reader.frame, reader.items, reader.titles, onnx, own))
    notes: Notes = {"lists that taught": len(teaching), "epochs": progress.best_epoch or progress.epoch}
    met = {example.person for example, part in zip(examples, fold, strict=True) if part <= TEACHING}
    return _gated(stage, training, engine, met, notes)


def reader_of(config: CrossEncoderConfig, training: Training, texts: Sequence[str], steps: int = 1000) -> Reader:
    """
    The model that a configuration names, ready to learn, and the catalogue's texts as its tokens.

    What ``learned`` kept of a net with the same settings and seed goes into it by ``load_learned``.
    """
    model, tokenizer = open_backbone(config.model)
    prepare_for_short(model)
    reading, width = reading_of(model, config.model), width_of(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
    together = config.tuning.method not in ADDING and reads_together(model, reading)
    adapted = adapt(model, config.tuning, seed=training.seed, steps=steps)
    net = CandidateReader(adapted, reading, head, config.dropout, together=together)
    frame = frame_of(tokenizer, history=config.history_tokens, item=config.item_tokens, together=together)
    room, most = frame.longest, _max_tokens(model, tokenizer, Path(weights_of(config.model)))
    if room > most:
        raise ConfigError(f"history_tokens and item_tokens make {room}, but {config.model} reads {most}; lower them")
    columns = training.catalogue.frame
    titles = columns["title"].cast(pl.String).to_list() if "title" in columns.columns else [None] * len(texts)
    return Reader(
        net,
        frame,
        words_of(tokenizer, texts, config.item_tokens),
        title_words(tokenizer, titles, texts),
        int(tokenizer.pad_token_id),
    )


def tune(
    reader: Reader,
    teaching: Sequence[Lesson],
    stopping: Sequence[Lesson],
    *,
    config: CrossEncoderConfig,
    training: Training,
) -> Progress:
    """
    Train a reader in place; it ends as it was after the epoch that was best for the lessons that stop it.

    Raises:
        DataError: No lesson has something that was taken beside something that was not.
    """
    if not any(lesson.telling for lesson in teaching):
        raise DataError("no lesson of the cross-encoder has two classes: nothing was taken, or everything was")
    loop = loop_of(config.train)
    rng = np.random.default_rng(training.seed)
    some = [stopping[place].drawn(NEGATIVES_JUDGED, rng) for place in rng.permutation(len(stopping))[:MOST_JUDGED]]
    until = time.monotonic() + config.train.minutes * 60
    batches = epoch_batches(teaching, reader.items, batch=config.batch, negatives=config.negatives, seed=training.seed)
    total = -(-len(teaching) // config.batch)
    with side_by_side(training.threads) as pool:

        def judge() -> float:
            with lowered(reader.net, loop.precision):
                return list_auc(reader.judged(some, pool), some)

        return train(
            reader.net,
            config=loop,
            seed=training.seed,
            batches=until_over(batches, reader.net, loop, name=NAME, total=total, until=until, report=training.report),
            loss=loss_of(reader, config.loss),
            judge=judge if some else None,
            pool=pool,
            report=training.report,
            name=NAME,
            until=until,
            steps=-(-total // config.train.accumulate),
        )


def loop_of(config: TextLoop) -> TextLoop:
    """The same with the arithmetic decided: bfloat16 where the processor is quick at it."""
    if config.precision != "auto":
        return config
    return config.model_copy(update={"precision": "bfloat16" if fast_bfloat16() else "float32"})


def until_over(
    batches: Callable[[int], Iterator[Any]],
    net: nn.Module,
    config: TextLoop,
    *,
    total: int,
    until: float,
    report: Callable[[str, int, int], None],
    name: str = "fine-tuning",
) -> Callable[[int], Iterator[Any]]:
    """An epoch's batches until the clock is over, with progress, and with what a method does between steps."""

    def each(epoch: int) -> Iterator[Any]:
        for place, batch in enumerate(batches(epoch)):
            if time.monotonic() > until:
                return
            steps, rest = divmod(epoch * total + place, config.accumulate)
            if steps and not rest:
                after_step(net, steps)
            if place % 10 == 0:
                report(f"{name}, epoch {epoch + 1}", place, total)
            yield batch
        report(f"{name}, epoch {epoch + 1}", total, total)

    return each


def _gated(
    stage: CrossEncoder, training: Training, engine: Engine, met: set[int], notes: Notes
) -> tuple[CrossEncoder, Notes]:
    """The stage with the gate that people whom it never met speak for, or without its networks."""
    config, reading = stage.config, stage.reading
    if config.weight is not None:
        gate = Gate.always(config.weight, config.depth).model_copy(update={"query": 0.0})  # it never read one
        return CrossEncoder(config, gate, reading), {**notes, "decision": f"used for everybody at {config.weight:g}"}
    examples = [
        e for e in cases_by_length(training, engine, most=config.cases, depth=config.depth) if e.person not in met
    ]
    opinions: list[Floats] = []
    for place, example in enumerate(examples):
        if place % 20 == 0:
            training.report("opinions of the cross-encoder", place, len(examples))
        opinions.append(stage.opinion(example.request, example.slate.columns["row"][: config.depth]))
    notes |= {"auc of its opinion": _auc(examples, opinions, config.depth)}
    gate, said = fit_gate(
        examples, opinions, depth=config.depth, seed=training.seed, facts=training.catalogue, query=0.0
    )
    used = any(gate.weights)
    return CrossEncoder(config, gate, reading if used else None), {**notes, **said}


def _auc(examples: Sequence[Example], opinions: Sequence[Floats], depth: int) -> float:
    """How well the opinion alone tells what was taken from the rest of its slate."""
    nothing = np.empty(0, np.int64)
    lists = [Lesson(nothing, nothing, e.relevant[:depth].astype(np.float32)) for e in examples]
    kept = [place for place, said in enumerate(opinions) if np.isfinite(said).all()]
    return round(list_auc([opinions[place] for place in kept], [lists[place] for place in kept]), 4)
