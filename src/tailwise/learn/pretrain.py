"""
Continued pretraining: an encoder reads a catalogue's own texts, without labels, before anything is learned with it.

What comes out is a folder of a Hugging Face model, with its pooling: ``[encode] model`` and ``open_backbone`` take it.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tailwise.artifacts import writing
from tailwise.errors import ConfigError, DataError
from tailwise.learn.loop import side_by_side, train
from tailwise.learn.optimise import fast_bfloat16
from tailwise.nets.adapting import width_of
from tailwise.nets.export import _quiet
from tailwise.nets.language import TextReader, backbone_folder, open_backbone, padded
from tailwise.nets.sequence import dropped
from tailwise.nets.settings import LoopConfig
from tailwise.nets.settings_texts import Pretraining
from tailwise.types import Rows

log = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]
HELD = 0.05
"""Share of the texts that nothing is learned from, to see what was learned."""
HEAD_RATE = 1e-3
"""Learning rate of a new head, for one pass before the encoder learns too."""
DROPOUT = 0.1
"""Of what SimCSE's two looks at a text drop, as in the paper."""
IGNORED = -100
"""What torch's cross-entropy leaves out."""
BESIDE = ("1_Pooling", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
"""Files that say how an encoder's vectors are to be read; they go along."""


def pretrain(
    model: str,
    texts: Sequence[str],
    out: Path,
    config: Pretraining,
    *,
    seed: int = 0,
    threads: int = 1,
    report: Report = lambda what, done, total: None,  # noqa: ARG005  silent by default
) -> dict[str, float | str]:
    """
    Go on pretraining an encoder on texts, and write it.

    Args:
        model: A folder or name that ``open_backbone`` takes.
        texts: Any number; blank ones and repeats are left out, and one in twenty is held out.
        out: A folder that is not there, or one that this made; replaced in one step when all is well.
        config: How.
        seed: Of what is drawn, hidden and dropped.
        threads: Cores to use.
        report: Progress in epochs.

    Returns:
        Notes: texts learned from, and the loss on the texts held out, before and after.

    Raises:
        DataError: Fewer different texts than two batches.
        ConfigError: The task hides tokens, and the tokenizer knows no mask.
        UnavailableError: The model is nowhere, or a package is missing.

    Cost: MiniLM on two cores, some 100 texts of 64 tokens a second for ``mlm``, half of that for ``simcse``.
    Source: Devlin et al., NAACL 2019, doi:10.18653/v1/N19-1423 (MLM); Gururangan et al., ACL 2020,
    doi:10.18653/v1/2020.acl-main.740 (going on in the domain); Gao, Yao & Chen, EMNLP 2021,
    doi:10.18653/v1/2021.emnlp-main.552 (SimCSE).
    """
    different = list(dict.fromkeys(text for text in texts if text.strip()))
    if len(different) < 2 * config.batch:
        raise DataError(
            f"there are {len(different)} different texts, but pretraining needs at least two batches of {config.batch}"
        )
    rng = np.random.default_rng(seed)
    chosen = [different[row] for row in rng.permutation(len(different))[: config.texts]]
    backbone, tokenizer = open_backbone(model)
    tokens = [tokenizer(text, truncation=True, max_length=config.max_tokens)["input_ids"] for text in chosen]
    held = max(2, int(HELD * len(tokens)))
    learning, judging = tokens[held:], tokens[:held]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = MaskedTokens(backbone, tokenizer, config) if config.task == "mlm" else TwoLooks(backbone, config)
    job = _Job(learning, config, int(tokenizer.pad_token_id), seed, threads, report)
    with side_by_side(threads) as pool:
        before = _judged(net, judging, job)
        if config.task == "mlm":  # the head is new: what it would ask of the encoder now is noise
            backbone.requires_grad_(requires_grad=False)
            _learn(net, job, HEAD_RATE, 1, pool)
            backbone.requires_grad_(requires_grad=True)
            before = _judged(net, judging, job)
        _learn(net, job, config.learning_rate, config.epochs, pool)
        after = _judged(net, judging, job)
    _write(backbone, tokenizer, backbone_folder(model), out)
    log.info("pretrained: task=%s texts=%d loss=%.3f before=%.3f", config.task, len(learning), after, before)
    return {
        "pretrained by": config.task,
        "texts": len(learning),
        "held-out loss before": round(before, 4),
        "held-out loss after": round(after, 4),
    }


class MaskedTokens(nn.Module):
    """
    Tells hidden tokens, with the encoder's own token table as the last layer (tied), which keeps it one space.

    Eight in ten of the chosen tokens are hidden, one becomes another token, one stays.
    """

    def __init__(self, backbone: nn.Module, tokenizer: Any, config: Pretraining) -> None:
        super().__init__()
        if tokenizer.mask_token_id is None:
            raise ConfigError("the tokenizer knows no mask token, which task mlm needs; choose task simcse")
        self.backbone = backbone
        self.mask_id, self.share = int(tokenizer.mask_token_id), config.masked
        self.special = torch.tensor(sorted(tokenizer.all_special_ids))
        table = token_table(backbone)
        width = table.weight.shape[1]
        self.turn = nn.Linear(width_of(backbone), width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(table.weight.shape[0]))

    def forward(self, ids: Tensor, mask: Tensor, noise: torch.Generator) -> Tensor:
        table = token_table(self.backbone).weight  # (V, E)
        hidden, wanted = self._hide(ids, mask, len(table), noise)
        found = self.backbone(input_ids=hidden, attention_mask=mask).last_hidden_state  # (B, T, D)
        asked = wanted != IGNORED
        told = self.norm(nn.functional.gelu(self.turn(found[asked])))  # (asked, E)
        return nn.functional.cross_entropy(told @ table.T + self.bias, wanted[asked])

    def _hide(self, ids: Tensor, mask: Tensor, size: int, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """(B, T) what is shown, and what is asked, at least one token of the batch."""
        chance = torch.rand(ids.shape, generator=noise)
        chance[(mask == 0) | torch.isin(ids, self.special)] = 2.0
        asked = (chance < self.share) | (chance == chance.min())
        asked &= chance < 2.0
        if not asked.any():  # a batch of nothing but special tokens
            asked[0, 0] = True
        lot = torch.rand(ids.shape, generator=noise)
        other = torch.randint(size, ids.shape, generator=noise)
        shown = torch.where(asked & (lot < 0.8), torch.full_like(ids, self.mask_id), ids)
        shown = torch.where(asked & (lot >= 0.9), other, shown)
        return shown, torch.where(asked, ids, torch.full_like(ids, IGNORED))


class TwoLooks(nn.Module):
    """Finds a text's own vector among a batch of vectors made under another dropout (SimCSE)."""

    def __init__(self, backbone: nn.Module, config: Pretraining) -> None:
        super().__init__()
        self.reader = TextReader(backbone, "mean")
        self.temperature = config.temperature

    def forward(self, ids: Tensor, mask: Tensor, noise: torch.Generator) -> Tensor:
        with dropping(self.reader, DROPOUT, noise):
            one, other = (nn.functional.normalize(self.reader(ids, mask), dim=-1) for _ in range(2))
        cosine = one @ other.T / self.temperature  # (B, B)
        return nn.functional.cross_entropy(cosine, torch.arange(len(ids)))


def token_table(backbone: nn.Module) -> nn.Embedding:
    """
    Where a backbone looks its tokens up.

    Raises:
        ConfigError: It has no such table.
    """
    find: Any = getattr(backbone, "get_input_embeddings", None)
    table = None if find is None else find()
    if not isinstance(table, nn.Embedding):
        raise ConfigError(f"{type(backbone).__name__} has no table of token embeddings; choose another model")
    return table


@contextmanager
def dropping(net: nn.Module, share: float, noise: torch.Generator) -> Iterator[None]:
    """Dropout where a model has it, drawn from ``noise``, in this thread, for as long as the context is open."""
    own = threading.get_ident()

    def drop(_: nn.Module, __: Any, given: Tensor) -> Tensor | None:
        return dropped(given, share, noise) if threading.get_ident() == own else None

    dropouts: list[nn.Module] = [part for part in net.modules() if isinstance(part, nn.Dropout)]
    places = dropouts or [token_table(net)]
    handles = [place.register_forward_hook(drop) for place in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _Job:
    """What every pass over the texts shares."""

    tokens: list[list[int]]
    config: Pretraining
    pad_id: int
    seed: int
    threads: int
    report: Report


def _learn(net: nn.Module, job: _Job, rate: float, epochs: int, pool: Executor) -> None:
    """Some passes over the texts; each batch is read in as many parts as there are cores."""
    steps = epochs * len(job.tokens) // job.config.batch
    loop = LoopConfig(
        epochs=epochs,
        learning_rate=rate,
        weight_decay=job.config.weight_decay,
        warm_up_steps=max(1, steps // 10),
        schedule="linear",
        average=0.9,
        precision="bfloat16" if fast_bfloat16() else "float32",
    )

    def batches(epoch: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
        order = np.random.default_rng((job.seed, epoch)).permutation(len(job.tokens))
        for part in _parts(order, job.config.batch):
            yield [padded([job.tokens[row] for row in part], job.pad_id)]

    def loss(part: tuple[Tensor, Tensor], noise: torch.Generator) -> Tensor:
        return net(*part, noise)

    name = f"{job.config.task}, head" if rate == HEAD_RATE else job.config.task
    train(net, config=loop, seed=job.seed, batches=batches, loss=loss, pool=pool, report=job.report, name=name)


@torch.no_grad()
def _judged(net: nn.Module, tokens: Sequence[list[int]], job: _Job) -> float:
    """Mean loss on texts held out, with the same tokens hidden or dropped each time."""
    net.eval()
    noise = torch.Generator().manual_seed(job.seed)
    parts = _parts(np.arange(len(tokens)), job.config.batch)
    return float(np.mean([float(net(*padded([tokens[row] for row in part], job.pad_id), noise)) for part in parts]))


def _parts(order: Rows, size: int) -> list[Rows]:
    """Parts of nearly equal size, none of a single row: with nobody beside it a text cannot be mistaken."""
    return np.array_split(order, max(1, round(len(order) / size)))


def _write(backbone: Any, tokenizer: Any, source: str, out: Path) -> None:
    """The model with its tokenizer and pooling; its settings as they came, with dropout where it was."""
    from transformers import AutoConfig

    with _quiet(), writing(out, {"kind": "language-model"}) as folder:
        backbone.save_pretrained(folder)
        AutoConfig.from_pretrained(source).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for name in BESIDE:
            place = Path(source) / name
            if place.is_dir():
                shutil.copytree(place, folder / name)
            elif place.is_file():
                shutil.copy(place, folder / name)
