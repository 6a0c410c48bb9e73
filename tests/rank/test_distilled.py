"""Serving a distilled opinion: it says what its networks say, where the gate lets it; broken files are told."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from tailwise.config import settings_of
from tailwise.errors import Abstain, ArtifactError
from tailwise.fakes import DictFacts
from tailwise.rank.distilled import Distilled, DistilledConfig, Pupils, mean_opinion, table_of
from tailwise.rank.gate import Gate, blended
from tailwise.types import Event, History, Request, Slate, ids_of

SOMEBODY = Request("r", history=History.of([Event("", "i0", 1.0)]).place(np.array([0])))
F, D, P = 3, 4, 2


def pupils(seed: int = 0) -> Pupils:
    rng = np.random.default_rng(seed)
    shapes = {"linear": (P, 1 + F), "inner": (P, 1 + F, D), "offset": (P, D), "outer": (P, D)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    centre, spread = rng.standard_normal((2, P, 1 + F)).astype(np.float32)
    return Pupils(centre, np.abs(spread) + 0.5, **arrays)


def slate(n: int = 5) -> Slate:
    signals = np.random.default_rng(n).standard_normal((n, F)).astype(np.float32)
    scores = np.linspace(2, 0, n, dtype=np.float32)
    return Slate(ids_of([f"i{row}" for row in range(n)]), scores, {"signals": signals, "row": np.arange(n)})


def stage(weight: float = 1.0, depth: int = 20) -> Distilled:
    gate = Gate(depth=depth, weights=(0.0, weight, 0.0, 0.0, 0.0), query=0)
    return Distilled(DistilledConfig(depth=depth), ("a", "b", "c"), gate, pupils())


def plain(net: Pupils, part: int, row: list[float]) -> float:
    """One network on one candidate, number by number."""
    x = [(v - c) / s for v, c, s in zip(row, net.centre[part], net.spread[part], strict=True)]
    hidden = [
        math.tanh(sum(v * net.inner[part, i, d] for i, v in enumerate(x)) + net.offset[part, d]) for d in range(D)
    ]
    linear = sum(v * w for v, w in zip(x, net.linear[part], strict=True))
    return float(linear + sum(h * w for h, w in zip(hidden, net.outer[part], strict=True)))


def test_the_networks_say_what_they_say_number_by_number() -> None:
    table = np.random.default_rng(3).standard_normal((6, 1 + F)).astype(np.float32)

    found = pupils().opinions(table)

    wanted = [[plain(pupils(), part, row) for row in table.tolist()] for part in range(P)]
    assert found == pytest.approx(np.array(wanted), abs=1e-4)


def test_one_candidate_is_judged_as_in_a_batch() -> None:
    table = np.random.default_rng(3).standard_normal((6, 1 + F)).astype(np.float32)

    alone = np.concatenate([pupils().opinions(row[None]) for row in table], axis=1)

    assert alone == pytest.approx(pupils().opinions(table), abs=1e-6)


def test_the_order_is_the_blend_with_the_mean_opinion() -> None:
    before = slate()

    found = stage(weight=2.0)(SOMEBODY, before)

    opinion = mean_opinion(pupils().opinions(table_of(before)))
    assert found.item_ids.tolist() == blended(before, opinion, 2.0).item_ids.tolist()
    assert found.item_ids.tolist() != before.item_ids.tolist()


def test_what_is_behind_the_depth_stays_there() -> None:
    found = stage(weight=9.0, depth=3)(SOMEBODY, slate(8))

    assert sorted(found.item_ids[:3]) == ["i0", "i1", "i2"]
    assert found.item_ids[3:].tolist() == ["i3", "i4", "i5", "i6", "i7"]


def test_the_gate_says_for_whom_it_does_not_count() -> None:
    with pytest.raises(Abstain, match=r"^gate: it did not help people with no history$"):
        stage()(Request("r"), slate())


def test_without_networks_it_is_the_identity_and_needs_nothing() -> None:
    asleep = Distilled(DistilledConfig(), ("a",), Gate(), None)
    before = slate()

    assert asleep(SOMEBODY, before) is before
    assert asleep.needs == frozenset()
    assert stage().needs == {"signals", "row", "popularity"}


@pytest.mark.parametrize("used", [True, False])
def test_it_is_the_same_after_saving(tmp_path: Path, used: bool) -> None:
    before = stage() if used else Distilled(DistilledConfig(), ("a",), Gate(), None)

    before.save(tmp_path)
    after = Distilled.open(before.config, DictFacts({}), tmp_path)

    assert (after.names, after.gate) == (before.names, before.gate)
    assert np.array_equal(after(SOMEBODY, slate()).scores, before(SOMEBODY, slate()).scores)
    if before.pupils is not None and after.pupils is not None:
        for part in fields(Pupils):
            assert np.array_equal(getattr(after.pupils, part.name), getattr(before.pupils, part.name))


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    stage().save(tmp_path)
    path = tmp_path / "distilled.json"
    path.write_text(json.dumps({"signals": []}), encoding="utf-8")

    with pytest.raises(ArtifactError, match=r"^.*distilled\.json cannot be read \('gate'\); fit the model again$"):
        Distilled.open(DistilledConfig(), DictFacts({}), tmp_path)


def test_the_teachers_settings_survive_a_model_folder() -> None:
    config = settings_of(DistilledConfig, {"teacher": "cross_encoder", "of_teacher": {"depth": 30}}, where="distilled")

    assert DistilledConfig.model_validate(config.model_dump(exclude_none=True, mode="json")) == config
