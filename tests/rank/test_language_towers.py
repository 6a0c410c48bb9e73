"""The two towers in service: people's texts, scores, queries, and what the folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.config import settings_of
from tailwise.errors import ArtifactError, ConfigError
from tailwise.pipeline import Engine
from tailwise.rank.language_towers import LanguageTowers, LanguageTowersConfig, person_text
from tailwise.types import NO_HISTORY, Embedded, Event, History, Request

ROWS = np.arange(48)


def request(*rows: int, **fields: Any) -> Request:
    events = [Event("", f"i{row:02d}", float(n)) for n, row in enumerate(rows)]
    return Request("r", history=History.of(events).place(np.array(rows, np.int64)), **fields)


@pytest.fixture(scope="module")
def source(tiny_engine: Engine) -> LanguageTowers:
    (run,) = (bound.run for bound in tiny_engine.sources if bound.key == "language_towers")
    return run


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5))
def test_a_person_reads_like_their_newest_titles_each_once(liked: list[int], most: int) -> None:
    titles = ("Heat", "", "Toy Story", "Fargo")

    expected: list[str] = []
    for row in reversed(liked):
        if titles[row] and titles[row] not in expected and len(expected) < most:
            expected.append(titles[row])
    assert person_text(titles, np.array(liked, np.int64), most) == "; ".join(expected)


def test_scores_are_cosines_to_what_the_person_reads_like(source: LanguageTowers) -> None:
    assert source.encoder is not None
    vector = source.encoder.encode([person_text(source._titles, np.array([3, 7]), source.config.titles)])[0]

    assert source.scores(request(3, 7), ROWS) == pytest.approx(source.vectors @ vector, abs=1e-6)
    assert isinstance(source, Embedded)
    assert np.linalg.norm(source.vectors, axis=1) == pytest.approx(np.ones(48), abs=1e-5)


def test_a_query_takes_the_place_of_the_history(source: LanguageTowers) -> None:
    assert source.encoder is not None
    text = source._titles[9]

    said = source.scores(request(3, query=text), ROWS)

    assert said == pytest.approx(source.vectors @ source.encoder.encode([text])[0], abs=1e-6)


@pytest.mark.parametrize("asked", [Request("r", history=NO_HISTORY), Request("r", history=NO_HISTORY, query=" ")])
def test_of_who_says_nothing_it_knows_nothing(source: LanguageTowers, asked: Request) -> None:
    assert np.isnan(source.scores(asked, ROWS)).all()
    assert len(source(asked, 5)) == 0


def test_a_text_is_read_once(source: LanguageTowers, tmp_path: Path) -> None:
    source.save(tmp_path)
    config = source.config.model_copy(update={"remembered": 2})

    class Facts:
        item_ids = source._item_ids

    own = LanguageTowers.open(config, Facts(), tmp_path)  # type: ignore[arg-type]  # of facts it takes the ids
    first = own.scores(request(3), ROWS)

    for rows in ((3,), (4,), (5,), (6,)):
        own.scores(request(*rows), ROWS)

    assert len(own._memory) == 2
    assert own.scores(request(3), ROWS).tolist() == first.tolist() == source.scores(request(3), ROWS).tolist()


def test_without_texts_it_knows_nothing_and_is_saved_without_an_encoder(tmp_path: Path) -> None:
    ids = np.array(["a", "b"], object)
    bare = LanguageTowers(
        LanguageTowersConfig(), ids, titles=("", ""), vectors=np.zeros((2, 1), np.float32), encoder=None
    )
    bare.save(tmp_path)

    class Facts:
        item_ids = ids

    other = LanguageTowers.open(LanguageTowersConfig(), Facts(), tmp_path)  # type: ignore[arg-type]  # as above

    assert np.isnan(other.scores(request(0, query="war"), np.array([0, 1, -1]))).all()
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize("name", ["titles.json", "vectors.safetensors", "encoder/model.onnx"])
def test_a_missing_file_is_told(source: LanguageTowers, tmp_path: Path, name: str) -> None:
    source.save(tmp_path)
    (tmp_path / name).unlink()

    class Facts:
        item_ids = source._item_ids

    with pytest.raises(ArtifactError, match=r"fit the model again$"):
        LanguageTowers.open(source.config, Facts(), tmp_path)  # type: ignore[arg-type]  # as above


def test_a_prompt_is_refused_for_it_cannot_be_exported() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^towers: tuning\.method is prompt, which an exported encoder cannot have; choose prefix or lora$",
    ):
        settings_of(LanguageTowersConfig, {"tuning": {"method": "prompt"}}, where="towers")
