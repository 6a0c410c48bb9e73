"""LambdaMART: the best of the incoming order, each judged by boosted trees over all that is known of it (LightGBM)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from tailwise.config import Closed
from tailwise.data.scores import inputs_of, past_speaks, with_best_moved
from tailwise.errors import ArtifactError, UnavailableError
from tailwise.types import Facts, Floats, Request, Slate


class BoostedConfig(Closed):
    """Settings of the boosted trees."""

    depth: Annotated[int, Field(ge=2, le=10_000)] = 100
    """The best of the incoming order that are re-ranked; the others stay behind them, as they came."""
    trees: Annotated[int, Field(ge=1)] = 300
    """Of each member at most; it keeps as many as were best for people that it did not learn from."""
    patience: Annotated[int, Field(ge=1)] = 50
    """Trees without a gain after which a member stops."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    """What each tree counts."""
    leaves: Annotated[int, Field(ge=2)] = 15
    """Of a tree."""
    least_in_leaf: Annotated[int, Field(ge=1)] = 100
    """Candidates that a leaf must hold."""
    ridge: Annotated[float, Field(ge=0)] = 10.0
    """On what a leaf says."""
    share_of_signals: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Drawn for each tree."""
    share_of_candidates: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Drawn for each tree."""
    top: Annotated[int, Field(ge=1)] = 20
    """Places whose order is learned: pairs with neither in them teach nothing."""
    committee: Annotated[int, Field(ge=2, le=10)] = 3
    """Members whose mean decides; each is stopped, and judged, by people that it did not learn from."""
    cases: Annotated[int, Field(ge=1)] = 4_000
    """At most so many cases of held-out people teach it."""


class Boosted:
    """
    Re-ranks the first ``depth`` of a slate; the identity when held-out people said that it does not help.

    Args:
        config: Settings.
        names: What each signal is, as the fit saw them.
        trees: LightGBM's text of each member, over the columns ``base``, then signals; none keeps the order.
        worth: What a unit of the incoming score counts beside each member's trees.

    Raises:
        UnavailableError: LightGBM is not installed, and there are trees.
        ArtifactError: A member is no model that LightGBM can read.

    Cost: about 1 ms for 100 candidates, 3 members of some hundred trees.
    """

    Config = BoostedConfig
    gives: frozenset[str] = frozenset()

    def __init__(
        self, config: BoostedConfig, names: tuple[str, ...], trees: tuple[str, ...], worth: tuple[float, ...]
    ) -> None:
        self.config = config
        self.names = names
        self.trees = trees
        self._worth = worth
        self._members = [booster(text) for text in trees]

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"signals"}) if self._members else frozenset()

    @classmethod
    def open(cls, config: BoostedConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  facts are not needed
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or damaged.
            UnavailableError: LightGBM is not installed, and the trees are used.
        """
        path = folder / "boosted.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            names, worth = tuple(map(str, known["signals"])), tuple(map(float, known["worth"]))
            trees = tuple(_file(folder, part).read_text(encoding="utf-8") for part in range(len(worth)))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        return cls(config, names, trees, worth)

    def save(self, folder: Path) -> None:
        """Write the trees as LightGBM's text, and what they read."""
        folder.mkdir(parents=True, exist_ok=True)
        known = {"signals": self.names, "worth": self._worth}
        (folder / "boosted.json").write_text(json.dumps(known, indent=2), encoding="utf-8")
        for part, text in enumerate(self.trees):
            _file(folder, part).write_text(text, encoding="utf-8")

    def __call__(self, request: Request, slate: Slate) -> Slate:
        if not self._members or len(slate) < 2 or not past_speaks(request):
            return slate
        signals, base = inputs_of(slate.take(slice(self.config.depth)))
        table = columns_of(signals, base)
        judged = [worth * base + predicted(own, table) for own, worth in zip(self._members, self._worth, strict=True)]
        return with_best_moved(slate, np.mean(judged, axis=0, dtype=np.float32))


def columns_of(signals: Floats, base: Floats) -> Floats:
    """What the trees read: (…, F) signals and (…,) incoming scores to (…, 1 + F)."""
    return np.concatenate([base[..., None], signals], axis=-1)


def library() -> Any:
    """
    The module ``lightgbm``.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise UnavailableError("boosted needs LightGBM: pip install 'tailwise[boost]'") from error
    return lightgbm


def booster(text: str) -> Any:
    """
    A LightGBM model from its text.

    Raises:
        UnavailableError: LightGBM is not installed.
        ArtifactError: It is no such text.
    """
    lightgbm = library()
    try:
        return lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ArtifactError(f"the boosted trees cannot be read ({error}); fit the model again") from error


def predicted(trees: Any, table: Floats) -> Floats:
    """(N, 1 + F) to (N,) float32: what the trees add to the incoming scores, on one thread."""
    return np.asarray(trees.predict(table, raw_score=True, num_threads=1), np.float32)


def _file(folder: Path, part: int) -> Path:
    return folder / f"trees-{part + 1}.txt"
