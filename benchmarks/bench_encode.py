"""
Encoders on the CPU: speed against sentence-transformers, and what eight bits and fewer layers cost in quality.

    python benchmarks/bench_encode.py speed   [DIR] [--texts 1000] [--repeats 5] [--again 0.3]
    python benchmarks/bench_encode.py quality [DIR …] [--people 600]

``speed``: process CPU seconds for the first ``--texts`` item texts, one thread, the ways interleaved, medians. "with
repeats" is the same number of texts, of which a share ``--again`` is drawn from the others: variants of a product
share their text, searches come back. What is there twice is embedded once, by us alone: sentence-transformers has no
such way.

``quality``: each of the last 20 events of a person foretold from those before it, by what texts say alone (NDCG@10 over
the whole catalogue), for float and int8 and for the first 6, 4, 3, 2 layers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl
from bench_quality import movielens

from tailwise.config import Settings
from tailwise.data.load import Dataset, load
from tailwise.encode.cache import EmbeddingCache, encode_cached
from tailwise.encode.exported import OnnxEncoder
from tailwise.encode.reduce import Whitening
from tailwise.encode.text import item_texts, open_encoder
from tailwise.nets.export import export_encoder, weights_of
from tailwise.types import Floats

MODEL = "all-MiniLM-L6-v2"
GOALS = {"int8": 2.0, "int8, with repeats": 3.0}
LEAST_COSINE = 0.99
DECAY = 0.2
LAST = 20
"""Events of a person that are to be foretold, each from those before it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "quality"])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--again", type=float, default=0.3)
    parser.add_argument("--people", type=int, default=600)
    parser.add_argument("--items", type=int, help="of quality: the most popular so many (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sets = [load(folder) for folder in options.folders or [movielens().folder]]
    if options.what == "speed":
        sys.exit(not speed(sets[0], options))
    for data in sets:
        quality(data, options)


def speed(data: Dataset, options: argparse.Namespace) -> bool:
    """Print CPU seconds by way; whether the goals were reached."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    texts = item_texts(data.items)[: options.texts]
    draw = np.random.default_rng(options.seed)
    own = round(len(texts) * (1 - options.again))
    repeated = [
        texts[row] for row in draw.permutation(np.append(np.arange(own), draw.integers(0, own, len(texts) - own)))
    ]
    peer = SentenceTransformer(weights_of(MODEL), device="cpu")
    ours = {kind: encoder(int8=kind == "int8") for kind in ("int8", "fp32")}
    ways: dict[str, Callable[[], Floats]] = {
        "sentence-transformers fp32": lambda: peer.encode(texts, normalize_embeddings=True),
        "int8, one text at a time": lambda: np.concatenate([ours["int8"].encode([text]) for text in texts]),
        "int8": lambda: ours["int8"].encode(texts),
        "fp32": lambda: ours["fp32"].encode(texts),
        "int8, with repeats": lambda: encode_cached(ours["int8"], repeated, None)[0],
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    made: dict[str, Floats] = {}
    for _ in range(options.repeats):
        for way, run in ways.items():
            start = time.process_time()
            made[way] = run()
            seconds[way].append(time.process_time() - start)
    taken = {way: statistics.median(found) for way, found in seconds.items()}
    base = taken["sentence-transformers fp32"]
    print(
        f"{len(texts)} item texts of {data.name}, {options.repeats} interleaved repeats, CPU seconds (median), 1 thread"
    )
    reached = True
    for way, found in taken.items():
        expected = made["sentence-transformers fp32"]
        cosines = None if way == "int8, with repeats" else (made[way] * expected).sum(axis=1)
        near = "" if cosines is None else f", cosine mean {cosines.mean():.4f} least {cosines.min():.4f}"
        print(f"  {way}: {found:.3f} s, {base / found:.2f} times as fast{near}")
        good = base / found >= GOALS.get(way, 0.0) and (cosines is None or cosines.mean() >= LEAST_COSINE)
        reached &= good
        if way in GOALS:
            print(f"    goal: at least {GOALS[way]} times: {'reached' if good else 'MISSED'}")
    return reached


def quality(data: Dataset, options: argparse.Namespace) -> None:
    """Print NDCG@10 of the text source, cosine and CPU time, by layers and width of weights."""
    if options.items is not None:
        known = data.events["item_id"].value_counts().sort(["count", "item_id"], descending=[True, False])["item_id"]
        kept = pl.col("item_id").is_in(known[: options.items].implode())
        data = Dataset(data.name, data.events.filter(kept), data.items.filter(kept))
    texts = item_texts(data.items)
    place = {item: row for row, item in enumerate(data.items["item_id"])}
    pasts: dict[str, list[int]] = {}
    for user, item in data.events.select("user_id", "item_id").iter_rows():
        pasts.setdefault(user, []).append(place[item])
    people = np.random.default_rng(options.seed).permutation(sorted(pasts))[: options.people]
    cases = [(pasts[user][:at], pasts[user][at]) for user in people for at in range(1, len(pasts[user]))[-LAST:]]
    cache = EmbeddingCache(Settings.from_environment().cache / "embeddings.sqlite")
    print(f"{data.name}: {len(texts)} items, {len(cases)} events of {len(people)} people")
    print("  layers, weights, NDCG@10, change by int8")
    whole: Floats | None = None
    for layers in (None, 4, 3, 2):
        float_ndcg = float("nan")
        for int8 in (False, True):
            vectors, _ = encode_cached(encoder(int8=int8, layers=layers), texts, cache)
            whole = vectors if whole is None else whole
            items = Whitening.fit(vectors, dim=128).transform(vectors)
            ndcg = float(np.mean([earned(items, past, target) for past, target in cases]))
            float_ndcg = ndcg if not int8 else float_ndcg
            cosine = float((vectors * whole).sum(axis=1).mean())
            kind = "int8" if int8 else "fp32"
            print(
                f"  {layers or 'all'} {kind} {ndcg:.4f} {ndcg / float_ndcg - 1:+.1%} cosine to all layers {cosine:.3f}"
            )


def earned(items: Floats, past: list[int], target: int) -> float:
    """NDCG@10 of one target by cosine to the decayed mean of the past, what was seen left out."""
    recent = np.array(past[::-1][:200])
    profile = np.exp(-DECAY * np.arange(len(recent))).astype(np.float32) @ items[recent]
    scores = items @ profile
    wanted = scores[target]
    scores[past] = -np.inf
    rank = int((scores > wanted).sum())
    return float(1 / np.log2(rank + 2)) if rank < 10 else 0.0


def encoder(*, int8: bool, layers: int | None = None) -> OnnxEncoder:
    """An encoder of the cache folder, exported when it is not there."""

    def export(model: str, folder: Path) -> Path:
        return export_encoder(model, folder, int8=int8, layers=layers)

    cache = Settings.from_environment().cache
    found = open_encoder(MODEL, cache=cache, threads=1, max_tokens=64, export=export, layers=layers, int8=int8)
    assert isinstance(found, OnnxEncoder), "it is a language model"
    return found


if __name__ == "__main__":
    main()
