"""
Us and the peers on the same splits, judged by the same code; writes docs/benchmarks.md, its pictures and the README's
table.

    make bench-quality
    python benchmarks/bench_quality.py --data shop=data/shop:basket --only shop --seeds 0

MovieLens 100K always takes part, unless ``--only`` leaves it out; ``--data`` adds folders, each with a protocol: last,
time, basket or sparse. Peers get environments of their own under ``.venv-peers``. Whatever was made is kept under
``benchmarks/cache``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quality import page, results, studies
from quality.measure import MAIN, Result
from quality.ours import WHOLE, our_results
from quality.peers import PEERS, ROOT, Peer, peer_runs
from quality.tasks import PROTOCOLS, Task, movielens, task_of

import tailwise

__all__ = ["main", "movielens"]
OWN = "ml-100k"
PEER_NAMES = tuple(peer.name for peer in PEERS)
"""A peer that cannot take part is said, and no failure of the run."""
Say = Callable[[str], None]
start = time.perf_counter()


def main() -> None:
    options = arguments()
    failed = False
    for name, place, protocol in chosen(options):
        try:
            data = movielens() if place is None else tailwise.load(place)
            task = task_of(
                name, data, protocol, ROOT / "benchmarks" / "cache" if options.out is None else options.out / "cache"
            )
        except Exception as error:  # noqa: BLE001  the other data sets go on
            say(f"{name} is left out: {type(error).__name__}: {error}")
            failed = True
            continue
        say(f"{name}, {protocol}: {task.about}")
        sections = run(task, options)
        folder = results.FOLDER if options.out is None else options.out / "results"
        path = results.write(task, sections, command=command(), seeds=options.seeds, folder=folder, keep=options.keep)
        say(f"wrote {path}")
        failed |= not options.skip_ours and any(not text.startswith(PEER_NAMES) for text in sections["left_out"])
    publish(options.out)
    sys.exit(failed)


def publish(out: Path | None) -> None:
    """The page and the README's table; ``out`` gets a page of its own and leaves the project alone."""
    every = results.read(results.FOLDER if out is None else out / "results")
    for path in page.write(every, ROOT / "docs" if out is None else out):
        say(f"wrote {path}")
    if out is None and page.readme(ROOT / "README.md", every):
        say("wrote the README's table")


def run(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one task; what fails is named in ``left_out`` and the rest goes on."""
    left_out: list[str] = []

    def attempt(what: str, work: Callable[[], Any], nothing: Any) -> Any:
        try:
            return work()
        except Exception as error:  # noqa: BLE001  one part must not end a run of hours
            left_out.append(f"{what}: {type(error).__name__}: {str(error)[:300]}")
            say(f"{what} is left out: {type(error).__name__}: {error}")
            return nothing

    found: list[Result] = []
    if not options.skip_peers:
        for peer in PEERS:
            seeds = seeds_of(peer, task, options)
            if seeds and peer.name not in (*options.leave_out, *options.keep):
                own = attempt(peer.name, lambda peer=peer, seeds=seeds: peer_runs(task, peer, seeds, say), None)
                found += [] if own is None else [show(own)]
    sections: dict[str, Any] = {}
    parts = options.parts_seeds or options.seeds
    if not options.skip_ours:
        found += [show(own) for own in attempt("tailwise", lambda: our_results(task, WHOLE, options.seeds, say), [])]
        if not options.skip_ablation:
            variants = attempt("the ablation", lambda: studies.ablation(task, parts, say, every=task.name == OWN), [])
            sections["ablation"] = results.variants_of(variants) if variants else []
        if not options.skip_studies:
            given = attempt("re-ranking", lambda: studies.reranking(task, options.seeds, say), [])
            sections["given"] = results.given_of(given)
            if not options.skip_cold:
                cold = attempt("cold items", lambda: studies.cold(task, parts, say), None)
                sections["cold"] = None if cold is None else results.cold_of(cold)
    full = {"methods": results.methods_of(found), "pasts": results.pasts_of(task, found), **sections}
    return {**{name: part for name, part in full.items() if part}, "left_out": left_out}


def seeds_of(peer: Peer, task: Task, options: argparse.Namespace) -> Sequence[int]:
    """A costly peer takes fewer."""
    seeds: list[int] = options.seeds
    if task.name != OWN:
        return seeds[: peer.elsewhere]
    return seeds if peer.elsewhere is None else options.parts_seeds or seeds


def chosen(options: argparse.Namespace) -> list[tuple[str, Path | None, str]]:
    """Data sets in order: name, folder (None: fetched) and protocol."""
    every: list[tuple[str, Path | None, str]] = [(OWN, None, "last"), *options.data]
    return [one for one in every if not options.only or one[0] in options.only]


def data_option(text: str) -> tuple[str, Path, str]:
    """``NAME=FOLDER:PROTOCOL``."""
    name, _, rest = text.partition("=")
    folder, _, protocol = rest.rpartition(":")
    if not name or not folder or protocol not in PROTOCOLS:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER:PROTOCOL with one of: {', '.join(PROTOCOLS)}")
    return name, Path(folder), protocol


def show(result: Result) -> Result:
    say(f"  {result.method}: NDCG@10 {result.mean(MAIN):.4f}")
    return result


def say(text: str) -> None:
    print(f"[{time.perf_counter() - start:7.0f} s] {text}", flush=True)


def command() -> str:
    """What was typed, with the names of data folders and not their places."""
    words = sys.argv[1:]
    if "--out" in words:
        place = words.index("--out")
        words = words[:place] + words[place + 2 :]
    for place, word in enumerate(words):
        if place and words[place - 1] == "--data":
            name, folder, protocol = data_option(word)
            words[place] = f"{name}={folder.name}:{protocol}"
    return shlex.join(["make", "bench-quality", *([f"ARGS={shlex.join(words)}"] if words else [])])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=data_option, action="append", default=[], metavar="NAME=FOLDER:PROTOCOL")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this data set alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--parts-seeds",
        type=int,
        nargs="+",
        default=[],
        help="of the ablation, of cold items and of SASRec; default: --seeds",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write here; default: docs/, README, benchmarks/results"
    )
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--leave-out", action="append", default=[], metavar="PEER", choices=[p.name for p in PEERS])
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="PEER",
        choices=[p.name for p in PEERS],
        help="do not run it again: its figures of the last run on the same task stay in the table",
    )
    parser.add_argument("--skip-ours", action="store_true", help="peers alone")
    parser.add_argument("--skip-ablation", action="store_true")
    parser.add_argument("--skip-studies", action="store_true", help="no re-ranking of given lists, no cold items")
    parser.add_argument("--skip-cold", action="store_true", help="no cold items")
    return parser.parse_args()


if __name__ == "__main__":
    main()
