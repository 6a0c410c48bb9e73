"""Two towers on a world whose answer is known: who liked reds likes reds next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tailwise.data.catalogue import Catalogue
from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Interactions, Training
from tailwise.learn.peft_towers import fit_language_towers
from tailwise.nets.settings_language import TextLoop, Tuning
from tailwise.rank.language_towers import LanguageTowersConfig
from tailwise.types import Event, History, Request

ITEMS = 16


def training_of(*, blank: tuple[int, ...] = ()) -> Training:
    rng = np.random.default_rng(1)
    names = ["" if row in blank else f"{'rrrr' if row % 2 == 0 else 'bbbb'}{row}" for row in range(ITEMS)]
    events = [
        {"user_id": f"u{person:02d}", "item_id": f"i{row:02d}", "time": float(n), "event": "click", "value": None}
        for person in range(24)
        for n, row in enumerate(rng.permutation(np.arange(person % 2, ITEMS, 2))[:6])
    ]
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)], "title": names})
    nothing = np.zeros(ITEMS, np.float32)
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    schema = {"user_id": pl.String, "item_id": pl.String, "time": pl.Float64, "event": pl.String, "value": pl.Float32}
    inner, held = hold_out(Interactions.of(pl.DataFrame(events, schema=schema), catalogue), seed=0)
    return Training(inner, catalogue, 0, targets=held.first(0), held=held)


def config_of(folder: Path, **settings: Any) -> LanguageTowersConfig:
    train = TextLoop(epochs=8, learning_rate=0.01, warm_up_steps=2, average=0.5, patience=8, precision="float32")
    return LanguageTowersConfig(
        **{
            "model": str(folder),
            "tuning": Tuning(method="full"),
            "train": train,
            "negatives": 4,
            "batch": 16,
            "int8": False,
            "temperature": 0.1,
            **settings,
        }
    )


def liked(*rows: int) -> Request:
    events = [Event("", f"i{row:02d}", float(n)) for n, row in enumerate(rows)]
    return Request("r", history=History.of(events).place(np.array(rows, np.int64)))


def test_it_learns_what_goes_together(tiny_backbone: Path) -> None:
    towers = fit_language_towers(config_of(tiny_backbone), training_of())

    for first in (0, 1):
        said = towers.scores(liked(first, first + 2), np.arange(ITEMS))
        assert said[first::2].mean() > said[1 - first :: 2].mean() + 0.2


def test_the_same_seed_gives_the_same_vectors_bitwise_whatever_the_threads(tiny_backbone: Path) -> None:
    short = TextLoop(epochs=1, warm_up_steps=2, precision="float32")

    one, other = (
        fit_language_towers(config_of(tiny_backbone, train=short), replace(training_of(), threads=n)) for n in (1, 2)
    )

    assert one.vectors.tolist() == other.vectors.tolist()


def test_fitted_again_on_all_events_it_stays_as_it_is(tiny_backbone: Path) -> None:
    towers = fit_language_towers(config_of(tiny_backbone, tuning=Tuning(method="frozen")), training_of())

    assert fit_language_towers(towers.config, replace(training_of(), before=towers, targets=None)) is towers


def test_an_item_without_a_text_is_unknown_and_teaches_nothing(tiny_backbone: Path) -> None:
    short = TextLoop(epochs=1, warm_up_steps=2, precision="float32")

    towers = fit_language_towers(config_of(tiny_backbone, train=short), training_of(blank=(0, 3)))

    said = towers.scores(liked(0, 2), np.arange(ITEMS))
    assert np.isnan(said).nonzero()[0].tolist() == [0, 3]
    assert np.isnan(towers.scores(liked(0, 3), np.arange(ITEMS))).all()


def test_without_any_text_nothing_is_opened() -> None:
    towers = fit_language_towers(LanguageTowersConfig(model="nowhere"), training_of(blank=tuple(range(ITEMS))))

    assert np.isnan(towers.scores(liked(0, 2), np.arange(ITEMS))).all()


@pytest.mark.parametrize("int8", [False, True])
def test_a_causal_model_is_read_from_its_last_token(tiny_causal: Path, int8: bool) -> None:
    towers = fit_language_towers(config_of(tiny_causal, int8=int8), training_of())

    for first in (0, 1):
        said = towers.scores(liked(first, first + 2), np.arange(ITEMS))
        assert said[first::2].mean() > said[1 - first :: 2].mean() + 0.2


@pytest.mark.parametrize("method", ["lora", "adapter", "prefix"])
@pytest.mark.parametrize("backbone", ["tiny_backbone", "tiny_causal"])
def test_every_method_is_served_as_it_was_taught(backbone: str, method: Any, request: pytest.FixtureRequest) -> None:
    short = TextLoop(epochs=1, warm_up_steps=2, precision="float32")
    config = config_of(
        request.getfixturevalue(backbone), train=short, tuning=Tuning(method=method, rank=2, virtual_tokens=2)
    )

    towers = fit_language_towers(config, training_of())

    assert np.linalg.norm(towers.vectors, axis=1) == pytest.approx(np.ones(ITEMS), abs=1e-5)
    assert np.isfinite(towers.scores(liked(0, 2), np.arange(ITEMS))).all()
