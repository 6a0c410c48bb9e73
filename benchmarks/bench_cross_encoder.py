"""
What fine-tuning a small encoder as a cross-encoder is worth on MovieLens 100K, and what it costs to ask it.

Three tasks, split by time (80 % of the ratings teach, 10 % choose the epoch, 10 % test), by texts alone (title, year,
genres):

* ``rating``: of what was shown, which was rated 4 or 5 and which less; a history is what was rated 4 or 5 before.
* ``choice``: what was rated 4 or 5 next, against items drawn evenly from those that the person has not rated by then,
  20 where it judges; where it teaches, everything liked of eight ratings stands behind one history with 16 of them.
  Each rating is in three such stretches, behind histories of unlike length, and an epoch meets all of them;
* ``taste``: the same against items drawn as often as they are rated, as among what a retriever finds: how popular an
  item is tells nothing, so that what remains is whether it suits the history.

With LoRA (on queries, values and the table of tokens; the head learns at five times its rate) and with the encoder
frozen, the same head, lessons and seed; the epoch, and of several rates the rate, is the best on the validation part.
What a frozen encoder makes of a pair is worked out once: its head passes several times over all pairs that LoRA meets.
Before the test part is asked, both learn anew, as they would before a launch: with what was chosen, and as many lessons
drawn from everything before the test part, the validation part with it.
``auc`` is over all pairs for ``rating``, and within a list for the others, whose scores can be compared there alone.
Then the time of 100 candidates, int8.

    python benchmarks/bench_cross_encoder.py [--lessons 24000] [--seed 0] [--tasks rating,choice,taste] [--test]

Without ``--test`` it reports on the validation part, which is where settings are chosen. Prints JSON.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import platform
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from quality.tasks import movielens
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from tailwise.data.batch import token_batches
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.encode.pairs import Row, logits
from tailwise.encode.text import item_texts
from tailwise.learn.loop import side_by_side
from tailwise.learn.optimise import lowered
from tailwise.learn.pairs import BUDGET, Lesson, Reader, epoch_batches, list_auc
from tailwise.learn.peft import loop_of, reader_of, tune
from tailwise.learn.peft_export import exported_reader
from tailwise.nets.adapting import width_of
from tailwise.nets.candidates import CandidateReader
from tailwise.nets.sequence import dropped
from tailwise.nets.session import open_session
from tailwise.nets.settings_language import TextLoop, Tuning
from tailwise.rank.gate import Gate
from tailwise.rank.language import CrossEncoder, CrossEncoderConfig, Reading
from tailwise.types import Event, History, Request, Rows, Slate

GOALS = {"minutes": 15.0, "lead": 0.05, "ms": 400.0}
SHOWN, OTHERS, LIKED = 8, 20, 4.0
NEGATIVES, TAUGHT, HISTORY = 16, 48, 32
"""Others that what teaches is compared with, of how many, and tokens of a history."""
SHIFTS = (0, 3, 5)
"""Where the stretches of the log that teach begin: to meet other ones is worth more than the same ones again."""
TIMES = {"lora": 5.0, "frozen": 1.0}  # the rate, for the head
TESTED = {"rating": 1300, "choice": 800, "taste": 800}
"""Histories of the validation part, and of the test part."""
SHARES = (0.8, 0.9)
RATES: dict[str, tuple[float, ...]] = {"lora": (1e-3,), "frozen": (5e-4, 1.5e-3, 5e-3)}
"""That are tried; a run of a head alone takes a minute."""
EPOCHS = {"lora": 1, "frozen": 8}


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


def lessons(own: World, reader: Reader, task: str, parts: tuple[int, ...], most: int, seed: int) -> list[Lesson]:
    """Lessons of parts of the log, drawn; the past of each is all that was liked before, in whatever part."""
    rng, made, teaches = np.random.default_rng((seed, parts[0])), [], 0 in parts
    popular = np.bincount(own.rows[own.part == 0], minlength=len(own.training.catalogue)) + 1e-3
    for user in np.unique(own.users):
        places = np.flatnonzero(own.users == user)
        inside = places[np.isin(own.part[places], parts)]
        for start in sorted({n for shift in (SHIFTS if teaches else (0,)) for n in range(shift, len(inside), SHOWN)}):
            shown = inside[start : start + SHOWN]
            before = places[places < shown[0]]
            liked = own.rows[before[own.liked[before]]]
            if not len(liked):
                continue
            if task == "rating":
                made.append((liked, own.rows[shown], own.liked[shown]))
                continue
            new = own.rows[shown[own.liked[shown]]]
            if not len(new):
                continue
            taken = new if teaches else rng.choice(new, 1)
            free = popular.copy() if task == "taste" else np.ones(len(own.training.catalogue))
            free[own.rows[before]] = free[taken] = 0.0
            count = TAUGHT if teaches else OTHERS
            others = rng.choice(len(free), count, replace=False, p=free / free.sum())
            made.append((liked, np.append(taken, others), np.arange(len(taken) + count) < len(taken)))
    chosen = rng.permutation(len(made))[:most]
    return [
        Lesson(reader.frame.past(reader.titles, made[c][0]), made[c][1], made[c][2].astype(np.float32)) for c in chosen
    ]


class Head(nn.Module):
    """The head alone, over vectors that an encoder which does not learn made once."""

    def __init__(self, vectors: Tensor, head: nn.Module, dropout: float) -> None:
        super().__init__()
        self.vectors, self.head, self.dropout = vectors, head, dropout

    def forward(self, places: Tensor, noise: torch.Generator | None = None) -> Tensor:
        return self.head(dropped(self.vectors[places], self.dropout, noise))[:, 0]


@dataclass(frozen=True)
class Once(Reader):
    """A reader that has read every row already, so that an epoch costs next to nothing."""

    places: dict[bytes, int]

    def read(self, rows: Sequence[Row], noise: torch.Generator | None = None) -> Tensor:
        return self.net(torch.tensor([self.places[pair] for row in rows for pair in pairs_of(row)]), noise)


def pairs_of(row: Row) -> list[bytes]:
    """The history with each of the items, which is all that an item's vector depends on."""
    ids, part = row
    past, *items = np.split(ids, np.flatnonzero(np.diff(part)) + 1)
    return [past.tobytes() + item.tobytes() for item in items]


def read_once(reader: Reader, judged: list[Lesson], config: CrossEncoderConfig, threads: int) -> Once:
    """What a frozen encoder makes of every row; the head is fresh."""
    found = {ids.tobytes(): (ids, part) for ids, part in reader.rows(judged)}
    rows = list(found.values())
    ends = np.cumsum([part[-1] for _, part in rows])
    bare = CandidateReader(reader.net.model, reader.net.reading, None, together=reader.net.together)
    plain = dataclasses.replace(reader, net=bare)
    vectors = torch.zeros(int(ends[-1]), width_of(reader.net.model))

    def some(places: list[int]) -> None:
        own = np.concatenate([np.arange(ends[place] - rows[place][1][-1], ends[place]) for place in places])
        with torch.no_grad():
            vectors[own] = plain.read([rows[place] for place in places]).float()

    with side_by_side(threads) as pool, lowered(bare, loop_of(config.train).precision):
        list(pool.map(some, token_batches([len(ids) for ids, _ in rows], budget=BUDGET)))
    net: Any = Head(vectors, copy.deepcopy(reader.net.head), config.dropout)
    places = {pair: place for place, pair in enumerate(pair for row in rows for pair in pairs_of(row))}
    return Once(net, reader.frame, reader.items, reader.titles, reader.pad_id, places)


@dataclass(frozen=True)
class Method:
    """One way to learn a task, from whatever part of the log."""

    own: World
    task: str
    config: CrossEncoderConfig
    options: argparse.Namespace

    def lessons(self, reader: Reader, *parts: int) -> list[Lesson]:
        """Of parts of the log: those that teach, or as many as are judged."""
        most = self.options.lessons if 0 in parts else TESTED[self.task]
        made = lessons(self.own, reader, self.task, parts, most, self.options.seed)
        return made if 0 not in parts or self.task == "rating" else [lesson for lesson in made if lesson.telling]

    def run(self) -> tuple[Reader, dict[str, Any]]:
        """The rate that is best on the validation part; with it, for the test part, everything before that."""
        rates = (self.options.rate,) if self.options.rate else RATES[self.config.tuning.method]
        reader, found = self.taught((0,), 1, rates, self.config.train.epochs, stopped=True)
        best = max(found, key=lambda one: one["auc"])
        if not self.options.test:
            return reader, best
        reader, again = self.taught((0, 1), 2, (best["rate"],), best["best epoch"], stopped=False)
        return reader, {**again[0], "validation": best}

    def taught(
        self, parts: tuple[int, ...], judge: int, rates: tuple[float, ...], epochs: int, *, stopped: bool
    ) -> tuple[Reader, list[dict[str, Any]]]:
        """Learn from parts at each of several rates; what each says of another part, which may stop it as well."""
        own, config, options = self.own, self.config, self.options
        reader = reader_of(config, own.training, item_texts(own.training.catalogue.frame))
        teaching, judging = self.lessons(reader, *parts), self.lessons(reader, judge)
        start, cpu = time.perf_counter(), time.process_time()
        learning, found = reader, []
        if config.tuning.method == "frozen":  # the pairs that LoRA meets, others in each epoch
            batches = epoch_batches(
                teaching, reader.items, batch=config.batch, negatives=config.negatives, seed=own.training.seed
            )
            met = range(options.epochs)
            teaching = [lesson for epoch in met for parts in batches(epoch) for part, _ in parts for lesson in part]
            learning = read_once(reader, [*teaching, *judging], config, own.training.threads)
        fresh = copy.deepcopy(learning.net.state_dict()) if len(rates) > 1 else {}
        for rate in rates:
            learning.net.load_state_dict(fresh or learning.net.state_dict())
            now = config.train.model_copy(update={"learning_rate": rate, "epochs": epochs})
            told = config.model_copy(update={"train": now})
            progress = tune(learning, teaching, judging if stopped else [], config=told, training=own.training)
            minutes = (time.perf_counter() - start) / 60, (time.process_time() - cpu) / 60
            with side_by_side(own.training.threads) as pool, lowered(learning.net, loop_of(now).precision):
                auc = aucs(learning.judged(judging, pool), judging)
            found.append(
                {
                    "auc": round(auc[self.task], 4),
                    "auc over all pairs": round(auc["rating"], 4),
                    "auc within a list": round(auc["choice"], 4),
                    "part judged": ("teaching", "validation", "test")[judge],
                    "rate": rate,
                    "lessons": len(teaching),
                    "pairs judged": sum(len(lesson.rows) for lesson in judging),
                    "best epoch": progress.best_epoch,
                    "epochs": progress.epoch,
                    "minutes so far": round(minutes[0], 2),
                    "cpu minutes so far": round(minutes[1], 2),
                }
            )
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
        return reader, found


def aucs(said: list[np.ndarray], judged: list[Lesson]) -> dict[str, float]:
    """By task: over all pairs, and within a list."""
    labels = np.concatenate([lesson.labels for lesson in judged])
    within = list_auc(said, judged)
    return {"rating": float(roc_auc_score(labels, np.concatenate(said))), "choice": within, "taste": within}


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
    read = reader.frame.rows(reader.frame.past(reader.titles, past), [reader.items.of(int(row)) for row in rows])
    exact = logits(open_session(exported_reader(reader.net, config.model, int8=False), "fp32"), read)
    rough = logits(open_session(onnx, "int8"), read)
    return {
        "ms, median wall": round(float(np.median(walls[2:])), 1),
        "ms, best wall": round(min(walls), 1),
        "ms, median cpu": round(float(np.median(cpus[2:])), 1),
        "threads": config.threads,
        "tokens a candidate": round(sum(len(ids) for ids, _ in read) / len(rows), 1),
        "correlation of int8 with float": round(float(np.corrcoef(exact, rough)[0, 1]), 4),
    }


def say(what: str, done: int, total: int) -> None:
    if total and done % max(1, total // 5) < 10:
        print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", type=int, default=24_000, help="histories that teach")
    parser.add_argument("--epochs", type=int, default=EPOCHS["lora"], help="of LoRA; a head alone has at most 8")
    parser.add_argument("--minutes", type=float, default=GOALS["minutes"], help="of the clock, for each training")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", default="query,value", help="linear parts that learn; '' takes all")
    parser.add_argument("--rate", type=float, help="left out: the best of several for the head alone")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", default="rating,choice,taste")
    parser.add_argument("--methods", default="lora,frozen")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--test", action="store_true")
    options = parser.parse_args()
    own = world(options.seed, options.threads)
    targets = tuple(name for name in options.targets.split(",") if name)
    out: dict[str, object] = {
        "command": " ".join(sys.argv),
        "seed": options.seed,
        "machine": platform.processor() or platform.machine(),
    }
    for task in options.tasks.split(","):
        for method in options.methods.split(","):
            config = CrossEncoderConfig(
                tuning=Tuning(method=method, rank=options.rank, targets=targets, embeddings=True),
                train=TextLoop(
                    epochs=options.epochs if method == "lora" else EPOCHS[method],
                    patience=3,
                    precision=options.precision,
                    minutes=options.minutes,
                    head_rate=TIMES[method],
                ),
                loss="bce" if task == "rating" else "pairwise",
                negatives=NEGATIVES,
                history_tokens=HISTORY,
                batch=options.batch,
            )
            reader, out[f"{task}, {method}"] = Method(own, task, config, options).run()
            print(json.dumps({f"{task}, {method}": out[f"{task}, {method}"]}), file=sys.stderr, flush=True)
    for task in options.tasks.split(","):
        if options.methods == "lora,frozen":
            found: Any = [out[f"{task}, {method}"] for method in ("lora", "frozen")]
            out[f"{task}, lead of lora"] = round(found[0]["auc"] - found[1]["auc"], 4)
            if options.test:
                chosen = [one["validation"]["auc"] for one in found]
                out[f"{task}, lead of lora, validation"] = round(chosen[0] - chosen[1], 4)
    out["100 candidates"] = speed(own, reader, config)
    out["peak GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    out["goals"] = GOALS
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
