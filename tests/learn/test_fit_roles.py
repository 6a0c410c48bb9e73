"""A component in another role: a source among the stages, a stage from another package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
pytest.importorskip("implicit", reason="needs implicit: pip install 'tailwise[train]'")

from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.data.load import Dataset
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Rescore
from tailwise.types import Request

QUICK = PipelineConfig(
    encode=EncodeConfig(model="hash", whiten_dim=16), retrieve=(Step(name="popular"), Step(name="ease"))
)

Fit = Callable[..., Engine]


def answers(engine: Engine) -> list[tuple[list[str], list[float]]]:
    slates = [engine.rank(user_id=f"u{person:02d}", k=8) for person in range(12)]
    return [(slate.item_ids.tolist(), np.round(slate.scores, 4).tolist()) for slate in slates]


def test_a_source_among_the_stages_reorders_by_its_score(data: Dataset, fitted: Fit, tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"stage": (Step(name="item_knn", keep=9), Step(name="exposure"))})

    engine = fitted(data, config)
    engine.save(tmp_path / "model")

    opened = Engine.open(tmp_path / "model")
    for own in (engine, opened):
        answer = own.answer(Request("r", user_id="u01", k=20))
        alone = own.stages[0].run.source.scores(
            Request("r", history=answer.history), own.catalogue.rows(answer.slate.item_ids)
        )
        assert isinstance(own.stages[0].run, Rescore)
        assert len(answer.slate) == 9
        assert (np.diff(alone) <= 0).all()
    assert answers(opened) == answers(engine)  # also with the decay that the fit chose
    assert opened.config.stage[0].settings["decay"] == engine.stages[0].run.source.config.decay


def test_a_source_that_stands_among_the_stages_too_is_one_and_the_same(
    data: Dataset, fitted: Fit, tmp_path: Path
) -> None:
    config = QUICK.model_copy(update={"stage": (Step(name="ease", keep=20), Step(name="fusion"), Step(name="ease"))})

    engine = fitted(data, config)
    engine.save(tmp_path / "model")

    opened = Engine.open(tmp_path / "model")
    assert engine.stages[0].run.source is engine.sources[1].run is engine.stages[2].run.source
    assert answers(opened) == answers(engine)
    assert [len(own.rank(user_id="u01", k=48)) for own in (engine, opened)] == [20, 20]


def test_sources_among_the_stages_learn_from_all_events_as_the_others_do(data: Dataset, fitted: Fit) -> None:
    alone = QUICK.model_copy(update={"stage": (Step(name="ease"),), "retrieve": (Step(name="popular"),)})

    as_stage, as_source = fitted(data, alone), fitted(data, QUICK)

    np.testing.assert_array_equal(as_stage.stages[0].run.source.weights.values, as_source.sources[1].run.weights.values)


PLUGIN = """
import json
from tailwise.config import Closed
from tailwise.types import Request, Slate

class Alphabet:
    Config = type("Config", (Closed,), {})
    needs = gives = frozenset()

    def __init__(self, config, first):
        self.config, self.first = config, first

    @classmethod
    def fit(cls, config, training):
        return cls(config, str(training.catalogue.item_ids[-1]))

    @classmethod
    def open(cls, config, facts, folder):
        return cls(config, json.loads((folder / "first.json").read_text()))

    def save(self, folder):
        folder.mkdir()
        (folder / "first.json").write_text(json.dumps(self.first))

    def __call__(self, request, slate):
        return slate.take((slate.item_ids != self.first).argsort(kind="stable"))
"""


def test_a_stage_from_another_package_is_fitted_saved_and_opened(
    data: Dataset, fitted: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alphabet_for_tailwise.py").write_text(PLUGIN)
    about = tmp_path / "alphabet_for_tailwise-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: alphabet-for-tailwise\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tailwise.stages]\nalphabet = alphabet_for_tailwise:Alphabet\n")
    monkeypatch.syspath_prepend(tmp_path)

    engine = fitted(data, QUICK.model_copy(update={"stage": (Step(name="fusion"), Step(name="alphabet"))}))
    engine.save(tmp_path / "model")

    last = engine.catalogue.item_ids[-1]
    for own in (engine, Engine.open(tmp_path / "model")):
        assert own.rank(candidates=["i01", "i02", last], k=3).item_ids[0] == last
