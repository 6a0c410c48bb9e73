"""
What a language model's opinion is worth by the length of the history: fast order, opinion and gated blend.

Everybody's last liked event is the target. Each person is met with histories of every length that they reach, cut to
the newest events; the fast pipeline makes the order, and an opinion is had of its best 20. People are dealt into five
parts; the gate that judges one part learned from the other four.

    python benchmarks/bench_language.py [--data movies=data/movies] [--pipeline default] [--opinion cross_encoder]

Opinions: ``similarity`` (of texts by the pipeline's encoder, to what was liked lately; no training), ``cross_encoder``
(fine-tuned), ``likelihood`` and ``first_token`` (SmolLM2-135M-Instruct through the stage ``listwise_llm``).
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from quality.tasks import movielens

import tailwise
from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.data.load import Dataset
from tailwise.data.split import split_last
from tailwise.learn.gate import WEIGHTS, curves_of, fit_gate
from tailwise.learn.slates import Example, folds_of
from tailwise.pipeline import Engine
from tailwise.rank.gate import BUCKETS, LONGEST, Gate, bucket
from tailwise.rank.listwise import Listwise
from tailwise.types import AGAINST, Floats, Request

DEPTH, FOLDS, SHOWN = 20, 5, 10
PATIENCE_MS = 600_000.0
SHORT = ("popular", "ease", "als", "item_knn", "next_item", "text")
LLM = {"gate": "always", "depth": DEPTH, "prompt_tokens": 1_000}
SMALL = {"kind": "transformers", "model": "SmolLM2-135M-Instruct", "timeout_s": 600}
TAUGHT = {
    "tuning": {"targets": ["query", "value"], "embeddings": True},
    "train": {"epochs": 1, "learning_rate": 1e-3, "head_rate": 5.0, "minutes": 60.0},
}
"""How MiniLM learns most in a quarter of an hour (``bench_cross_encoder.py``); a busy machine may take longer."""
OPINIONS: dict[str, Step | None] = {
    "similarity": None,
    "cross_encoder": Step(name="cross_encoder", settings={"weight": 1.0, **TAUGHT}),
    "likelihood": Step(name="listwise_llm", settings={**LLM, "mode": "likelihood", "backend": SMALL}),
    "first_token": Step(name="listwise_llm", settings={**LLM, "mode": "first_token", "backend": SMALL}),
}
"""The stage whose opinion is asked, with its settings."""
CHEAP = ("similarity", "cross_encoder")
"""Those that are had of everybody."""


@dataclass(frozen=True)
class Row:
    """One bucket of one opinion."""

    name: str
    cases: int
    fast: float
    alone: float
    blend: float
    error: float
    """Standard error of the gain of the blend on the fast order."""
    weight: float
    """Mean over the gates of the five parts."""
    asked: float


def main() -> None:
    options = arguments()
    name, data = ("ml-100k", movielens()) if options.data is None else (options.data[0], tailwise.load(options.data[1]))
    for opinion in options.opinion:
        engine = fitted(name, data, options, OPINIONS[opinion])
        fast = engine if OPINIONS[opinion] is None else replace(engine, stages=engine.stages[:-1])
        examples = cases(fast, data, seed=options.seed)
        chosen = examples if opinion in CHEAP else of_people(examples, options.people, options.seed)
        said = said_of(opinion, chosen, engine, options.cache / f"{name}-{options.pipeline}")
        print(f"\n{name}, pipeline {options.pipeline}, opinion {opinion}, seed {options.seed}, {len(chosen)} cases\n")
        print(table(rows_of(chosen, said, options.seed)), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=lambda text: text.partition("=")[::2], metavar="NAME=FOLDER")
    parser.add_argument("--pipeline", choices=("short", "default"), default="short")
    parser.add_argument("--opinion", action="append", choices=sorted(OPINIONS))
    parser.add_argument("--people", type=int, default=60, help="that a costly opinion is had of")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=Path(__file__).parent / "cache" / "language")
    options = parser.parse_args()
    options.opinion = options.opinion or sorted(OPINIONS)
    return options


def fitted(name: str, data: Dataset, options: argparse.Namespace, last: Step | None) -> Engine:
    """The pipeline without everybody's last event, from the cache where it was fitted before."""
    encode = EncodeConfig(columns=("title", "genres")) if "title" in data.items.columns else EncodeConfig()
    after = () if last is None else (last,)
    config = PipelineConfig(encode=encode, stage=(Step(name="fusion"), Step(name="attention"), *after))
    if options.pipeline == "short":
        sources = tuple(Step(name=own) for own in SHORT)
        config = PipelineConfig(encode=encode, retrieve=sources, stage=(Step(name="fusion"), *after))
    key = hashlib.sha256(f"{config!r}{data.digest()}{options.seed}".encode()).hexdigest()[:10]
    folder = options.cache / f"{name}-{options.pipeline}-{key}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        tailwise.fit(data, config, holdout="last", seed=options.seed).save(folder)
    return Engine.open(folder)


def cases(engine: Engine, data: Dataset, *, seed: int) -> list[Example]:
    """Everybody's last liked event, once for each length of history."""
    test = split_last(data).test.filter(~pl.col("event").is_in(sorted(AGAINST))).sort("user_id")
    rng = np.random.default_rng(seed)
    made = []
    for person, (user_id, item_id) in enumerate(test.select("user_id", "item_id").iter_rows()):
        whole = engine.history(user_id)
        liked = np.array([event not in AGAINST for event in whole.events]) & (whole.rows >= 0)
        target = engine.catalogue.rows([item_id])
        own = bucket(int(liked.sum()))
        for place in range(1, own + 1):
            last = liked.sum() if place == own else LONGEST[place]
            length = liked.sum() if place == own else rng.integers(LONGEST[place - 1] + 1, last + 1)
            past = whole.take(np.cumsum(liked[::-1])[::-1] <= length)
            request = Request(f"{user_id} {place}", history=past, exclude_seen=True)
            slate = engine.candidates(request)
            slate = slate.take(~np.isin(slate.columns["row"], whole.rows))  # what was cut off was seen all the same
            slate = slate.add(**engine.catalogue.at(slate.columns["row"], Gate.needs))
            example = Example(person, request, slate, np.isin(slate.columns["row"], target), 1).ordered(engine)
            small = {name: example.slate.columns[name] for name in ("row", "popularity")}
            made.append(replace(example, slate=replace(example.slate, columns=small)))
    return made


def of_people(examples: Sequence[Example], most: int, seed: int) -> list[Example]:
    """The cases of some people, of those who have one of every length first."""
    counts = np.bincount([example.person for example in examples])
    drawn = np.random.default_rng(seed).permutation(len(counts))
    kept = set(drawn[np.argsort(-counts[drawn], kind="stable")][:most].tolist())
    return [example for example in examples if example.person in kept]


def said_of(name: str, examples: Sequence[Example], engine: Engine, stem: Path) -> list[Floats]:
    """Opinions of the first ``DEPTH`` of each, kept under a name of all that was asked."""
    asked = hashlib.sha256(repr(OPINIONS[name]).encode())
    for example in examples:
        asked.update(repr((titles(engine, lately(example)), titles(engine, first(example)))).encode())
    file = Path(f"{stem}-{name}-{asked.hexdigest()[:12]}.npy")
    if not file.is_file():
        opinions = similarity(examples, engine) if OPINIONS[name] is None else of_stage(examples, engine.stages[-1].run)
        padded = np.full((len(opinions), DEPTH), np.nan, np.float32)
        for row, own in zip(padded, opinions, strict=True):
            row[: len(own)] = own
        np.save(file, padded)
    return [own[: len(first(example))] for own, example in zip(np.load(file), examples, strict=True)]


def first(example: Example) -> NDArray[np.int64]:
    return np.asarray(example.slate.columns["row"][:DEPTH])


def lately(example: Example) -> NDArray[np.int64]:
    return example.request.past.liked()[-SHOWN:]


def titles(engine: Engine, rows: NDArray[np.int64]) -> list[str]:
    return [engine.catalogue.title(int(row)) for row in rows]


def similarity(examples: Sequence[Example], engine: Engine) -> list[Floats]:
    """Cosine of each candidate's text to the mean of the person's latest, as the encoder gives them."""
    encoder: Any = engine.encoder
    frame = engine.catalogue.frame
    texts = [f"{engine.catalogue.title(row)}. {frame['genres'][row]}" for row in range(frame.height)]
    vectors = encoder.encoder.encode(texts)
    return [vectors[first(each)] @ vectors[lately(each)].mean(0) for each in examples]


def of_stage(examples: Sequence[Example], stage: Any) -> list[Floats]:
    """What a stage thinks, whatever its gate would say."""
    out = []
    for place, each in enumerate(examples):
        if place % 20 == 0:
            print(f"opinions: {place} of {len(examples)}", flush=True)
        best = each.slate.take(np.arange(min(DEPTH, len(each.slate))))
        if isinstance(stage, Listwise):
            out.append(stage.opinion(each.request, best, PATIENCE_MS).values)
        else:
            out.append(stage.opinion(each.request, best.columns["row"]))
    return out


def rows_of(examples: Sequence[Example], opinions: Sequence[Floats], seed: int) -> list[Row]:
    """What every bucket earns; each case is judged by a gate that did not learn from its person."""
    curves, before = curves_of(examples, opinions, DEPTH)
    fold = folds_of(examples, seed, FOLDS)
    gain, weights = np.zeros(len(examples)), np.zeros(len(examples))
    for part in range(FOLDS):
        taught = np.flatnonzero(fold != part)
        gate, _ = fit_gate([examples[at] for at in taught], [opinions[at] for at in taught], depth=DEPTH, seed=seed)
        for at in np.flatnonzero(fold == part):
            weights[at] = gate.weight(examples[at].request, examples[at].slate)
            gain[at] = np.interp(weights[at], WEIGHTS, curves[at])  # the gate's weights are those of the curve
    places = np.array([bucket(len(example.request.past.liked())) for example in examples])
    rows = []
    for place, name in [*enumerate(BUCKETS), (-1, "all")]:
        own = places == place if place >= 0 else np.ones(len(places), bool)
        if own.any():
            n, fast = int(own.sum()), float(before[own].mean())
            alone = fast + float(curves[own, -1].mean())
            error = float(gain[own].std() / np.sqrt(n))
            mean, asked = float(weights[own].mean()), float((weights[own] > 0).mean())
            rows.append(Row(name, n, fast, alone, fast + float(gain[own].mean()), error, mean, asked))
    return rows


def table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    lines = [
        "| history | cases | fast | opinion alone | gated blend | gain ± its standard error | asked |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        scores = f"{row.fast:.4f} | {row.alone:.4f} | {row.blend:.4f}"
        gain = f"{row.blend - row.fast:+.4f} ± {row.error:.4f}"
        lines.append(f"| {row.name} | {row.cases} | {scores} | {gain} | {row.asked:.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
