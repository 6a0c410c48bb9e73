"""The list-wise re-ranker: the best of the incoming order, judged together by all that is known of each (ONNX)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from tailwise.config import Closed
from tailwise.data.scores import inputs_of, past_speaks, with_best_moved
from tailwise.errors import ArtifactError
from tailwise.nets.session import open_session
from tailwise.nets.settings import LoopConfig, SlateShape
from tailwise.types import Facts, Request, Slate


class AttentionConfig(Closed):
    """Settings of the list-wise re-ranker."""

    depth: Annotated[int, Field(ge=2)] = 100
    """The best of the incoming order that are re-ranked; the others stay behind them, as they came."""
    shape: SlateShape = SlateShape()
    """Of each network."""
    train: LoopConfig = LoopConfig(epochs=20, learning_rate=4e-3, weight_decay=0.01, patience=3)
    """How they learn."""
    committee: Annotated[int, Field(ge=2, le=10)] = 3
    """Networks whose mean decides; each is stopped, and judged, by people that it did not learn from."""
    cases: Annotated[int, Field(ge=1)] = 3_000
    """At most so many cases of held-out people teach it."""
    batch: Annotated[int, Field(ge=2)] = 64
    """Slates a step."""
    ridge: Annotated[float, Field(ge=0)] = 0.01
    """On the weights that each signal has by itself, where the networks start."""
    lambda_weight: Annotated[float, Field(ge=0)] = 0.3
    """Of the LambdaRank loss beside ListNet's."""


class Attention:
    """
    Re-ranks the first ``depth`` of a slate; the identity when held-out people said that it does not help.

    Args:
        config: Settings.
        names: What each signal is, as the fit saw them.
        onnx: The networks, ``signals`` (1, N, F) and ``base`` (1, N) to (1, N); None keeps the order.
    """

    Config = AttentionConfig
    gives: frozenset[str] = frozenset()

    def __init__(self, config: AttentionConfig, names: tuple[str, ...], onnx: bytes | None) -> None:
        self.config = config
        self.names = names
        self._onnx = onnx
        self._session = None if onnx is None else open_session(onnx, "the list-wise network")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self._session is None else frozenset({"signals"})

    @classmethod
    def open(cls, config: AttentionConfig, facts: Facts, folder: Path) -> Self:  # noqa: ARG003  facts are not needed
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: A file is missing or is no network that onnxruntime can run.
        """
        path = folder / "attention.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            names, used = tuple(map(str, known["signals"])), bool(known["used"])
            onnx = (folder / "attention.onnx").read_bytes() if used else None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the model again") from error
        return cls(config, names, onnx)

    def save(self, folder: Path) -> None:
        """Write the networks, and what they read."""
        folder.mkdir(parents=True, exist_ok=True)
        known = {"signals": self.names, "used": self._onnx is not None}
        (folder / "attention.json").write_text(json.dumps(known, indent=2), encoding="utf-8")
        if self._onnx is not None:
            (folder / "attention.onnx").write_bytes(self._onnx)

    def __call__(self, request: Request, slate: Slate) -> Slate:
        if self._session is None or len(slate) < 2 or not past_speaks(request):
            return slate
        signals, base = inputs_of(slate if len(slate) <= self.config.depth else slate.take(slice(self.config.depth)))
        (moved,) = self._session.run(None, {"signals": signals[None], "base": base[None]})
        return with_best_moved(slate, moved[0])
