"""
What a model without a single event is worth: a few chosen items, or a query, against random and item order.

    python benchmarks/bench_day0.py [DIR …] [--people 300] [--queries 300] [--columns title_zh …] [--json OUT]

The events of DIR (default: MovieLens 100K) are hidden from the fit and only say what people liked: ratings of 4 or
more, or any event that speaks for an item. Three questions, NDCG@10 and recall@50 over the whole catalogue:

- chosen items: 1, 3 or 5 liked items of a person are the history, the person's other liked items are to be found;
- the same among equals: one liked item among 99 untouched ones of the nearest popularity, so that being known does not
  help: NDCG@10;
- queries: a held-out item's labels and year, or its tags, or the first half of its title are the query, the item is to
  be found.

"File order" is how the items file happens to stand. In MovieLens what people rated first has the lowest number, so that
it gives away what is popular; "id order" and "random" do not.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from bench_quality import movielens

import tailwise
from tailwise.config import EncodeConfig, PipelineConfig
from tailwise.data.files import find_tables, read_table
from tailwise.data.load import Dataset, load
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Rescore

LEAST_LIKED = 12
EQUALS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--columns", nargs="*", default=())
    parser.add_argument("--model", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for folder in options.folders or [movielens().folder]:
        assert folder is not None, "the data set came from a folder"
        data = load(folder)
        config = PipelineConfig(encode=EncodeConfig(model=options.model, columns=tuple(options.columns)))
        hidden = Dataset(data.name, data.events.clear(), data.items)
        engine = tailwise.fit(hidden, config, seed=options.seed)
        kinds = {"day 0": engine, **{name: alone(engine, name) for name in ("text", "words", "numbers")}}
        draw = np.random.default_rng(options.seed)
        for question, cases in questions(data, options.people, options.queries, draw):
            for name, order in {**kinds, **orders(folder, data, draw)}.items():
                rows.append({"data": data.name, "question": question, "order": name, **worth(order, cases)})
                print(
                    " | ".join(
                        f"{value:.4f}" if isinstance(value, float) else str(value) for value in rows[-1].values()
                    )
                )
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


Case = dict[str, Any]
Order = Engine | Callable[[Case], list[str]]


def questions(data: Dataset, people: int, queries: int, draw: np.random.Generator) -> Iterator[tuple[str, list[Case]]]:
    """Each question with its cases: a request, and the items that are right."""
    liked = liked_by(data)
    chosen = [liked[user] for user in draw.permutation(sorted(liked))[:people]]
    counts = dict(data.events.group_by("item_id").len().iter_rows())
    ranked = sorted(data.items["item_id"], key=lambda item: (-counts.get(item, 0), item))
    place = {item: rank for rank, item in enumerate(ranked)}
    for size in (1, 3, 5):
        cases, equals = [], []
        for own in chosen:
            history = [str(item) for item in draw.permutation(own)[:size]]
            rest = [item for item in own if item not in history]
            cases.append({"history": history, "right": rest, "k": 50})
            target = str(draw.choice(rest))
            near = sorted(set(ranked) - set(own), key=lambda item: abs(place[item] - place[target]))[: EQUALS - 1]
            slate = [str(item) for item in draw.permutation([target, *near])]
            equals.append({"history": history, "right": [target], "k": 50, "candidates": slate, "exclude_seen": False})
        yield f"{size} chosen", cases
        yield f"{size} chosen, among equals", equals
    facts = data.items.to_dicts()
    for name, ask in QUERIES.items():
        asked = [(fact["item_id"], ask(fact)) for fact in (facts[row] for row in draw.permutation(len(facts)))]
        cases = [{"query": query, "right": [item], "k": 50} for item, query in asked if query][:queries]
        if len(cases) >= min(queries, 50):
            yield f"query: {name}", cases


def labels_and_year(fact: Case) -> str:
    labels = " ".join(str(fact.get(name) or "").replace("|", " ") for name in ("genres", "categories"))
    return f"{labels} {fact['year']:g}".strip() if labels.strip() and fact.get("year") else ""


def half_title(fact: Case) -> str:
    words = str(fact.get("title") or "").split()
    return " ".join(words[: math.ceil(len(words) / 2)])


QUERIES: dict[str, Callable[[Case], str]] = {
    "labels and year": labels_and_year,
    "tags": lambda fact: str(fact.get("tags") or "").replace("|", " "),
    "half the title": half_title,
}


def liked_by(data: Dataset) -> dict[str, list[str]]:
    """What each person liked, of those who liked enough."""
    events = data.events.filter((pl.col("event") != "rating") | (pl.col("value") >= 4))
    lists = (
        events.filter(~pl.col("event").is_in(["skip", "dislike"])).group_by("user_id").agg(pl.col("item_id").unique())
    )
    return {user: sorted(items) for user, items in lists.iter_rows() if len(items) >= LEAST_LIKED}


def orders(folder: Path, data: Dataset, draw: np.random.Generator) -> dict[str, Order]:
    """What needs no model."""
    files = find_tables(folder)
    table = read_table(files["items"], "items") if isinstance(files, dict) else data.items
    assert isinstance(table, pl.DataFrame), "it was loaded before"
    as_filed = table["item_id"].cast(pl.String).to_list()

    def fixed(order: list[str]) -> Callable[[Case], list[str]]:
        def answer(case: Case) -> list[str]:
            allowed = set(case.get("candidates", order)) - set(case.get("history", ()))
            return [item for item in order if item in allowed][:50]

        return answer

    by_id = data.items["item_id"].to_list()
    return {
        "file order": fixed(as_filed),
        "id order": fixed(by_id),
        "random": lambda case: fixed([str(item) for item in draw.permutation(by_id)])(case),  # noqa: PLW0108  anew each time
    }


def alone(engine: Engine, name: str) -> Order:
    """One source by itself."""
    bound = next(bound for bound in engine.sources if bound.step.name == name)
    return replace(engine, sources=(bound,), stages=(replace(bound, run=Rescore(bound.run)),))


def worth(order: Order, cases: list[Case]) -> dict[str, float]:
    """NDCG@10 and recall@50, means over cases."""
    ndcg, recall = [], []
    for case in cases:
        fields = {name: value for name, value in case.items() if name != "right"}
        found = list(order.rank(**fields).item_ids) if isinstance(order, Engine) else order(case)
        right = set(case["right"])
        hits = np.array([item in right for item in found], float)
        discounts = 1 / np.log2(np.arange(2, 12))
        ndcg.append(float((hits[:10] * discounts[: len(hits[:10])]).sum() / discounts[: len(right)].sum()))
        recall.append(float(hits[:50].sum() / min(50, len(right))))
    return {"ndcg@10": float(np.mean(ndcg)), "recall@50": float(np.mean(recall))}


if __name__ == "__main__":
    main()
