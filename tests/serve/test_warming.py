"""What happens before a model says that it is ready, and what keeps it from being served."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest
from tests.serve.conftest import running
from tests.serve.test_life import Broken

from tailwise.config import PipelineConfig, Step
from tailwise.errors import UnavailableError
from tailwise.nets.questions import BackendConfig, Question, Reply
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.rank import backends
from tailwise.rank.listwise import Listwise, ListwiseConfig, set_gate
from tailwise.rerank.reasons import Reasons
from tailwise.retrieve.popular import Popular
from tailwise.serve.running import load
from tailwise.serve.service import Service
from tailwise.serve.warming import speaker_of, unsound, warm_up
from tailwise.types import Request, Slate


class Reads:
    """A model in this process: it counts how often it was read, and says what each letter is worth."""

    remote = False
    kinds = frozenset({"order", "choose"})
    fingerprint = "reads"
    made: ClassVar[list[Reads]] = []

    def __init__(self, config: BackendConfig) -> None:
        self.config, self.warmed = config, 0
        self.made.append(self)

    def warm(self) -> None:
        self.warmed += 1
        if self.config.model == "nowhere":
            raise UnavailableError("model nowhere is no file")

    def ask(self, question: Question, _: float) -> Reply:
        assert self.warmed, "nobody may wait for the weights"
        return Reply("Because.", np.arange(len(question.options), dtype=np.float32))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Reads]]:
    """The class of the back end ``transformers``, and all that were made of it."""
    monkeypatch.setattr("tailwise.nets.generate.LocalModel", Reads)
    Reads.made.clear()
    yield Reads
    Reads.made.clear()


def asking(engine: Engine, **backend: Any) -> Engine:
    """The engine with a language model behind its first stage, and one for its reasons."""
    own = BackendConfig(**{"kind": "transformers", "model": "it"} | backend)
    config = ListwiseConfig(backend=own, gate="always")
    step = Step(name="listwise_llm", settings=config.model_dump(mode="json", exclude_none=True))
    stage = Bound("listwise_llm", step, Listwise(config, engine.catalogue, set_gate(config)))
    reasons = Reasons(Reasons.Config(phrase=own), engine.catalogue)
    told = Step(name="reasons", settings=reasons.config.model_dump(mode="json", exclude_none=True))
    stages = (engine.stages[0], stage, Bound("reasons", told, reasons))
    return replace(engine, stages=stages)


def test_the_cinema_is_sound(engine: Engine) -> None:
    assert unsound(engine) is None


def test_a_model_in_this_process_is_read_before_anybody_asks_it_and_once_for_all(
    engine: Engine, reads: type[Reads]
) -> None:
    own = asking(engine)

    warm_up(own)

    (model,) = reads.made  # the reasons ask the same one
    assert model.warmed
    assert speaker_of(own.stages[-1].run) is model
    assert unsound(own) is None
    assert not own.stages[1].run.counts["asked"]  # nobody has wanted a list yet


class Encodes:
    """An encoder that keeps what it read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: Any) -> Any:
        self.read += texts
        return np.zeros((len(texts), 8), np.float32)


def test_the_encoder_is_read_before_the_first_query(engine: Engine) -> None:
    encoder = Encodes()

    warm_up(replace(engine, encoder=encoder))  # type: ignore[arg-type]  # it has all that is asked of it

    assert len(encoder.read) == 1


def test_a_model_goes_with_the_engine_that_asked_it(engine: Engine, reads: type[Reads]) -> None:
    own = asking(engine)
    warm_up(own)
    reads.made.clear()

    del own
    gc.collect()

    assert not backends._local


def test_a_language_model_that_cannot_be_had_is_said_and_the_rest_is_served(
    engine: Engine, reads: type[Reads], caplog: pytest.LogCaptureFixture
) -> None:
    own = asking(engine, model="nowhere")

    with caplog.at_level(logging.WARNING, "tailwise.serve.warming"):
        warm_up(own)

    why = "has no language model, lists go without it: UnavailableError: model nowhere is no file"
    assert [record.getMessage() for record in caplog.records] == [f"listwise_llm {why}", f"reasons {why}"]


def test_a_server_that_is_away_keeps_no_model_from_being_served(engine: Engine) -> None:
    own = asking(engine, kind="openai", url="http://127.0.0.1:9/v1")

    warm_up(own)

    assert unsound(own) is None
    assert not own.stages[1].run.counts["asks"]  # and is told of nobody before somebody wants a list


def test_a_service_is_ready_once_the_language_model_is(
    engine: Engine, reads: type[Reads], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, step = asking(engine).stages[1:], Step(name="popular")
    ids = engine.catalogue.item_ids
    source = Bound("popular", step, Popular(Popular.Config(), np.ones(len(ids), np.float32), ids))
    config = PipelineConfig(retrieve=(step,), stage=tuple(bound.step for bound in stages))
    manifest = {"version": "v1", "metrics": {}}
    replace(engine, config=config, sources=(source,), stages=stages, manifest=manifest).save(tmp_path / "model")
    monkeypatch.setattr("tailwise.serve.running.settle", lambda: None)  # it would freeze what other tests hold

    app = load(Service(model=tmp_path / "model", state="memory://", watch_s=0))

    (model,) = reads.made
    assert model.warmed
    with running(app) as url:  # type: ignore[arg-type]  # without tenants it is an application
        assert httpx.get(f"{url}/ready").json()["status"] == "ready"


def test_a_broken_stage_or_source_makes_an_engine_unsound(engine: Engine) -> None:
    stage = replace(engine.stages[0], run=replace(engine.stages[0].run))
    stages = replace(engine, stages=(replace(stage, run=Broken()), *engine.stages[1:]))
    sources = replace(engine, sources=(replace(engine.sources[0], run=Broken()), *engine.sources[1:]))

    assert unsound(stages) == "blend failed: ValueError: no"
    assert str(unsound(sources)).startswith("popular failed: ")


class Cut:
    """A stage that keeps nothing, or scores with what is no number."""

    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()

    def __init__(self, keep: int, score: float) -> None:
        self.keep, self.score = keep, score

    def __call__(self, _: Request, slate: Slate) -> Slate:
        return replace(
            slate.take(np.arange(len(slate))[: self.keep]), scores=np.full(self.keep, self.score, np.float32)
        )


@pytest.mark.parametrize(
    ("stage", "why"),
    [(Cut(0, 0.0), "its list for somebody is empty"), (Cut(3, np.nan), "its scores are not numbers")],
)
def test_an_engine_of_empty_or_senseless_lists_is_unsound(engine: Engine, stage: Cut, why: str) -> None:
    engine.stages = (replace(engine.stages[0], run=stage),)

    assert unsound(engine) == why
