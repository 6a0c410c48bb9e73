"""What was to be reached, and whether it was: from the results alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quality.measure import MAIN
from quality.results import TAIL, ours

FIXED = {
    ("ml-100k", "last"): {MAIN: 0.130, "fit_wall_s": 90},
    ("movies", "last"): {MAIN: 0.0776, "coverage@10": 0.21},
}
"""The best known rows on these splits and what is asked beyond them."""
TWO_STAGE = ("LightGBM LambdaMART",)
BEYOND_SINGLE, BEYOND_GIVEN, BEYOND_BARE, BEYOND_CHANCE, BEYOND_GENRE = 1.10, 1.10, 1.5, 5.0, 2.0


@dataclass(frozen=True)
class Goal:
    what: str
    asked: str
    reached: str
    met: bool


def goals_of(content: dict[str, Any]) -> list[Goal]:
    return [*_ranking(content), *_tail(content), *_given(content), *_cold(content)]


def _ranking(content: dict[str, Any]) -> Iterator[Goal]:
    own = ours(content)
    if own is None:
        return
    fixed = FIXED.get((content["data"], content["protocol"]), {})
    for key, asked in fixed.items():
        if key == "fit_wall_s":
            seconds = own[key]
            yield Goal("fit on this machine", f"≤ {asked} s", f"{seconds:.0f} s", seconds <= asked)
            continue
        yield Goal(key.replace("ndcg", "NDCG"), f"≥ {asked}", f"{own['mean'][key]:.4f}", own["mean"][key] >= asked)
    if MAIN in fixed:
        return
    reached = own["mean"][MAIN]
    for kind, words in (("peer", "the best single peer"), ("source", "the best of our own sources, alone")):
        single = [one for one in content["methods"] if one["kind"] == kind and one["name"] not in TWO_STAGE]
        if single:
            best = max(single, key=lambda one: one["mean"][MAIN])
            asked = BEYOND_SINGLE * best["mean"][MAIN]
            text = f"≥ {asked:.4f}, {BEYOND_SINGLE:.2f} × {words} ({best['name']})"
            yield Goal("NDCG@10", text, f"{reached:.4f}, {ratio(reached, best['mean'][MAIN])}", reached >= asked)


def _tail(content: dict[str, Any]) -> Iterator[Goal]:
    own = ours(content)
    bare = next((one for one in content.get("ablation", ()) if one["name"] == "without text"), None)
    if own is None or bare is None or not bare["tail"]:
        return
    reached = own["mean"][TAIL]
    text = f"≥ {BEYOND_BARE} × the same without text ({bare['tail']:.4f})"
    yield Goal(
        "NDCG@10 of long-tail targets",
        text,
        f"{reached:.4f}, {ratio(reached, bare['tail'])}",
        reached >= BEYOND_BARE * bare["tail"],
    )


def _given(content: dict[str, Any]) -> Iterator[Goal]:
    found = [one for one in content.get("given", ()) if one["ratio"]]
    if not found:
        return
    best, worst = found[0], min(found, key=lambda one: one["ratio"])
    yield Goal(
        f"re-ranking the best source's 100 ({best['source']})",
        f"≥ {BEYOND_GIVEN:.2f} × the given order",
        times(best["ratio"]),
        best["ratio"] >= BEYOND_GIVEN,
    )
    yield Goal(
        "re-ranking any source's 100",
        "never below the given order",
        f"{times(worst['ratio'])} at worst ({worst['source']})",
        worst["ratio"] >= 1,
    )


def _cold(content: dict[str, Any]) -> Iterator[Goal]:
    rows = {one["name"]: one["mean"] for one in content.get("cold", {}).get("rows", ())}
    reached = rows.get("tailwise")
    if reached is None:
        return
    for name, factor in (("random", BEYOND_CHANCE), ("popularity of its genre", BEYOND_GENRE)):
        if name in rows:
            yield Goal(
                "recall@50 of items that nobody had",
                f"≥ {factor:.0f} × {name} ({rows[name]:.4f})",
                f"{reached:.4f}, {ratio(reached, rows[name])}",
                reached >= factor * rows[name],
            )


def ratio(value: float, against: float) -> str:
    return times(value / against) if against else "–"


def times(factor: float) -> str:
    """Cut, not rounded: what falls short of a goal must not look as if it did not."""
    return f"{math.floor(factor * 100 + 1e-6) / 100:.2f} ×"
