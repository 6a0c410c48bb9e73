"""
What learning on is worth when people change: three models meet the same events, and are judged before each of them.

    python benchmarks/bench_online.py --seeds 1 2 3 --json benchmarks/results/online.json --picture docs/online.png

50 people, 40 items, 8,000 events; in the middle tastes, what is in fashion and what follows what are drawn anew (or
some of these, with --parts). Every list is judged by the expected NDCG@10 by the truth, not by the one event that came.

    online          a round of ``tailwise learn`` every 200 events
    frozen, fresh   the weights of the fit; people's histories up to the last event, as the service keeps them
    frozen          neither
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.changing import EVERYTHING, ChangingWorld, make_changing_world
from tailwise.learn.fit import fit
from tailwise.learn.online import Learner
from tailwise.pipeline import Engine
from tailwise.types import Request

PIPELINE = PipelineConfig(
    encode=EncodeConfig(model="hash", whiten_dim=16),
    retrieve=(
        Step(name="popular", k=40),
        Step(name="ease", k=40, settings={"regularisation": 20.0}),
        Step(name="item_knn", k=40),
        Step(name="next_item", k=40, settings={"regularisation": 5.0}),
        Step(name="again", k=40),
    ),
    stage=(Step(name="fusion"),),
    exclude_seen=False,
)
ARMS = ("online", "frozen, fresh histories", "frozen")
ROUND, BEFORE, AFTER = 200, 1_000, 3_000
WITHIN = 2_000
"""Events after the change by which nine tenths of the loss should be back."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--parts", nargs="*", choices=EVERYTHING, default=EVERYTHING)
    parser.add_argument("--each", type=int, default=4, help="one act in so many is judged")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    found = [run(seed, options.parts, options.each) for seed in options.seeds]
    for result in found:
        print(json.dumps({name: value for name, value in result.items() if name != "curves"}))
    if options.json is not None:
        options.json.write_text(json.dumps({"parts": list(options.parts), "runs": found}, indent=1), encoding="utf-8")
    if options.picture is not None:
        draw(found, options.picture)


def run(seed: int, parts: tuple[str, ...], each: int) -> dict[str, object]:
    world = make_changing_world(users=50, items=40, days=160, groups=6, seed=seed, parts=parts)  # type: ignore[arg-type]  # argparse checked
    half, events = len(world.people) // 2, world.dataset.events
    curves: dict[str, list[float]] = {arm: [] for arm in ARMS}
    decisions: list[str] = []
    with tempfile.TemporaryDirectory() as cache:
        data = world.dataset.with_events(events.head(half - BEFORE))
        fitted = fit(data, PIPELINE, seed=seed, settings=Settings(cache=Path(cache), threads=1))
    learner, spent = Learner(fitted, Path(), seed=seed), 0.0
    for start in range(half - BEFORE, half + AFTER, ROUND):
        acts = range(start, start + ROUND, each)
        for arm, (engine, fresh) in zip(ARMS, ((learner.engine, True), (fitted, True), (fitted, False)), strict=True):
            curves[arm].append(float(np.mean([worth(engine, world, act, fresh=fresh) for act in acts])))
        began = time.process_time()
        learner.take(events.slice(start, ROUND))
        decisions.append(learner.round().decision)
        spent += time.process_time() - began
    return {
        "seed": seed,
        **{f"recovered: {arm}": round(recovered(curve), 3) for arm, curve in curves.items()},
        "before": round(float(np.mean(curves["online"][: BEFORE // ROUND])), 4),
        "right after": round(curves["online"][BEFORE // ROUND], 4),
        "cpu s a round": round(spent / len(decisions), 2),
        "decisions": {name: decisions.count(name) for name in sorted(set(decisions))},
        "curves": curves,
    }


def worth(engine: Engine, world: ChangingWorld, act: int, *, fresh: bool) -> float:
    user = world.user_ids[world.people[act]]
    if fresh:
        past = world.past(act)
        asked = Request("bench", history=past.place(engine.catalogue.rows(past.item_ids)), k=10)
    else:
        asked = Request("bench", user_id=user, k=10)
    return world.worth(act, engine.answer(asked).slate.item_ids.tolist())


def recovered(curve: list[float]) -> float:
    """Of what was lost right after the change, the share that is back in the last two rounds within ``WITHIN``."""
    change, end = BEFORE // ROUND, (BEFORE + WITHIN) // ROUND
    before, after = float(np.mean(curve[:change])), curve[change]
    return (float(np.mean(curve[end - 2 : end])) - after) / (before - after)


def draw(found: list[dict[str, object]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), dpi=130)
    places = np.arange(-BEFORE, AFTER, ROUND) + ROUND / 2
    for arm, colour in zip(ARMS, ("#1b6ca8", "#d98324", "#8a8a8a"), strict=True):
        curves = np.array([result["curves"][arm] for result in found])  # type: ignore[index]  # a dict of lists
        axes.plot(places, curves.mean(0), color=colour, label=arm)
        axes.fill_between(places, curves.min(0), curves.max(0), color=colour, alpha=0.15, linewidth=0)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("events since tastes, fashion and sequels changed")
    axes.set_ylabel("expected NDCG@10")
    axes.set_ylim(0)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.text(0.01, 0.02, f"mean and range of {len(found)} seeds", fontsize=8, transform=axes.transAxes)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
