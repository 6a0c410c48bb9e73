"""What a slow model thinks, learned by a small network that reads signals: an opinion in well under a millisecond."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from tailwise.artifacts import load_arrays, save_arrays
from tailwise.config import Closed
from tailwise.data.scores import inputs_of
from tailwise.errors import ArtifactError
from tailwise.rank.fusion import standardised
from tailwise.rank.gate import Gate, blended
from tailwise.types import Facts, Floats, Request, Slate


class DistilledConfig(Closed):
    """Settings of the distilled opinion."""

    teacher: str = "listwise_llm"
    """The stage whose opinion is learned: ``listwise_llm`` and ``cross_encoder`` say what they think of each candidate;
    of any other stage that learns, the order is taken."""
    of_teacher: dict[str, Any] = Field(default_factory=dict)
    """The teacher's own settings."""
    depth: Annotated[int, Field(ge=2, le=1_000)] = 20
    """The best of the incoming order that the teacher is asked about, and that are re-ranked."""
    cases: Annotated[int, Field(ge=0)] = 300
    """Held-out cases at most that the teacher is asked about: there its opinion can be compared with what was taken."""
    unlabelled: Annotated[int, Field(ge=0)] = 300
    """Further requests that it is asked about: people of the log, at a moment of their past."""
    judged: Annotated[int, Field(ge=1)] = 2_000
    """Held-out cases at most that say whether the small network helps; the teacher is not asked about them."""
    clicks: Annotated[float, Field(ge=0, le=1)] = 0.3
    """What was taken, as a share of what is learned where it is known; the rest is the teacher's opinion."""
    temperature: Annotated[float, Field(gt=0)] = 0.5
    """Of the teacher's opinion, in its own deviations: lower learns its first places, higher its whole order."""
    hidden: Annotated[int, Field(ge=1, le=1024)] = 16
    """Width of the network, beside the linear part."""
    steps: Annotated[int, Field(ge=1)] = 300
    """Of training, each over all lists."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Of Adam."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.03
    """Of Adam, decoupled."""
    committee: Annotated[int, Field(ge=2, le=10)] = 3
    """Networks whose mean is the opinion; each is judged by people that it did not learn from."""


@dataclass(frozen=True)
class Pupils:
    """P networks over the incoming score and F signals: a linear part and one hidden layer of width D."""

    centre: Floats  # (P, 1 + F)
    spread: Floats  # (P, 1 + F)
    linear: Floats  # (P, 1 + F)
    inner: Floats  # (P, 1 + F, D)
    offset: Floats  # (P, D)
    outer: Floats  # (P, D)

    def opinions(self, table: Floats) -> Floats:
        """(N, 1 + F) to (P, N): what each thinks."""
        scaled = (table - self.centre[:, None]) / self.spread[:, None]  # (P, N, 1 + F)
        hidden = np.tanh(scaled @ self.inner + self.offset[:, None])  # (P, N, D)
        return np.asarray((scaled @ self.linear[:, :, None] + hidden @ self.outer[:, :, None])[:, :, 0], np.float32)


class Distilled:
    """
    Blends in what a slow model would think, where held-out people say that this helps; else it is the identity.

    Args:
        config: Settings.
        names: What each signal is, as the fit saw them.
        gate: For whom the opinion counts, and how much.
        pupils: None keeps the order.

    Cost: about 0.2 ms for 20 candidates; the teacher is never asked.
    """

    Config = DistilledConfig
    gives: frozenset[str] = frozenset()

    def __init__(self, config: DistilledConfig, names: tuple[str, ...], gate: Gate, pupils: Pupils | None) -> None:
        self.config, self.names, self.gate, self.pupils = config, names, gate, pupils

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self.pupils is None else Gate.needs | {"signals"}

    @classmethod
    def open(cls, config: DistilledConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  facts are not needed
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        path = folder / "distilled.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            names, gate, used = tuple(map(str, known["signals"])), Gate.load(known["gate"]), bool(known["used"])
            arrays = load_arrays(folder / "pupils.safetensors") if used else {}
            pupils = Pupils(**{part.name: arrays[part.name] for part in fields(Pupils)}) if used else None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        return cls(config, names, gate, pupils)

    def save(self, folder: Path) -> None:
        """Write the gate, and the networks where they are used."""
        folder.mkdir(parents=True, exist_ok=True)
        known = {"signals": self.names, "gate": self.gate.dump(), "used": self.pupils is not None}
        (folder / "distilled.json").write_text(json.dumps(known, indent=2), encoding="utf-8")
        if self.pupils is not None:
            arrays = {part.name: getattr(self.pupils, part.name) for part in fields(Pupils)}
            save_arrays(folder / "pupils.safetensors", **arrays)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        """
        The slate in the blended order.

        Raises:
            Abstain: The gate says for whom it does not count.
        """
        if self.pupils is None or len(slate) < 2:
            return slate
        weight = self.gate.asked(request, slate)
        best = slate.take(slice(self.config.depth))
        return blended(slate, mean_opinion(self.pupils.opinions(table_of(best))), weight)


def table_of(slate: Slate) -> Floats:
    """What the networks read of the best of a slate: its scores, standardised, and its signals, (N, 1 + F)."""
    signals, base = inputs_of(slate)
    return np.concatenate([standardised([base]), signals], axis=1)


def mean_opinion(opinions: Floats) -> Floats:
    """(P, N) to (N,): the mean, each standardised, since the networks need not agree on a scale."""
    return np.asarray(standardised(list(opinions)).mean(1), np.float32)
