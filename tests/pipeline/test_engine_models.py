"""Neighbours, queries and folders of a fitted engine."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwise import artifacts
from tailwise.data.synthetic import World
from tailwise.errors import ArtifactError, RequestError
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.pipeline.engine import Answer
from tailwise.rank.language import Memory
from tailwise.types import Event, History, Request, Slate

Make = Callable[..., Engine]


def answered(engine: Engine, **fields: Any) -> Answer:
    return engine.answer(Request("r", **fields))


def ids(slate: Slate) -> list[str]:
    return list(slate.item_ids.tolist())


def bound_of(engine: Engine, name: str) -> Bound:
    return next(bound for bound in engine.sources if bound.step.name == name)


# Neighbours.


def test_similar_items_are_the_nearest_in_meaning(tiny_engine: Engine) -> None:
    vectors = tiny_engine.catalogue.vectors
    for row in (0, 7, 30):
        found = tiny_engine.similar(f"i{row:02d}", k=5)

        cosine = vectors @ vectors[row]
        cosine[row] = -np.inf
        assert found.columns["row"].tolist() == np.argsort(-cosine, kind="stable")[:5].tolist()


def test_an_item_without_text_has_the_neighbours_of_those_who_liked_it(tiny_engine: Engine) -> None:
    sources = tuple(bound for bound in tiny_engine.sources if bound.step.name != "text")
    no_text = replace(tiny_engine, sources=sources, stages=())

    found = no_text.similar("i07", k=5)

    weights = bound_of(tiny_engine, "item_knn").run.weights.scores(
        History.of([Event("", "", 0.0)]).place(np.array([7])), 0.0
    )
    assert found.scores == pytest.approx(np.sort(weights)[::-1][: len(found)])
    assert "i07" not in ids(found)


def test_similar_gives_what_there_is_and_refuses_unknown_items(make: Make) -> None:
    assert ids(make().similar("c", k=100)) == list("abdefghij")
    with pytest.raises(RequestError, match=r"^item 'zz' is unknown to the model$"):
        make().similar("zz")


# Queries.


def test_a_query_finds_items_by_their_text(tiny_engine: Engine, tiny_world: World) -> None:
    title = tiny_world.dataset.items["title"][11]
    assert tiny_engine.encoder is not None
    cosine = tiny_engine.catalogue.vectors @ tiny_engine.encoder.encode([title])[0]
    only_text = replace(tiny_engine, sources=(bound_of(tiny_engine, "text"),), stages=())

    found = answered(only_text, query=title, user_id="u00", exclude_seen=False)

    assert found.slate.columns["row"].tolist() == np.argsort(-cosine, kind="stable")[:10].tolist()


def test_without_an_encoder_a_query_changes_nothing(tiny_engine: Engine) -> None:
    mute = replace(tiny_engine, encoder=None)

    assert ids(answered(mute, query="heat", user_id="u00").slate) == ids(answered(mute, user_id="u00").slate)


# Folders.


def same(first: Slate, second: Slate) -> bool:
    """Bitwise, columns and all."""
    names = first.columns.keys()
    return (
        ids(first) == ids(second)
        and first.scores.tobytes() == second.scores.tobytes()
        and names == second.columns.keys()
        and all(
            first.columns[name].tolist() == second.columns[name].tolist()
            if first.columns[name].dtype == object
            else first.columns[name].tobytes() == second.columns[name].tobytes()
            for name in names
        )
    )


def test_a_saved_model_answers_bitwise_the_same(
    tiny_engine: Engine, tiny_model: Path, tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Engine.open(tiny_model)
    (reader,) = (bound.run for bound in tiny_engine.stages if bound.key == "cross_encoder")
    # What it remembers was read beside other candidates, which moves the last bit.
    monkeypatch.setattr(reader, "_memory", Memory(1_000))

    assert opened.version == tiny_engine.version != "unsaved"
    assert opened.config == tiny_engine.config
    for user_id in [*tiny_world.user_ids, "stranger"]:
        asked = {"user_id": user_id, "k": 48, "diversity": 0.3}
        assert same(opened.rank(**asked), tiny_engine.rank(**asked))
    asked = {"candidates": ["i03", "new", "i07"], "query": "de", "history": ["i01", "i02"]}
    assert same(opened.rank(**asked), tiny_engine.rank(**asked))


def test_a_model_saved_again_opens_too(tiny_model: Path, tmp_path: Path) -> None:
    Engine.open(tiny_model).save(tmp_path / "again")

    first, second = (Engine.open(folder).rank(user_id="u00", k=48) for folder in (tiny_model, tmp_path / "again"))
    assert same(first, second)


def test_any_damaged_file_is_named(tiny_model: Path, tmp_path: Path) -> None:
    files = [path.relative_to(tiny_model) for path in tiny_model.rglob("*") if path.is_file()]
    assert len(files) > 10
    for name in files:
        copy = tmp_path / "copy"
        shutil.copytree(tiny_model, copy)
        raw = bytearray((copy / name).read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        (copy / name).write_bytes(raw)
        with pytest.raises(ArtifactError) as caught:
            Engine.open(copy)
        assert str(copy) in str(caught.value)
        assert name.name in str(caught.value) or name.name == "manifest.json"
        shutil.rmtree(copy)


def test_a_part_that_cannot_be_opened_is_told_with_its_place(tiny_model: Path, tmp_path: Path) -> None:
    with artifacts.writing(tmp_path / "old", artifacts.check(tiny_model)) as fresh:
        shutil.copytree(tiny_model, fresh, dirs_exist_ok=True)
        (place,) = (path.relative_to(fresh) for path in fresh.rglob("sequence.onnx"))
        (fresh / place).write_bytes(b"of another library")

    with pytest.raises(ArtifactError) as caught:
        Engine.open(tmp_path / "old")
    assert str(caught.value).startswith(f"{tmp_path / 'old' / place.parent}: the sequence network cannot be run (")
    assert str(caught.value).endswith("; fit the model again")


def test_a_folder_that_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^\S+ is not a model folder: it has no manifest\.json; make one with: "):
        Engine.open(tmp_path)
