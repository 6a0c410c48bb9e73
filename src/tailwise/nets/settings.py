"""Settings of what learns. Free of torch, so that what serves can read them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from tailwise.config import Closed


class SequenceShape(Closed):
    """The network's shape."""

    dim: Annotated[int, Field(ge=4)] = 64
    """Width D."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Blocks L."""
    heads: Annotated[int, Field(ge=1)] = 2
    """Attention heads A; must divide ``dim``."""
    max_length: Annotated[int, Field(ge=2)] = 100
    """Newest events read, T."""
    feedforward: Annotated[int, Field(ge=1)] = 1
    """Width of the feed-forward part, in multiples of ``dim``."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of activations dropped while training."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads is {self.heads}, which does not divide dim, {self.dim}")
        return self


class LoopConfig(Closed):
    """How to train."""

    epochs: Annotated[int, Field(ge=1)] = 60
    """At most; early stopping usually ends sooner."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Of AdamW, after the warm-up."""
    warm_up_steps: Annotated[int, Field(ge=0)] = 20
    """Steps over which the rate rises from zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of AdamW."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Share of the averaged weights that a step leaves: what is kept is a mean of about the last 1 / (1 - average)."""
    patience: Annotated[int, Field(ge=1)] = 8
    """Epochs without a better validation value before it stops."""
    judge_from: Annotated[int, Field(ge=1)] = 1
    """First epoch that is judged; earlier ones are never the best, and judging costs time."""
