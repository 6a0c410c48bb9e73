"""
A contextual bandit for some places of the list: it tries what it is not sure of, and says with which chance it did.

    the first k of the order, but as many as there are slots ─▶ stay, in order
    the next ones, down to ``depth`` ─▶ one for each slot, drawn by what is known of rewards so far

What it draws from is a distribution that is known exactly, so that ``propensity`` is exact too: for Thompson sampling a
fixed set of draws from the posterior, one of which is picked for each slot; for LinUCB the best bound, and now and then
any candidate.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.interactions import Training
from tailwise.types import Facts, Floats, Request, Slate

Matrix = NDArray[np.float64]

FEATURES = ("constant", "recent", "tail", "new", "near")
"""What it judges by: 1; how popular the item is now, in [0, 1); whether it is of the long tail; how few events there
were, in (0, 1]; the cosine of its meaning to that of what the person liked lately."""
LATELY = 5
"""Liked events whose mean is what the person liked lately."""


class BanditConfig(Closed):
    """Settings of the contextual bandit."""

    slots: tuple[Annotated[int, Field(ge=1)], ...] = (10,)
    """Places of the list, from 1, that it fills; those beyond a request's ``k`` are left out."""
    depth: Annotated[int, Field(ge=1)] = 50
    """The best of the incoming order that it may draw from."""
    policy: Literal["thompson", "linucb"] = "thompson"
    """How it draws."""
    width: Annotated[float, Field(ge=0)] = 1.0
    """How much being unsure counts: of the posterior's deviation (Thompson), or of the bound (LinUCB)."""
    draws: Annotated[int, Field(ge=1, le=4096)] = 256
    """Of Thompson sampling: draws from the posterior, each as likely; no chance but 0 is below one in so many."""
    explore: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of LinUCB: chance that any candidate is taken, each as likely."""
    ridge: Annotated[float, Field(gt=0)] = 1.0
    """Of the rewards' regression: what is believed before there are any."""
    half_life: Annotated[float, Field(gt=0)] | None = None
    """Rewards after which an earlier one counts half; None: all count alike."""
    seed: int = 0
    """Of the draws from the posterior."""


class Bandit:
    """
    Fills slots by a Bayesian linear regression of rewards on ``FEATURES``.

    Args:
        config: Settings.
        precision: (D, D) sum of ``x xᵀ`` over rewarded meetings; zeros know nothing.
        moment: (D,) sum of ``reward x``.

    Source: LinUCB, Li et al., WWW 2010, arXiv 1003.0146; Thompson sampling, Agrawal & Goyal, ICML 2013, arXiv
    1209.3352; from a fixed set of draws, Lu & Van Roy, NeurIPS 2017, arXiv 1705.07347.
    """

    Config = BanditConfig
    needs = frozenset({"recent", "tail", "popularity", "vector"})
    gives = frozenset({"propensity"})

    def __init__(self, config: BanditConfig, facts: Facts, precision: Matrix, moment: Matrix) -> None:
        self.config = config
        self.precision, self.moment = precision, moment
        self._facts = facts
        spread = np.linalg.inv(precision + config.ridge * np.eye(len(FEATURES)))
        self._root = np.linalg.cholesky((spread + spread.T) / 2)  # (D, D)
        self._mean = spread @ moment  # (D,)
        noise = np.random.default_rng(config.seed).standard_normal((len(FEATURES), config.draws))
        self._drawn = self._mean[:, None] + config.width * self._root @ noise  # (D, S)

    @classmethod
    def fit(cls, config: BanditConfig, training: Training) -> Self:
        """Nothing is known of rewards yet; ``tailwise learn`` brings them."""
        size = len(FEATURES)
        return cls(config, training.catalogue, np.zeros((size, size)), np.zeros(size))

    @classmethod
    def open(cls, config: BanditConfig, facts: Facts, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        arrays = load_arrays(folder / "bandit.safetensors")
        return cls(config, facts, arrays["precision"], arrays["moment"])

    def save(self, folder: Path) -> None:
        """Write the sums over rewards."""
        folder.mkdir(parents=True, exist_ok=True)
        save_arrays(folder / "bandit.safetensors", precision=self.precision, moment=self.moment)

    def taught(self, features: Matrix, rewards: Matrix) -> Self:
        """
        The bandit after further meetings.

        Args:
            features: (J, D) of the items that stood in slots, oldest first.
            rewards: (J,) in [0, 1].
        """
        half = self.config.half_life
        fade = np.ones(len(rewards)) if half is None else 0.5 ** (np.arange(len(rewards))[::-1] / half)
        before = 1.0 if half is None else 0.5 ** (len(rewards) / half)
        precision = before * self.precision + (features * fade[:, None]).T @ features
        return type(self)(self.config, self._facts, precision, before * self.moment + (fade * rewards) @ features)

    def features(self, request: Request, slate: Slate) -> Matrix:
        """What it judges each candidate by, (N, D)."""
        columns = slate.columns
        liked = request.past.liked()[-LATELY:]
        lately = np.zeros(columns["vector"].shape[1], np.float32)
        if len(liked):
            ids = self._facts.item_ids[liked]
            lately = self._facts.columns(ids, frozenset({"vector"}))["vector"].mean(axis=0)
            lately = lately / max(float(np.linalg.norm(lately)), 1e-9)
        popularity = np.nan_to_num(columns["popularity"])
        near: Floats = columns["vector"] @ lately
        parts = (np.ones(len(slate)), np.nan_to_num(columns["recent"]), columns["tail"], 1 / (1 + popularity), near)
        return np.stack(parts, axis=1).astype(np.float64)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """The slate with its slots filled, and ``propensity`` (N,): the chance of each place, given those above."""
        shown = min(request.k, len(slate))
        slots = sorted({slot for slot in self.config.slots if slot <= shown})
        fixed = shown - len(slots)
        pool = np.arange(fixed, max(min(self.config.depth, len(slate)), fixed))
        if len(pool) < max(len(slots), 1):
            return slate.add(propensity=np.ones(len(slate), np.float32))
        values = self._values(self.features(request, slate.take(pool)))
        rng = np.random.default_rng([request.seed, *blake2b(request.request_id.encode(), digest_size=8).digest()])
        order, chances = list(range(fixed)), dict.fromkeys(range(len(slate)), 1.0)
        open_places = np.ones(len(pool), bool)
        for slot in slots:
            chance = self._chances(values, open_places)
            taken = int(rng.choice(len(pool), p=chance))
            open_places[taken] = False
            order.insert(slot - 1, int(pool[taken]))
            chances[int(pool[taken])] = float(chance[taken])
        rest = np.setdiff1d(np.arange(len(slate)), order)
        places = np.concatenate([np.array(order, np.int64), rest])
        return slate.take(places).add(propensity=np.array([chances[int(place)] for place in places], np.float32))

    def _values(self, features: Matrix) -> Matrix:
        """What each of P candidates is worth in each of S opinions, (P, S); LinUCB has one."""
        if self.config.policy == "thompson":
            return np.asarray(features @ self._drawn)
        bound = np.linalg.norm(features @ self._root, axis=1)
        return np.asarray(features @ self._mean + self.config.width * bound)[:, None]

    def _chances(self, values: Matrix, open_places: NDArray[np.bool_]) -> Matrix:
        """(P,) chance of each candidate that is not taken yet to be taken next; what ties goes to the earlier one."""
        best = np.where(open_places[:, None], values, -np.inf).argmax(axis=0)  # (S,)
        chance = np.bincount(best, minlength=len(values)) / values.shape[1]
        if self.config.policy == "linucb":
            chance = (1 - self.config.explore) * chance + self.config.explore * open_places / open_places.sum()
        return np.asarray(chance)
