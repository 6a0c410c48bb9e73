"""A generative model in this process (torch, transformers): what it would write, and how likely what is written is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailwise.errors import UnavailableError
from tailwise.nets.language import need_finetuning, open_backbone, padded
from tailwise.nets.questions import BackendConfig, Kind, Question, Reply
from tailwise.types import Floats

log = logging.getLogger(__name__)

WARM_S = 600.0
"""Seconds that reading the weights may take: a GGUF file is converted once."""


class LocalModel:
    """
    A causal model of ``transformers``; the weights are read by ``warm``, or when the first question comes.

    One question is answered at a time: a second one would only make both slower.

    Raises:
        UnavailableError: A package is missing.

    Cost: on one core, SmolLM2-135M reads some 250 tokens a second and writes some 15.
    """

    remote = False
    kinds: frozenset[Kind] = frozenset({"order", "choose", "continue"})

    def __init__(self, config: BackendConfig) -> None:
        need_finetuning()
        self._config = config
        self._turn = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    @property
    def fingerprint(self) -> str:
        return f"transformers:{self._config.model}"

    def ask(self, question: Question, timeout_s: float) -> Reply:
        """One reply; see ``Backend``. A forward pass that has begun is not interrupted."""
        until = time.monotonic() + timeout_s
        with _turn(self._turn, timeout_s), torch.inference_mode():
            if self._loaded is None:
                self._loaded = open_backbone(self._config.model, causal=True)
            model, tokenizer = self._loaded
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self._config.model} took longer than {timeout_s:g} s to load or to be free")
            if question.kind == "continue":
                return self._continued(model, tokenizer, question)
            ids = self._ids(tokenizer, prompt_of(tokenizer, question.system, question.text))
            if question.kind == "choose":
                return _chosen(model, tokenizer, ids, question.options)
            return _written(model, tokenizer, ids, most=question.max_tokens, seconds=left)

    def warm(self) -> None:
        """
        Read the weights and try them once, so that nobody's answer waits for that; says that torch is in the service.

        Does nothing when they are read already.

        Raises:
            UnavailableError: The model is nowhere, or cannot be read.
        """
        if self._loaded is not None:
            return
        log.warning(
            "%s runs in this process with torch: each worker holds it whole, and its reading takes the processor from "
            "requests; the back end llama_cpp (without torch) or a server (kind = 'openai') spares that",
            self._config.model,
        )
        self.ask(Question("choose", "Yes or no?", options=("Yes", "No")), WARM_S)

    def _ids(self, tokenizer: Any, text: str) -> Tensor:
        """Token ids of a prompt, (1, T)."""
        ids: Tensor = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        if ids.shape[1] > self._config.context:
            raise UnavailableError(
                f"the question has {ids.shape[1]} tokens, but context is {self._config.context}; lower prompt_tokens"
            )
        return ids

    def _continued(self, model: Any, tokenizer: Any, question: Question) -> Reply:
        """Mean log-probability of each option after the text. The text is read once, for all."""
        head = self._ids(tokenizer, "\n".join(filter(None, (question.system, question.text))))  # (1, T)
        tails = [tokenizer(option, add_special_tokens=False)["input_ids"] for option in question.options]
        read = model(input_ids=head, use_cache=True, logits_to_keep=1)
        past, first = read.past_key_values, read.logits.expand(len(tails), -1, -1)  # (N, 1, V)
        past.batch_repeat_interleave(len(tails))
        ids, said = padded(tails, tokenizer.pad_token_id)  # (N, t)
        seen = torch.cat([torch.ones(len(tails), head.shape[1], dtype=said.dtype), said], 1)
        after = model(input_ids=ids, attention_mask=seen, past_key_values=past).logits[:, :-1]
        logits = torch.cat([first, after], 1)  # (N, t, V)
        chances = torch.log_softmax(logits.float(), -1).gather(-1, ids[..., None])[..., 0]  # (N, t)
        means = (chances * said).sum(1) / said.sum(1)  # NaN where an option is empty
        return Reply(scores=means.numpy().astype(np.float32), tokens_in=head.shape[1] + int(said.sum()))


def prompt_of(tokenizer: Any, system: str, text: str) -> str:
    """A question as the model was taught to read it; plain where it was taught no form."""
    if tokenizer.chat_template:
        turns = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    return "\n\n".join(filter(None, (system, text))) + "\n"


def _chosen(model: Any, tokenizer: Any, ids: Tensor, options: Sequence[str]) -> Reply:
    """Log-probability of each option's first token as the next one."""
    logits = model(input_ids=ids, logits_to_keep=1).logits[0, -1]  # (V,)
    chances: Floats = torch.log_softmax(logits.float(), -1).numpy()
    firsts = [tokenizer(option, add_special_tokens=False)["input_ids"][0] for option in options]
    return Reply(scores=chances[firsts].astype(np.float32), tokens_in=ids.shape[1], tokens_out=1)


def _written(model: Any, tokenizer: Any, ids: Tensor, *, most: int, seconds: float) -> Reply:
    """What the model writes, greedily; cut off when the time is over."""
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=most,
        max_time=seconds,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    written = made[0, ids.shape[1] :]
    text = tokenizer.decode(written, skip_special_tokens=True)
    return Reply(text, tokens_in=ids.shape[1], tokens_out=len(written))


@contextmanager
def _turn(lock: threading.Lock, timeout_s: float) -> Iterator[None]:
    if not lock.acquire(timeout=timeout_s):
        raise TimeoutError(f"the model was busy for {timeout_s:g} s")
    try:
        yield
    finally:
        lock.release()
