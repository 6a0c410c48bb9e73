"""
Teach a causal model what people take next: texts of histories with the next item's text behind them.

The texts are those that the stage ``listwise_llm`` makes in its mode ``likelihood``, so that what is learned is what is
asked. The result is a folder of the whole model, what was learned merged into it, which that stage opens by its path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it

from tailwise.artifacts import writing
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.data.load import Dataset
from tailwise.errors import DataError
from tailwise.learn.loop import side_by_side, train
from tailwise.learn.optimise import lowered
from tailwise.learn.peft import loop_of, until_over
from tailwise.nets.adapting import adapt, merged
from tailwise.nets.export import _quiet
from tailwise.nets.language import open_backbone, padded
from tailwise.nets.settings_language import CausalConfig
from tailwise.rank.listwise import DESCRIBING, INSTEAD
from tailwise.rank.prompts import Brief, Wording, language_of, texts_of
from tailwise.types import Rows, ids_of

NAME = "causal model"
"""As the progress calls it."""
PARTS = 2
"""Of a batch, worked on side by side; fixed, so that the number of threads changes no result."""
JUDGING = 0.1
"""Share of the people whose choices choose the epoch and are learned from by nobody."""
MOST_JUDGED = 100
Told = tuple[list[int], int]
"""Tokens of a history and what was taken next, and how many of them are the latter's."""


def fit_causal(
    data: Dataset,
    out: Path,
    config: CausalConfig | None = None,
    *,
    seed: int = 0,
    threads: int = 1,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,  # noqa: ARG005  silent by default
) -> dict[str, float]:
    """
    Fine-tune a causal model on what people took next, and write it.

    Args:
        data: Events, and items with texts.
        out: Where the folder goes, replaced in one step: safetensors, settings and tokenizer of ``transformers``.
        config: Settings; None takes the defaults.
        seed: Of everything that draws.
        threads: Cores to use.
        report: Progress.

    Returns:
        How likely what people took next is, before and after: the mean log-probability of a token of its text, of
        people that taught nothing.

    Raises:
        UnavailableError: A package or the model is missing, or the disk refuses.
        DataError: Nobody took anything with a text after something else with one.

    Cost: of SmolLM2 with 135 million weights, about 0.7 s a choice on a core with bfloat16.
    """
    config = config or CausalConfig()
    nothing = np.zeros(data.items.height, np.float32)
    catalogue = Catalogue(data.items, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    teaching, judging = _choices(Interactions.of(data.events, catalogue), _texts(catalogue), config, seed)
    if not teaching:
        raise DataError(f"{data.name} has nobody who took two items with a text: nothing to learn")
    model: Any
    model, tokenizer = open_backbone(config.model, causal=True)
    model.config.use_cache = False
    taught, judged = ([_tokens(tokenizer, *pair) for pair in pairs] for pairs in (teaching, judging))
    total = -(-len(taught) // config.batch)
    net: Any = adapt(model, config.tuning, seed=seed, steps=config.train.epochs * total)
    loop, until = loop_of(config.train), time.monotonic() + config.train.minutes * 60
    pad_id = int(tokenizer.pad_token_id)
    with side_by_side(threads) as pool:

        def judge() -> float:
            with lowered(net, loop.precision):
                return _likelihood(net, judged, pad_id, pool)

        before = judge()
        train(
            net,
            config=loop,
            seed=seed,
            batches=until_over(
                _batches(taught, config.batch, seed), net, loop, name=NAME, total=total, until=until, report=report
            ),
            loss=lambda part, noise: _loss(net, part[0], pad_id).sum() / part[1],  # noqa: ARG005  nothing is dropped
            judge=judge if judged else None,
            pool=pool,
            report=report,
            name=NAME,
            until=until,
        )
        after = judge()
    net.config.use_cache = True
    _write(merged(net), tokenizer, out)
    return {"log-probability before": round(before, 4), "log-probability after": round(after, 4)}


def _texts(catalogue: Catalogue) -> list[str]:
    """Of every item, as the stage tells them."""
    columns = [name for name in DESCRIBING if name in catalogue.names]
    columns = columns or [name for name in INSTEAD if name in catalogue.names][:1]
    return texts_of(catalogue, catalogue.item_ids, columns) if columns else [""] * len(catalogue)


def _choices(
    interactions: Interactions, texts: list[str], config: CausalConfig, seed: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Texts of histories with that of the next item, drawn: to teach, and of other people to judge."""
    rng = np.random.default_rng(seed)
    told = np.array([bool(text.strip()) for text in texts])
    sequences = [rows[told[rows]] for rows in interactions.liked_sequences()]
    every = [(person, end) for person, own in enumerate(sequences) for end in range(1, len(own))]
    ends = np.array(every, np.int64).reshape(-1, 2)[rng.permutation(len(every))]
    apart = rng.random(len(sequences))[ends[:, 0]] < JUDGING
    wording = Wording("likelihood", "", config.title_chars, config.prompt_tokens)
    language = language_of(texts)

    def made(some: NDArray[np.int64], most: int) -> list[tuple[str, str]]:
        return [
            _asked(wording, texts, sequences[person][: end + 1], config.history, language)
            for person, end in some[:most]
        ]

    return made(ends[~apart], config.examples), made(ends[apart], MOST_JUDGED)


def _asked(wording: Wording, texts: list[str], rows: Rows, most: int, language: str) -> tuple[str, str]:
    """The question that the stage would ask of the last of some items, and the answer that is true."""
    newest = tuple(texts[row] for row in rows[:-1][::-1][:most])
    brief = Brief("", newest, "", ids_of([""]), (texts[rows[-1]],), language)
    question = wording.question(brief, np.array([0]))
    return "\n".join(filter(None, (question.system, question.text))), question.options[0]


def _tokens(tokenizer: Any, head: str, tail: str) -> Told:
    first, then = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (head, tail))
    return [*first, *then], len(then)


def _batches(told: Sequence[Told], batch: int, seed: int) -> Callable[[int], Iterator[list[tuple[list[Told], int]]]]:
    """An epoch's number to its batches, each in parts: choices, and how many the batch has."""

    def each(epoch: int) -> Iterator[list[tuple[list[Told], int]]]:
        order = np.random.default_rng((seed, epoch)).permutation(len(told))
        for start in range(0, len(order), batch):
            own = [told[place] for place in order[start : start + batch]]
            yield [(own[part::PARTS], len(own)) for part in range(PARTS) if own[part::PARTS]]

    return each


def _loss(net: Any, part: Sequence[Told], pad_id: int) -> Tensor:
    """(B,) mean surprise of the tokens of what was taken."""
    ids, mask = padded([tokens for tokens, _ in part], pad_id)
    logits = net(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]  # (B, T, V)
    each = [
        F.cross_entropy(logits[row, len(tokens) - own - 1 : len(tokens) - 1], ids[row, len(tokens) - own : len(tokens)])
        for row, (tokens, own) in enumerate(part)
    ]
    return torch.stack(each)


def _likelihood(net: Any, told: Sequence[Told], pad_id: int, pool: Executor) -> float:
    """Mean log-probability of a token of what was taken; 0 of nothing."""

    def some(part: Sequence[Told]) -> Tensor:
        with torch.no_grad():  # each thread has its own say in this
            return _loss(net, part, pad_id)

    each = list(pool.map(some, [told[start : start + 4] for start in range(0, len(told), 4)]))
    return -float(torch.cat(each).mean()) if each else 0.0


def _write(model: Any, tokenizer: Any, out: Path) -> None:
    with writing(out, {"kind": "language-model"}) as folder, _quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
