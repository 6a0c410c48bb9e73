"""
What one may ask a generative model, whoever runs it; no torch here.

    order      reply: text that names the items in some order
    choose     reply: (N,) log-probabilities of each option as the next token
    continue   reply: (N,) mean log-probability of each option's tokens after the text
    relevance  reply: (N,) how well each option suits the text
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from tailwise.config import Closed
from tailwise.types import Floats

Kind = Literal["order", "choose", "continue", "relevance"]


class BackendConfig(Closed):
    """Which model is asked, and where it runs."""

    kind: str = "openai"
    """``openai`` (chat and completions over HTTP), ``rerank`` (the form of Jina and Cohere over HTTP), ``transformers``
    (in this process, torch), ``llama_cpp`` (in this process, GGUF), or an entry point of ``tailwise.backends``."""
    model: str = ""
    """What the server calls it; or a Hugging Face name, an installed package, a folder or a GGUF file."""
    url: str = "http://127.0.0.1:11434/v1"
    """Of the server: up to ``/v1`` for ``openai``, the whole address for ``rerank``. No credentials in it."""
    key_env: str = ""
    """The variable of the environment that holds the key; empty sends none. The key itself is never stored."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """One opinion takes at most so long, beside the answer that it came too late for; then it is given up."""
    documents_field: str = "documents"
    """What the server of ``rerank`` calls the list of texts; ``texts`` for text-embeddings-inference."""
    most_bytes: Annotated[int, Field(ge=1_000)] = 2_000_000
    """A longer reply is given up."""
    context: Annotated[int, Field(ge=64)] = 2048
    """Tokens that a model in this process takes at once."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Of ``llama_cpp``."""

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("url must start with http:// or https:// and name a host")
        if parts.username or parts.password or parts.query:
            raise ValueError("url must hold no credentials and no query, since it is saved; name the key's key_env")
        return self


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask, complete in itself."""

    kind: Kind
    text: str
    system: str = ""
    options: tuple[str, ...] = ()
    """(N,) labels, continuations or documents."""
    max_tokens: int = 1
    """Of the reply's text."""

    @property
    def tokens(self) -> int:
        """About how many tokens it takes, before anybody has counted."""
        body = tokens_of(self.system) + tokens_of(self.text)
        if self.kind == "continue":
            return sum(body + tokens_of(option) for option in self.options)
        return body + sum(map(tokens_of, self.options)) + self.max_tokens


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    text: str = ""
    scores: Floats | None = None
    """(N,) of the options; NaN where the model said nothing."""
    tokens_in: int = 0
    tokens_out: int = 0
    malformed: int = 0
    """Parts that made no sense and were left out."""


class Backend(Protocol):
    """
    Somebody who answers questions; safe to call from several threads.

    One that has weights to read may also have a method ``warm()``; the service calls it before it is ready.
    """

    remote: bool
    """Whether what is asked leaves this process."""
    kinds: frozenset[Kind]
    """What it can be asked."""

    @property
    def fingerprint(self) -> str:
        """Two with the same one say the same."""
        ...

    def ask(self, question: Question, timeout_s: float) -> Reply:
        """
        One reply.

        Raises:
            UnavailableError: Nobody answers, or with what is no reply.
            TimeoutError: It took longer than ``timeout_s``.
        """
        ...


def tokens_of(text: str) -> int:
    """
    About how many tokens a text takes: one for some three Latin letters, one for each other character; rather too many.

    >>> tokens_of("space opera"), tokens_of("太空歌剧")
    (4, 4)
    """
    plain = sum(character.isascii() for character in text)
    return math.ceil(plain / 3) + len(text) - plain
