"""Models behind HTTP: the interface of OpenAI (vLLM, Ollama, llama.cpp, …), and ``/rerank`` of Jina and Cohere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tailwise.errors import UnavailableError
from tailwise.nets.questions import BackendConfig, Kind, Question, Reply
from tailwise.rank.wire import Line
from tailwise.types import Floats

MOST_TOLD = 20
"""Next tokens whose chances servers tell."""
UNTOLD = 1.0
"""Below the least likely token that was told, in nats: where an option stands that was not told."""


class OpenAI:
    """
    A server with ``/chat/completions`` (``order``, ``choose``) and ``/completions`` (``continue``).

    ``choose`` needs ``top_logprobs``, ``continue`` needs ``echo`` with ``logprobs``; vLLM and llama.cpp have both.
    """

    remote = True
    kinds: frozenset[Kind] = frozenset({"order", "choose", "continue"})

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        self._line = Line(config.url, key_env=config.key_env, most_bytes=config.most_bytes)

    @property
    def fingerprint(self) -> str:
        return f"openai:{self._config.url}:{self._config.model}"

    def ask(self, question: Question, timeout_s: float) -> Reply:
        """One reply; see ``Backend``."""
        if question.kind == "continue":
            return self._continued(question, timeout_s)
        turns = [{"role": "system", "content": question.system}] * bool(question.system)
        body = {
            "model": self._config.model,
            "messages": [*turns, {"role": "user", "content": question.text}],
            "max_tokens": question.max_tokens,
            "temperature": 0,
        }
        if question.kind == "choose":
            body |= {"logprobs": True, "top_logprobs": MOST_TOLD}
        reply = self._line.post("/chat/completions", body, timeout_s)
        return _understood(self._line.host, lambda: _spoken(reply, question))

    def _continued(self, question: Question, timeout_s: float) -> Reply:
        head = "\n".join(filter(None, (question.system, question.text)))
        body = {
            "model": self._config.model,
            "prompt": [head + option for option in question.options],
            "max_tokens": 1,  # what 0 means, servers do not agree on
            "temperature": 0,
            "echo": True,
            "logprobs": 1,
        }
        reply = self._line.post("/completions", body, timeout_s)
        return _understood(self._line.host, lambda: _likely(reply, head, question.options))


class Rerank:
    """A server that scores documents for a query: Jina, Cohere, vLLM, text-embeddings-inference, this service."""

    remote = True
    kinds: frozenset[Kind] = frozenset({"relevance"})

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        self._line = Line(config.url, key_env=config.key_env, most_bytes=config.most_bytes)

    @property
    def fingerprint(self) -> str:
        return f"rerank:{self._config.url}:{self._config.model}"

    def ask(self, question: Question, timeout_s: float) -> Reply:
        """One reply; see ``Backend``."""
        body: dict[str, Any] = {"query": question.text, self._config.documents_field: list(question.options)}
        if self._config.documents_field == "documents":
            body |= {"model": self._config.model, "top_n": len(question.options), "return_documents": False}
        reply = self._line.post("", body, timeout_s)
        return _understood(self._line.host, lambda: _scored(reply, len(question.options), question.tokens))


def _spoken(reply: Any, question: Question) -> Reply:
    """A chat completion: its text, or the chances of each option as its first token."""
    choice = reply["choices"][0]
    tokens_in, tokens_out = _used(reply, question.tokens)
    if question.kind == "order":
        text = choice["message"]["content"]
        return Reply("" if text is None else str(text), tokens_in=tokens_in, tokens_out=tokens_out)
    told: dict[str, float] = {}
    for entry in choice["logprobs"]["content"][0]["top_logprobs"]:
        token = str(entry["token"]).strip().lstrip("▁Ġ")
        told[token] = max(told.get(token, -math.inf), float(entry["logprob"]))
    known = [told.get(option, math.nan) for option in question.options]
    floor = min(filter(math.isfinite, told.values())) - UNTOLD
    heard = any(map(math.isfinite, known))
    scores = [value if math.isfinite(value) else floor if heard else math.nan for value in known]
    return Reply("", np.array(scores, np.float32), tokens_in, tokens_out, int(not heard))


def _likely(reply: Any, head: str, options: tuple[str, ...]) -> Reply:
    """Completions with echo: the mean log-probability of the tokens that begin within each option."""
    scores: Floats = np.full(len(options), np.nan, np.float32)
    for choice in reply["choices"]:
        place = int(choice["index"])
        if not 0 <= place < len(options):
            continue
        start, stop = len(head), len(head) + len(options[place])
        logprobs = choice["logprobs"]
        told = zip(logprobs["text_offset"], logprobs["token_logprobs"], strict=True)
        own = [float(value) for offset, value in told if value is not None and start <= offset < stop]
        if own:
            scores[place] = np.mean(own)
    guess = sum(len(head) + len(option) for option in options) // 3
    return Reply("", scores, *_used(reply, guess), malformed=int(np.isnan(scores).sum()))


def _scored(reply: Any, n: int, tokens: int) -> Reply:
    """Results with an index and a score; also as a bare list."""
    scores: Floats = np.full(n, np.nan, np.float32)
    odd = 0
    for result in reply["results"] if isinstance(reply, Mapping) else reply:
        score = float(result["relevance_score"] if "relevance_score" in result else result["score"])
        place = int(result["index"])
        if 0 <= place < n and math.isfinite(score) and np.isnan(scores[place]):
            scores[place] = score
        else:
            odd += 1
    return Reply("", scores, *_used(reply, tokens), malformed=odd)


def _used(reply: Any, guess: int) -> tuple[int, int]:
    """Tokens read and written, as the server counts them; a guess where it does not, or counts oddly."""
    usage = reply.get("usage") if isinstance(reply, Mapping) else None
    usage = usage if isinstance(usage, Mapping) else {}
    counts = [usage.get("prompt_tokens", usage.get("total_tokens", guess)), usage.get("completion_tokens", 0)]
    good = [count if isinstance(count, int) and 0 <= count < 10**9 else 0 for count in counts]
    return good[0] or guess, good[1]


def _understood(host: str, read: Callable[[], Reply]) -> Reply:
    """
    What a reading gives.

    Raises:
        UnavailableError: The reply lacks a part or has one of another type.
    """
    try:
        return read()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UnavailableError(f"{host} replied in another form: {type(error).__name__}") from error
