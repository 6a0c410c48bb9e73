"""Where the device decides which half of the catalogue people take, telling it makes the list better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
pytest.importorskip("lightgbm", reason="needs LightGBM: pip install 'tailwise[boost]'")

from tailwise.config import EncodeConfig, PipelineConfig, Step
from tailwise.data.holdout import hold_out
from tailwise.data.interactions import Held, Interactions
from tailwise.data.load import Dataset
from tailwise.errors import ConfigError, RequestError
from tailwise.learn.fit import fit
from tailwise.pipeline import Engine
from tailwise.types import Request

ITEMS, PEOPLE, EVENTS = 40, 300, 9
TREES = {"trees": 40, "learning_rate": 0.2, "least_in_leaf": 50, "committee": 2}
QUICK = PipelineConfig(
    encode=EncodeConfig(model="hash"),
    retrieve=(Step(name="popular", k=ITEMS),),
    stage=(Step(name="fusion"), Step(name="boosted", settings=TREES)),
    exclude_seen=False,
    context=("device",),
)
PLAIN = QUICK.model_copy(update={"context": ()})


def world(seed: int = 0) -> tuple[Dataset, pl.DataFrame]:
    """Everybody uses both devices, items below 20 are taken on the phone alone; the last event of each is apart."""
    rng = np.random.default_rng(seed)
    phone = rng.random(PEOPLE * EVENTS) < 0.5
    rows = rng.integers(0, ITEMS // 2, len(phone)) + np.where(phone, 0, ITEMS // 2)
    events = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{person:03d}" for person in range(PEOPLE)], EVENTS),
            "item_id": [f"i{row:02d}" for row in rows],
            "time": 1.7e9 + 60.0 * np.arange(len(phone)),
            "device": np.where(phone, "phone", "desk"),
        }
    )
    last = np.arange(len(phone)) % EVENTS == EVENTS - 1
    return Dataset.of("devices", events=events.filter(~last)), events.filter(last)


def earned(engine: Engine, last: pl.DataFrame, *, tell: bool) -> float:
    """Mean NDCG@10 of everybody's last event."""
    total = 0.0
    for user_id, item_id, time, device in last.iter_rows():
        slate = engine.rank(user_id=user_id, time=time, k=10, context={"device": device} if tell else {})
        place = slate.item_ids.tolist().index(item_id) if item_id in slate.item_ids else None
        total += 0.0 if place is None else 1 / np.log2(place + 2)
    return total / len(last)


def test_a_told_device_makes_the_list_better_and_an_untold_one_leaves_it(
    fitted: Callable[..., Engine], tmp_path: Path
) -> None:
    data, last = world()
    engine, plain = fitted(data), fitted(data, PLAIN)
    engine.save(tmp_path / "model")

    told, untold, without = (
        earned(engine, last, tell=True),
        earned(engine, last, tell=False),
        earned(plain, last, tell=True),
    )

    assert engine.manifest["metrics"]["boosted"]["decision"] == "used"
    assert told > 1.5 * max(untold, without)  # one half of forty items instead of both: twice at best
    assert untold == pytest.approx(without, abs=0.04)
    opened = Engine.open(tmp_path / "model")
    for context in ({"device": "phone"}, {}):
        asked = Request("r", user_id="u007", time=1.8e9, k=10, context=context)
        assert opened.answer(asked).slate.item_ids.tolist() == engine.answer(asked).slate.item_ids.tolist()
    bare = engine.rank(user_id="u007", time=1.8e9).scores.tolist()
    for unknown in ({"device": "fridge"}, {"device": None}, {"device": float("nan")}, {"place": "home"}):
        assert engine.rank(user_id="u007", time=1.8e9, context=unknown).scores.tolist() == bare
    with pytest.raises(RequestError, match=r"^context gives device the value \['phone'\], but it must be a text$"):
        engine.rank(user_id="u007", context={"device": ["phone"]})


def test_a_column_that_the_events_lack_is_said_before_the_work_begins() -> None:
    data, _ = world()
    names = r"^context names 'devise', but the events have no such column; there are: hour, weekday, recency, device$"
    begun: list[str] = []

    with pytest.raises(ConfigError, match=names):
        fit(data, QUICK.model_copy(update={"context": ("devise",)}), report=lambda what, *_: begun.append(what))
    assert begun == []


def cases() -> tuple[Interactions, Held]:
    from tailwise.data.catalogue import Catalogue

    data, _ = world()
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]})
    nothing = np.zeros(ITEMS, np.float32)
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=np.zeros((ITEMS, 1)), tail_cut=0.2)
    return hold_out(Interactions.of(data.events, catalogue, ("device",)))


def test_a_held_out_case_has_the_moment_of_its_target_and_its_device() -> None:
    inner, held = cases()

    for case in range(0, len(held), 17):
        time, context = held.moment(case)

        (row,) = held.targets[case]
        assert context == {"device": "phone" if row < ITEMS // 2 else "desk"}
        assert time == held.times[case]
    assert inner.context.height == len(inner)
    phone = (inner.context["device"] == "phone").to_numpy()
    assert ((inner.rows < ITEMS // 2) == phone).all()  # still beside their events
