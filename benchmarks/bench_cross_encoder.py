"""
What fine-tuning a small encoder as a cross-encoder is worth on MovieLens 100K, and what it costs to ask it.

Two tasks, split by time (80 % of the ratings teach, 10 % choose the epoch, 10 % test), by texts alone (title, year,
genres):

* ``rating``: of what was shown, which was rated 4 or 5 and which less; a history is what was rated 4 or 5 before.
* ``choice``: what was rated 4 or 5 next, against 20 items drawn from those that the person has not rated by then.

Both with LoRA and with the encoder frozen, the same head, lessons and seed. ``auc`` is over all pairs for ``rating``,
and within a list for ``choice``, whose scores can be compared there alone. Then the time of 100 candidates, int8.

    python benchmarks/bench_cross_encoder.py [--lessons 1500] [--seed 0] [--tasks rating,choice] [--test]

Without ``--test`` it reports on the validation part, which is where settings are chosen. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from quality.tasks import movielens
from sklearn.metrics import roc_auc_score

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.encode.pairs import logits
from tailwise.encode.text import item_texts
from tailwise.learn.loop import side_by_side
from tailwise.learn.optimise import lowered
from tailwise.learn.pairs import Lesson, Reader, list_auc
from tailwise.learn.peft import loop_of, reader_of, tune
from tailwise.learn.peft_export import exported_reader
from tailwise.nets.session import open_session
from tailwise.nets.settings_language import TextLoop, Tuning
from tailwise.rank.gate import Gate
from tailwise.rank.language import CrossEncoder, CrossEncoderConfig, Reading
from tailwise.types import Event, History, Request, Rows, Slate

GOALS = {"minutes": 15.0, "lead": 0.05, "ms": 400.0}
SHOWN, OTHERS, TESTED, LIKED = 8, 20, 400, 4.0
SHARES = (0.8, 0.9)


@dataclass(frozen=True)
class World:
    """The log in order of time, and where its parts end."""

    training: Training
    users: Rows
    rows: Rows
    liked: np.ndarray
    part: np.ndarray  # 0 teaches, 1 chooses, 2 tests


def world(seed: int, threads: int) -> World:
    data = movielens()
    nothing = np.zeros(data.items.height, np.float32)
    catalogue = Catalogue(data.items, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    events = data.events.sort("time", "user_id", "item_id")
    users = events["user_id"].cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    cuts = np.quantile(events["time"].to_numpy(), SHARES)
    part = np.searchsorted(cuts, events["time"].to_numpy(), side="right")
    training = Training(Interactions.of(data.events, catalogue), catalogue, seed, threads=threads, report=say)
    return World(training, users, catalogue.rows(events["item_id"]), events["value"].to_numpy() >= LIKED, part)


def lessons(own: World, reader: Reader, task: str, part: int, most: int, seed: int) -> list[Lesson]:
    """Lessons of a part of the log, drawn; the past of each is all that was liked before, in whatever part."""
    rng, made = np.random.default_rng((seed, part)), []
    popular = np.bincount(own.rows[(own.part == 0) & own.liked], minlength=len(own.training.catalogue)) ** 0.75
    for user in np.unique(own.users):
        places = np.flatnonzero(own.users == user)
        inside = places[own.part[places] == part]
        for start in range(0, len(inside), SHOWN):
            shown = inside[start : start + SHOWN]
            before = places[places < shown[0]]
            liked = own.rows[before[own.liked[before]]]
            if not len(liked):
                continue
            if task == "rating":
                made.append((liked, own.rows[shown], own.liked[shown]))
                continue
            new = shown[own.liked[shown]]
            if len(new):
                target = int(own.rows[rng.choice(new)])
                known = np.append(own.rows[before], target)
                # Popularity draws half of what teaches, so that it is no way to tell; what tests is drawn evenly.
                chance = np.where(rng.random() < 0.5 and part == 0, popular, 1.0) * np.ones(len(popular))
                chance[known] = 0.0
                others = rng.choice(len(chance), OTHERS, replace=False, p=chance / chance.sum())
                made.append((liked, np.append(target, others), np.arange(OTHERS + 1) == 0))
    chosen = rng.permutation(len(made))[:most]
    return [
        Lesson(reader.frame.past(reader.titles, made[c][0]), made[c][1], made[c][2].astype(np.float32)) for c in chosen
    ]


def run(
    own: World, task: str, config: CrossEncoderConfig, options: argparse.Namespace
) -> tuple[Reader, dict[str, float]]:
    texts = item_texts(own.training.catalogue.frame)
    reader = reader_of(config, own.training, texts)
    teaching = lessons(own, reader, task, 0, options.lessons, options.seed)
    choosing = lessons(own, reader, task, 1, TESTED, options.seed)
    judging = lessons(own, reader, task, 2, TESTED, options.seed) if options.test else choosing
    start, cpu = time.perf_counter(), time.process_time()
    progress = tune(
        reader,
        [lesson for lesson in teaching if lesson.telling or task == "rating"],
        choosing,
        config=config,
        training=own.training,
    )
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    with side_by_side(own.training.threads) as pool, lowered(reader.net, loop_of(config.train).precision):
        said = reader.judged(judging, pool)
    labels = np.concatenate([lesson.labels for lesson in judging])
    over_all = float(roc_auc_score(labels, np.concatenate(said)))
    return reader, {
        "auc": round(list_auc(said, judging) if task == "choice" else over_all, 4),
        "auc over all pairs": round(over_all, 4),
        "auc within a list": round(list_auc(said, judging), 4),
        "lessons": len(teaching),
        "pairs judged": len(labels),
        "best epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "values": [round(value, 4) for value in progress.values],
        "minutes": round(seconds / 60, 2),
        "cpu minutes": round(cpu / 60, 2),
    }


def speed(own: World, reader: Reader, config: CrossEncoderConfig) -> dict[str, float]:
    """Milliseconds that 100 candidates take with a history that fills its room, never asked before."""
    onnx = exported_reader(reader.net, config.model, int8=True)
    stage = CrossEncoder(config, Gate.always(1.0, 100), Reading(reader.frame, reader.items, reader.titles, onnx))
    rng, walls, cpus = np.random.default_rng(0), [], []
    catalogue = own.training.catalogue
    for _ in range(12):
        past = rng.choice(len(catalogue), 20, replace=False)
        events = [Event("", str(catalogue.item_ids[row]), float(n)) for n, row in enumerate(past)]
        request = Request("r", history=History.of(events).place(past))
        rows = rng.choice(len(catalogue), 100, replace=False)
        slate = Slate(
            catalogue.item_ids[rows], np.linspace(1, 0, 100, dtype=np.float32), {"row": rows, "popularity": rows * 1.0}
        )
        start, cpu = time.perf_counter(), time.process_time()
        stage(request, slate)
        walls.append((time.perf_counter() - start) * 1000)
        cpus.append((time.process_time() - cpu) * 1000)
    pairs = [reader.frame.pair(reader.frame.past(reader.titles, past), reader.items.of(int(row))) for row in rows]
    exact = logits(open_session(exported_reader(reader.net, config.model, int8=False), "fp32"), pairs)
    rough = logits(open_session(onnx, "int8"), pairs)
    return {
        "ms, median wall": round(float(np.median(walls[2:])), 1),
        "ms, best wall": round(min(walls), 1),
        "ms, median cpu": round(float(np.median(cpus[2:])), 1),
        "threads": config.threads,
        "tokens a pair": round(float(np.mean([len(pair) for pair in pairs])), 1),
        "correlation of int8 with float": round(float(np.corrcoef(exact, rough)[0, 1]), 4),
    }


def say(what: str, done: int, total: int) -> None:
    if total and done % max(1, total // 5) < 10:
        print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=GOALS["minutes"], help="of the clock, for each training")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", default="rating,choice")
    parser.add_argument("--methods", default="lora,frozen")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--test", action="store_true")
    options = parser.parse_args()
    own = world(options.seed, options.threads)
    out: dict[str, object] = {
        "command": " ".join(sys.argv),
        "seed": options.seed,
        "machine": platform.processor() or platform.machine(),
    }
    for task in options.tasks.split(","):
        for method in options.methods.split(","):
            config = CrossEncoderConfig(
                tuning=Tuning(method=method, rank=options.rank),
                train=TextLoop(
                    epochs=options.epochs,
                    learning_rate=options.rate,
                    precision=options.precision,
                    minutes=options.minutes,
                ),
                loss="bce" if task == "rating" else "listwise",
                negatives=7,
                batch=options.batch,
            )
            reader, out[f"{task}, {method}"] = run(own, task, config, options)
            print(json.dumps({f"{task}, {method}": out[f"{task}, {method}"]}), file=sys.stderr, flush=True)
    for task in options.tasks.split(","):
        if options.methods == "lora,frozen":
            found: Any = [out[f"{task}, {method}"] for method in ("lora", "frozen")]
            out[f"{task}, lead of lora"] = round(found[0]["auc"] - found[1]["auc"], 4)
    out["100 candidates"] = speed(own, reader, config)
    out["peak GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    out["goals"] = GOALS
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
