"""
Which weights of a pretrained model learn (torch, peft): settings in, the same model with a few new weights out.

What was learned is saved as plain tensors by name, the head's among them: a name that does not come back is an error,
so that no head is ever drawn anew without a word.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tailwise.errors import ArtifactError, ConfigError
from tailwise.nets.language import need_finetuning
from tailwise.nets.settings_language import Tuning

START = 0.02
"""Spread of fresh weights."""
OWN = frozenset({"frozen", "full", "top_layers", "adapter"})
"""Methods that need no ``peft``."""


class Bottleneck(nn.Module):
    """
    An adapter behind a layer: down to a few dimensions, up again, added to what came; zero at the start.

    Source: Houlsby et al., ICML 2019, arXiv 1902.00751; one a layer: Pfeiffer et al., EACL 2021, arXiv 2005.00247.
    """

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, rank)
        self.up = nn.Linear(rank, dim)
        nn.init.normal_(self.down.weight, std=START)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.up(nn.functional.gelu(self.down(hidden)))


def adapt(model: nn.Module, config: Tuning, *, seed: int = 0, steps: int = 1000) -> nn.Module:
    """
    The model with the weights that ``config`` names ready to learn, and all others frozen.

    Args:
        model: A backbone, with or without the head that predicts tokens; it is changed.
        config: Which weights learn.
        seed: Of fresh weights.
        steps: How many there will be; ``adalora`` plans its ranks by it.

    Returns:
        The model, or what wraps it; called as before. Its vectors are the same as before, until it has learned;
        those of ``prefix`` and ``prompt`` differ from the start, for there is something before the text.

    Raises:
        UnavailableError: ``peft`` is missing, and the method needs it.
        ConfigError: The model has no layers to name, no linear part of that name, or takes no prefix.

    Source: Hu et al., ICLR 2022, arXiv 2106.09685 (LoRA); Zhang et al., ICLR 2023, arXiv 2303.10512 (AdaLoRA); Li &
    Liang, ACL 2021, arXiv 2101.00190 (prefix); Lester et al., EMNLP 2021, arXiv 2104.08691 (prompt).
    """
    need_finetuning(*(() if config.method in OWN else ("peft",)))
    for parameter in model.parameters():
        parameter.requires_grad_(config.method == "full")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.method == "top_layers":
            for layer in layers_of(model)[-config.layers :]:
                for parameter in layer.parameters():
                    parameter.requires_grad_(True)  # noqa: FBT003  torch's own signature
        elif config.method == "adapter":
            _add_bottlenecks(model, config.rank)
        elif config.method not in OWN:
            model = _with_peft(model, config, steps)
    if config.checkpointing:
        _checkpoint(model)
    return model


def layers_of(model: nn.Module) -> nn.ModuleList:
    """
    The layers of a transformer, first to last: its longest list of modules.

    Raises:
        ConfigError: It has no such list.
    """
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
    if not lists:
        raise ConfigError(f"{type(model).__name__} has no list of layers; choose method full, lora or frozen")
    return max(lists, key=len)


def width_of(model: nn.Module) -> int:
    """Width D of a backbone's vectors."""
    config: Any = model.config
    return int(getattr(config, "hidden_size", None) or config.dim)


def merged(model: Any) -> nn.Module:
    """The same function with what was learned beside the weights added into them, where that can be done."""
    if hasattr(model, "merge_and_unload"):
        active = getattr(model, "active_peft_config", None)
        if active is None or not active.is_prompt_learning:
            return model.merge_and_unload()
    return model


def after_step(model: nn.Module, step: int) -> None:
    """What a method does between steps: AdaLoRA shares its ranks out. ``step`` counts from 1; gradients still there."""
    parts: Any = model.modules()
    for part in parts:
        if hasattr(part, "update_and_allocate") and hasattr(part, "rankallocator"):
            part.update_and_allocate(step)
            return


def learned(net: nn.Module) -> dict[str, Tensor]:
    """Copies of the weights that learn, by name: of a net with a head, the head's too."""
    return {name: own.detach().clone().contiguous() for name, own in net.named_parameters() if own.requires_grad}


def save_learned(net: nn.Module, path: Path) -> None:
    """Write the weights that learn, the head's among them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(learned(net), path)


def load_learned(net: nn.Module, source: Path | Mapping[str, Tensor]) -> None:
    """
    Put learned weights into a net that was made with the same settings.

    Raises:
        ArtifactError: The file is damaged, or its names or shapes are not those of the weights that learn here.
    """
    try:
        tensors = source if isinstance(source, Mapping) else load_file(source)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{source} cannot be read ({error}); fit the model again") from error
    own = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    odd = sorted({*own} ^ {*tensors}) + [n for n in own if n in tensors and own[n].shape != tensors[n].shape]
    if odd:
        raise ArtifactError(f"the learned weights do not fit the model: {odd[0]} differs; fit the model again")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def _add_bottlenecks(model: nn.Module, rank: int) -> None:
    for layer in layers_of(model):
        layer.bottleneck = Bottleneck(width_of(model), rank)
        layer.register_forward_hook(_through_bottleneck)


def _through_bottleneck(layer: nn.Module, _inputs: Any, out: Any) -> Any:
    """A layer's answer, or the first part of it, through its bottleneck."""
    bottleneck: Any = layer.bottleneck
    return (bottleneck(out[0]), *out[1:]) if isinstance(out, tuple) else bottleneck(out)


def _with_peft(model: Any, config: Tuning, steps: int) -> nn.Module:
    from peft import get_peft_model

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it asks by an older name, and turns GPT-2's matrices
            return get_peft_model(model, _peft_config(model, config, steps))
    except (ValueError, KeyError, AttributeError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"{type(model).__name__} cannot be tuned by {config.method}: {why}") from error


def _peft_config(model: nn.Module, config: Tuning, steps: int) -> Any:
    """What ``peft`` calls our settings."""
    import peft

    causal = hasattr(model, "lm_head") or "CausalLM" in type(model).__name__ or "LMHead" in type(model).__name__
    task = peft.TaskType.CAUSAL_LM if causal else peft.TaskType.FEATURE_EXTRACTION
    beside: dict[str, Any] = {
        "task_type": task,
        "target_modules": _targets(model, config.targets),
        "lora_alpha": config.scale * config.rank,
    }
    if config.method == "lora":
        if config.embeddings:
            beside["target_modules"] += [_table(model)]
        return peft.LoraConfig(r=config.rank, **beside)
    if config.method == "adalora":
        wide = config.rank * 3 // 2 + 1  # from where it prunes, as in the paper
        plan: dict[str, Any] = {"total_step": steps, "tinit": steps // 10, "tfinal": steps // 3}
        plan["deltaT"] = max(1, steps // 100)
        return peft.AdaLoraConfig(init_r=wide, target_r=config.rank, **plan, **beside)
    kind = peft.PrefixTuningConfig if config.method == "prefix" else peft.PromptTuningConfig
    return kind(task_type=task, num_virtual_tokens=config.virtual_tokens)


def _targets(model: nn.Module, ends: tuple[str, ...]) -> list[str]:
    """Names of the linear parts of the layers, those that end as asked: what stands outside may never be run."""
    from transformers.pytorch_utils import Conv1D

    layers = layers_of(model)
    (before,) = (name for name, part in model.named_modules() if part is layers)
    linear = (name for name, part in layers.named_modules() if isinstance(part, (nn.Linear, Conv1D)))
    found = [f"{before}.{name}" for name in linear if not ends or name.endswith(ends)]
    if not found:
        raise ConfigError(f"{type(model).__name__} has no linear part whose name ends in {', '.join(ends)}")
    return found


def _table(model: Any) -> str:
    """Name of the table of the tokens' vectors, which must not be what the next token is told by."""
    table, out = model.get_input_embeddings(), model.get_output_embeddings()
    if out is not None and out.weight is table.weight:
        raise ConfigError(f"{type(model).__name__} tells tokens by the table that it reads; set embeddings = false")
    return next(name for name, part in model.named_modules() if part is table)


def _checkpoint(model: Any) -> None:
    newer, older = "activation_checkpointing_enable", "gradient_checkpointing_enable"
    switch = getattr(model, newer, None) or getattr(model, older, None)
    if switch is None:
        raise ConfigError(f"{type(model).__name__} cannot checkpoint gradients; set checkpointing = false")
    model.config.use_cache = False
    switch({"use_reentrant": False})
