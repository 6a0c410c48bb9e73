"""
A small world whose truth is known: why people did what they did, and what would have happened on any other list.

**Acts.** A person has tastes over groups of items; an item has an appeal with a long tail; within a group the items
form a ring, in which one item is the sequel of another. Each act is, with chance ``FOLLOW``, the sequel of the act
before; else, with chance ``FASHION``, any item by appeal; else an item of a group drawn by taste, by appeal within the
group. The first act has nothing to follow. So popularity finds fashion, collaborative signals find taste, and only the
order of acts finds sequels.

**Lists.** Each logged request has ``SLOTS`` candidates. With chance ``EXPLORE`` they are shown in random order, else by
appeal, so that the propensity of an item at its position is known. A person examines position p with chance
``examination[p]`` and clicks what was examined with chance ``relevance``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.data.load import Dataset
from tailwise.errors import ConfigError

Chances = NDArray[np.float64]
Places = NDArray[np.int64]

FOLLOW, FASHION, EXPLORE = 0.4, 0.2, 0.5
SLOTS = 8
"""Positions of a logged list."""
START, DAY = 1_600_000_000.0, 86_400.0
"""Seconds: since epoch, nothing being earlier; and of a day."""
SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "xo", "zu")
GROUP_WORDS, COMMON_WORDS = 8, 12
"""Words that only one group's texts use, and words that all use."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What makes people act. U people, M items, G groups."""

    taste: Chances  # (U, G) rows sum to 1
    group: Places  # (M,) each item's group
    appeal: Chances  # (M,) sums to 1, long-tailed
    sequel: Places  # (M,) the item that follows each one, a permutation
    examination: Chances  # (SLOTS,) chance that a position is looked at

    def choices(self, people: Places) -> Chances:
        """(len(people), M) chances of an act that follows nothing; rows sum to 1."""
        of_group = np.bincount(self.group, self.appeal)  # (G,)
        by_taste = self.taste[people][:, self.group] * (self.appeal / of_group[self.group])
        return np.asarray((1 - FASHION) * by_taste + FASHION * self.appeal)

    def relevance(self, people: Places, items: Places) -> Chances:
        """Chances of a click on an item that was examined, for people and items that broadcast."""
        quality = (self.appeal.argsort().argsort() + 1) / len(self.appeal)  # (M,) in (0, 1]
        return np.asarray(0.05 + 0.9 * np.sqrt(self.taste[people, self.group[items]]) * (0.4 + 0.6 * quality[items]))


@dataclass(frozen=True, eq=False)
class World:
    """A data set, logged lists, and the truth behind both."""

    dataset: Dataset
    logs: pl.DataFrame
    """An impression a row: ``request_id user_id item_id time position propensity click``."""
    truth: Truth
    user_ids: list[str]  # (U,) as in ``truth``
    item_ids: list[str]  # (M,) as in ``truth`` and in ``dataset.items``
    steps: int
    """Acts of each person."""

    def affinity(self, user_id: str) -> Chances:
        """(M,) expected share of each item in the person's acts; they sum to 1. Exact, not drawn."""
        choice = self._choice(user_id)
        now, total = choice, choice
        for _ in range(self.steps - 1):
            followed = np.empty_like(now)
            followed[self.truth.sequel] = now
            now = FOLLOW * followed + (1 - FOLLOW) * choice
            total = total + now
        return np.asarray(total / self.steps)

    def following(self, user_id: str, item_id: str) -> Chances:
        """(M,) chances of the act after one with ``item_id``; they sum to 1."""
        chances = (1 - FOLLOW) * self._choice(user_id)
        chances[self.truth.sequel[self.item_ids.index(item_id)]] += FOLLOW
        return chances

    def relevance(self, user_id: str) -> Chances:
        """(M,) chance that the person clicks an item that was examined."""
        return self.truth.relevance(np.array(self.user_ids.index(user_id)), np.arange(len(self.item_ids)))

    def clicks(self, user_id: str, item_ids: Sequence[str]) -> float:
        """Expected clicks of the person on a list, best first; positions after ``SLOTS`` are not looked at."""
        rows = [self.item_ids.index(item_id) for item_id in item_ids[:SLOTS]]
        return float(self.truth.examination[: len(rows)] @ self.relevance(user_id)[rows])

    def _choice(self, user_id: str) -> Chances:
        return self.truth.choices(np.array([self.user_ids.index(user_id)])).ravel()


def make_world(
    *,
    users: int = 200,
    items: int = 300,
    events_per_user: int = 20,
    groups: int = 6,
    text: bool = True,
    requests: int = 1000,
    seed: int,
) -> World:
    """
    Make a world; the same arguments give identical frames.

    Args:
        users: People, U.
        items: Items, M; at least two a group, and ``SLOTS``.
        events_per_user: Acts of each person.
        groups: Groups, G.
        text: Whether items have a title and a description, whose words tell the group. All else is the same without.
        requests: Logged lists.
        seed: Of everything.

    Raises:
        ConfigError: A number is too small.

    Cost: O(users · events_per_user · log items), 0.3 s for 100,000 events; requests · items numbers for a moment.
    """
    given = {"users": users, "groups": groups, "items": items, "events_per_user": events_per_user, "requests": requests}
    for name, value in given.items():
        least = max(2 * groups, SLOTS) if name == "items" else 1
        if value < least:
            raise ConfigError(f"{name} is {value}, but it must be at least {least}")
    nature, acts, looks, lists = np.random.default_rng(seed).spawn(4)
    user_ids, item_ids = ids_like("u", users), ids_like("i", items)
    truth = draw_truth(users, items, groups, nature)
    dataset = Dataset.of(
        "synthetic",
        events=_events(truth, draw_acts(truth, events_per_user, acts), user_ids, item_ids, acts),
        items=item_table(truth, item_ids, looks, text=text),
        users=pl.DataFrame({"user_id": user_ids, "favourite": [f"group {g}" for g in truth.taste.argmax(axis=1)]}),
        graph=pl.DataFrame({"head": item_ids, "relation": "group", "tail": [f"group:{g}" for g in truth.group]}),
    )
    logs = _lists(truth, user_ids, item_ids, requests, lists)
    return World(dataset, logs, truth, user_ids, item_ids, events_per_user)


def ids_like(letter: str, count: int) -> list[str]:
    """Ids whose order as text is their order as numbers."""
    return [f"{letter}{n:0{len(str(count - 1))}d}" for n in range(count)]


def draw_truth(users: int, items: int, groups: int, rng: np.random.Generator) -> Truth:
    group = rng.permutation(np.arange(items) % groups)
    appeal = rng.permutation(1 / np.arange(1, items + 1) ** 0.8)
    sequel = np.empty_like(group)
    for g in range(groups):
        ring = rng.permutation(np.flatnonzero(group == g))
        sequel[ring] = np.roll(ring, -1)
    examination = 1 / np.arange(1, SLOTS + 1) ** 0.7
    return Truth(rng.dirichlet(np.full(groups, 0.3), users), group, appeal / appeal.sum(), sequel, examination)


def draw_acts(truth: Truth, steps: int, rng: np.random.Generator) -> Places:
    """(U, steps) items, for all people at once, one step after another."""
    by_group = np.argsort(truth.group, kind="stable")  # (M,) items, group after group
    upto = np.cumsum(truth.appeal[by_group])  # (M,) a group is an interval of it
    of_group = np.bincount(truth.group, truth.appeal)  # (G,)
    start = np.cumsum(of_group) - of_group
    tastes = np.cumsum(truth.taste, axis=1)  # (U, G)
    rows = np.empty((len(tastes), steps), np.int64)
    for step in range(steps):
        why, which, where, follow = rng.random((4, len(tastes)))
        wanted = np.minimum((tastes < which[:, None]).sum(axis=1), len(start) - 1)  # (U,) a group by taste
        point = np.where(why < FASHION, where, start[wanted] + where * of_group[wanted])
        rows[:, step] = by_group[np.minimum(np.searchsorted(upto, point, side="right"), len(upto) - 1)]
        if step:
            rows[:, step] = np.where(follow < FOLLOW, truth.sequel[rows[:, step - 1]], rows[:, step])
    return rows


def _events(
    truth: Truth, rows: Places, user_ids: list[str], item_ids: list[str], rng: np.random.Generator
) -> pl.DataFrame:
    """The acts as events: clicks, and the more relevant the item, the more purchases and the better ratings."""
    people = np.arange(len(rows))[:, None]
    gaps = np.maximum(rng.exponential(DAY, rows.shape), 1.0)  # a second at least, so that acts keep their order
    times = np.floor(START + rng.uniform(0, 300 * DAY, people.shape) + gaps.cumsum(axis=1))
    liked = truth.relevance(people, rows)  # (U, steps)
    draw = rng.random(rows.shape)
    kind = np.where(draw < 0.3 * liked, "purchase", np.where(draw > 0.7, "rating", "click"))
    stars = np.clip(np.round(1 + 4 * liked + rng.normal(0, 0.5, rows.shape)), 1, 5)
    return pl.DataFrame(
        {
            "user_id": pl.Series(user_ids).gather(np.repeat(people, rows.shape[1])),
            "item_id": pl.Series(item_ids).gather(rows.ravel()),
            "time": times.ravel(),
            "event": kind.ravel(),
            "value": pl.Series(np.where(kind == "rating", stars, np.nan).ravel()).fill_nan(None),
        }
    )


def item_table(truth: Truth, item_ids: list[str], rng: np.random.Generator, *, text: bool) -> pl.DataFrame:
    """Item facts; the first genre is the group's, and so are most words."""
    count, groups = len(truth.group), int(truth.group.max()) + 1
    second = np.where(rng.random(count) < 0.3, rng.integers(groups, size=count), truth.group)
    pairs = zip(truth.group, second, strict=True)
    frame = pl.DataFrame(
        {
            "item_id": item_ids,
            "genres": [f"genre {a}" if a == b else f"genre {a}|genre {b}" for a, b in pairs],
            "year": rng.integers(1980, 2025, count),
            "price": np.round(rng.lognormal(3, 0.6, count), 2),
        }
    )
    if not text:
        return frame
    names = len(SYLLABLES) ** 4
    codes = rng.permutation(names)[np.arange(GROUP_WORDS * groups + COMMON_WORDS) % names]
    words = [
        "".join(SYLLABLES[code // len(SYLLABLES) ** place % len(SYLLABLES)] for place in range(4)) for code in codes
    ]
    own = truth.group[:, None] * GROUP_WORDS + rng.integers(GROUP_WORDS, size=(count, 8))  # (M, 8)
    common = GROUP_WORDS * groups + rng.integers(COMMON_WORDS, size=(count, 4))  # (M, 4)
    lines = [[words[place] for place in (*mine, *any_)] for mine, any_ in zip(own, common, strict=True)]
    return frame.with_columns(
        title=pl.Series([" ".join([*line[:2], line[8]]) for line in lines]),
        description=pl.Series([" ".join([*line[2:8], *line[9:]]) for line in lines]),
    )


def _lists(
    truth: Truth, user_ids: list[str], item_ids: list[str], requests: int, rng: np.random.Generator
) -> pl.DataFrame:
    """Logged lists of a policy that is sometimes random, with clicks that depend on the position."""
    people = rng.integers(len(user_ids), size=(requests, 1))
    candidates = rng.random((requests, len(item_ids)), np.float32).argpartition(SLOTS - 1)[:, :SLOTS]
    best = np.take_along_axis(candidates, np.argsort(-truth.appeal[candidates]), axis=1)
    shown = np.where(rng.random((requests, 1)) < EXPLORE, rng.permuted(candidates, axis=1), best)  # (R, SLOTS)
    clicked = rng.random(shown.shape) < truth.examination * truth.relevance(people, shown)
    times = np.floor(np.sort(START + rng.uniform(0, 300 * DAY, requests)))
    return pl.DataFrame(
        {
            "request_id": pl.Series(ids_like("r", requests)).gather(np.repeat(np.arange(requests), SLOTS)),
            "user_id": pl.Series(user_ids).gather(np.repeat(people, SLOTS)),
            "item_id": pl.Series(item_ids).gather(shown.ravel()),
            "time": np.repeat(times, SLOTS),
            "position": np.tile(np.arange(1, SLOTS + 1), requests),
            "propensity": (EXPLORE / SLOTS + (1 - EXPLORE) * (shown == best)).ravel(),
            "click": clicked.ravel(),
        }
    )
