"""What is opened beside what is served, and what keeps it from being served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.serve.test_life import Broken, save

from tailwise.errors import ArtifactError
from tailwise.pipeline import Engine
from tailwise.serve.models import Models, Served, forgotten, open_beside
from tailwise.types import Request


def test_a_model_is_opened_on_the_store_and_the_memory_of_the_one_that_is_served(
    engine: Engine, tmp_path: Path
) -> None:
    save(tmp_path / "model", "v2")

    served = open_beside(tmp_path / "model", engine)

    assert served.engine.store is engine.store
    assert served.engine.recall is engine.recall
    assert served.version == "v2"


def test_a_folder_that_changes_while_it_is_read_is_refused(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model", "v2")

    def meanwhile(_: Engine) -> None:
        save(tmp_path / "model", "v3")

    monkeypatch.setattr("tailwise.serve.models.unsound", meanwhile)

    with pytest.raises(ArtifactError, match=r"^model changed while it was read; ask again when it is whole$"):
        open_beside(tmp_path / "model", engine)


def test_without_a_canary_everybody_is_served_by_the_main_model(engine: Engine) -> None:
    models = Models(Served.of(engine))

    assert models.pick(Request("r", user_id="u1")) is models.main
    assert models.forget("u1") == 0


def test_steps_that_remember_people_forget_them(engine: Engine) -> None:
    class Remembers(Broken):
        def forget(self, user_id: str) -> int:
            return len(user_id)

    engine.stages = (replace(engine.stages[0], key="memory", run=Remembers()),)

    assert forgotten(engine, "u12") == {"memory": 3}
