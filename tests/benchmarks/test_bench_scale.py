"""The made-up logs of the scale benchmark: of the size that was asked for, with a long tail, tastes and sequels."""

from pathlib import Path

import bench_scale
import numpy as np
import pytest

import tailwise
from tailwise import registry
from tailwise.config import PipelineConfig


def test_a_log_has_as_many_events_as_asked_and_repeats_itself(tmp_path: Path) -> None:
    bench_scale.make_log(tmp_path / "a", 5_000)
    bench_scale.make_log(tmp_path / "b", 5_000)

    first, second = (tailwise.load(tmp_path / name) for name in "ab")

    assert 4_000 <= first.events.height <= 5_000
    assert first.events.equals(second.events)
    assert first.items.height == bench_scale.ITEMS
    assert first.events["user_id"].n_unique() > 100


def test_what_follows_on_is_seven_places_further(tmp_path: Path) -> None:
    bench_scale.make_log(tmp_path / "a", 20_000)
    events = tailwise.load(tmp_path / "a").events.sort("user_id", "time")

    rows = events["item_id"].str.strip_prefix("i").cast(int).to_numpy()
    same = events["user_id"].to_numpy()[1:] == events["user_id"].to_numpy()[:-1]
    sequels = ((np.diff(rows) % bench_scale.ITEMS) == 7)[same].mean()

    assert sequels == pytest.approx(bench_scale.FOLLOW, abs=0.05)


@pytest.mark.parametrize("sequence", [False, True])
def test_the_pipeline_is_one_that_can_be_fitted(tmp_path: Path, *, sequence: bool) -> None:
    path = tmp_path / "p.toml"
    path.write_text(bench_scale.pipeline(sequence=sequence, epochs=2), encoding="utf-8")

    config = PipelineConfig.read(path)

    names = [step.name for step in config.retrieve]
    assert set(names) <= set(registry.SOURCES)
    assert ("sequence" in names) == sequence


def test_growth_and_memory_are_judged(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"pipeline": "closed form", "events": 1_000_000, "cpu_seconds": 100.0, "peak_gb": 2.0},
        {"pipeline": "closed form", "events": 10_000_000, "cpu_seconds": 1_000.0, "peak_gb": 17.0},
    ]

    bench_scale.judge(rows)

    said = capsys.readouterr().out
    assert "closed form: CPU grows as events to the power 1.00; goal ≤ 1.1: reached" in said
    assert "closed form: 17.0 GB at 10,000,000; goal ≤ 16: MISSED" in said
