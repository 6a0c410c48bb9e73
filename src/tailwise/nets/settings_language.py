"""Settings of fine-tuning language models. Free of torch, so that what serves can read them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tailwise.config import Closed
from tailwise.nets.settings import LoopConfig


class Tuning(Closed):
    """Which weights of a pretrained language model learn; the others stay as they came."""

    method: Literal["full", "top_layers", "lora", "adalora", "adapter", "prefix", "prompt", "frozen"] = "lora"
    """``full``: all; ``top_layers``: the last ``layers``; ``lora``: a product of two thin matrices beside every linear
    one; ``adalora``: the same, with ranks shared out to where they count; ``adapter``: a bottleneck behind every layer;
    ``prefix``: keys and values before those of every layer; ``prompt``: vectors before the text's; ``frozen``: none,
    so that a head learns alone."""
    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Width of what is added beside a matrix or behind a layer (``lora``, ``adalora``, ``adapter``)."""
    scale: Annotated[float, Field(gt=0)] = 2.0
    """What is added counts so much (``lora``, ``adalora``): alpha over rank, as the papers call it."""
    targets: tuple[str, ...] = ()
    """Linear parts that get it, by the end of their names; empty takes all (``lora``, ``adalora``)."""
    embeddings: bool = False
    """Whether the table of the tokens' vectors gets it too (``lora``): what words stand for here is learned sooner."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Of ``top_layers``: how many learn, from the last one down."""
    virtual_tokens: Annotated[int, Field(ge=1, le=512)] = 16
    """Learned places before the text (``prefix``, ``prompt``)."""
    checkpointing: bool = False
    """Whether activations are computed again for the gradient instead of kept: a third slower, a fraction of the
    memory. For large models or long texts."""


class TextLoop(LoopConfig):
    """How to fine-tune: as any network, with a gentler rate, fewer epochs, and an end that the clock may bring."""

    epochs: Annotated[int, Field(ge=1)] = 3
    """At most; early stopping and ``minutes`` may end it sooner."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    """After the warm-up. A full fine-tuning wants a fiftieth of what LoRA does."""
    head_rate: Annotated[float, Field(gt=0)] = 1.0
    """How many times that rate a head on top learns at; it starts from nothing."""
    warm_up_steps: Annotated[int, Field(ge=0)] = 50
    """Steps over which the rate rises from zero."""
    schedule: Literal["constant", "cosine", "linear"] = "linear"
    """How the rate falls after the warm-up, towards zero at the end of the last of ``epochs``."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of matrices; biases and norms are never decayed."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # type: ignore[assignment]  # wider than what it refines
    """Of the network's products while it trains; ``auto`` takes bfloat16 where the processor has it."""
    patience: Annotated[int, Field(ge=1)] = 2
    """Epochs without a better validation value before it stops."""
    minutes: Annotated[float, Field(gt=0)] = 15.0
    """Of the clock at most: the epoch that is under way then is the last. A fit that the clock ends is not the same
    twice."""


class CausalConfig(Closed):
    """Settings of teaching a causal model what people take next."""

    model: str = "SmolLM2-135M-Instruct"
    """What is fine-tuned: a Hugging Face name, a folder, an installed package or a GGUF file."""
    tuning: Tuning = Tuning()
    """Which of its weights learn."""
    train: TextLoop = TextLoop(epochs=1, learning_rate=5e-4, warm_up_steps=10)
    """How they learn."""
    examples: Annotated[int, Field(ge=1)] = 1_000
    """Choices that teach, drawn from all; a few more choose the epoch."""
    batch: Annotated[int, Field(ge=1)] = 8
    """Choices a step."""
    history: Annotated[int, Field(ge=1, le=200)] = 10
    """Newest liked items that it is told of."""
    title_chars: Annotated[int, Field(ge=16, le=10_000)] = 80
    """Longer texts of items are cut."""
    prompt_tokens: Annotated[int, Field(ge=50)] = 256
    """Of one text, about."""
