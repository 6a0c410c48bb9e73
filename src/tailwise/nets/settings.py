"""Settings of what learns. Free of torch, so that what serves can read them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tailwise.config import Closed


class SequenceShape(Closed):
    """The network's shape. What is left out of ``max_length`` and ``dropout`` is chosen from the data."""

    dim: Annotated[int, Field(ge=4)] = 64
    """Width D."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Blocks L."""
    heads: Annotated[int, Field(ge=1)] = 2
    """Attention heads A; must divide ``dim``."""
    max_length: Annotated[int, Field(ge=2)] = 100
    """Newest events read, T; left out: as many as most people have, at most 100."""
    feedforward: Annotated[int, Field(ge=1)] = 1
    """Width of the feed-forward part, in multiples of ``dim``."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of activations dropped while training; left out: more where there is less to learn from."""
    blocks: Literal["plain", "gated"] = "plain"
    """``gated`` lets each block decide how much it adds, with a SwiGLU inside; slower."""
    time_gaps: bool = False
    """Whether each event also tells the time since the one before it; how long ago it was is read in any case. Neither
    knows the time of what comes next."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads is {self.heads}, which does not divide dim, {self.dim}")
        return self


class SlateShape(Closed):
    """The network that re-ranks a slate."""

    dim: Annotated[int, Field(ge=4)] = 32
    """Width D."""
    layers: Annotated[int, Field(ge=1)] = 1
    """Blocks of attention across the slate, L."""
    heads: Annotated[int, Field(ge=1)] = 2
    """Attention heads A; must divide ``dim``."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of activations dropped while training."""
    gate: Annotated[float, Field(ge=0, le=1)] = 0.1
    """How much the network moves scores at the start; 0 would never learn."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads is {self.heads}, which does not divide dim, {self.dim}")
        return self


class MultiTaskShape(Closed):
    """The network that tells several tasks from one look at a person and an item."""

    dim: Annotated[int, Field(ge=2)] = 32
    """Width D of item vectors."""
    history: Annotated[int, Field(ge=1)] = 50
    """Newest events of a person that make the long-term part of what they are."""
    lately: Annotated[int, Field(ge=1)] = 5
    """Newest of these that make the short-term part."""
    experts: Literal["shared", "mmoe", "ple"] = "mmoe"
    """``shared``: one for all tasks; ``mmoe``: several, which each task mixes as it likes (MMoE); ``ple``: several that
    tasks share beside one of each task's own (PLE)."""
    expert_count: Annotated[int, Field(ge=1)] = 4
    """Experts that tasks share; ``shared`` has one."""
    expert_dim: Annotated[int, Field(ge=1)] = 64
    """Width of an expert."""
    tower_dim: Annotated[int, Field(ge=1)] = 32
    """Width of a task's own layer above the experts."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of activations dropped while training."""


class LoopConfig(Closed):
    """How to train."""

    epochs: Annotated[int, Field(ge=1)] = 60
    """At most; early stopping usually ends sooner."""
    optimizer: Literal["adamw", "adam", "sgd", "adafactor"] = "adamw"
    """What moves the weights. ``adafactor`` keeps the least in memory; ``sgd`` wants a rate of its own."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """After the warm-up; of ``adafactor``, in shares of the weights' size."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of ``sgd``; the others have their own."""
    warm_up_steps: Annotated[int, Field(ge=0)] = 20
    """Steps over which the rate rises from zero."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the rate falls after the warm-up, from epoch to epoch, towards zero after the last of ``epochs``."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of matrices and tables; biases and norms are never decayed."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches whose mean gradient makes one step."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's products while it trains. ``bfloat16`` is slow on a processor without instructions for it."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Share of the averaged weights that a step leaves: what is kept is a mean of about the last 1 / (1 - average)."""
    patience: Annotated[int, Field(ge=1)] = 8
    """Epochs without a better validation value before it stops."""
    judge_from: Annotated[int, Field(ge=1)] = 1
    """First epoch that is judged; earlier ones are never the best, and judging costs time."""
