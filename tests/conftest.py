"""A tiny fitted engine that many tests share: 36 people, 48 items of 4 groups, and every part of a pipeline."""

import logging
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import settings as hypothesis_settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.synthetic import World, make_world
from tailwise.learn.fit import fit
from tailwise.pipeline import Engine
from tailwise.state.memory import MemoryStore

hypothesis_settings.register_profile("shared", deadline=None)  # how long an example takes says how busy the machine is
hypothesis_settings.load_profile("shared")


@pytest.fixture(autouse=True)
def _logs_go_where_they_went() -> Iterator[None]:
    """Take away what a test made log to a stream that ends with it, which threads of later tests would write to."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
    root.setLevel(level)


def byte_tokenizer() -> Any:
    """A fast tokenizer of the libraries' own kind for which a byte is a token, so that it reads any text."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({word: code for code, word in enumerate(marks + letters)}, [], unk_token="[UNK]"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.add_special_tokens(marks)
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    kinds = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **kinds)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random BERT of two layers, 16 wide."""
    torch.manual_seed(3)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    folder = tmp_path_factory.mktemp("backbone") / "bert"
    transformers.BertModel(
        transformers.BertConfig(vocab_size=260, **shape, max_position_embeddings=128)
    ).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random GPT-2 of two layers, 16 wide, with its head."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("backbone") / "gpt2"
    config = transformers.GPT2Config(
        vocab_size=260, n_embd=16, n_layer=2, n_head=2, n_positions=512, bos_token_id=2, eos_token_id=3
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def _config(backbone: Path) -> PipelineConfig:
    """Every source and every stage that the registry has, with a network that fits in a second."""
    read = {"model": str(backbone), "train": {"epochs": 1, "warm_up_steps": 2}}
    quick = {
        "shape": {"dim": 16, "layers": 1, "heads": 2, "max_length": 12, "dropout": 0.1},
        "train": {"epochs": 2, "warm_up_steps": 2},
    }
    recent = [{"column": "year", "op": "at_least", "value": 2000}]
    rules = [
        {"kind": "boost", "by": 0.3, "where": recent},
        {"kind": "cap", "column": "genres", "most": 4},
        {"kind": "pin", "position": 3, "where": recent},
    ]
    return PipelineConfig(
        encode=EncodeConfig(model="hash", whiten_dim=16),
        retrieve=(
            Step(name="popular", k=20),
            Step(name="ease", k=20, settings={"regularisation": 20.0}),
            Step(name="als", k=20, settings={"factors": 8}),
            Step(name="item_knn", k=20, settings={"neighbours": 10}),
            Step(name="next_item", k=20, settings={"regularisation": 5.0}),
            Step(name="again", k=10),
            Step(name="text", k=10),
            Step(name="words", k=10),
            Step(name="numbers", k=10),
            Step(name="sequence", k=20, settings={**quick, "members": 2}),
            Step(name="towers", k=20, settings={"person": "dnn", "dim": 16, "train": quick["train"]}),
            Step(name="language_towers", k=20, settings={**read, "negatives": 4}),
        ),
        stage=(
            Step(name="fusion"),
            Step(name="attention"),
            Step(name="long_tail", settings={"penalty": 0.2, "lift": 0.0, "rounds": 0}),
            Step(name="boosted"),
            Step(name="listwise_llm", settings={"backend": {"url": "http://127.0.0.1:9/v1"}}),
            Step(name="cross_encoder", settings={**read, "weight": 0.1, "history_tokens": 40}),
            Step(name="distilled", settings={"cases": 30}),
            Step(name="multitask", settings={"shape": {"dim": 8, "expert_dim": 16}, "train": {"epochs": 2}}),
            Step(name="mmr", settings={"trade_off": 0.9}),
            Step(name="dpp", settings={"trade_off": 0.95}),
            Step(name="exposure", settings={"tail_share": 0.3}),
            Step(name="newcomers"),
            Step(name="rules", settings={"rule": rules}),
            Step(name="bandit", settings={"slots": [10]}),
            Step(name="reasons"),
        ),
        exclude_seen=True,
    )


@pytest.fixture(scope="session")
def tiny_world() -> World:
    return make_world(users=36, items=48, events_per_user=12, groups=4, requests=8, seed=3)


@pytest.fixture(scope="session")
def tiny_engine(tiny_world: World, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Shared: a test that observes, or changes the engine, takes ``fresh_engine``."""
    settings = Settings(cache=tmp_path_factory.mktemp("cache"), threads=1)
    return fit(tiny_world.dataset, _config(tiny_backbone), seed=5, settings=settings)


@pytest.fixture(scope="session")
def tiny_model(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny engine; a test that changes it takes a copy."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_engine.save(folder)
    return folder


@pytest.fixture
def fresh_engine(tiny_engine: Engine) -> Engine:
    """The tiny engine with a state of its own."""
    return replace(tiny_engine, store=MemoryStore())


@dataclass
class RedisServer:
    """A real server of our own: on a free port, in a folder of its own, writing each command to the disk."""

    folder: Path
    settings: tuple[str, ...] = ("--appendonly", "yes", "--appendfsync", "always")
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, on the port of the last time; who takes a free port before we do gets it, and we another."""
        for _ in range(1 if self.port else 5):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = self.port or probe.getsockname()[1]
            if self._answers_on(port):
                self.port = port
                return
        raise AssertionError((self.folder / "log").read_text())

    def _answers_on(self, port: int) -> bool:
        """Whether a new process says itself that it is there: on a port that was taken, another one would answer."""
        log = self.folder / "log"
        before = log.stat().st_size if log.exists() else 0
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self.process = subprocess.Popen([*command, "--save", "", "--logfile", str(log), *self.settings])
        end = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < end:
            if log.exists() and b"Ready to accept connections" in log.read_bytes()[before:]:
                return True
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
        self.kill()
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def url(self, query: str = "") -> str:
        """Of a store that shares nothing with those of other tests."""
        return f"redis://127.0.0.1:{self.port}/0?prefix={uuid.uuid4().hex}{query}"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Shared: a test that stops it, or changes its settings, makes its own with ``own_redis``."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test; it is started by the test."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    yield server
    server.kill()
